//! The audit: the kernel's table is read and compared all the time, at a low rate, and what differs is repaired.
//!
//! A round is a pass like the one after lost events ([`super::passes`]); it runs at full speed, in slices between which events
//! and datagrams have their turn, and then rests. What rounds have found is kept for the operator.

use super::Core;
use crate::control::answer::audit::{Difference, DifferenceCounts, Equal, Proof, Report, Round};
use crate::convert::ip;
use crate::protocols;
use crate::units::{micros, millis};
use ccp::audit::{self, Class};
use ccp::time::Instant;
use ccp::wire::compare::Against;
use ccp::wire::flow::has_l4;
use std::collections::VecDeque;
use std::time::Duration;

/// A rest is as many times as long as what was done before took of a processor: so audits take 2 % of it at most.
const REST: u32 = 50;
/// Differences that are remembered.
const HISTORY_MAX: usize = 256;

/// Where the audit stands.
#[derive(Debug)]
pub(super) struct Audit {
    interval: Duration,
    due: Instant,
    began: Instant,
    rows: u64,
    /// What audits took of a processor since the last round ended, and since the start.
    spent: Duration,
    spent_in_all: Duration,
    /// The longest piece of it: while it was worked on, nothing else was.
    longest: Duration,
    rounds: u64,
    /// The operator asked for the round that begins next: peers are to read their kernels' tables for it too.
    asked: bool,
    against: Against,
    stage: Stage,
    last: Option<Done>,
    /// When a round found nothing last.
    equal: Option<Done>,
    counts: [u64; Class::ALL.len()],
    history: VecDeque<Found>,
}

/// What an audit does beside reading the table, which [`super::passes`] knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for the table to be read.
    Resting,
    /// The table was read, and copies are being compared with what their carriers have.
    Comparing {
        /// It was read once more meanwhile.
        read_again: bool,
    },
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
    spent: Duration,
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
            spent: Duration::ZERO,
            spent_in_all: Duration::ZERO,
            longest: Duration::ZERO,
            rounds: 0,
            asked: false,
            against: Against::Tables,
            stage: Stage::Resting,
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
        if std::mem::take(&mut self.asked) {
            self.against = Against::Kernels;
        }
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
    /// The table was read: now copies are compared with what their carriers have.
    pub(super) fn compare(&mut self) {
        if let Stage::Comparing { read_again } = &mut self.audit.stage {
            *read_again = true;
            return;
        }
        self.audit.stage = Stage::Comparing { read_again: false };
        let against = std::mem::take(&mut self.audit.against);
        self.node.begin_comparison(against);
    }

    pub(super) fn handle_audit_timeout(&mut self) {
        let Stage::Comparing { read_again } = self.audit.stage else {
            return;
        };
        if self.node.comparing().goes_on() {
            return;
        }
        self.end_round();
        self.audit.stage = Stage::Resting;
        if read_again {
            self.compare();
        }
    }

    /// A round that came to its end: what it has found is kept, the next begins after a rest.
    fn end_round(&mut self) {
        let (counts, differences) = self.node.take_differences();
        let (now, audit) = (self.clock, &mut self.audit);
        let spent = std::mem::take(&mut audit.spent);
        audit.due = now + audit.interval.max(spent.saturating_mul(REST));
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
            spent,
            rows: audit.rows,
            counts,
        };
        audit.last = Some(done);
        let is_equal = (counts.iter().zip(Class::ALL))
            .all(|(count, class)| *count == 0 || !class.is_unequal());
        if is_equal && self.node.comparing().is_equal() {
            audit.equal = Some(done);
        }
    }

    /// True if what is done next may be a part of an audit: [`Self::note_audit_time`] is to hear what it took.
    pub fn is_auditing(&self) -> bool {
        self.passes.is_running() || self.wants_pass() || self.node.compares()
    }

    /// A piece of an audit, ours or a peer's, took so long of a processor.
    pub fn note_audit_time(&mut self, spent: Duration) {
        self.audit.spent += spent;
        self.audit.spent_in_all += spent;
        self.audit.longest = self.audit.longest.max(spent);
    }

    /// What audits took of a processor since the start.
    pub(super) fn audit_time(&self) -> Duration {
        self.audit.spent_in_all
    }

    /// A round begins as soon as it can; when so many are over, it is.
    pub fn ask_round(&mut self) -> u64 {
        self.passes.want();
        self.audit.asked = true;
        let before = self.passes.is_running() || self.audit.stage != Stage::Resting;
        self.audit.rounds + 1 + u64::from(before)
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
            milliseconds: millis(done.took),
            cpu_us: micros(done.spent),
            entries: done.rows,
            differences: differences(done.counts),
        };
        Report {
            interval_seconds: self.audit.interval.as_secs(),
            rounds: self.audit.rounds,
            longest_us: micros(self.audit.longest),
            last: self.audit.last.map(round),
            equal: self.audit.equal.map(round),
            peers: (self.peers.iter())
                .map(|member| Proof {
                    member: member.get(),
                    name: self.names.get(member).cloned().unwrap_or_default(),
                    equal: self.node.comparing().proof(*member).map(|proof| Equal {
                        seconds_ago: ago(proof.at),
                        flows: proof.flows,
                    }),
                })
                .collect(),
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

fn differences(counts: [u64; Class::ALL.len()]) -> DifferenceCounts {
    let [missing, ghost, nat, attribute, conflict, lag] = counts;
    DifferenceCounts {
        missing,
        ghost,
        nat,
        attribute,
        conflict,
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
            Class::Conflict => "conflict",
            Class::Lag => "lag",
        }
        .into(),
        proto: protocols::name(key.proto),
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

#[cfg(test)]
mod tests;
