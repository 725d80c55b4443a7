//! Which flows each delta told, from the oldest that a peer may still ask for. Bounded: the oldest are forgotten.

use crate::record::BulkUpdateEnd;
use crate::table::Slot;
use crate::time::Instant;
use alloc::collections::VecDeque;

/// One delta: when it was sent first, what mark it had.
#[derive(Debug)]
pub struct Logged {
    /// When it was sent first.
    pub sent: Instant,
    /// The mark at its end, if any.
    pub told: Option<BulkUpdateEnd>,
    /// Where its flows begin, counted from the first flow ever logged.
    first: u64,
}

/// The log. Sequences begin at 1.
#[derive(Debug)]
pub struct Log {
    next_seq: u64,
    deltas: VecDeque<Logged>,
    flows: VecDeque<Slot>,
    /// Flows that were dropped from the front of `flows`.
    forgotten: u64,
    /// Where the flows of the delta that is being made begin, counted as [`Logged::first`].
    next_first: u64,
    flows_max: usize,
}

impl Log {
    /// An empty log that holds at most `flows_max` flows, and as many deltas, after [`Self::pop`] while [`Self::is_over`].
    pub fn new(flows_max: usize) -> Self {
        Self {
            next_seq: 1,
            deltas: VecDeque::new(),
            flows: VecDeque::new(),
            forgotten: 0,
            next_first: 0,
            flows_max,
        }
    }

    /// Sequence of the next delta.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Sequence of the last delta, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Sequence of the oldest delta that is kept; that of the next one if none is.
    pub fn start(&self) -> u64 {
        self.next_seq - self.deltas.len() as u64
    }

    /// True if more is kept than may be.
    pub fn is_over(&self) -> bool {
        self.flows.len() > self.flows_max || self.deltas.len() > self.flows_max
    }

    /// Adds a flow to the delta that is being made.
    pub fn push_flow(&mut self, slot: Slot) {
        self.flows.push_back(slot);
    }

    /// How many flows the delta that is being made has.
    pub fn flows_of_next(&self) -> u64 {
        self.flows_end() - self.next_first
    }

    /// Ends the delta that is being made.
    pub fn push(&mut self, sent: Instant, told: Option<BulkUpdateEnd>) {
        let first = self.next_first;
        self.deltas.push_back(Logged { sent, told, first });
        self.next_first = self.flows_end();
        self.next_seq += 1;
    }

    /// The delta `seq`, if it is kept.
    pub fn get(&self, seq: u64) -> Option<&Logged> {
        self.deltas.get(self.index(seq)?)
    }

    /// The flows of the delta `seq`; none if it is not kept.
    pub fn flows(&self, seq: u64) -> impl Iterator<Item = Slot> {
        let range = self.index(seq).and_then(|index| {
            let from = self.deltas.get(index)?.first;
            let to = self
                .deltas
                .get(index + 1)
                .map_or(self.next_first, |next| next.first);
            Some((from - self.forgotten) as usize..(to - self.forgotten) as usize)
        });
        self.flows.range(range.unwrap_or(0..0)).copied()
    }

    /// Forgets the oldest delta: its sequence and its flows.
    pub fn pop(&mut self) -> Option<(u64, impl Iterator<Item = Slot>)> {
        let seq = self.start();
        let oldest = self.deltas.pop_front()?;
        let to = self
            .deltas
            .front()
            .map_or(self.next_first, |next| next.first);
        self.forgotten = to;
        Some((seq, self.flows.drain(..(to - oldest.first) as usize)))
    }

    fn flows_end(&self) -> u64 {
        self.forgotten + self.flows.len() as u64
    }

    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.start())?).ok()
    }
}
