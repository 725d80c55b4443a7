//! `ctsync syncstat`: how well changes get from member to member, over which network.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::view::{View, verdict};
use super::{Daemon, Failure, status};
use crate::control::answer::{
    AtRisk, DeltaCounts, HeldStat, HoldStatus, NetworkStatus, PathStatus, PeerReach, Queues,
    SyncStat, Timers,
};
use crate::units::{counted, percent, short_time};

#[derive(Debug, Args)]
pub(super) struct Syncstat {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Syncstat {
    /// Ends as a problem when there is a warning.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.syncstat()?);
        let page = |out: &mut dyn Write, stat: &_| write!(out, "{}", Page(stat));
        self.view
            .show(out, ask, page, |stat| verdict(stat.warnings.is_empty()))
    }
}

/// All of it as people read it, in at most 100 columns.
pub(super) struct Page<'a>(pub &'a SyncStat);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncStat {
            uptime_seconds,
            warnings,
            at_risk,
            sent,
            received,
            queues,
            timers,
            held,
            networks,
            peers,
        } = self.0;
        let verdict = if warnings.is_empty() {
            "OK"
        } else {
            "see below"
        };
        writeln!(f, "sync status  {verdict}, counted for {uptime_seconds} s")?;
        for warning in warnings {
            writeln!(f, "  {warning}")?;
        }
        delta_lines(f, sent, received)?;
        risk_line(f, at_risk)?;
        queue_line(f, queues)?;
        timer_line(f, timers)?;
        held_lines(f, held)?;
        network_lines(f, networks)?;
        path_lines(f, peers)?;
        let holds = peers.iter().map(|it| (it.id, it.name.as_str(), &it.hold));
        status::holds_of_peers(f, holds)
    }
}

fn delta_lines(
    f: &mut fmt::Formatter<'_>,
    sent: &DeltaCounts,
    received: &DeltaCounts,
) -> fmt::Result {
    writeln!(
        f,
        "\n{:<9}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "DELTAS", "CHANGES", "AGAIN", "ACKS", "REQUESTS"
    )?;
    delta_line(f, "sent", sent)?;
    delta_line(f, "received", received)
}

fn delta_line(f: &mut fmt::Formatter<'_>, name: &str, counts: &DeltaCounts) -> fmt::Result {
    let DeltaCounts {
        deltas,
        changes,
        again,
        acknowledgements,
        requests,
    } = counts;
    writeln!(
        f,
        "{name:<9}{deltas:>12}{changes:>12}{again:>12}{acknowledgements:>12}{requests:>12}"
    )
}

fn risk_line(f: &mut fmt::Formatter<'_>, at_risk: &AtRisk) -> fmt::Result {
    let AtRisk {
        bulk_updates_asked,
        bulk_updates_asked_by_peers,
        bulk_updates_sent,
        out_of_window,
    } = at_risk;
    writeln!(
        f,
        "\nat risk   bulk updates asked {bulk_updates_asked}, asked by peers {bulk_updates_asked_by_peers}, sent {bulk_updates_sent}; out of window {out_of_window}"
    )
}

fn queue_line(f: &mut fmt::Formatter<'_>, queues: &Queues) -> fmt::Result {
    let Queues {
        unacknowledged,
        missing,
    } = queues;
    let deltas = counted(*unacknowledged, "delta", "deltas");
    writeln!(f, "queues    {deltas} unacknowledged, {missing} missing")
}

fn timer_line(f: &mut fmt::Formatter<'_>, timers: &Timers) -> fmt::Result {
    let Timers {
        flush_us,
        hello_ms,
        dead_after_ms,
    } = timers;
    writeln!(
        f,
        "timers    flush {flush_us} us, hello {hello_ms} ms, dead after {dead_after_ms} ms"
    )
}

/// What became of held packets, if there were any.
fn held_lines(f: &mut fmt::Formatter<'_>, held: &HeldStat) -> fmt::Result {
    let HeldStat {
        status: HoldStatus { now, latency, .. },
        acked,
        deadline,
        limit,
        no_peer,
        unknown,
        shutdown,
    } = held;
    if now + acked + deadline + limit + no_peer + unknown + shutdown == 0 {
        return Ok(());
    }
    let [p50, p99, max] = status::times(latency);
    writeln!(
        f,
        "held      {now} now; {acked} acknowledged: p50 {p50}, p99 {p99}, max {max}"
    )?;
    writeln!(
        f,
        "          else: deadline {deadline}, limit {limit}, no peer {no_peer}, unknown {unknown}, shutdown {shutdown}"
    )
}

/// A line for each network, and one for each whose mode is not the configured one.
fn network_lines(f: &mut fmt::Formatter<'_>, networks: &[NetworkStatus]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<12}  {:<15}  {:<9}  {:<4}  {:>7}  {:>9}  {:>9}  {:>9}  {:>8}",
        "NETWORK",
        "INTERFACE",
        "MODE",
        "IS",
        "MBIT/S",
        "SENT B/S",
        "RECV B/S",
        "PEAK B/S",
        "UNSENT"
    )?;
    for network in networks {
        network_line(f, network)?;
    }
    for NetworkStatus {
        name,
        mode,
        configured,
        ..
    } in networks.iter().filter(|it| it.mode != it.configured)
    {
        writeln!(
            f,
            "{name} was switched to {mode} by `ctsync mode`; the configuration says {configured}"
        )?;
    }
    Ok(())
}

fn network_line(f: &mut fmt::Formatter<'_>, network: &NetworkStatus) -> fmt::Result {
    let NetworkStatus {
        name,
        interface,
        mode,
        open,
        speed_mbit,
        unsent,
        sent_per_second,
        received_per_second,
        peak_per_second,
        ..
    } = network;
    let open = if *open { "up" } else { "gone" };
    let speed = speed_mbit.map_or_else(|| "-".to_owned(), |speed| speed.to_string());
    writeln!(
        f,
        "{name:<12}  {interface:<15}  {mode:<9}  {open:<4}  {speed:>7}  {sent_per_second:>9}  {received_per_second:>9}  {peak_per_second:>9}  {unsent:>8}"
    )
}

/// A line for each peer and network.
fn path_lines(f: &mut fmt::Formatter<'_>, peers: &[PeerReach]) -> fmt::Result {
    writeln!(
        f,
        "\n{:<18}  {:<12}  {:<4}  {:<8}  {:>11}  {:>8}  {:>7}  QUALITY",
        "PEER", "NETWORK", "USED", "STATE", "ROUND TRIP", "LOSS OUT", "LOSS IN"
    )?;
    for peer in peers {
        for path in &peer.reach.networks {
            path_line(f, peer, path)?;
        }
    }
    Ok(())
}

fn path_line(f: &mut fmt::Formatter<'_>, peer: &PeerReach, path: &PathStatus) -> fmt::Result {
    let used = if path.name == peer.reach.network {
        "yes"
    } else {
        "no"
    };
    let rtt = path.rtt_us.map_or_else(|| "-".to_owned(), short_time);
    let [loss_out, loss_in] = [path.loss_out_permille, path.loss_in_permille]
        .map(|loss| loss.map_or_else(|| "-".to_owned(), percent));
    let quality = if path.degraded { "wan-quality" } else { "good" };
    writeln!(
        f,
        "{:<18}  {:<12}  {used:<4}  {:<8}  {rtt:>11}  {loss_out:>8}  {loss_in:>7}  {quality}",
        peer.name,
        path.name,
        path.state.name(),
    )
}
