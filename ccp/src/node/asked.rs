//! What the kernel is asked: one thing of a flow at a time, and nothing of this machine's own (PROTOCOL.md 7.10, 7.11).

use super::{Action, Apply, Node, Outcome, Ticket};
use crate::table::{Life, Origin, Slot};

impl Node {
    /// The next thing that the kernel has to do; `None` also while it has not answered what it was asked before of the same
    /// flow. It finds an entry by the tuple of either direction: where another flow is in the way of one that was to be
    /// made, the next change of that would be one of the other.
    pub fn poll_apply(&mut self) -> Option<Apply<'_>> {
        let ticket = loop {
            let mut ticket = *self.applies.front()?;
            if self.asked.contains(&ticket.slot) {
                return None;
            }
            self.applies.pop_front();
            let entry = self.table.get(ticket.slot);
            // What happened since may have made it pointless, or the kernel refused what it builds on.
            let here = entry.map(|entry| (entry.life, entry.in_kernel));
            match (ticket.action, here) {
                (Action::Delete, Some((Life::Dead, true)))
                | (
                    Action::Create
                    | Action::Update
                    | Action::LookAndUpdate
                    | Action::Replace
                    | Action::Refresh,
                    Some((Life::Live, true)),
                ) => break ticket,
                (
                    Action::Create | Action::Update | Action::LookAndUpdate | Action::Replace,
                    Some((Life::Live, false)),
                ) => {
                    ticket.action = Action::Create;
                    break ticket;
                }
                (_, Some((Life::Live | Life::Dead, _)) | None) => self.settle(ticket),
            }
        };
        self.asked.insert(ticket.slot);
        let entry = self.table.get(ticket.slot)?;
        Some(Apply {
            ticket,
            action: ticket.action,
            key: &entry.key,
            state: &entry.state,
            is_marked: !entry.is_unmarked && entry.origin != Origin::Own,
        })
    }

    /// The flow of an [`Apply`] is one of this machine itself: its kernel is not asked.
    pub fn keep_out(&mut self, ticket: Ticket) {
        self.handle_applied(ticket, Outcome::KeptOut, self.now);
    }

    pub(super) fn note_left_out(&mut self, slot: Slot, outcome: Outcome) {
        match outcome {
            Outcome::KeptOut | Outcome::Conflict => {
                self.left_out.insert(slot.index(), outcome);
            }
            Outcome::Done | Outcome::Full | Outcome::Refused => {
                if !self.left_out.is_empty() {
                    self.left_out.remove(&slot.index());
                }
            }
        }
    }
}
