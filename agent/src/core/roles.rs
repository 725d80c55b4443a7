//! The core's side of the election: what keeps this member from being fit, what the operator asks of it, and what is told him.
//!
//! Who is active is decided by the protocol ([`ccp::election`]); what that takes is gathered here.

mod answer;
mod checks;
mod drain;

use std::collections::VecDeque;
use std::time::Duration;

use super::Core;
use crate::control::answer::members::{Done, RolesAnswer, RolesRequest};
use ccp::election::{Problem, StateChange};
use ccp::time::Instant;
use checks::Checks;
use drain::Drain;

pub use answer::state_name;
pub use checks::check_name;

/// Changes that are remembered.
const HISTORY_MAX: usize = 50;

/// Flows that are known at most where nobody says how many the kernel's table takes, or it takes any number.
const FLOWS_MAX: usize = 1 << 24;

/// How many flows are known at most, if the kernel's table takes so many: more than it takes would be refused, and there are ends
/// to be remembered.
pub fn flows_max(table_max: Option<u64>) -> usize {
    let twice = table_max.map(|max| usize::try_from(max.saturating_mul(2)).unwrap_or(usize::MAX));
    twice.filter(|max| *max > 0).unwrap_or(FLOWS_MAX)
}

/// What the core's part in the election is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolesSetup {
    /// The kernel's table may be full to this part, in percent; `None` to look away.
    pub table_percent: Option<u8>,
    /// The operator asked this member to be down before its daemon started.
    pub asked_down: bool,
}

/// The core's part in the election.
#[derive(Debug)]
pub(super) struct Roles {
    checks: Checks,
    asked_down: bool,
    drain: Option<Drain>,
    history: VecDeque<Past>,
    last_failover: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Past {
    at: Instant,
    change: StateChange,
    why: String,
}

impl Roles {
    pub fn new(setup: RolesSetup) -> Self {
        Self {
            checks: Checks::new(setup.table_percent),
            asked_down: setup.asked_down,
            drain: None,
            history: VecDeque::new(),
            last_failover: None,
        }
    }
}

impl Core {
    /// Answers an operator, or does what he asks. What is to outlive this run is the owner's to keep.
    pub fn handle_roles_request(&mut self, request: RolesRequest, now: Instant) -> RolesAnswer {
        let done = |refused| RolesAnswer::Done(Done { refused });
        match request {
            RolesRequest::Members => RolesAnswer::Members(Box::new(self.members(now))),
            RolesRequest::Down { persist: _ } => {
                self.roles.drain = None;
                self.roles.asked_down = true;
                self.judge(now);
                done(None)
            }
            RolesRequest::Up => {
                self.roles.drain = None;
                self.roles.asked_down = false;
                self.judge(now);
                done(None)
            }
            RolesRequest::Drain { timeout_ms } => done(
                self.begin_drain(Duration::from_millis(timeout_ms), now)
                    .err(),
            ),
            RolesRequest::CheckIn {
                name,
                says,
                timeout_ms,
            } => {
                let timeout = timeout_ms.map(Duration::from_millis);
                let result = self.roles.checks.check_in(&name, says, timeout, now);
                self.judge(now);
                done(result.err())
            }
        }
    }

    /// The kernel's connection table has so many entries, of so many at most.
    pub fn set_table_fill(&mut self, count: u64, max: u64) {
        self.roles.checks.set_table(count, max);
        self.node.set_flows_max(flows_max(Some(max)));
    }

    /// The state directory can be written, or why not.
    pub fn set_storage(&mut self, fault: Option<String>) {
        self.roles.checks.set_storage(fault);
    }

    /// Why this member is what it is, as of its last change.
    pub fn last_reason(&self) -> &str {
        self.roles.history.front().map_or("", |past| &past.why)
    }

    /// The daemon is about to end: the role is given up with the next hello.
    pub fn leave(&mut self, now: Instant) {
        self.clock = now;
        self.node.leave(now);
    }

    /// Tells the protocol what is wrong now.
    pub(super) fn judge(&mut self, now: Instant) {
        let mut problems = self.roles.checks.problems(now);
        if self.roles.asked_down {
            problems.add(Problem::Asked);
        }
        self.node.set_problems(problems, now);
    }

    /// Time has passed for what the operator asked for.
    pub(super) fn handle_roles_timeout(&mut self, now: Instant) {
        self.go_on_draining(now);
        self.judge(now);
    }

    pub(super) fn poll_roles_timeout(&self) -> Option<Instant> {
        let drain = self.roles.drain.as_ref().and_then(Drain::poll_timeout);
        let due = self.roles.checks.poll_timeout(self.clock);
        drain.into_iter().chain(due).min()
    }

    /// This member has become something else.
    pub(super) fn note_change(&mut self, change: StateChange) {
        let now = self.clock;
        if change.from.is_active() != change.to.is_active() {
            self.roles.last_failover = Some(now);
        }
        let why = self.reason(&change, now);
        self.roles.history.truncate(HISTORY_MAX - 1);
        self.roles.history.push_front(Past {
            at: now,
            change,
            why,
        });
    }
}

#[cfg(test)]
mod tests;
