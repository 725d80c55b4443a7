//! The kernel table is the truth: compares it with what is known, at start and after events were lost.
//!
//! A pass reads the kernel's table row by row while events and deltas go on. Whatever was touched after the pass began
//! is newer than any row of it and left alone; flows that ended meanwhile are remembered, so that a row read before
//! does not bring them back. What no row named is gone.

use super::{Action, End, Node, Outcome};
use crate::audit::{Class, Difference};
use crate::outbox::Change;
use crate::progress;
use crate::record::{Claim, FlowKey, FlowState, Packets, Patch};
use crate::table::{Entry, KeyedHash, Life, Origin, Slot};
use crate::time::Instant;
use crate::wire::flow::TCP;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use hashbrown::HashSet;

/// Flows that may end during one pass before it has to be begun again.
const ENDED_MAX: usize = 1 << 20;
/// Entries looked at by one call at the end of a pass, in about a millisecond.
const LOOKS_AT_A_TIME: usize = 16_384;
/// Entries that may turn out to be gone in one such call, which the peers are told of: about fifteen deltas.
const GONE_AT_A_TIME: usize = 1024;

/// `TCP_CONNTRACK_SYN_RECV`
const SYN_RECV: u8 = 2;

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

/// What [`Node::end_pass`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PassEnd {
    /// There is more to look at: it has to be called again, when events were handled.
    GoesOn,
    /// What is known is what the kernel has.
    Complete,
    /// It proves nothing, as so much ended meanwhile, or an update of a flow came before its row: it has to be begun again.
    Void,
}

/// Where the passes over the kernel table stand.
#[derive(Debug)]
pub(super) struct Pass {
    /// That of the pass that goes on, or was the last; wraps.
    pub number: u8,
    began: Instant,
    /// When the last one began that came to its end.
    pub last_began: Instant,
    /// The table was read to its end once.
    pub is_complete: bool,
    /// The one that goes on has missed something, and has to be begun again.
    is_void: bool,
    phase: Phase,
    unheard: Unheard,
}

#[derive(Debug)]
enum Phase {
    /// No pass goes on.
    Over,
    /// Rows are read. These flows ended since it began.
    Reading(HashSet<FlowKey, KeyedHash>),
    /// All rows were read: what none of them named is looked for.
    Ending {
        /// The number of the next slot to look at.
        next: u32,
        /// Copies that the kernel has not, as it had refused them.
        refused: Vec<Slot>,
    },
}

/// Of which entries events may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unheard {
    /// Of none.
    Nothing,
    /// Of all, until a pass begins.
    All,
    /// Of those that the pass has not come to.
    Rest,
}

impl Pass {
    /// None has begun yet.
    pub fn new(now: Instant) -> Self {
        Self {
            number: 0,
            began: now,
            last_began: now,
            is_complete: false,
            is_void: false,
            phase: Phase::Over,
            unheard: Unheard::Nothing,
        }
    }

    /// True while one goes on.
    pub fn is_on(&self) -> bool {
        !matches!(self.phase, Phase::Over)
    }

    fn begin(&mut self, hash_seed: [u64; 2], now: Instant) {
        self.number = self.number.wrapping_add(1);
        self.is_void = false;
        self.began = now;
        self.phase = Phase::Reading(HashSet::with_hasher(KeyedHash::new(hash_seed)));
        if self.unheard == Unheard::All {
            self.unheard = Unheard::Rest;
        }
    }

    /// A row that was read before what is known now may be on its way.
    pub fn note_missed(&mut self) {
        self.is_void = matches!(self.phase, Phase::Reading(_));
    }

    /// True if packets may have brought an own or found flow further than is known, as events were lost.
    pub fn may_be_further(&self, entry: &Entry) -> bool {
        let is_unheard = match self.unheard {
            Unheard::Nothing => false,
            Unheard::All => true,
            Unheard::Rest => entry.pass != self.number,
        };
        is_unheard
            && entry.life == Life::Live
            && matches!(entry.origin, Origin::Own | Origin::Found)
    }

    /// A flow ended: a row of it that was read before says nothing.
    pub fn note_ended(&mut self, key: &FlowKey) {
        if let Phase::Reading(ended) = &mut self.phase
            && ended.len() < ENDED_MAX
        {
            ended.insert(*key);
        }
    }

    /// True if the flow may have ended since the pass began.
    fn may_have_ended(&self, key: &FlowKey) -> bool {
        match &self.phase {
            Phase::Reading(ended) => ended.len() >= ENDED_MAX || ended.contains(key),
            Phase::Over | Phase::Ending { .. } => false,
        }
    }
}

impl Node {
    /// The kernel had to drop events: a pass has to begin.
    pub fn handle_overrun(&mut self) {
        self.pass.unheard = Unheard::All;
    }

    /// A pass over the kernel table begins, or begins again.
    pub fn begin_pass(&mut self) {
        self.pass.begin(self.config.hash_seed, self.now);
    }

    /// One row of the kernel table. `unknown` is the origin of a flow without a record, if the kernel cannot say whether packets
    /// passed: found in the first pass, own later, since its birth was missed.
    pub fn handle_row(&mut self, row: Row<'_>, unknown: Origin) {
        if self.pass.may_have_ended(row.key) {
            return;
        }
        let unknown = match row.state.packets {
            Some(Packets::Passed) => Origin::Own,
            Some(Packets::None) => Origin::Found,
            None => unknown,
        };
        let Some(slot) = self.table.find(row.key) else {
            self.handle_unknown_row(row, unknown);
            return;
        };
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        match (entry.life, entry.origin) {
            // What was touched since the pass began is newer than the row.
            (Life::Live, _) if entry.pass == self.pass.number => {}
            (Life::Live, Origin::Own | Origin::Found) => self.handle_own_row(slot, row),
            (Life::Live, Origin::Copy { .. }) => self.handle_copy_row(slot, row),
            // What the kernel still has is about to go.
            (Life::Dead, _) if entry.in_kernel => {}
            (Life::Dead, _) if self.is_ghost(row) => self.remove_ghost(slot),
            (Life::Dead, _) => self.handle_reborn_row(slot, row, unknown),
        }
    }

    /// After the first pass every entry with the copy bit is one that somebody told of.
    fn is_ghost(&self, row: Row<'_>) -> bool {
        self.pass.is_complete && row.state.packets == Some(Packets::None)
    }

    /// A row of which nothing is known.
    fn handle_unknown_row(&mut self, row: Row<'_>, origin: Origin) {
        let mut entry = Entry::new(*row.key, origin);
        if !self.pass.is_complete && origin == Origin::Own {
            // A daemon before this one may have taken it over, and not all have heard of that.
            entry.term = entry.term.contested();
        }
        let Some(slot) = self.insert(entry) else {
            return;
        };
        if self.is_ghost(row) {
            self.remove_ghost(slot);
        } else {
            self.begin_flow(slot, row.state);
        }
    }

    /// A row of a flow that is ours: if it differs, the peers know something else.
    fn handle_own_row(&mut self, slot: Slot, row: Row<'_>) {
        let Some(entry) = self.seen(slot) else {
            return;
        };
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

    /// A row of a copy: the flow has moved here, or the kernel has not what the carrier told.
    fn handle_copy_row(&mut self, slot: Slot, row: Row<'_>) {
        let Some(entry) = self.seen(slot) else {
            return;
        };
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

    /// A row of a flow that had ended before the pass began: it is another under the same key, whose birth was missed.
    fn handle_reborn_row(&mut self, slot: Slot, row: Row<'_>, origin: Origin) {
        let Some(entry) = self.seen(slot) else {
            return;
        };
        match entry.origin {
            Origin::Copy { .. } => {
                entry.term = entry.term.next();
                entry.seq = 0;
            }
            Origin::Own | Origin::Found => entry.outdo_end(),
        }
        entry.origin = origin;
        entry.claim = Claim::Carried;
        self.begin_flow(slot, row.state);
    }

    /// The entry of which a row came: the kernel has it.
    fn seen(&mut self, slot: Slot) -> Option<&mut Entry> {
        let entry = self.table.get_mut(slot)?;
        entry.pass = self.pass.number;
        entry.in_kernel = true;
        Some(entry)
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
        let Some(entry) = self.table.get(slot).filter(|_| self.pass.is_complete) else {
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
        if let Some(entry) = self.table.get(slot).filter(|_| self.pass.is_complete) {
            self.audit.suspect(entry.key, class, self.config.member);
        }
        self.outbox.push(&mut self.table, slot, Change::Upsert);
    }

    /// All rows were read, and all events that were made before the last of them: what no row named is gone from the kernel. Looks
    /// at some entries.
    pub fn end_pass(&mut self) -> PassEnd {
        let phase = core::mem::replace(&mut self.pass.phase, Phase::Over);
        let (next, mut refused) = match phase {
            Phase::Over => return PassEnd::Complete,
            Phase::Reading(ended) if ended.len() >= ENDED_MAX => return PassEnd::Void,
            Phase::Reading(_) => {
                self.join.stir();
                if self.pass.is_void {
                    self.pass.is_complete = true;
                    return PassEnd::Void;
                }
                self.audit.settle(self.config.member);
                (0, Vec::new())
            }
            Phase::Ending { next, refused } => (next, refused),
        };
        let (unseen, next) = self.find_unseen(next, &mut refused);
        self.end_unseen(&unseen);
        if let Some(next) = next {
            self.pass.phase = Phase::Ending { next, refused };
            return PassEnd::GoesOn;
        }
        self.note_all_refused(refused);
        self.pass.is_complete = true;
        self.pass.last_began = self.pass.began;
        if self.pass.unheard == Unheard::Rest {
            self.pass.unheard = Unheard::Nothing;
        }
        PassEnd::Complete
    }

    /// What no row named is gone from the kernel: own flows have ended, copies are put back.
    fn end_unseen(&mut self, unseen: &[Slot]) {
        for slot in unseen {
            let Some(entry) = self.table.get(*slot) else {
                continue;
            };
            let (key, origin, class) = (entry.key, entry.origin, self.class_of_unseen(entry));
            self.counters.reconciled += 1;
            self.note_difference(*slot, class);
            match origin {
                Origin::Own | Origin::Found => self.local_destroy(&key, End::Over),
                Origin::Copy { .. } => self.apply(None, *slot, Action::Create),
            }
        }
    }

    /// Looks at some entries, from the slot of this number on: returns those that no row named and where to go on, and adds what the
    /// kernel had refused.
    fn find_unseen(&self, from: u32, refused: &mut Vec<Slot>) -> (Vec<Slot>, Option<u32>) {
        let expired = self.expired.slots();
        let mut unseen = Vec::new();
        let mut entries = self.table.slots_from(from);
        for (slot, entry) in entries.by_ref().take(LOOKS_AT_A_TIME) {
            if entry.pass == self.pass.number || expired.binary_search(&slot).is_ok() {
                continue;
            }
            if entry.life == Life::Live && entry.in_kernel {
                unseen.push(slot);
            } else if self.is_refused(entry) {
                refused.push(slot);
            }
            if unseen.len() == GONE_AT_A_TIME {
                break;
            }
        }
        (unseen, entries.next().map(|(slot, _)| slot.index()))
    }

    /// Copies that the kernel had refused are missing as well, if not rightly. As there may be hundreds of thousands, they are
    /// tried again as the others that wait for room.
    fn note_all_refused(&mut self, mut refused: Vec<Slot>) {
        // It may have taken some of those that were found first.
        refused.retain(|slot| {
            let entry = self.table.get(*slot);
            entry.is_some_and(|entry| self.is_refused(entry))
        });
        for slot in &refused {
            match (self.left_out.get(&slot.index()), self.table.get(*slot)) {
                (Some(Outcome::Conflict), _) => self.note_difference(*slot, Class::Conflict),
                (None, Some(entry)) => {
                    let class = self.class_of_unseen(entry);
                    self.counters.reconciled += 1;
                    self.note_difference(*slot, class);
                }
                (Some(_), _) | (None, None) => {}
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
                if self.now.since(self.pass.last_began).as_secs()
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

/// True if packets brought the kernel's entry to where what is known has not come, or began it anew.
pub(super) fn is_further(entry: &Entry, row: &Patch) -> bool {
    let (proto, told) = (entry.key.proto, entry.state.proto_state);
    let state = row.proto_state.unwrap_or(told);
    state != told
        && (progress::merge(proto, told, state) == state
            || progress::begins_anew(proto, told, state))
        || has_more_bits(entry, row)
}

fn has_more_bits(entry: &Entry, row: &Patch) -> bool {
    let told = entry.state.status;
    let status = row.status.unwrap_or(told);
    status.seen_reply && !told.seen_reply || status.assured && !told.assured
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
    if row.nat != told.nat() {
        Progress::Carrier(Class::Nat, Action::Replace)
    } else if packets.is_none() && is_further(entry, row) {
        Progress::Ours
    } else if has_more_bits(entry, row) {
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
