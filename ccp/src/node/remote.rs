//! What peers say: their deltas become changes of our kernel.

use super::{Action, Event, Node};
use crate::outbox::Change;
use crate::progress;
use crate::receiver::{Arrival, Said, Via, is_news};
use crate::record::{BulkUpdateEnd, Claim, FlowKey, FlowState, MemberId, Record, Term};
use crate::table::{Entry, Life, Origin, Pending, Slot};
use crate::time::Instant;
use crate::wire::cursor::Reader;
use crate::wire::flow;
use crate::wire::header::Urgency;
use crate::wire::{DecodeError, Skipped};
use alloc::vec::Vec;

impl Node {
    /// A new run of `member` begins: it counts its deltas anew.
    pub(super) fn forget_run(&mut self, member: MemberId) {
        let old = core::mem::take(self.incoming_mut(member));
        self.incoming_mut(member).outclaimed_before = old.outclaimed;
        for (_, slot) in old.tombstones {
            self.bury(slot);
        }
    }

    pub(super) fn handle_delta(
        &mut self,
        member: MemberId,
        urgency: Urgency,
        body: &[u8],
        now: Instant,
    ) -> Result<(), DecodeError> {
        let (mut reader, mut skipped) = (Reader::new(body), Skipped::default());
        let seq = reader.seq()?;
        // Nothing is acted on before all of it was read. The buffer is kept from one delta to the next.
        let mut records = core::mem::take(&mut self.records);
        records.clear();
        while !reader.is_empty() {
            match flow::take_record(&mut reader, &mut skipped) {
                Ok(record) => records.extend(record),
                Err(error) => {
                    self.records = records;
                    return Err(error);
                }
            }
        }
        self.count_skipped(skipped);
        self.take_records(member, urgency, seq, &mut records, now);
        self.records = records;
        Ok(())
    }

    fn take_records(
        &mut self,
        member: MemberId,
        urgency: Urgency,
        seq: u64,
        records: &mut Vec<Record>,
        now: Instant,
    ) {
        match self.incoming_mut(member).handle_delta(seq, urgency, now) {
            Arrival::New => {}
            Arrival::Duplicate => {
                self.counters.deltas_duplicate += 1;
                return;
            }
            Arrival::OutOfWindow => {
                self.counters.deltas_out_of_window += 1;
                return;
            }
        }
        self.counters.deltas_received += 1;
        let run = self.run(member);
        let applies_before = self.applies.len();
        for record in records.drain(..) {
            self.handle_record(member, run, seq, record);
        }
        let changes = u32::try_from(self.applies.len() - applies_before).unwrap_or(u32::MAX);
        self.incoming_mut(member).expect_applied(seq, changes, now);
        self.advance(member);
    }

    fn handle_record(&mut self, member: MemberId, run: u8, seq: u64, record: Record) {
        let said = |term, claim| Said {
            member,
            run,
            seq,
            term,
            claim,
            via: Via::Delta,
        };
        match record {
            Record::Upsert {
                key,
                state,
                term,
                claim,
            } => self.handle_upsert(&key, state, &said(term, claim)),
            Record::Delete { key, term, claim } => self.handle_delete(&key, &said(term, claim)),
            Record::Told(told) => {
                if told.member == self.config.member {
                    self.incoming_mut(member).handle_told(seq, told);
                }
            }
        }
    }

    pub(super) fn handle_upsert(&mut self, key: &FlowKey, state: FlowState, said: &Said) {
        self.counters.remote_changes += 1;
        let Some(slot) = self.table.find(key) else {
            self.begin_copy(key, state, said);
            return;
        };
        let me = self.config.member;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        if !is_news(entry, me, said) && !has_moved(entry, &state, said) {
            // What it tells of the connection before has another state, and a lesser term.
            let is_of_this_one =
                state.proto_state == entry.state.proto_state || said.term == entry.term;
            let opened_too = entry.is_held() && is_of_this_one;
            self.refuse_claim(slot, said);
            if opened_too {
                // The peer's packet goes on as soon as we acknowledge, or has, and is perhaps answered here.
                self.apply(Some(said), slot, Action::Create);
            }
            return;
        }
        if is_rival(entry, &state, said) || is_of_the_one_before(entry, &state) {
            self.counters.remote_changes_stale += 1;
            entry.term = entry.term.max(said.term).next();
            self.flush_now |= entry.is_held();
            self.outbox.push(&mut self.table, slot, Change::Upsert);
            return;
        }
        let is_split = is_split(entry, &state, said);
        let stays_unmarked = stays_unmarked(entry, &state, said);
        let joined = join(entry, &state);
        let action = match action(entry, &joined, stays_unmarked) {
            Some(Action::Update) if self.pass.may_be_further(entry) => {
                let known = entry.state.proto_state;
                Some(Action::LookAndUpdate { known })
            }
            action => action,
        };
        let is_further = !joined.same_but_timeout(&state);
        // Our end is no longer told, so a peer that missed it would refuse this lower claim in favour of ours.
        let outlived = entry.origin == Origin::Own
            && entry.life == Life::Dead
            && (said.term, said.member) < (entry.term, me);
        entry.state = joined;
        entry.told = true;
        entry.pass = self.pass.number;
        match entry.origin {
            Origin::Own | Origin::Found if is_further || outlived => {
                // Packets passed here that the claimant did not know of when it took the flow over; or nobody knows that its
                // claim is the newer one.
                entry.origin = Origin::Own;
                entry.life = Life::Live;
                entry.term = said.term.max(entry.term).next();
                self.outbox.push(&mut self.table, slot, Change::Upsert);
            }
            Origin::Own | Origin::Found | Origin::Copy { .. } => {
                self.counters.handovers += u64::from(entry.origin == Origin::Own);
                entry.life = Life::Live;
                entry.pending = Pending::Nothing;
                entry.is_unmarked = stays_unmarked;
                said.claim_entry(entry);
            }
        }
        if is_split {
            self.note_split(key);
        }
        match action {
            Some(action) => self.apply(Some(said), slot, action),
            None => self.counters.remote_changes_known += 1,
        }
        if stays_unmarked && action.is_none() {
            self.arm_refresh(slot);
        }
    }

    /// A flow that nobody told of before.
    fn begin_copy(&mut self, key: &FlowKey, state: FlowState, said: &Said) {
        let entry = Entry {
            state,
            in_kernel: false,
            ..said.entry(*key)
        };
        match self.insert(entry) {
            Some(slot) => self.apply(Some(said), slot, Action::Create),
            None => self.incoming_mut(said.member).refused += 1,
        }
    }

    /// A claim is refused for the sake of another.
    fn refuse_claim(&mut self, slot: Slot, said: &Said) {
        self.counters.remote_changes_stale += 1;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        match (entry.origin, said.claim) {
            (
                Origin::Copy {
                    member: carrier, ..
                },
                _,
            ) if carrier == said.member => {}
            // From now on two have claimed it: others may hear of its end before they hear of this, or have already.
            (Origin::Own, Claim::Found) => {
                let contested = entry.term.contested();
                let is_told_anew = contested != entry.term && entry.life == Life::Dead;
                entry.term = contested;
                if is_told_anew {
                    self.outbox.push(&mut self.table, slot, Change::Delete);
                    self.graves.push(slot, self.now);
                }
            }
            (Origin::Copy { member, run }, _) => {
                let is_run = run == self.run(member);
                let incoming = self.incoming_mut(member);
                if is_run {
                    incoming.outclaimed.insert(said.member);
                } else {
                    incoming.outclaimed_before.insert(said.member);
                }
            }
            (Origin::Own, Claim::Carried) | (Origin::Found, _) => {}
        }
    }

    fn handle_delete(&mut self, key: &FlowKey, said: &Said) {
        self.counters.remote_changes += 1;
        let Some(slot) = self.table.find(key) else {
            // Something older of it may still be on its way. Before the first pass it may be in our kernel, unknown to us.
            let frontier = self.incoming(said.member).frontier();
            let unread = !self.pass.is_complete;
            let awaited = self.join.awaits_snapshot();
            if said.seq > frontier + 1 || said.term != Term::default() || unread || awaited {
                let entry = Entry {
                    life: Life::Dead,
                    in_kernel: unread,
                    ..said.entry(*key)
                };
                if let Some(slot) = self.insert(entry) {
                    self.note_tombstone(slot, said);
                    self.end_in_kernel(slot, Some(said));
                }
            }
            return;
        };
        let me = self.config.member;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        match (entry.origin, entry.life, is_news(entry, me, said)) {
            (Origin::Own | Origin::Found, Life::Live, false) if said.claim == Claim::Found => {
                // Somebody let go of what we still have: nobody else keeps it for him, or for those that had it from him.
                self.counters.remote_changes_stale += 1;
                self.outbox.push(&mut self.table, slot, Change::Upsert);
            }
            // What is older of a teller whose end counts less than ours is refused, or its own end follows.
            (Origin::Own | Origin::Found, Life::Dead, true)
                if (said.term, said.member) <= (entry.term, me) =>
            {
                self.counters.remote_changes_stale += 1;
            }
            (_, _, false) => self.counters.remote_changes_stale += 1,
            (Origin::Own | Origin::Found, Life::Live, true) if entry.told => {
                // Others have it from us, perhaps after they heard of its end: they have to hear the end from us too.
                entry.origin = Origin::Own;
                entry.term = said.term.ended_in_turn();
                self.graves.push(slot, self.now);
                self.outbox.push(&mut self.table, slot, Change::Delete);
                self.end_in_kernel(slot, Some(said));
            }
            (Origin::Own | Origin::Found | Origin::Copy { .. }, Life::Live | Life::Dead, true) => {
                said.claim_entry(entry);
                entry.life = Life::Dead;
                entry.pending = Pending::Nothing;
                self.note_tombstone(slot, said);
                self.end_in_kernel(slot, Some(said));
            }
        }
    }

    fn note_tombstone(&mut self, slot: Slot, said: &Said) {
        self.incoming_mut(said.member)
            .tombstones
            .insert((said.seq, slot));
        if said.term != Term::default() {
            self.graves.push(slot, self.now);
        }
    }

    /// Lets the kernel forget a flow that has ended elsewhere.
    pub(super) fn end_in_kernel(&mut self, slot: Slot, said: Option<&Said>) {
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        let (key, in_kernel) = (entry.key, entry.in_kernel);
        self.pass.note_ended(&key);
        if in_kernel {
            self.apply(said, slot, Action::Delete);
        }
    }

    /// Does what had to wait until everything before it was in our kernel.
    pub(super) fn advance(&mut self, member: MemberId) {
        if !self.join.awaits_snapshot() {
            while let Some((_, slot)) = self.incoming_mut(member).poll_tombstone() {
                self.bury(slot);
            }
        }
        let asked = self.incoming(member).asked();
        if let Some(told) = self.incoming_mut(member).poll_told() {
            if told.from > 0 && asked != Some(told.from) {
                // It left out what we do not know any longer to have.
                self.incoming_mut(member).ask_anew();
                return;
            }
            self.sweep(member, told);
            self.note(Event::Synced(member));
            self.handle_bulk_update_end(member, told, asked);
            self.elect();
        }
    }

    /// A copy of the member's turned out to be one that it does not carry: what was refused for its sake counts after all.
    pub(super) fn ask_outclaimed(&mut self, member: MemberId) {
        let outclaimed = core::mem::take(&mut self.incoming_mut(member).outclaimed);
        outclaimed.iter().for_each(|other| self.ask_anew(other));
    }

    /// The peer told us everything it has since a base, or a snapshot did: what neither named is gone. Flows of its earlier
    /// run are gone too if it still has the same kernel table; else it lost them, and the cluster keeps them for it.
    fn sweep(&mut self, member: MemberId, told: BulkUpdateEnd) {
        let Some(peer) = self.membership.peer(member) else {
            return;
        };
        let (run_now, runs_of_table) = (peer.run, peer.runs_of_table());
        let outclaimed = core::mem::take(&mut self.incoming_mut(member).outclaimed_before);
        for other in outclaimed.iter().filter(|other| *other != member) {
            self.ask_anew(other);
        }
        let is_named = |slot, entry: &Entry| {
            entry.seq >= told.base || entry.seq < told.from && self.join.is_named(slot)
        };
        let (mut gone, mut orphans) = (Vec::new(), Vec::new());
        for (slot, entry) in self.table.slots_from(0) {
            let Some(run) = run_of_copy(entry, member) else {
                continue;
            };
            if run == run_now {
                gone.extend((!is_named(slot, entry)).then_some(slot));
            } else if runs_of_table.contains(run) {
                gone.push(slot);
            } else {
                orphans.push(slot);
            }
        }
        gone.into_iter().for_each(|slot| self.end_swept(slot));
        for slot in orphans {
            if let Some(entry) = self.table.get_mut(slot) {
                entry.origin = Origin::Found;
                entry.seq = 0;
            }
            self.outbox.push(&mut self.table, slot, Change::Upsert);
        }
    }

    /// Nobody has told of the copy: it is gone.
    fn end_swept(&mut self, slot: Slot) {
        self.counters.swept += 1;
        if let Some(entry) = self.table.get_mut(slot) {
            entry.life = Life::Dead;
            entry.pending = Pending::Nothing;
            // Perhaps another carries it, so the tombstone weighs nothing: it only waits for the kernel.
            entry.claim = Claim::Found;
        }
        self.end_in_kernel(slot, None);
        self.bury(slot);
    }
}

impl Said {
    /// What is known of a flow that nobody told of before.
    fn entry(&self, key: FlowKey) -> Entry {
        let mut entry = Entry::new(key, Origin::Found);
        entry.told = true;
        self.claim_entry(&mut entry);
        entry
    }

    /// The flow is the sayer's from now on.
    fn claim_entry(&self, entry: &mut Entry) {
        entry.origin = Origin::Copy {
            member: self.member,
            run: self.run,
        };
        entry.seq = self.seq;
        entry.term = self.term;
        entry.claim = self.claim;
    }
}

/// In which of the member's runs it told of the flow, if that is a live copy of it.
fn run_of_copy(entry: &Entry, of: MemberId) -> Option<u8> {
    match (entry.origin, entry.life) {
        (Origin::Copy { member, run }, Life::Live) if member == of => Some(run),
        (Origin::Copy { .. } | Origin::Own | Origin::Found, _) => None,
    }
}

/// The state that a flow has from now on: as told. But of one whose packets passed here until now, and that goes on, the
/// sayer may not know yet how far it came.
fn join(entry: &Entry, theirs: &FlowState) -> FlowState {
    let is_copy = matches!(entry.origin, Origin::Copy { .. });
    let (proto, ours) = (entry.key.proto, &entry.state);
    let goes_on = entry.life == Life::Live
        && !progress::begins_anew(proto, ours.proto_state, theirs.proto_state);
    let mut joined = theirs.clone();
    if goes_on && !is_copy {
        joined.proto_state = progress::merge(proto, ours.proto_state, theirs.proto_state);
        joined.status.seen_reply |= ours.status.seen_reply;
        joined.status.assured |= ours.status.assured;
        if (joined.proto_state, joined.status) != (theirs.proto_state, theirs.status) {
            // The mark that packets have left goes with how far they brought the flow.
            joined.mark = ours.mark;
        }
        if joined.proto_state != theirs.proto_state {
            // So does the timeout: what is closed would else stay for as long as what is established.
            joined.timeout_secs = ours.timeout_secs;
        }
        progress::join_ends(proto, ours.tcp, &mut joined);
    }
    joined
}

/// True if the flow was answered where its first packet did not pass (PROTOCOL.md 11.6).
fn is_split(entry: &Entry, theirs: &FlowState, said: &Said) -> bool {
    let is_elsewhere = match entry.origin {
        Origin::Own => true,
        Origin::Copy { member, .. } => member != said.member,
        Origin::Found => false,
    };
    is_elsewhere
        && entry.life == Life::Live
        && theirs.status.seen_reply
        && !entry.state.status.seen_reply
}

/// True if the kernel's entry is left without the copy bit for a while (PROTOCOL.md 7.8): were it marked, the next packet that
/// passes here would take the flow back, and so on for ever. Another connection of the same ports is a copy as any: by the
/// bit its first answer is known.
fn stays_unmarked(entry: &Entry, theirs: &FlowState, said: &Said) -> bool {
    let is_contended = match entry.origin {
        Origin::Own => entry.life == Life::Live,
        Origin::Copy { .. } => entry.is_unmarked,
        Origin::Found => false,
    };
    is_contended
        && said.term.is_restless()
        && !progress::begins_anew(entry.key.proto, entry.state.proto_state, theirs.proto_state)
}

/// True if the sayer found more of the flow in its kernel than its carrier told us, or the flow after the end that we remember:
/// packets passed there, and whoever saw them, or heard of them, was killed before we did.
fn has_moved(entry: &Entry, theirs: &FlowState, said: &Said) -> bool {
    let ours = &entry.state;
    let told_by_another =
        matches!(entry.origin, Origin::Copy { member, .. } if member != said.member);
    let goes_on = entry.life == Life::Live
        && !progress::begins_anew(entry.key.proto, ours.proto_state, theirs.proto_state);
    let further = theirs.proto_state != ours.proto_state
        && progress::merge(entry.key.proto, ours.proto_state, theirs.proto_state)
            == theirs.proto_state
        || theirs.status.seen_reply && !ours.status.seen_reply
        || theirs.status.assured && !ours.status.assured;
    let begun_since = entry.life == Life::Dead && said.term > entry.term;
    said.claim == Claim::Found && (told_by_another && goes_on && further || begun_since)
}

/// True if the sayer opened the flow without knowing that packets of it passed here, and nobody has answered it. Its packet
/// may be one that waits, and comes to nothing: ours did not (PROTOCOL.md 6.3).
fn is_rival(entry: &Entry, theirs: &FlowState, said: &Said) -> bool {
    let (proto, ours) = (entry.key.proto, entry.state.proto_state);
    entry.origin == Origin::Own
        && entry.life == Life::Live
        && entry.in_kernel
        && entry.term == said.term
        && !theirs.status.seen_reply
        && !progress::begins_anew(proto, ours, theirs.proto_state)
        && progress::merge(proto, ours, theirs.proto_state) == ours
}

/// True if the sayer tells of a connection that is over, while the first packet of another waits here under the same key.
fn is_of_the_one_before(entry: &Entry, theirs: &FlowState) -> bool {
    let (proto, ours) = (entry.key.proto, entry.state.proto_state);
    entry.is_held() && progress::begins_anew(proto, theirs.proto_state, ours)
}

/// What the kernel has to do, that has the flow as in `entry` if at all, to have it as in `state`.
fn action(entry: &Entry, state: &FlowState, stays_unmarked: bool) -> Option<Action> {
    let (old, new) = (entry.state.status, state.status);
    // Status bits can't be taken away from an entry: without them it is a new one under the same key.
    let began_anew = old.seen_reply && !new.seen_reply || old.assured && !new.assured;
    if !entry.in_kernel {
        Some(Action::Create)
    } else if entry.state.nat != state.nat || began_anew {
        Some(Action::Replace)
    } else if entry.state.same_but_timeout(state)
        && entry.life == Life::Live
        && (entry.origin != Origin::Own || stays_unmarked)
    {
        // One that was our own is updated all the same: the kernel has to know that it is a copy now.
        None
    } else {
        Some(Action::Update)
    }
}
