//! Reading the kernel's table: when, and what its entries are.

use super::Core;
use super::reload::Rejudging;
use crate::convert;
use ccp::node::{PassEnd, Row};
use ccp::record::{FlowKey, Packets};
use ccp::table::Origin;
use ccp::time::Instant;
use conntrack::Flow;
use std::time::Duration;

/// From the end of one pass to the next at least, so that a kernel that loses events all the time is not read all the time.
const PASS_INTERVAL: Duration = Duration::from_millis(500);

/// The passes over the kernel's table: whether one goes on, and when the next begins.
#[derive(Debug)]
pub(super) struct Passes {
    is_running: bool,
    /// One has come to its end.
    has_ended: bool,
    /// The table has to be read (again).
    is_wanted: bool,
    not_before: Instant,
}

impl Passes {
    /// The first is wanted at once.
    pub fn new(now: Instant) -> Self {
        Self {
            is_running: false,
            has_ended: false,
            is_wanted: true,
            not_before: now,
        }
    }

    /// The table is to be read from its start, after the pass that goes on if one does.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// True if every entry was seen once: until then, those that were there before us may not have been.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn begin(&mut self) {
        self.is_wanted = false;
        self.is_running = true;
    }

    fn rest(&mut self, now: Instant) {
        self.is_running = false;
        self.not_before = now + PASS_INTERVAL;
    }
}

impl Core {
    /// True if the kernel's table should be read from its start: call [`Self::begin_pass`], then read.
    pub fn wants_pass(&self) -> bool {
        self.pass_timeout().is_some_and(|at| at <= self.clock)
    }

    /// When a pass has to begin; `None` while one goes on.
    pub(super) fn pass_timeout(&self) -> Option<Instant> {
        let Passes {
            is_running,
            is_wanted,
            not_before,
            ..
        } = self.passes;
        let at = match is_wanted || self.node.wants_pass() {
            true => not_before,
            false => not_before.max(self.round_due()),
        };
        (!is_running).then_some(at)
    }

    /// When the table is to be read though nothing was lost.
    fn round_due(&self) -> Instant {
        let audit = self.audit.due();
        self.accounting.due().map_or(audit, |due| audit.min(due))
    }

    /// The kernel's table is read from its start, now or again.
    pub fn begin_pass(&mut self) {
        self.passes.begin();
        if self.rejudging == Rejudging::Wanted {
            self.rejudging = Rejudging::Running;
        }
        self.audit.begin(self.clock);
        self.accounting.begin_pass();
        self.scope.begin_pass();
        self.node.begin_pass();
    }

    /// True if a pass may go on now: what it finds is no news, and must not keep news waiting.
    pub fn may_read_rows(&self) -> bool {
        self.node.keeps_up()
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
        if self.is_leftover(&key, state.packets) || self.admits(&key, flow, decision, began) {
            // What another policy kept back may be a copy that one before it had told.
            let unknown = match self.passes.has_ended() && self.rejudging != Rejudging::Running {
                true => Origin::Own,
                false => Origin::Found,
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

    /// True of a copy that nobody tells of: its carrier took it back from the peers while no daemon was here to hear of it. Before
    /// all was told it may be one that a peer of another policy still tells.
    fn is_leftover(&self, key: &FlowKey, packets: Option<Packets>) -> bool {
        packets == Some(Packets::None)
            && self.passes.has_ended()
            && self.node.join().is_joined()
            && !self.node.knows(key)
    }

    /// The kernel's table was read to its end, and the events that were made meanwhile were handed over. False if it has to be
    /// called again, and those that are made until then before.
    pub fn end_pass(&mut self) -> bool {
        match self.node.end_pass() {
            PassEnd::GoesOn => return false,
            PassEnd::Complete => {
                self.passes.has_ended = true;
                self.scope.end_pass();
                if self.rejudging == Rejudging::Running {
                    self.rejudging = Rejudging::Over;
                }
                self.accounting_ended |= self.accounting.end_pass(self.clock);
                self.compare();
            }
            PassEnd::Void => self.passes.want(),
        }
        self.passes.rest(self.clock);
        true
    }

    /// Reading the kernel's table failed half-way; it has to be read again.
    pub fn fail_pass(&mut self) {
        self.passes.rest(self.clock);
        self.passes.want();
    }
}
