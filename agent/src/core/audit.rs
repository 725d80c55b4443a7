//! The audit: the kernel's table is read and compared all the time, at a low rate, and what differs is repaired.
//!
//! A round is a pass like the one after lost events ([`super::passes`]); it runs at full speed, in slices between which events
//! and datagrams have their turn, and then rests. What rounds have found is kept for the operator.

use super::Core;
use super::passes::Pass;
use crate::control::answer::audit::{Difference, DifferenceCounts, Report, Round};
use crate::convert::ip;
use crate::names;
use ccp::audit::{self, Class};
use ccp::time::Instant;
use ccp::wire::flow::has_l4;
use std::collections::VecDeque;
use std::time::Duration;

/// A row costs 1.5 us or less. With as many rows as this a second, on the average, an audit takes 2 % of a processor.
const ROWS_PER_SECOND: u64 = 13_000;
/// Differences that are remembered.
const HISTORY_MAX: usize = 256;

/// Where the audit stands.
#[derive(Debug)]
pub(super) struct Audit {
    interval: Duration,
    due: Instant,
    began: Instant,
    rows: u64,
    rounds: u64,
    last: Option<Done>,
    /// When a round found nothing last.
    equal: Option<Done>,
    counts: [u64; Class::ALL.len()],
    history: VecDeque<Found>,
}

/// A difference that is remembered.
#[derive(Clone, Copy, Debug)]
struct Found {
    difference: audit::Difference,
    first: Instant,
    last: Instant,
    times: u32,
}

/// A round that is over.
#[derive(Clone, Copy, Debug)]
struct Done {
    at: Instant,
    took: Duration,
    rows: u64,
    counts: [u64; Class::ALL.len()],
}

impl Audit {
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            due: now + interval,
            began: now,
            rows: 0,
            rounds: 0,
            last: None,
            equal: None,
            counts: [0; Class::ALL.len()],
            history: VecDeque::new(),
        }
    }

    pub fn due(&self) -> Instant {
        self.due
    }

    /// The table is read from its start.
    pub fn begin(&mut self, now: Instant) {
        self.began = now;
        self.rows = 0;
    }

    pub fn count_row(&mut self) {
        self.rows += 1;
    }

    /// The flow may have differed before.
    fn remember(&mut self, difference: audit::Difference, now: Instant) {
        let known = (self.history.iter()).position(|it| it.difference.key == difference.key);
        let before = known.and_then(|known| self.history.remove(known));
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Found {
            difference,
            first: before.map_or(now, |before| before.first),
            last: now,
            times: before.map_or(1, |before| before.times.saturating_add(1)),
        });
    }
}

impl Core {
    /// A round that came to its end: what it has found is kept, the next begins after a rest.
    pub(super) fn end_round(&mut self) {
        let (counts, differences) = self.node.take_differences();
        let (now, audit) = (self.clock, &mut self.audit);
        let rest = Duration::from_secs(1)
            * u32::try_from(audit.rows / ROWS_PER_SECOND).unwrap_or(u32::MAX);
        audit.due = now + audit.interval.max(rest);
        audit.rounds += 1;
        for (total, count) in audit.counts.iter_mut().zip(counts) {
            *total += count;
        }
        for difference in differences {
            audit.remember(difference, now);
        }
        let done = Done {
            at: now,
            took: now.since(audit.began),
            rows: audit.rows,
            counts,
        };
        audit.last = Some(done);
        let only_lag = counts
            .iter()
            .zip(Class::ALL)
            .all(|(count, class)| *count == 0 || class == Class::Lag);
        if only_lag {
            audit.equal = Some(done);
        }
    }

    /// A round begins as soon as it can; when so many are over, it is.
    pub fn ask_round(&mut self) -> u64 {
        self.pass_wanted = true;
        match self.pass {
            Pass::Running => self.audit.rounds + 2,
            Pass::Never | Pass::Done => self.audit.rounds + 1,
        }
    }

    /// Rounds that are over.
    pub fn rounds(&self) -> u64 {
        self.audit.rounds
    }

    /// What rounds have found.
    pub fn audit(&self, now: Instant) -> Report {
        let ago = |at: Instant| now.since(at).as_secs();
        let round = |done: Done| Round {
            seconds_ago: ago(done.at),
            milliseconds: u64::try_from(done.took.as_millis()).unwrap_or(u64::MAX),
            entries: done.rows,
            differences: differences(done.counts),
        };
        Report {
            interval_seconds: self.audit.interval.as_secs(),
            rounds: self.audit.rounds,
            last: self.audit.last.map(round),
            equal: self.audit.equal.map(round),
            differences: differences(self.audit.counts),
            history: self
                .audit
                .history
                .iter()
                .rev()
                .map(|found| difference(ago(found.last), ago(found.first), found))
                .collect(),
        }
    }
}

fn differences([missing, ghost, nat, attribute, lag]: [u64; Class::ALL.len()]) -> DifferenceCounts {
    DifferenceCounts {
        missing,
        ghost,
        nat,
        attribute,
        lag,
    }
}

fn difference(seconds_ago: u64, first_seconds_ago: u64, found: &Found) -> Difference {
    let audit::Difference {
        class,
        key,
        carrier,
    } = &found.difference;
    Difference {
        seconds_ago,
        first_seconds_ago,
        times: found.times,
        class: match class {
            Class::Missing => "missing",
            Class::Ghost => "ghost",
            Class::Nat => "nat",
            Class::Attribute => "attribute",
            Class::Lag => "lag",
        }
        .into(),
        proto: names::proto(key.proto),
        orig: crate::control::answer::Endpoints {
            src: ip(key.family, &key.src),
            dst: ip(key.family, &key.dst),
            sport: has_l4(key.proto).then_some(key.l4[0]),
            dport: has_l4(key.proto).then_some(key.l4[1]),
        },
        zone: key.zone,
        member: carrier.map(|member| member.get()),
    }
}
