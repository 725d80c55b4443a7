//! `ctsync status`: how this member and its peers are.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::members::Checks;
use super::view::{View, verdict};
use super::{Daemon, Failure};
use crate::control::answer::sync::SyncStatus;
use crate::control::answer::{
    self, Counters, HoldStatus, Latency, PeerHold, PeerState, PeerStatus,
};
use crate::paragraph;
use crate::units::{Age, counted, short_time, time};

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Status {
    /// Ends as a problem when there is one to see: a peer that is not there, or not in step, or a sync that
    /// is not complete.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.status()?);
        let page = |out: &mut dyn Write, status: &_| write!(out, "{}", Page(status));
        let well = |peer: &PeerStatus| peer.state == PeerState::Live && peer.synced;
        self.view.show(out, ask, page, |status| {
            verdict(status.sync.complete && status.peers.iter().all(well))
        })
    }
}

/// A status as people read it, in at most 100 columns.
pub(super) struct Page<'a>(pub &'a answer::Status);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer::Status {
            version,
            cluster,
            member,
            uptime_seconds,
            flows,
            sync,
            holds,
            key,
            peers,
            capabilities: _,
            warnings,
            role,
            counters,
        } = self.0;
        writeln!(
            f,
            "member   {} ({}) of cluster {cluster}",
            member.id, member.name
        )?;
        let state = format!("{} for {}: {}", role.state, Age(role.seconds), role.why);
        paragraph::write(f, "state    ", &state)?;
        writeln!(f, "running  {}, version {version}", Age(*uptime_seconds))?;
        writeln!(
            f,
            "flows    {} own, {}, {} found",
            flows.own,
            counted(flows.copies, "copy", "copies"),
            flows.found
        )?;
        writeln!(f, "sync     {}", Sync(sync))?;
        let HoldStatus {
            now,
            deadline_us: _,
            latency,
        } = holds;
        if *now > 0 || latency.count > 0 {
            let [p50, p99, max] = times(latency);
            writeln!(
                f,
                "held     {now} now; {} were acknowledged: p50 {p50}, p99 {p99}, max {max}",
                latency.count
            )?;
        }
        writeln!(
            f,
            "key      {} of this run, in use for {}",
            key.epoch,
            Age(key.age_seconds)
        )?;
        writeln!(f)?;
        write!(f, "{}", Peers(peers))?;
        builds_of_peers(f, version, peers)?;
        holds_of_peers(
            f,
            peers.iter().map(|it| (it.id, it.name.as_str(), &it.hold)),
        )?;
        write!(f, "{}", Checks(&role.checks))?;
        if !warnings.is_empty() {
            writeln!(f)?;
        }
        for warning in warnings {
            writeln!(f, "{warning}")?;
        }
        counter_lines(f, counters)
    }
}

/// A line for each counter that is not 0.
fn counter_lines(f: &mut fmt::Formatter<'_>, counters: &Counters) -> fmt::Result {
    let (counting, zero): (Vec<_>, Vec<_>) = counters.0.iter().partition(|it| it.1 > 0);
    if !counting.is_empty() {
        writeln!(f, "\nCOUNTER")?;
    }
    let width = counting.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default();
    for (name, value) in counting {
        writeln!(f, "{name:<width$}  {value}")?;
    }
    if !zero.is_empty() {
        writeln!(f, "({} 0)", counted(zero.len(), "more is", "more are"))?;
    }
    Ok(())
}

/// Whether everything is here; if not, for how long, and how far it is.
struct Sync<'a>(&'a SyncStatus);

impl Display for Sync<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncStatus {
            complete,
            incomplete_ms,
            from,
            flows,
            flows_expected,
            parts: _,
            parts_expected: _,
        } = self.0;
        if *complete {
            return f.write_str("complete");
        }
        let seconds = incomplete_ms / 1000;
        let tenths = incomplete_ms / 100 % 10;
        write!(f, "not complete for {seconds}.{tenths} s")?;
        if let Some(member) = from {
            write!(
                f,
                ": {flows} of about {} from member {member}",
                counted(*flows_expected, "flow", "flows")
            )?;
        }
        Ok(())
    }
}

/// The peers, a line each under a heading.
pub(super) struct Peers<'a>(pub &'a [PeerStatus]);

impl Display for Peers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<4}  {:<18}  {:<10}  {:<4}  {:<6}  {:>10}  {:>9}  {:>7}  {:>7}  {:>7}",
            "PEER",
            "NAME",
            "STATE",
            "LINK",
            "SYNCED",
            "RTT",
            "HEARD AGO",
            "UNACKED",
            "MISSING",
            "REFUSED"
        )?;
        for peer in self.0 {
            peer_line(f, peer)?;
        }
        Ok(())
    }
}

fn peer_line(f: &mut fmt::Formatter<'_>, peer: &PeerStatus) -> fmt::Result {
    let PeerStatus {
        id,
        name,
        state,
        version: _,
        lacks: _,
        linked,
        synced,
        rtt_us,
        last_heard_ms,
        unacknowledged,
        missing,
        refused,
        hold: _,
        reach: _,
    } = peer;
    let state = match state {
        PeerState::Live => "live",
        PeerState::Dead => "dead",
        PeerState::NeverSeen => "never seen",
    };
    let link = if *linked { "up" } else { "down" };
    let synced = if *synced { "yes" } else { "no" };
    let rtt = rtt_us.map_or_else(|| "-".to_owned(), short_time);
    let heard = last_heard_ms.map_or_else(|| "-".to_owned(), time);
    writeln!(
        f,
        "{id:<4}  {:<18}  {state:<10}  {link:<4}  {synced:<6}  {rtt:>10}  {heard:>9}  {unacknowledged:>7}  {missing:>7}  {refused:>7}",
        short(name, 18),
    )
}

/// Peers of another version than this one, and what they lack.
fn builds_of_peers(f: &mut fmt::Formatter<'_>, own: &str, peers: &[PeerStatus]) -> fmt::Result {
    for peer in peers {
        let version = peer.version.as_deref().unwrap_or("before 0.1.0");
        let is_other = peer.version.is_some() && version != own;
        if is_other || !peer.lacks.is_empty() {
            write!(f, "{} runs version {version}", peer.name)?;
            if !peer.lacks.is_empty() {
                write!(f, ", which lacks {}", peer.lacks.join(", "))?;
            }
            writeln!(f)?;
        }
    }
    Ok(())
}

/// How long packets waited for each peer, if any did.
pub(super) fn holds_of_peers<'a>(
    f: &mut fmt::Formatter<'_>,
    peers: impl Iterator<Item = (u8, &'a str, &'a PeerHold)>,
) -> fmt::Result {
    let mut waited_for = peers
        .filter(|(_, _, hold)| hold.aside || hold.latency.count > 0)
        .peekable();
    if waited_for.peek().is_some() {
        writeln!(
            f,
            "\n{:<4}  {:<18}  {:<10}  {:>12}  {:>10}  {:>10}  {:>10}",
            "PEER", "NAME", "WAITED FOR", "ACKNOWLEDGED", "P50", "P99", "MAX"
        )?;
    }
    for (id, name, hold) in waited_for {
        let is_waited_for = if hold.aside { "no" } else { "yes" };
        let [p50, p99, max] = times(&hold.latency);
        writeln!(
            f,
            "{id:<4}  {:<18}  {is_waited_for:<10}  {:>12}  {p50:>10}  {p99:>10}  {max:>10}",
            short(name, 18),
            hold.latency.count,
        )?;
    }
    Ok(())
}

pub(super) fn times(latency: &Latency) -> [String; 3] {
    let Latency {
        count: _,
        sum_us: _,
        p50_us,
        p99_us,
        max_us,
    } = latency;
    [p50_us, p99_us, max_us].map(|it| it.map_or_else(|| "-".to_owned(), short_time))
}

/// `name`, cut to `width` characters; names are ASCII.
pub(super) fn short(name: &str, width: usize) -> String {
    match name.len() > width {
        true => format!("{}~", &name[..width - 1]),
        false => name.to_owned(),
    }
}
