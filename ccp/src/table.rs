//! Every flow this member knows: its own and the copies of others'. One compact entry a flow, found by key.
//!
//! Not a second conntrack: it holds what is needed to tell the whole of a flow to a peer, to merge the kernel's patches,
//! and to know whose claim on the flow is the newest. A flow that ended stays as a *tombstone* while something older
//! about it can still arrive, or while a peer may still have to be told.
//!
//! Entries stand in chunks that never move, so growth costs no copy and no second table in memory.

use crate::record::{Address, Claim, Family, FlowKey, FlowState, MemberId, Term};
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Place of one entry. The place is used again after the entry was removed, but by then the slot finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    index: u32,
    /// Counts insertions: who holds on to a slot for 65,536 of them is taken in only if this very place is used again by
    /// the last of them.
    serial: u16,
}

impl Slot {
    /// The number of its place, below [`Table::slot_end`].
    pub fn index(self) -> u32 {
        self.index
    }
}

/// Where a flow comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Packets of it pass through this gateway.
    Own,
    /// It is in this gateway's kernel, and nobody alive is known to carry it: found at start, or left by a dead member.
    Found,
    /// Another member carries it, and told us.
    Copy {
        /// Who.
        member: MemberId,
        /// Which of that member's runs, counted by us: an entry of an earlier run is an orphan.
        run: u8,
    },
}

/// Is the flow there, or is only its end remembered?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is.
    Live,
    /// It ended: a tombstone.
    Dead,
}

/// What the peers are still to be told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Nothing.
    Nothing,
    /// Its state.
    Upsert,
    /// Its end.
    Delete,
}

/// What is known of a flow.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which flow.
    pub key: FlowKey,
    /// Its state as last heard from the kernel or from its carrier.
    pub state: FlowState,
    /// For a copy: the carrier's sequence that told it. Otherwise: our sequence that told it last, 0 if none did.
    pub seq: u64,
    /// True if a peer may know of the flow: only then its end has to be told.
    pub told: bool,
    /// Term of the newest claim.
    pub term: Term,
    /// For a copy: how sure its carrier was. For a tombstone [`Claim::Found`] once it gives way to every claim.
    pub claim: Claim,
    /// Who carries it.
    pub origin: Origin,
    /// Live or tombstone.
    pub life: Life,
    /// What is in the outbox.
    pub pending: Pending,
    /// True if, as far as we know, the local kernel has an entry for it, or was asked for one and has not refused.
    pub in_kernel: bool,
    /// The entry of a copy is, or will be made, without the copy bit for a while: packets may pass it untold (PROTOCOL.md 7.8).
    pub is_unmarked: bool,
    /// The last pass over the kernel's table that saw it, or that it was touched after.
    pub pass: u8,
    /// The table's: tells the entry from others in the same place before and after it.
    pub(crate) serial: u16,
}

impl Entry {
    /// A live entry that the kernel has and nobody was told of.
    pub fn new(key: FlowKey, origin: Origin) -> Self {
        Self {
            key,
            state: FlowState::default(),
            seq: 0,
            told: false,
            term: Term::default(),
            claim: Claim::Carried,
            origin,
            life: Life::Live,
            pending: Pending::Nothing,
            in_kernel: true,
            is_unmarked: false,
            pass: 0,
            serial: 0,
        }
    }
}

impl Entry {
    /// An own flow is about to begin anew. If its end was told, and is still remembered, others may be ending it in turn, and
    /// the new one counts more than that.
    pub fn outdo_end(&mut self) {
        if self.life == Life::Dead && self.told && self.pending == Pending::Nothing {
            self.term = self.term.next();
        }
    }

    /// True if its first packet waits here, or went on and the kernel has not told of it yet (PROTOCOL.md 11).
    pub fn is_held(&self) -> bool {
        self.origin == Origin::Own && self.life == Life::Live && !self.in_kernel
    }

    /// True if claims of several members on it may be on their way (PROTOCOL.md 6.4).
    pub fn is_contested(&self) -> bool {
        self.term != Term::default() && self.claim == Claim::Carried
    }
}

/// The table is at its limit; the flow is not replicated, and that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

const CHUNK: usize = 1024;
/// So that the number of the last slot, and one past it, are numbers of slots.
const SLOTS_MAX: usize = u32::MAX as usize - CHUNK;

/// The hash of maps whose keys strangers choose, keyed as that of the table.
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

/// Where the entry of a key is. Its hash stands beside it, so that neither growth nor a look-up that meets others on its
/// way reads the entries themselves: each would be a miss of every cache.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: u32,
    hash: u32,
}

impl Place {
    /// The hash as the table of places wants it, in which all bits have to differ (Fibonacci hashing).
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// All entries.
#[derive(Debug)]
pub struct Table {
    index: HashTable<Place>,
    chunks: Vec<Vec<Option<Entry>>>,
    free: Vec<u32>,
    flows_max: usize,
    seed: [u64; 2],
    serial: u16,
    counts: Counts,
    /// The entry that was handed out last to be changed, and how it is counted until that was looked at.
    lent: Option<(u32, Class)>,
}

/// How many flows are there, by where they come from; tombstones are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those of [`Origin::Own`].
    pub own: u64,
    /// Those of [`Origin::Found`].
    pub found: u64,
    /// Those of [`Origin::Copy`].
    pub copies: u64,
}

/// As what an entry is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Own,
    Found,
    Copy,
    Tombstone,
}

impl Class {
    fn of(entry: &Entry) -> Self {
        match (entry.life, entry.origin) {
            (Life::Dead, _) => Self::Tombstone,
            (Life::Live, Origin::Own) => Self::Own,
            (Life::Live, Origin::Found) => Self::Found,
            (Life::Live, Origin::Copy { .. }) => Self::Copy,
        }
    }
}

impl Counts {
    fn of(&mut self, class: Class) -> Option<&mut u64> {
        match class {
            Class::Own => Some(&mut self.own),
            Class::Found => Some(&mut self.found),
            Class::Copy => Some(&mut self.copies),
            Class::Tombstone => None,
        }
    }

    fn add(&mut self, class: Class) {
        if let Some(count) = self.of(class) {
            *count += 1;
        }
    }

    fn remove(&mut self, class: Class) {
        if let Some(count) = self.of(class) {
            *count -= 1;
        }
    }
}

impl Table {
    /// An empty table of at most `flows_max` entries (and at most 2³² less one). `seed` keys the hash, as the keys are
    /// chosen by whoever sends packets.
    pub fn new(flows_max: usize, seed: [u64; 2]) -> Self {
        Self {
            index: HashTable::new(),
            chunks: Vec::new(),
            free: Vec::new(),
            flows_max: flows_max.min(SLOTS_MAX),
            seed,
            serial: 0,
            counts: Counts::default(),
            lent: None,
        }
    }

    /// There are at most so many from now on; what is there stays.
    pub fn set_flows_max(&mut self, flows_max: usize) {
        self.flows_max = flows_max.min(SLOTS_MAX);
    }

    /// Entries, tombstones included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// How many flows there are, known without looking at them.
    pub fn counts(&self) -> Counts {
        let counts = self.settled_counts();
        debug_assert_eq!(counts, self.counted(), "no change was missed");
        counts
    }

    fn settled_counts(&self) -> Counts {
        let mut counts = self.counts;
        if let Some((index, before)) = self.lent
            && let Some(entry) = at(&self.chunks, index)
        {
            counts.remove(before);
            counts.add(Class::of(entry));
        }
        counts
    }

    fn counted(&self) -> Counts {
        let mut counts = Counts::default();
        let classes = self.slots_from(0).map(|(_, entry)| Class::of(entry));
        classes.for_each(|class| counts.add(class));
        counts
    }

    /// Counts the entry that was handed out last as what it has become.
    fn settle(&mut self) {
        self.counts = self.settled_counts();
        self.lent = None;
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// One past the greatest slot in use.
    pub fn slot_end(&self) -> u32 {
        match self.chunks.last() {
            Some(last) => ((self.chunks.len() - 1) * CHUNK + last.len()) as u32,
            None => 0,
        }
    }

    /// The entry of `key`.
    pub fn find(&self, key: &FlowKey) -> Option<Slot> {
        let hash = hash(self.seed, key);
        let Place { index, .. } = *self.index.find(Place::spread(hash), |place| {
            place.hash == hash
                && at(&self.chunks, place.index).is_some_and(|entry| entry.key == *key)
        })?;
        at(&self.chunks, index).map(|entry| Slot {
            index,
            serial: entry.serial,
        })
    }

    /// Adds an entry whose key is not in the table.
    pub fn insert(&mut self, entry: Entry) -> Result<Slot, Full> {
        if self.index.len() >= self.flows_max {
            return Err(Full);
        }
        let hash = hash(self.seed, &entry.key);
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.new_slot(),
        };
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        self.counts.add(Class::of(&entry));
        if let Some(place) = place(&mut self.chunks, index) {
            *place = Some(Entry { serial, ..entry });
        }
        let rehash = |place: &Place| Place::spread(place.hash);
        self.index
            .insert_unique(Place::spread(hash), Place { index, hash }, rehash);
        Ok(Slot { index, serial })
    }

    /// Takes an entry out.
    pub fn remove(&mut self, slot: Slot) {
        self.settle();
        let Some((key, class)) = self.get(slot).map(|entry| (entry.key, Class::of(entry))) else {
            return;
        };
        self.counts.remove(class);
        let hash = Place::spread(hash(self.seed, &key));
        if let Ok(found) = self
            .index
            .find_entry(hash, |place| place.index == slot.index)
        {
            found.remove();
        }
        if let Some(place) = place(&mut self.chunks, slot.index) {
            *place = None;
        }
        self.free.push(slot.index);
    }

    /// The entry at `slot`, unless it was removed.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        at(&self.chunks, slot.index).filter(|entry| entry.serial == slot.serial)
    }

    /// The entry at `slot`, unless it was removed.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.settle();
        let entry = place(&mut self.chunks, slot.index)?
            .as_mut()
            .filter(|entry| entry.serial == slot.serial)?;
        self.lent = Some((slot.index, Class::of(entry)));
        Some(entry)
    }

    /// The slots of all entries from the number `from` on.
    pub fn slots_from(&self, from: u32) -> impl Iterator<Item = (Slot, &Entry)> {
        (from..self.slot_end()).filter_map(|index| self.slot(index))
    }

    /// The entry whose slot has this number.
    pub fn slot(&self, index: u32) -> Option<(Slot, &Entry)> {
        let entry = at(&self.chunks, index)?;
        let serial = entry.serial;
        Some((Slot { index, serial }, entry))
    }

    fn new_slot(&mut self) -> u32 {
        let slot = self.slot_end();
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(None),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(None);
                self.chunks.push(chunk);
            }
        }
        slot
    }
}

fn at(chunks: &[Vec<Option<Entry>>], index: u32) -> Option<&Entry> {
    chunks
        .get(index as usize / CHUNK)?
        .get(index as usize % CHUNK)?
        .as_ref()
}

fn place(chunks: &mut [Vec<Option<Entry>>], index: u32) -> Option<&mut Option<Entry>> {
    chunks
        .get_mut(index as usize / CHUNK)?
        .get_mut(index as usize % CHUNK)
}

fn hash(seed: [u64; 2], key: &FlowKey) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
    let FlowKey {
        src,
        dst,
        l4: [src_port, dst_port],
        zone,
        proto,
        family,
        zone_direction,
    } = key;
    let rest = u64::from(*src_port) << 48
        | u64::from(*dst_port) << 32
        | u64::from(*zone) << 16
        | u64::from(*proto) << 8
        | u64::from(*zone_direction as u8) << 4
        | u64::from(*family as u8);
    hasher.write_u64(rest);
    let [src_high, src_low] = words(src);
    let [dst_high, dst_low] = words(dst);
    match family {
        Family::V4 => hasher.write_u64(src_high ^ dst_high >> 32),
        Family::V6 => [src_high, src_low, dst_high, dst_low]
            .into_iter()
            .for_each(|word| hasher.write_u64(word)),
    }
    hasher.finish() as u32
}

/// An address as two numbers; one of IPv4 stands in the upper half of the first.
fn words(address: &Address) -> [u64; 2] {
    let number = u128::from_be_bytes(*address);
    [(number >> 64) as u64, number as u64]
}

#[cfg(test)]
mod tests;
