//! Comparing what a member carries with a peer's copies of it: digests of buckets first, flows only where these differ
//! (PROTOCOL.md 13.2).
//!
//! Both walk their tables, a bounded piece at a time, and leave out what was told after the *cut*: so a change on its way
//! makes no difference, unless it overtakes one of the walks. Such a difference is gone when looked at again a second later.

use crate::audit::Class;
use crate::record::{Claim, FlowKey, FlowState, MemberId, Term};
use crate::table::{Entry, KeyedHash, Life, Origin, Pending, Slot, Table};
use crate::wire::compare::{Ask, BUCKETS_MAX, Digests, Message, put_row};
use crate::wire::flow::put_compared;
use alloc::vec::Vec;
use core::hash::Hasher;
use hashbrown::HashMap;
use siphasher::sip::SipHasher13;

/// Entries looked at in one step: well under a millisecond.
const LOOKS: u32 = 4096;
/// Flows in a bucket, on the average, in a table that is not large.
const FLOWS_PER_BUCKET: u64 = 64;
/// A frame of rows is sent when it has that many bytes.
const FRAME_BYTES: usize = 8192;

/// How many buckets there should be for so many flows.
pub fn buckets(flows: u64) -> u16 {
    let wanted = (flows / FLOWS_PER_BUCKET).next_power_of_two();
    u16::try_from(wanted).map_or(BUCKETS_MAX, |wanted| wanted.min(BUCKETS_MAX))
}

/// Puts flows into buckets, and makes their digests: the same at both ends, and another in each comparison, so that nobody
/// can choose flows whose difference does not show.
#[derive(Clone, Debug)]
pub struct Digester {
    key: [u64; 2],
    buckets: u16,
    bytes: Vec<u8>,
}

impl Digester {
    /// For the comparison `id` that the run `asker` has begun.
    pub fn new(id: u64, asker: u64, buckets: u16) -> Self {
        Self {
            key: [asker, id],
            buckets,
            bytes: Vec::new(),
        }
    }

    /// Bucket and digest of a flow.
    pub fn digest(&mut self, key: &FlowKey, state: &FlowState) -> (u16, u64) {
        self.bytes.clear();
        let key_end = put_compared(&mut self.bytes, key, state);
        let hash = |bytes: &[u8]| {
            let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
            hasher.write(bytes);
            hasher.finish()
        };
        let of_key = hash(self.bytes.get(..key_end).unwrap_or_default());
        let bucket = (of_key % u64::from(self.buckets)) as u16;
        (bucket, hash(&self.bytes))
    }
}

/// Answers the question of a holder of copies.
#[derive(Debug)]
pub struct Answer {
    ask: Ask,
    digester: Digester,
    cut: Option<u64>,
    next: u32,
    flows: u64,
    sums: Vec<u64>,
    wanted: Vec<bool>,
    rows: Vec<u8>,
    is_over: bool,
}

impl Answer {
    /// To this question.
    pub fn new(ask: Ask) -> Self {
        let buckets = usize::from(ask.buckets);
        let mut wanted = alloc::vec![false; buckets];
        for bucket in &ask.wanted {
            if let Some(place) = wanted.get_mut(usize::from(*bucket)) {
                *place = true;
            }
        }
        Self {
            digester: Digester::new(ask.id, ask.asker, ask.buckets),
            cut: None,
            next: 0,
            flows: 0,
            sums: alloc::vec![0; buckets],
            wanted,
            rows: Vec::new(),
            is_over: false,
            ask,
        }
    }

    /// True once everything was said.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Goes on; `last_seq` is that of our last delta. The next frame, if one is made: its body is appended, its kind returned.
    pub fn poll(&mut self, table: &Table, last_seq: u64, out: &mut Vec<u8>) -> Option<u8> {
        let cut = *self.cut.get_or_insert(last_seq);
        let wants_rows = !self.ask.wanted.is_empty();
        let end = self.next.saturating_add(LOOKS).min(table.slot_end());
        while self.next < end {
            let entry = table.slot(self.next).map(|(_, entry)| entry);
            self.next += 1;
            let Some(entry) = entry.filter(|entry| is_carried(entry, cut)) else {
                continue;
            };
            let (bucket, digest) = self.digester.digest(&entry.key, &entry.state);
            self.flows += 1;
            let at = usize::from(bucket);
            if wants_rows {
                if self.wanted.get(at) == Some(&true) {
                    put_row(&mut self.rows, entry);
                    if self.rows.len() >= FRAME_BYTES {
                        return Some(self.take_rows(out));
                    }
                }
            } else if let Some(sum) = self.sums.get_mut(at) {
                *sum = sum.wrapping_add(digest);
            }
        }
        if self.next < table.slot_end() {
            return None;
        }
        if !self.rows.is_empty() {
            return Some(self.take_rows(out));
        }
        self.is_over = true;
        let id = self.ask.id;
        let last = if wants_rows {
            Message::End(id, cut)
        } else {
            Message::Digests(Digests {
                id,
                cut,
                flows: self.flows,
                sums: core::mem::take(&mut self.sums),
            })
        };
        Some(last.encode(out))
    }

    fn take_rows(&mut self, out: &mut Vec<u8>) -> u8 {
        let rows = core::mem::take(&mut self.rows);
        Message::Rows(self.ask.id, &rows).encode(out)
    }
}

/// True of a flow that its carrier has told last up to the cut. One from when nobody was there to be told has the sequence 0,
/// and is told by snapshots.
fn is_carried(entry: &Entry, cut: u64) -> bool {
    let is_told = entry.seq > 0 || entry.pending == Pending::Nothing;
    entry.life == Life::Live && entry.origin == Origin::Own && is_told && entry.seq <= cut
}

/// True of a copy of it.
fn is_copy(entry: &Entry, of: (MemberId, u8), cut: u64) -> bool {
    let (member, run) = of;
    entry.life == Life::Live
        && entry.origin == Origin::Copy { member, run }
        && entry.claim == Claim::Carried
        && entry.seq <= cut
}

/// A flow as its carrier has it.
#[derive(Clone, Debug)]
pub struct Row {
    /// In which of the carrier's deltas it was told last.
    pub seq: u64,
    /// Its state.
    pub state: FlowState,
    /// Its term.
    pub term: Term,
}

/// How a copy differed, and at which sequences of the carrier and of the copy. It counts only if a second look, a second later,
/// finds the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// How.
    pub class: Class,
    theirs: u64,
    ours: u64,
}

/// A walk over our own table, to compare our copies with what their carrier has said.
#[derive(Debug)]
pub struct Walk {
    of: (MemberId, u8),
    cut: u64,
    digester: Digester,
    next: u32,
    sums: Vec<u64>,
    wanted: Vec<bool>,
    /// Copies in the wanted buckets.
    copies: Vec<Slot>,
}

impl Walk {
    /// Copies `of` a member's run that were told up to the cut: those in `wanted` buckets, or the digests of all.
    pub fn new(of: (MemberId, u8), cut: u64, digester: Digester, wanted: &[u16]) -> Self {
        let buckets = usize::from(digester.buckets);
        let mut is_wanted = alloc::vec![false; buckets];
        for bucket in wanted {
            if let Some(place) = is_wanted.get_mut(usize::from(*bucket)) {
                *place = true;
            }
        }
        Self {
            of,
            cut,
            digester,
            next: 0,
            sums: alloc::vec![0; buckets],
            wanted: is_wanted,
            copies: Vec::new(),
        }
    }

    /// One step; true when all was looked at.
    pub fn step(&mut self, table: &Table) -> bool {
        let end = self.next.saturating_add(LOOKS).min(table.slot_end());
        while self.next < end {
            let place = table.slot(self.next);
            self.next += 1;
            let Some((slot, entry)) = place.filter(|(_, it)| is_copy(it, self.of, self.cut)) else {
                continue;
            };
            let (bucket, digest) = self.digester.digest(&entry.key, &entry.state);
            let at = usize::from(bucket);
            if self.wanted.get(at) == Some(&true) {
                self.copies.push(slot);
            }
            if let Some(sum) = self.sums.get_mut(at) {
                *sum = sum.wrapping_add(digest);
            }
        }
        self.next >= table.slot_end()
    }

    /// Buckets whose digests differ from these.
    pub fn differing(&self, theirs: &[u64]) -> Vec<u16> {
        let both = self.sums.iter().zip(theirs);
        (0..)
            .zip(both)
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(bucket, _)| bucket)
            .collect()
    }

    /// Flows that differ from these rows, all of the wanted buckets.
    pub fn suspects(
        &mut self,
        table: &Table,
        rows: &HashMap<FlowKey, Row, KeyedHash>,
    ) -> Vec<(FlowKey, u16, Suspect)> {
        let mut suspects = Vec::new();
        let mut found = |digester: &mut Digester, key: &FlowKey, class, theirs, ours| {
            let (bucket, _) = digester.digest(key, &FlowState::default());
            let suspect = Suspect {
                class,
                theirs,
                ours,
            };
            suspects.push((*key, bucket, suspect));
        };
        for (key, row) in rows.iter().filter(|(_, row)| row.seq <= self.cut) {
            let entry = table.find(key).and_then(|slot| table.get(slot));
            // An end that we were told of is newer than any row.
            if entry.is_some_and(|entry| entry.life == Life::Dead) {
                continue;
            }
            match entry.filter(|entry| matches!(entry.origin, Origin::Copy { member, run } if (member, run) == self.of)) {
                None => found(&mut self.digester, key, Class::Missing, row.seq, entry.map_or(0, |entry| entry.seq)),
                Some(entry) => {
                    if let Some(class) = difference(&mut self.digester, key, &entry.state, &row.state) {
                        found(&mut self.digester, key, class, row.seq, entry.seq);
                    }
                }
            }
        }
        for slot in &self.copies {
            if let Some(entry) = table.get(*slot).filter(|it| is_copy(it, self.of, self.cut))
                && !rows.contains_key(&entry.key)
            {
                found(&mut self.digester, &entry.key, Class::Ghost, 0, entry.seq);
            }
        }
        suspects
    }
}

fn difference(
    digester: &mut Digester,
    key: &FlowKey,
    ours: &FlowState,
    theirs: &FlowState,
) -> Option<Class> {
    if ours.nat != theirs.nat {
        return Some(Class::Nat);
    }
    let differ = digester.digest(key, ours) != digester.digest(key, theirs);
    differ.then_some(Class::Attribute)
}
