//! The kernels: their tables are read, and take what they are asked to.

use super::{Ask, World};
use crate::audit::Class;
use crate::node::{Action, Local, Node, Outcome, PassEnd, Row};
use crate::record::{FlowKey, FlowState, Patch};
use crate::table::Origin;
use crate::wire::compare::Against;
use std::collections::VecDeque;
use std::vec::Vec;

/// What the kernel tells of an entry.
pub fn row(state: &FlowState) -> Patch {
    Patch {
        timeout_secs: Some(state.timeout_secs),
        proto_state: Some(state.proto_state),
        status: Some(state.status),
        ..Patch::default()
    }
}

impl World {
    /// A pass.
    pub fn read_table(&mut self, at: usize) {
        self.read_table_while(at, |_| {});
    }

    /// A pass; `meanwhile` happens after the last row was read, and again whenever it has more to conclude.
    pub fn read_table_while(&mut self, at: usize, mut meanwhile: impl FnMut(&mut Self)) {
        let gateway = &mut self.gateways[at];
        let node = gateway.node.as_mut().unwrap();
        let first = node.counters().reconciled == 0 && node.table().is_empty();
        node.begin_pass();
        for (key, state) in &gateway.kernel {
            let patch = row(state);
            let unknown = if first { Origin::Found } else { Origin::Own };
            node.handle_row(
                Row {
                    key,
                    state: &patch,
                    mark_mask: 0xff,
                },
                unknown,
            );
        }
        let mut end = PassEnd::GoesOn;
        while end == PassEnd::GoesOn {
            meanwhile(self);
            end = self.gateways[at].node.as_mut().unwrap().end_pass();
            self.drain(at);
        }
        assert_eq!(end, PassEnd::Complete);
    }

    /// A pass during which the kernel tells a patch of a flow that nobody knows; its result.
    pub fn pass_with_update(&mut self, at: usize, key: FlowKey) -> bool {
        let node = self.gateways[at].node.as_mut().unwrap();
        node.begin_pass();
        let marked = Patch {
            mark: Some(1),
            ..Patch::default()
        };
        node.handle_local(&key, Local::Update(&marked));
        node.end_pass() == PassEnd::Complete
    }

    /// Something happens to what `at` knows that should not.
    pub fn plant(&mut self, at: usize, plant: impl FnOnce(&mut Node)) {
        plant(self.gateways[at].node.as_mut().unwrap());
    }

    /// The copies of `at` are compared with what the others carry.
    pub fn compare(&mut self, at: usize) {
        let now = self.now;
        let node = self.gateways[at].node.as_mut().unwrap();
        node.handle_timeout(now);
        node.begin_comparison(Against::Tables);
        self.drain(at);
    }

    /// What passes over the table of `at` have shown since this was asked last, by class.
    pub fn differences(&mut self, at: usize) -> [u64; Class::ALL.len()] {
        let node = self.gateways[at].node.as_mut().unwrap();
        node.take_differences().0
    }

    pub fn hold_kernel(&mut self, at: usize) {
        self.gateways[at].held = Some(VecDeque::new());
    }

    /// What the kernel of `at` has been asked while its answers are held.
    pub fn asked(&self, at: usize) -> Vec<Action> {
        let asks = self.gateways[at].held.iter().flatten();
        asks.map(|ask| ask.1).collect()
    }

    pub fn release_kernel(&mut self, at: usize) {
        for ask in self.gateways[at].held.take().unwrap() {
            self.apply(at, ask);
        }
        self.drain(at);
    }

    pub fn answer_with(&mut self, at: usize, outcome: Outcome) {
        self.gateways[at].outcome = outcome;
    }

    pub(super) fn apply(&mut self, at: usize, (ticket, action, key, state, is_marked): Ask) {
        let gateway = &mut self.gateways[at];
        let stays = matches!(action, Action::LookAndUpdate { .. })
            && gateway.kernel.get(&key).is_some_and(|entry| {
                let node = gateway.node.as_mut().unwrap();
                node.handle_look(ticket, &row(entry))
            });
        if gateway.outcome == Outcome::Done && !stays {
            match action {
                Action::Create
                | Action::Update
                | Action::LookAndUpdate { .. }
                | Action::Replace => {
                    gateway.kernel.insert(key, state);
                    if is_marked {
                        gateway.marked.insert(key);
                    } else {
                        gateway.marked.remove(&key);
                    }
                }
                Action::Delete => {
                    gateway.kernel.remove(&key);
                }
                Action::Refresh => {}
            }
        }
        let node = gateway.node.as_mut().unwrap();
        node.handle_applied(ticket, gateway.outcome, self.now);
    }
}
