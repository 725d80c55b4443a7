//! Flows whose peers are told of them only if they live past a delay.
//!
//! Only the keys are kept: what a flow has become is read from the kernel when its delay is over. So the few that live so
//! long cost a look-up, and the many that end before cost nothing. A wheel of seconds holds them, each in the list of the
//! second in which it is due, so that however many wait, there is one timer; and none comes before its delay is over, but up
//! to a second later. A flow costs 52 bytes and its place in the index, which is 12 at most: 64 together.
//!
//! At most [`FLOWS_MAX`] wait. One more is not delayed: its peers are told at once.

use ccp::record::FlowKey;
use ccp::time::Instant;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// 64 MB of them.
pub const FLOWS_MAX: usize = 1 << 20;

/// Seconds of the wheel, more than any delay: no second is met twice.
const SECONDS: usize = 4096;
const SECOND: u64 = 1_000_000;

/// The list of those that are due: their delay is over, and the kernel is to be asked what became of them.
const DUE: u16 = SECONDS as u16;

/// No node.
const NONE: u32 = u32::MAX;

/// Nodes of a chunk: memory grows by a chunk, and what is there is never moved.
const CHUNK: usize = 1024;

/// One flow, linked to its neighbours in its list.
#[derive(Clone, Copy, Debug)]
struct Node {
    key: FlowKey,
    list: u16,
    before: u32,
    after: u32,
}

/// The first and the last of a list.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List {
    first: NONE,
    last: NONE,
};

/// There is no room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All flows that wait.
#[derive(Debug)]
pub struct Delays {
    index: HashTable<u32>,
    /// Strangers choose the keys.
    hasher: RandomState,
    chunks: Vec<Vec<Node>>,
    /// Nodes that are not used, linked by `after`.
    free: u32,
    /// By second, modulo their number; the last is [`DUE`].
    lists: Vec<List>,
    /// A bit for each second whose list is not empty.
    filled: [u64; SECONDS / 64],
    /// The first second that is not over.
    second: u64,
    flows_max: usize,
}

impl Default for Delays {
    fn default() -> Self {
        Self::new(FLOWS_MAX)
    }
}

impl Delays {
    /// None, and never more than `flows_max`.
    pub fn new(flows_max: usize) -> Self {
        Self {
            index: HashTable::new(),
            hasher: RandomState::new(),
            chunks: Vec::new(),
            free: NONE,
            lists: vec![EMPTY; SECONDS + 1],
            filled: [0; SECONDS / 64],
            second: 0,
            flows_max,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// True if the flow waits.
    pub fn contains(&self, key: &FlowKey) -> bool {
        !self.is_empty() && self.find(key).is_some()
    }

    /// When the delay of the flow is over; `None` if it does not wait.
    pub fn due(&self, key: &FlowKey) -> Option<Instant> {
        let list = at(&self.chunks, self.find(key)?).list;
        let from = self.second % SECONDS as u64;
        let ahead = match list {
            DUE => 0,
            list => (u64::from(list) + SECONDS as u64 - from) % SECONDS as u64,
        };
        Some(Instant::from_micros((self.second + ahead) * SECOND))
    }

    /// The flow waits for `delay` from `now` on. One that waits already goes on as it does.
    pub fn insert(&mut self, key: &FlowKey, delay: Duration, now: Instant) -> Result<(), Full> {
        if self.contains(key) {
            return Ok(());
        }
        if self.len() >= self.flows_max {
            return Err(Full);
        }
        // The second in which the delay ends is over when it has ended.
        let due = (now + delay).as_micros().div_ceil(SECOND);
        let due = due.clamp(self.second, self.second + SECONDS as u64 - 1);
        let node = self.take_node(*key);
        self.link(node, (due % SECONDS as u64) as u16);
        let (hash, hasher, chunks) = (self.hasher.hash_one(key), &self.hasher, &self.chunks);
        let rehash = |node: &u32| hasher.hash_one(at(chunks, *node).key);
        self.index.insert_unique(hash, node, rehash);
        Ok(())
    }

    /// The flow waits no longer; false if it did not.
    pub fn remove(&mut self, key: &FlowKey) -> bool {
        if self.is_empty() {
            return false;
        }
        let (hash, chunks) = (self.hasher.hash_one(key), &self.chunks);
        let Ok(found) = (self.index).find_entry(hash, |node| at(chunks, *node).key == *key) else {
            return false;
        };
        let (node, _) = found.remove();
        self.unlink(node);
        self.at_mut(node).after = self.free;
        self.free = node;
        true
    }

    /// The flow's delay is over, whatever is left of it; false if it does not wait.
    pub fn end(&mut self, key: &FlowKey) -> bool {
        let Some(node) = self.find(key) else {
            return false;
        };
        self.unlink(node);
        self.link(node, DUE);
        true
    }

    /// Time has passed: whose delay is over is due.
    pub fn advance(&mut self, now: Instant) {
        let over = now.as_micros() / SECOND;
        // After a pause of more than a turn of the wheel, one turn meets all.
        let from = self.second.max(over.saturating_sub(SECONDS as u64 - 1));
        for second in from..=over {
            let list = (second % SECONDS as u64) as u16;
            while let Some(node) = some(self.lists[usize::from(list)].first) {
                self.unlink(node);
                self.link(node, DUE);
            }
        }
        self.second = self.second.max(over + 1);
    }

    /// The next flow whose delay is over; it waits no longer.
    pub fn poll(&mut self) -> Option<FlowKey> {
        let node = some(self.lists[usize::from(DUE)].first)?;
        let key = at(&self.chunks, node).key;
        self.remove(&key);
        Some(key)
    }

    /// True if [`Self::poll`] has a flow.
    pub fn has_due(&self) -> bool {
        self.lists[usize::from(DUE)].first != NONE
    }

    /// When [`Self::advance`] has something to do; `None` while nothing waits for a time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let from = (self.second % SECONDS as u64) as usize;
        let words = self.filled.len();
        // The word that `from` is in is looked at twice: what is in it before `from` comes last.
        (0..=words).find_map(|turn| {
            let at = (from / 64 + turn) % words;
            let mask = match turn {
                0 => u64::MAX << (from % 64),
                turn if turn == words => !(u64::MAX << (from % 64)),
                _ => u64::MAX,
            };
            let word = self.filled[at] & mask;
            (word != 0).then(|| {
                let list = at * 64 + word.trailing_zeros() as usize;
                let ahead = (list + SECONDS - from) % SECONDS;
                Instant::from_micros((self.second + ahead as u64) * SECOND)
            })
        })
    }

    fn find(&self, key: &FlowKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        (self.index)
            .find(hash, |node| at(&self.chunks, *node).key == *key)
            .copied()
    }

    fn take_node(&mut self, key: FlowKey) -> u32 {
        let blank = Node {
            key,
            list: DUE,
            before: NONE,
            after: NONE,
        };
        if let Some(node) = some(self.free) {
            self.free = at(&self.chunks, node).after;
            *self.at_mut(node) = blank;
            return node;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let last = self
            .chunks
            .last_mut()
            .expect("one was pushed if none was there");
        last.push(blank);
        ((chunks - 1) * CHUNK + last.len() - 1) as u32
    }

    /// Puts a node at the end of a list.
    fn link(&mut self, node: u32, list: u16) {
        let before = self.lists[usize::from(list)].last;
        {
            let linked = self.at_mut(node);
            linked.list = list;
            linked.before = before;
            linked.after = NONE;
        }
        match some(before) {
            Some(before) => self.at_mut(before).after = node,
            None => self.lists[usize::from(list)].first = node,
        }
        self.lists[usize::from(list)].last = node;
        self.note_filled(list);
    }

    fn unlink(&mut self, node: u32) {
        let Node {
            list,
            before,
            after,
            ..
        } = *at(&self.chunks, node);
        match some(before) {
            Some(before) => self.at_mut(before).after = after,
            None => self.lists[usize::from(list)].first = after,
        }
        match some(after) {
            Some(after) => self.at_mut(after).before = before,
            None => self.lists[usize::from(list)].last = before,
        }
        self.note_filled(list);
    }

    fn note_filled(&mut self, list: u16) {
        let is_filled = self.lists[usize::from(list)].first != NONE;
        if let Some(word) = self.filled.get_mut(usize::from(list) / 64) {
            let bit = 1 << (list % 64);
            *word = if is_filled { *word | bit } else { *word & !bit };
        }
    }

    fn at_mut(&mut self, node: u32) -> &mut Node {
        &mut self.chunks[node as usize / CHUNK][node as usize % CHUNK]
    }
}

fn at(chunks: &[Vec<Node>], node: u32) -> &Node {
    &chunks[node as usize / CHUNK][node as usize % CHUNK]
}

fn some(node: u32) -> Option<u32> {
    (node != NONE).then_some(node)
}

#[cfg(test)]
mod tests;
