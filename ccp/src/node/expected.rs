//! Flows that helpers expect: part of what is told of the flow that announced them.

use super::Node;
use crate::outbox::Change;
use crate::record::{Expectation, Extra, FlowKey};
use crate::table::{Life, Origin};

/// An expectation of the local kernel, not made by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A packet of the master announced it.
    New(Expectation),
    /// The flow has begun, or its time is over.
    Gone(Expectation),
}

impl Node {
    /// Takes in that the local kernel expects a flow of `master`, or no longer.
    pub fn handle_expected(&mut self, master: &FlowKey, expected: Expected) {
        let Some(slot) = self.table.find(master) else {
            return;
        };
        let Some(entry) = (self.table.get_mut(slot)).filter(|entry| entry.life == Life::Live)
        else {
            return;
        };
        let extra = entry.state.extra.get_or_insert_default();
        let is_told = match expected {
            Expected::New(expectation) => {
                extra.expected = Some(expectation);
                true
            }
            Expected::Gone(gone) => {
                let is_known = extra
                    .expected
                    .is_some_and(|it| (it.dst, it.l4) == (gone.dst, gone.l4));
                if is_known {
                    extra.expected = None;
                }
                // Copies of it end by themselves.
                is_known && entry.origin == Origin::Own
            }
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
