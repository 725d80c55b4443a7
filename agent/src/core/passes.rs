//! Reading the kernel's table: when, and what its entries are.

use super::Core;
use super::reload::Rejudging;
use crate::convert;
use ccp::node::Row;
use ccp::table::Origin;
use ccp::time::Instant;
use conntrack::Flow;
use std::time::Duration;

/// Where the comparison with the kernel table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// The table was never read.
    Never,
    /// It is being read.
    Running,
    /// It was read.
    Done,
}

/// From the end of one reading of the kernel's table to the next at least.
const PASS_INTERVAL: Duration = Duration::from_millis(500);

impl Core {
    /// True if the kernel's table should be read from its start: call [`Self::begin_pass`], then read.
    pub fn wants_pass(&self) -> bool {
        let is_wanted =
            self.pass_wanted || self.node.wants_pass() || self.round_due() <= self.clock;
        is_wanted && self.pass != Pass::Running && self.pass_not_before <= self.clock
    }

    /// When a pass has to begin; `None` while one goes on.
    pub(super) fn pass_timeout(&self) -> Option<Instant> {
        let at = if self.pass_wanted || self.node.wants_pass() {
            self.pass_not_before
        } else {
            self.pass_not_before.max(self.round_due())
        };
        (self.pass != Pass::Running).then_some(at)
    }

    /// When the table is to be read though nothing was lost.
    fn round_due(&self) -> Instant {
        let audit = self.audit.due();
        self.accounting.due().map_or(audit, |due| audit.min(due))
    }

    /// The kernel's table is read from its start, now or again.
    pub fn begin_pass(&mut self) {
        self.pass_wanted = false;
        self.pass = Pass::Running;
        if self.rejudging == Rejudging::Wanted {
            self.rejudging = Rejudging::Running;
        }
        self.audit.begin(self.clock);
        self.accounting.begin_pass();
        self.scope.begin_pass();
        self.node.begin_pass();
    }

    /// One entry of the kernel's table.
    pub fn handle_row(&mut self, flow: &Flow) {
        self.audit.count_row();
        let key = convert::key(flow);
        let state = convert::patch(flow, self.shared);
        let began = self.began(flow);
        let decision = self.decide(&key, flow);
        if !self.scope.is_forwarded(&key, &state.nat) {
            self.scope.note_row(&key, &state.nat);
            return;
        }
        self.count_row(&key, flow, decision);
        if self.admits(&key, flow, decision, began) {
            let unknown = if self.first_pass {
                Origin::Found
            } else {
                Origin::Own
            };
            self.node.handle_row(
                Row {
                    key: &key,
                    state: &state,
                    mark_mask: self.shared.mark_mask,
                },
                unknown,
            );
        }
    }

    /// The kernel's table was read to its end.
    pub fn end_pass(&mut self) {
        self.pass = Pass::Done;
        self.pass_not_before = self.clock + PASS_INTERVAL;
        if self.node.end_pass() {
            self.first_pass = false;
            self.scope.end_pass();
            if self.rejudging == Rejudging::Running {
                self.rejudging = Rejudging::Over;
            }
            self.accounting_ended |= self.accounting.end_pass(self.clock);
            self.compare();
        } else {
            self.pass_wanted = true;
        }
    }

    /// Reading the kernel's table failed half-way; it has to be read again.
    pub fn fail_pass(&mut self) {
        self.pass = Pass::Done;
        self.pass_not_before = self.clock + PASS_INTERVAL;
        self.pass_wanted = true;
    }
}
