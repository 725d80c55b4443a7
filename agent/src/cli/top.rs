//! `ctsync top`: members and what goes on, live.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;

use super::status::{Age, Peers, round_trip, short};
use super::watch::CLEAR;
use super::{Daemon, Failure};
use crate::control::answer::Status;

/// Counters shown: those that grow fastest, as many as a small terminal has room for.
const RATES_MAX: usize = 14;

#[derive(Debug, Args)]
pub(super) struct Top {
    #[command(flatten)]
    daemon: Daemon,
    /// Seconds from one page to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=60))]
    interval: u32,
    /// End after so many pages
    #[arg(long, value_name = "COUNT")]
    pages: Option<u32>,
}

impl Top {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut before = self.look()?;
        let mut shown = 0;
        while self.pages.is_none_or(|pages| shown < pages) {
            std::thread::sleep(Duration::from_secs(self.interval.into()));
            let now = self.look()?;
            if io::stdout().is_terminal() {
                out.write_all(CLEAR.as_bytes())?;
            }
            let elapsed = now.0.duration_since(before.0);
            out.write_all(page(&before.1, &now.1, elapsed).as_bytes())?;
            out.flush()?;
            before = now;
            shown += 1;
        }
        Ok(())
    }

    fn look(&self) -> Result<(Instant, Status), Failure> {
        let status = self.daemon.connect()?.status()?;
        Ok((Instant::now(), status))
    }
}

/// What people see, of two looks with so much time between them; in at most 100 columns.
pub(super) fn page(before: &Status, now: &Status, elapsed: Duration) -> String {
    let Status {
        cluster,
        member,
        role,
        flows,
        peers,
        ..
    } = now;
    let mut page = format!(
        "{} (member {} of cluster {cluster}) is {} for {}\n",
        member.name,
        member.id,
        role.state,
        Age(role.seconds),
    );
    page += &format!(
        "{} flows of its own, {} copies, {} found\n\n{}\n",
        flows.own,
        flows.copies,
        flows.found,
        Peers(peers),
    );
    page += &paths(now);
    page += &rates(before, now, elapsed);
    page
}

/// Each way to each peer.
fn paths(now: &Status) -> String {
    let mut lines = format!(
        "{:<18}  {:<14}  {:<8}  {:<4}  {:>10}  {:>7}  {:>7}\n",
        "PEER", "NETWORK", "STATE", "USED", "RTT", "LOSS IN", "OUT"
    );
    let loss = |permille: Option<u16>| {
        permille.map_or("-".to_owned(), |it| format!("{}.{} %", it / 10, it % 10))
    };
    for peer in &now.peers {
        for path in &peer.reach.networks {
            let used = if path.name == peer.reach.network {
                "yes"
            } else {
                "no"
            };
            lines += &format!(
                "{:<18}  {:<14}  {:<8}  {used:<4}  {:>10}  {:>7}  {:>7}\n",
                short(&peer.name, 18),
                short(&path.name, 14),
                path.state.name(),
                path.rtt_us.map_or_else(|| "-".to_owned(), round_trip),
                loss(path.loss_in_permille),
                loss(path.loss_out_permille),
            );
        }
    }
    lines + "\n"
}

/// The counters that grow, the fastest first.
fn rates(before: &Status, now: &Status, elapsed: Duration) -> String {
    let earlier = |name: &str| {
        let found = before.counters.0.iter().find(|(it, _)| it == name);
        found.map_or(0, |(_, value)| *value)
    };
    let counters = now.counters.0.iter();
    let mut grown: Vec<_> = counters
        .map(|(name, value)| (value.saturating_sub(earlier(name)), name))
        .filter(|(grown, _)| *grown > 0)
        .collect();
    grown.sort_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(right.1)));
    let millis = elapsed.as_millis().max(1);
    let mut lines = format!("{:<32}  {:>12}\n", "COUNTER", "PER SECOND");
    for (grown, name) in grown.iter().take(RATES_MAX) {
        lines += &format!("{name:<32}  {:>12}\n", u128::from(*grown) * 1000 / millis);
    }
    lines
}
