//! The kernel table is the truth: compares it with what is known, at start and after events were lost.
//!
//! A pass reads the kernel's table row by row while events and deltas go on. Whatever was touched after the pass began
//! is newer than any row of it and left alone; flows that ended meanwhile are remembered, so that a row read before
//! does not bring them back. What no row named is gone.

use super::{Action, End, Node};
use crate::audit::{Class, Difference};
use crate::outbox::Change;
use crate::progress;
use crate::record::{Claim, FlowKey, FlowState, Packets, Patch};
use crate::table::{Entry, Life, Origin, Slot};
use crate::wire::flow::TCP;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use hashbrown::HashSet;
use siphasher::sip::SipHasher13;

/// Flows that may end during one pass before it has to be begun again.
const ENDED_MAX: usize = 1 << 20;

/// `TCP_CONNTRACK_SYN_RECV`
const SYN_RECV: u8 = 2;

/// Keyed as the table's hash is, for the same reason.
#[derive(Clone, Copy, Debug)]
pub struct KeyedHash([u64; 2]);

impl KeyedHash {
    /// With this key.
    pub fn new(key: [u64; 2]) -> Self {
        Self(key)
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

/// What the kernel table has of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Which flow.
    pub key: &'a FlowKey,
    /// Everything of it.
    pub state: &'a Patch,
    /// The bits of the mark that are in it; a peer may tell of more.
    pub mark_mask: u32,
}

impl Node {
    /// A pass over the kernel table begins, or begins again.
    pub fn begin_pass(&mut self) {
        self.pass = self.pass.wrapping_add(1);
        self.pass_missed = false;
        self.pass_began = self.now;
        self.ended = Some(HashSet::with_hasher(KeyedHash(self.config.hash_seed)));
    }

    /// One row of the kernel table. `unknown` is the origin of a flow without a record, when the kernel does not say
    /// whether packets passed: found in the first pass, own later, as its birth was missed.
    pub fn handle_row(&mut self, row: Row<'_>, unknown: Origin) {
        let outdated = self
            .ended
            .as_ref()
            .is_some_and(|ended| ended.len() >= ENDED_MAX || ended.contains(row.key));
        if outdated {
            return;
        }
        let unknown = match row.state.packets {
            Some(Packets::Passed) => Origin::Own,
            Some(Packets::None) => Origin::Found,
            None => unknown,
        };
        let is_marked = row.state.packets == Some(Packets::None);
        let Some(slot) = self.table.find(row.key) else {
            // After the first pass every entry with the copy bit is one that somebody told of.
            let is_ghost = self.complete && is_marked;
            let mut entry = Entry::new(*row.key, unknown);
            if !self.complete && unknown == Origin::Own {
                // A daemon before this one may have taken it over, and not all have heard of that.
                entry.term = entry.term.contested();
            }
            if let Some(slot) = self.insert(entry) {
                if is_ghost {
                    self.remove_ghost(slot);
                } else {
                    self.begin_flow(slot, row.state);
                }
            }
            return;
        };
        let pass = self.pass;
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        match (entry.origin, entry.life) {
            (_, Life::Live) if entry.pass == pass => {}
            (Origin::Own | Origin::Found, Life::Live) => {
                entry.pass = pass;
                entry.in_kernel = true;
                let class = class_of(entry, row.state);
                let changed = entry.state.apply(row.state);
                let moved_here =
                    entry.origin == Origin::Found && row.state.packets == Some(Packets::Passed);
                if moved_here {
                    self.take_over(slot);
                }
                if changed || moved_here {
                    self.note_reconciled(slot, class);
                }
            }
            (Origin::Copy { .. }, Life::Live) => {
                entry.pass = pass;
                entry.in_kernel = true;
                match compare(entry, row) {
                    Progress::None => {}
                    Progress::Ours => {
                        let class = class_of(entry, row.state);
                        entry.state.apply(row.state);
                        self.take_over(slot);
                        self.note_reconciled(slot, class);
                    }
                    Progress::Carrier(class, action) => {
                        self.counters.reconciled += 1;
                        self.note_difference(slot, class);
                        self.apply(None, slot, action);
                    }
                }
            }
            (_, Life::Dead) if !entry.in_kernel && self.complete && is_marked => {
                self.remove_ghost(slot);
            }
            // It ended before the pass began, so this is another under the same key, whose birth was missed.
            (origin, Life::Dead) if !entry.in_kernel => {
                match origin {
                    Origin::Copy { .. } => {
                        entry.term = entry.term.next();
                        entry.seq = 0;
                    }
                    Origin::Own | Origin::Found => entry.outdo_end(),
                }
                entry.origin = unknown;
                entry.claim = Claim::Carried;
                entry.pass = pass;
                entry.in_kernel = true;
                self.begin_flow(slot, row.state);
            }
            // What the kernel still has is about to go.
            (Origin::Own | Origin::Found | Origin::Copy { .. }, Life::Dead) => {}
        }
    }

    fn begin_flow(&mut self, slot: Slot, state: &Patch) {
        if let Some(entry) = self.table.get_mut(slot) {
            entry.state = FlowState::default();
            entry.state.apply(state);
        }
        self.note_reconciled(slot, Class::Missing);
    }

    /// The kernel has an entry that was made for a peer, and that no peer knows of any longer.
    fn remove_ghost(&mut self, slot: Slot) {
        self.counters.reconciled += 1;
        self.note_difference(slot, Class::Ghost);
        if let Some(entry) = self.table.get_mut(slot) {
            entry.life = Life::Dead;
        }
        self.apply(None, slot, Action::Delete);
    }

    fn note_difference(&mut self, slot: Slot, class: Class) {
        let Some(entry) = self.table.get(slot).filter(|_| self.complete) else {
            return;
        };
        let carrier = match (class, entry.origin) {
            (Class::Ghost, _) => None,
            (_, Origin::Copy { member, .. }) => Some(member),
            (_, Origin::Own | Origin::Found) => Some(self.config.member),
        };
        self.audit.note(Difference {
            class,
            key: entry.key,
            carrier,
        });
    }

    /// What passes have shown since this was asked last.
    pub fn take_differences(&mut self) -> ([u64; Class::ALL.len()], VecDeque<Difference>) {
        self.audit.take()
    }

    fn note_reconciled(&mut self, slot: Slot, class: Class) {
        self.counters.reconciled += 1;
        if let Some(entry) = self.table.get(slot).filter(|_| self.complete) {
            self.audit.suspect(entry.key, class, self.config.member);
        }
        self.outbox.push(&mut self.table, slot, Change::Upsert);
    }

    /// All rows were read, and all events that were made before the last of them: what no row named is gone from the kernel.
    /// Own flows have ended; copies are put back.
    /// False if so much ended meanwhile that the pass proves nothing, or an update of a flow came before its row: it has
    /// to be begun again.
    pub fn end_pass(&mut self) -> bool {
        let Some(ended) = self.ended.take() else {
            return true;
        };
        if ended.len() >= ENDED_MAX {
            return false;
        }
        self.join.stir();
        if self.pass_missed {
            self.complete = true;
            return false;
        }
        self.audit.settle(self.config.member);
        let expired = self.expired.slots();
        let unseen: Vec<(Slot, FlowKey, Origin, Class)> = (self.table.slots_from(0))
            .filter(|(_, entry)| self.is_unseen(entry))
            .filter(|(slot, _)| expired.binary_search(slot).is_err())
            .map(|(slot, entry)| (slot, entry.key, entry.origin, self.class_of_unseen(entry)))
            .collect();
        for (slot, key, origin, class) in unseen {
            self.counters.reconciled += 1;
            self.note_difference(slot, class);
            match origin {
                Origin::Own | Origin::Found => self.local_destroy(&key, End::Over),
                Origin::Copy { .. } => self.apply(None, slot, Action::Create),
            }
        }
        self.note_all_refused();
        self.complete = true;
        self.last_pass = self.pass_began;
        true
    }

    /// Copies that the kernel had refused are missing as well. As there may be hundreds of thousands, they are tried again as the
    /// others that wait for room.
    fn note_all_refused(&mut self) {
        let expired = self.expired.slots();
        let refused: Vec<Slot> = (self.table.slots_from(0))
            .filter(|(_, entry)| entry.pass != self.pass && self.is_refused(entry))
            .map(|(slot, _)| slot)
            .filter(|slot| expired.binary_search(slot).is_err())
            .collect();
        for slot in &refused {
            // Of what is kept out on purpose nothing is missing.
            let is_missed = !self.kept_out.contains(&slot.index());
            if let Some(entry) = self.table.get(*slot).filter(|_| is_missed) {
                let class = self.class_of_unseen(entry);
                self.counters.reconciled += 1;
                self.note_difference(*slot, class);
            }
        }
        self.no_room.refill(refused, self.now);
    }

    /// The kernel tells of entries whose time is over, and leaves them out of its table, up to a minute before it says that they
    /// have ended (`gc_worker`).
    fn class_of_unseen(&self, entry: &Entry) -> Class {
        match entry.origin {
            // What is left of its time was heard in the pass before, or since.
            Origin::Own | Origin::Found
                if self.now.since(self.last_pass).as_secs()
                    < u64::from(entry.state.timeout_secs) =>
            {
                Class::Ghost
            }
            // Such a copy is kept from running out.
            Origin::Copy { .. } if progress::goes_on(entry.key.proto, entry.state.proto_state) => {
                Class::Missing
            }
            Origin::Own | Origin::Found | Origin::Copy { .. } => Class::Lag,
        }
    }

    /// True of a flow that no row named.
    fn is_unseen(&self, entry: &Entry) -> bool {
        entry.pass != self.pass && entry.life == Life::Live && entry.in_kernel
    }

    pub(super) fn note_ended(&mut self, key: &FlowKey) {
        if let Some(ended) = &mut self.ended
            && ended.len() < ENDED_MAX
        {
            ended.insert(*key);
        }
    }
}

/// Who knows more of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nobody: they agree.
    None,
    /// Our kernel: packets passed here.
    Ours,
    /// Its carrier: our kernel has not taken something, or somebody changed it.
    Carrier(Class, Action),
}

/// How a flow that is ours differs in what its peers know. The kernel is told to make no event of the answer to a SYN.
fn class_of(entry: &Entry, row: &Patch) -> Class {
    if row.nat != entry.state.nat() {
        Class::Nat
    } else if entry.key.proto == TCP && row.proto_state == Some(SYN_RECV) {
        Class::Lag
    } else {
        Class::Attribute
    }
}

/// What was injected reads back with more than was asked for; states, status bits, translation and mark show where packets
/// passed, or that somebody wrote the entry.
fn compare(entry: &Entry, row: Row<'_>) -> Progress {
    let (told, mark_mask) = (&entry.state, row.mark_mask);
    let row = row.state;
    let packets = row.packets.filter(|_| !entry.is_unmarked);
    match packets {
        Some(Packets::Passed) => return Progress::Ours,
        Some(Packets::None) | None => {}
    }
    let state = row.proto_state.unwrap_or(told.proto_state);
    let status = row.status.unwrap_or(told.status);
    let has_more_bits =
        status.seen_reply && !told.status.seen_reply || status.assured && !told.status.assured;
    let proto = entry.key.proto;
    let further = state != told.proto_state
        && (progress::merge(proto, told.proto_state, state) == state
            || progress::begins_anew(proto, told.proto_state, state))
        || has_more_bits;
    if row.nat != told.nat() {
        Progress::Carrier(Class::Nat, Action::Replace)
    } else if further && packets.is_none() {
        Progress::Ours
    } else if has_more_bits {
        // They cannot be taken away from an entry.
        Progress::Carrier(Class::Attribute, Action::Replace)
    } else if state != told.proto_state
        || status != told.status
        || row.mark.unwrap_or(0) != told.mark & mark_mask
    {
        Progress::Carrier(Class::Attribute, Action::Update)
    } else {
        Progress::None
    }
}
