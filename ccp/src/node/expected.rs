//! Flows that helpers expect: part of what is told of the flow that announced them.
//!
//! The kernel tells of what the first packet of a flow announces before it tells of the flow itself.

use super::Node;
use crate::outbox::Change;
use crate::record::{EXPECTED_MAX, Expectation, Extra, FlowKey};
use crate::table::{Life, Origin};

/// An expectation of the local kernel, not made by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A packet of the master announced it.
    New(Expectation),
    /// The flow has begun, or its time is over.
    Gone(Expectation),
}

/// What first packets announced that the kernel may tell of next. When there are more, the oldest are forgotten.
const EARLY_MAX: usize = 64;

impl Node {
    /// A flow is new: what its first packet announced is known.
    pub(super) fn adopt_expected(&mut self, master: &FlowKey) {
        if self.expected_early.is_empty() {
            return;
        }
        let early = core::mem::take(&mut self.expected_early);
        for (of, expectation) in early.into_iter().rev() {
            if of == *master {
                self.handle_expected(master, Expected::New(expectation));
            } else {
                self.expected_early.push_front((of, expectation));
            }
        }
    }

    /// Takes in that the local kernel expects a flow of `master`, or no longer.
    pub fn handle_expected(&mut self, master: &FlowKey, expected: Expected) {
        let slot = self.table.find(master);
        let entry = slot.and_then(|slot| self.table.get_mut(slot));
        let (Some(slot), Some(entry)) = (slot, entry.filter(|entry| entry.life == Life::Live))
        else {
            if let Expected::New(expectation) = expected {
                self.expected_early.truncate(EARLY_MAX - 1);
                self.expected_early.push_front((*master, expectation));
            }
            return;
        };
        let extra = entry.state.extra.get_or_insert_default();
        let known = &mut extra.expected;
        let count = known.len();
        let (Expected::New(it) | Expected::Gone(it)) = expected;
        known.retain(|other| {
            (other.proto, other.src, other.dst, other.l4) != (it.proto, it.src, it.dst, it.l4)
        });
        let is_told = match expected {
            Expected::New(expectation) => {
                known.push(expectation);
                // A record of a peer may have brought more.
                known.drain(..known.len().saturating_sub(EXPECTED_MAX));
                true
            }
            // Copies of it end by themselves.
            Expected::Gone(_) => known.len() < count && entry.origin == Origin::Own,
        };
        if **extra == Extra::default() {
            entry.state.extra = None;
        }
        if is_told {
            self.take_over(slot);
            self.outbox.push(&mut self.table, slot, Change::Upsert);
        }
    }
}
