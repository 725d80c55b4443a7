//! What peers say: their deltas become changes of our kernel.

use super::{Action, Event, Node, Ticket};
use crate::outbox::Change;
use crate::receiver::{Arrival, Said, is_news, is_news_of_end};
use crate::record::{FlowKey, FlowState, MemberId, Record};
use crate::table::{Entry, Life, Origin, Pending, Slot};
use crate::tcp;
use crate::time::Instant;
use crate::wire::DecodeError;
use crate::wire::cursor::Reader;
use crate::wire::flow;
use crate::wire::header::Urgency;
use alloc::vec::Vec;

impl Node {
    /// A new run of `member` begins: it counts its deltas anew.
    pub(super) fn forget_run(&mut self, member: MemberId) {
        let old = core::mem::take(self.incoming_mut(member));
        for (_, slot) in old.tombstones {
            self.bury(member, slot);
        }
    }

    pub(super) fn handle_delta(
        &mut self,
        member: MemberId,
        urgency: Urgency,
        body: &[u8],
        now: Instant,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(body);
        let seq = reader.u64()?;
        let mut records = Vec::new();
        while !reader.is_empty() {
            records.extend(flow::take_record(&mut reader)?);
        }
        match self.incoming_mut(member).handle_delta(seq, urgency, now) {
            Arrival::New => {}
            Arrival::Duplicate => {
                self.counters.deltas_duplicate += 1;
                return Ok(());
            }
            Arrival::OutOfWindow => {
                self.counters.deltas_out_of_window += 1;
                return Ok(());
            }
        }
        self.counters.deltas_received += 1;
        let run = self.membership.peer(member).map_or(0, |peer| peer.run);
        let applies_before = self.applies.len();
        for record in records {
            self.handle_record(member, run, seq, record);
        }
        let changes = u32::try_from(self.applies.len() - applies_before).unwrap_or(u32::MAX);
        self.incoming_mut(member).expect_applied(seq, changes, now);
        self.advance(member);
        Ok(())
    }

    fn handle_record(&mut self, member: MemberId, run: u8, seq: u64, record: Record) {
        match record {
            Record::Upsert {
                key,
                state,
                term,
                claim,
            } => {
                self.handle_upsert(
                    &key,
                    state,
                    &Said {
                        member,
                        run,
                        seq,
                        term,
                        claim,
                    },
                );
            }
            Record::Delete { key, term, claim } => {
                self.handle_delete(
                    &key,
                    &Said {
                        member,
                        run,
                        seq,
                        term,
                        claim,
                    },
                );
            }
            Record::Told { member: to, base } => {
                if to == self.config.member {
                    self.incoming_mut(member).handle_told(seq, base);
                }
            }
        }
    }

    fn handle_upsert(&mut self, key: &FlowKey, mut state: FlowState, said: &Said) {
        self.counters.remote_changes += 1;
        let origin = Origin::Copy {
            member: said.member,
            run: said.run,
        };
        let Some(slot) = self.table.find(key) else {
            let entry = Entry {
                state,
                seq: said.seq,
                term: said.term,
                told: true,
                in_kernel: false,
                ..Entry::new(*key, origin)
            };
            if let Some(slot) = self.insert(entry) {
                self.apply(Some(said), slot, Action::Create);
            }
            return;
        };
        let (me, pass) = (self.config.member, self.pass);
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        if !is_news(entry, me, said) {
            self.counters.remote_changes_stale += 1;
            return;
        }
        if entry.origin == Origin::Own {
            self.counters.handovers += 1;
            if entry.life == Life::Live {
                state.proto_state =
                    tcp::merge(key.proto, entry.state.proto_state, state.proto_state);
            }
        }
        let action = match (entry.in_kernel, entry.state.nat == state.nat) {
            (false, _) => Some(Action::Create),
            (true, false) => Some(Action::Replace),
            (true, true) if entry.state.same_but_timeout(&state) => None,
            (true, true) => Some(Action::Update),
        };
        let key = *key;
        *entry = Entry {
            state,
            seq: said.seq,
            term: said.term,
            told: true,
            in_kernel: entry.in_kernel,
            pass,
            ..Entry::new(key, origin)
        };
        match action {
            Some(action) => self.apply(Some(said), slot, action),
            None => self.counters.remote_changes_known += 1,
        }
    }

    fn handle_delete(&mut self, key: &FlowKey, said: &Said) {
        self.counters.remote_changes += 1;
        let origin = Origin::Copy {
            member: said.member,
            run: said.run,
        };
        let Some(slot) = self.table.find(key) else {
            // Something older of it may still be on its way.
            if said.seq > self.incoming(said.member).frontier() + 1 {
                let entry = Entry {
                    seq: said.seq,
                    term: said.term,
                    life: Life::Dead,
                    in_kernel: false,
                    ..Entry::new(*key, origin)
                };
                if let Some(slot) = self.insert(entry) {
                    self.incoming_mut(said.member)
                        .tombstones
                        .insert((said.seq, slot));
                }
            }
            return;
        };
        let me = self.config.member;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        if !is_news_of_end(entry, me, said) {
            self.counters.remote_changes_stale += 1;
            return;
        }
        entry.origin = origin;
        entry.seq = said.seq;
        entry.term = said.term;
        self.end_copy(slot, said.member, Some(said));
    }

    /// Makes a tombstone of a copy, and lets the kernel forget it.
    fn end_copy(&mut self, slot: Slot, member: MemberId, said: Option<&Said>) {
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        entry.life = Life::Dead;
        entry.pending = Pending::Nothing;
        let (key, in_kernel) = (entry.key, entry.in_kernel);
        self.note_ended(&key);
        let incoming = self.incoming_mut(member);
        let seq = said.map_or(incoming.frontier(), |said| said.seq);
        incoming.tombstones.insert((seq, slot));
        if in_kernel {
            self.apply(said, slot, Action::Delete);
        }
    }

    pub(super) fn apply(&mut self, said: Option<&Said>, slot: Slot, action: Action) {
        self.applies.push_back(Ticket {
            delta: said.map(|said| (said.member, said.seq)),
            slot,
            action,
        });
    }

    /// Does what had to wait until everything before it was in our kernel.
    pub(super) fn advance(&mut self, member: MemberId) {
        while let Some((_, slot)) = self.incoming_mut(member).poll_tombstone() {
            self.bury(member, slot);
        }
        if self.incoming_mut(member).poll_told() {
            self.sweep(member);
            self.note(Event::Synced(member));
        }
    }

    /// Frees a tombstone, unless the flow lives again.
    fn bury(&mut self, member: MemberId, slot: Slot) {
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        let still_its =
            matches!(entry.origin, Origin::Copy { member: carrier, .. } if carrier == member);
        if still_its && entry.life == Life::Dead {
            self.table.remove(slot);
        }
    }

    /// The peer told us everything it has since `base`: what it did not name is gone. Flows of its earlier run are gone
    /// too if it still has the same kernel table; else it lost them, and the cluster keeps them for it.
    fn sweep(&mut self, member: MemberId) {
        let Some(peer) = self.membership.peer(member) else {
            return;
        };
        let (run_now, kept_its_table) = (peer.run, peer.kept_its_table());
        let base = self.incoming(member).base();
        let (mut gone, mut orphans) = (Vec::new(), Vec::new());
        for (slot, entry) in self.table.slots_from(0) {
            match entry.origin {
                Origin::Copy {
                    member: carrier,
                    run,
                } if carrier == member && entry.life == Life::Live => {
                    if run == run_now && entry.seq < base || run != run_now && kept_its_table {
                        gone.push(slot);
                    } else if run != run_now {
                        orphans.push(slot);
                    }
                }
                Origin::Copy { .. } | Origin::Own | Origin::Found => {}
            }
        }
        for slot in gone {
            self.counters.swept += 1;
            self.end_copy(slot, member, None);
        }
        for slot in orphans {
            if let Some(entry) = self.table.get_mut(slot) {
                entry.origin = Origin::Found;
                entry.seq = 0;
            }
            self.outbox.push(&mut self.table, slot, Change::Upsert);
        }
    }
}
