//! `ctsync top`: members and what goes on, live.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::status::{Peers, short};
use super::{Daemon, Failure, print_json, screen};
use crate::control::answer::services::{ServiceCost, Services};
use crate::control::answer::{Counters, HoldStatus, Status};
use crate::units::{Age, counted, percent, short_time};

/// Counters shown: those that grow fastest, as many as a small terminal has room for.
const RATES_MAX: usize = 14;
/// Services shown.
const SERVICES_MAX: usize = 5;

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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A page for programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Page<'a> {
    /// By how much each counter grew in a second, on average since the page before.
    rates: Counters,
    /// How things are.
    status: &'a Status,
    /// What each service has cost.
    services: &'a Services,
}

/// What is seen at a time.
pub(super) struct Look {
    pub at: Instant,
    pub status: Status,
    pub services: Services,
}

impl Top {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut before = self.look()?;
        let mut shown = 0;
        while self.pages.is_none_or(|pages| shown < pages) {
            std::thread::sleep(Duration::from_secs(self.interval.into()));
            let now = match self.look() {
                Ok(now) => now,
                // Who watches wants to see it come back.
                Err(Failure::NoDaemon(why)) if self.pages.is_none() && !self.json => {
                    screen::show(out, &format!("{why}\n"))?;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            match self.json {
                true => print_json(out, &Page::of(&before, &now))?,
                false => screen::show(out, &page(&before, &now))?,
            }
            out.flush()?;
            before = now;
            shown += 1;
        }
        Ok(())
    }

    fn look(&self) -> Result<Look, Failure> {
        let mut daemon = self.daemon.connect()?;
        Ok(Look {
            status: daemon.status()?,
            services: daemon.services()?,
            at: Instant::now(),
        })
    }
}

impl<'a> Page<'a> {
    fn of(before: &Look, now: &'a Look) -> Self {
        let elapsed = now.at.duration_since(before.at);
        Self {
            rates: rates(&before.status, &now.status, elapsed),
            status: &now.status,
            services: &now.services,
        }
    }
}

/// What people see, of two looks; in at most 100 columns.
pub(super) fn page(before: &Look, now: &Look) -> String {
    let elapsed = now.at.duration_since(before.at);
    let (services_before, services_now) = (&before.services, &now.services);
    let (before, now) = (&before.status, &now.status);
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
        "{} of its own, {}, {} found\n\n{}\n",
        counted(flows.own, "flow", "flows"),
        counted(flows.copies, "copy", "copies"),
        flows.found,
        Peers(peers),
    );
    page += &held(before, now, elapsed);
    page += &paths(now);
    page += &services(services_before, services_now, elapsed);
    page += &fastest(&rates(before, now, elapsed));
    page
}

/// Each way to each peer.
fn paths(now: &Status) -> String {
    let mut lines = format!(
        "{:<18}  {:<14}  {:<8}  {:<4}  {:>10}  {:>7}  {:>7}\n",
        "PEER", "NETWORK", "STATE", "USED", "RTT", "LOSS IN", "OUT"
    );
    let loss = |permille: Option<u16>| permille.map_or_else(|| "-".to_owned(), percent);
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
                path.rtt_us.map_or_else(|| "-".to_owned(), short_time),
                loss(path.loss_in_permille),
                loss(path.loss_out_permille),
            );
        }
    }
    lines + "\n"
}

/// Packets that wait until the peers have their flow, if any do or did.
fn held(before: &Status, now: &Status, elapsed: Duration) -> String {
    let HoldStatus {
        now: waiting,
        latency,
        ..
    } = &now.holds;
    if *waiting == 0 && latency.count == 0 {
        return String::new();
    }
    let released = latency.count.saturating_sub(before.holds.latency.count);
    let time = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), short_time);
    format!(
        "{} held, {} a second let go; half of them within {}, 99 % within {}\n\n",
        counted(*waiting, "packet", "packets"),
        a_second(released, elapsed),
        time(latency.p50_us),
        time(latency.p99_us),
    )
}

/// The services that cost something now, the costliest first.
fn services(before: &Services, now: &Services, elapsed: Duration) -> String {
    let earlier = |service: &Option<String>| {
        let found = before.services.iter().find(|it| it.service == *service);
        found.map_or([0; 4], costs)
    };
    let mut rates: Vec<_> = (now.services.iter())
        .map(|it| {
            let earlier = earlier(&it.service);
            let grown = costs(it).into_iter().zip(earlier);
            let rates: Vec<_> = grown
                .map(|(now, before)| a_second(now.saturating_sub(before), elapsed))
                .collect();
            (rates, it)
        })
        .filter(|(rates, _)| rates.iter().any(|rate| *rate > 0))
        .collect();
    rates.sort_by(|left, right| right.0.cmp(&left.0));
    if rates.is_empty() {
        return String::new();
    }
    let mut lines = format!(
        "{:<20}  {:>12}  {:>12}  {:>12}  {:>12}\n",
        "SERVICE", "MESSAGES/s", "BYTES/s", "EVENTS/s", "FLOWS/s"
    );
    for (rates, it) in rates.iter().take(SERVICES_MAX) {
        let name = short(it.service.as_deref().unwrap_or("(no service)"), 20);
        lines += &format!("{name:<20}");
        rates
            .iter()
            .for_each(|rate| lines += &format!("  {rate:>12}"));
        lines.push('\n');
    }
    lines + "\n"
}

fn costs(of: &ServiceCost) -> [u64; 4] {
    [of.messages, of.bytes, of.events, of.flows]
}

/// How much every counter grew in a second.
fn rates(before: &Status, now: &Status, elapsed: Duration) -> Counters {
    let earlier = |name: &str| {
        let found = before.counters.0.iter().find(|(it, _)| it == name);
        found.map_or(0, |(_, value)| *value)
    };
    let counters = now.counters.0.iter();
    let rates = counters.map(|(name, value)| {
        let grown = value.saturating_sub(earlier(name));
        (name.clone(), a_second(grown, elapsed))
    });
    Counters(rates.collect())
}

fn a_second(grown: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(grown) * 1000 / millis).unwrap_or(u64::MAX)
}

/// The counters that grow, the fastest first.
fn fastest(rates: &Counters) -> String {
    let mut grown: Vec<_> = rates.0.iter().filter(|(_, rate)| *rate > 0).collect();
    grown.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
    let mut lines = format!("{:<32}  {:>12}\n", "COUNTER", "PER SECOND");
    for (name, rate) in grown.into_iter().take(RATES_MAX) {
        lines += &format!("{name:<32}  {rate:>12}\n");
    }
    lines
}
