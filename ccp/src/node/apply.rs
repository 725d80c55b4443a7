//! What the kernel is asked, and what it answers: one thing of a flow at a time, and nothing of this machine's own
//! (PROTOCOL.md 7.10, 7.11).

use super::pass::is_further;
use super::{Action, Apply, DeltaId, Node, Outcome, Ticket};
use crate::outbox::Change;
use crate::receiver::{Said, Via};
use crate::record::Patch;
use crate::table::{Entry, Life, Origin, Pending, Slot};
use crate::time::Instant;

impl Node {
    /// Asks the kernel; as somebody waits for its answer if `said` in a delta.
    pub(super) fn apply(&mut self, said: Option<&Said>, slot: Slot, action: Action) {
        let pass = self.pass.number;
        if let Some(entry) = self.table.get_mut(slot) {
            // Asked for is as good as there: whatever comes next reaches the kernel after it.
            entry.in_kernel = true;
            // Newer than any row that was read before.
            entry.pass = pass;
            if action != Action::Delete {
                self.arm_refresh(slot);
            }
            self.applies.push_back(Ticket {
                delta: said
                    .filter(|said| said.via == Via::Delta)
                    .map(|said| DeltaId {
                        member: said.member,
                        run: said.run,
                        seq: said.seq,
                    }),
                slot,
                action,
            });
        }
    }

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
                // A packet that is held will make its entry; one that is made before is in its way (`__nf_conntrack_confirm`).
                _ if entry.is_some_and(Entry::is_held) => self.settle(ticket),
                (Action::Delete, Some((Life::Dead, true)))
                | (
                    Action::Create
                    | Action::Update
                    | Action::LookAndUpdate { .. }
                    | Action::Replace
                    | Action::Refresh,
                    Some((Life::Live, true)),
                ) => break ticket,
                (
                    Action::Create
                    | Action::Update
                    | Action::LookAndUpdate { .. }
                    | Action::Replace,
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

    /// What the kernel has of the flow of an [`Action::LookAndUpdate`]. True if packets have brought it further than the claim
    /// that took it over: then it is ours again, and the entry stays as it is.
    pub fn handle_look(&mut self, ticket: Ticket, row: &Patch) -> bool {
        let Action::LookAndUpdate { known } = ticket.action else {
            return false;
        };
        let Some(entry) = self.table.get_mut(ticket.slot) else {
            return false;
        };
        // As it was before the claim: what was being opened has not begun anew because it is being closed elsewhere.
        let is_as_known = known != entry.state.proto_state && row.proto_state == Some(known);
        if row.nat != entry.state.nat() || is_as_known || !is_further(entry, row) {
            return false;
        }
        entry.state.apply(row);
        self.take_over(ticket.slot);
        self.outbox
            .push(&mut self.table, ticket.slot, Change::Upsert);
        true
    }

    /// The kernel answered an [`Apply`].
    pub fn handle_applied(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        self.now = now;
        self.asked.remove(&ticket.slot);
        self.note_left_out(ticket.slot, outcome);
        self.note_in_kernel(ticket, outcome);
        if ticket.action == Action::Refresh {
            return;
        }
        match outcome {
            Outcome::Done => self.counters.applied_changes += 1,
            Outcome::Conflict => self.counters.conflicts += 1,
            Outcome::Full => {
                self.counters.kernel_full += 1;
                self.no_room.push(ticket.slot, now);
            }
            Outcome::KeptOut => self.counters.kept_out += 1,
            Outcome::Refused => {}
        }
        if !matches!(outcome, Outcome::Done | Outcome::KeptOut) {
            self.counters.refused_changes += 1;
            if let Some(delta) = ticket.delta {
                self.incoming_mut(delta.member).refused += 1;
            }
        }
        self.settle(ticket);
    }

    /// Whether the kernel has an entry of the flow now.
    fn note_in_kernel(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(entry) = self.table.get_mut(ticket.slot) else {
            return;
        };
        match (ticket.action, outcome) {
            // What is there is another flow.
            (_, Outcome::Conflict | Outcome::KeptOut) => entry.in_kernel = false,
            (Action::Delete, _) => entry.in_kernel = false,
            (Action::Create, Outcome::Done) => {
                entry.in_kernel = true;
                self.no_room.note_room(self.now);
            }
            (Action::Update | Action::LookAndUpdate { .. } | Action::Replace, Outcome::Done) => {
                entry.in_kernel = true;
            }
            (Action::Create | Action::Replace, Outcome::Full | Outcome::Refused) => {
                entry.in_kernel = false;
            }
            // It may be there as it was.
            (Action::Update | Action::LookAndUpdate { .. }, Outcome::Full | Outcome::Refused) => {}
            (Action::Refresh, Outcome::Done) => {}
            // It has run out, or somebody removed it, and the kernel has not told yet.
            (Action::Refresh, Outcome::Full | Outcome::Refused) => {
                entry.in_kernel = false;
                self.expired.push(ticket.slot, self.now);
            }
        }
    }

    /// Nothing more will come of a ticket.
    fn settle(&mut self, ticket: Ticket) {
        if let Some(DeltaId { member, run, seq }) = ticket.delta
            && run == self.run(member)
        {
            let now = self.now;
            self.incoming_mut(member).handle_applied(seq, now);
            self.advance(member);
        }
        if ticket.action == Action::Delete {
            self.bury(ticket.slot);
        }
    }

    /// Frees a tombstone once nothing older can arrive, nobody has to be told, and the kernel has no entry.
    pub(super) fn bury(&mut self, slot: Slot) {
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        if self.join.awaits_snapshot() {
            return;
        }
        let done = match entry.origin {
            Origin::Own | Origin::Found => {
                entry.pending == Pending::Nothing && !self.sender.keeps(entry.seq)
            }
            Origin::Copy { member, run } => {
                run != self.run(member) || entry.seq <= self.incoming(member).frontier()
            }
        };
        if done && entry.life == Life::Dead && !entry.in_kernel && !entry.is_contested() {
            self.table.remove(slot);
        }
    }

    fn note_left_out(&mut self, slot: Slot, outcome: Outcome) {
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
