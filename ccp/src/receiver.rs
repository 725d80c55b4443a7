//! What a peer told us: which of its deltas arrived, which are in our kernel, and what to acknowledge when.
//!
//! Deltas are acted on in whatever order they arrive; the sequence of a flow's newest one decides. A delta is
//! acknowledged when the kernel has taken every change of it, not when it was received.

use crate::range::RangeSet;
use crate::record::{BulkUpdateEnd, Claim, MemberId, MemberSet, Term};
use crate::sender::ACK_DELAY;
use crate::table::{Entry, Life, Origin, Slot};
use crate::time::Instant;
use crate::wire::control::{ACK_RANGES_MAX, Ack};
use crate::wire::header::Urgency;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// How far past the frontier a delta may be to be taken; what is further is resent when the gap has closed.
pub const WINDOW: u64 = 16_384;
/// Gaps that are remembered; a delta that would make one more is dropped, and resent later.
const RANGES_MAX: usize = 1024;
/// Deltas after which an acknowledgement is due whatever the delay.
const ACK_EVERY: u32 = 32;

/// What became of an arriving delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// New: act on its records, then say how many changes the kernel has to take.
    New,
    /// Seen before.
    Duplicate,
    /// Before the base, or too far ahead.
    OutOfWindow,
}

/// What a base that a peer names means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the one we know.
    Kept,
    /// It is our first, or one that we asked for.
    Given,
    /// We had everything of the peer, and it cannot tell us any longer what we missed since.
    Lost,
}

/// One peer's deltas, as far as they came.
#[derive(Debug)]
pub struct Incoming {
    base: u64,
    /// Every delta up to this one is in our kernel.
    frontier: u64,
    received: RangeSet,
    applied: RangeSet,
    /// Deltas of which the kernel still has changes to take, and how many.
    waiting: Vec<(u64, u32)>,
    /// Flows that ended, by the sequence that said so: needed until everything before it has arrived.
    pub tombstones: BTreeSet<(u64, Slot)>,
    /// The mark that ends a bulk update, and its sequence.
    told: Option<(u64, BulkUpdateEnd)>,
    /// We asked for a bulk update that may leave out what was told before this sequence; it has not come yet.
    asked: Option<u64>,
    /// Members whose claims on flows of this peer were refused, as its own were newer.
    pub outclaimed: MemberSet,
    /// The same for its earlier run: when all of this run is known, it may turn out that theirs are the newest.
    pub outclaimed_before: MemberSet,
    /// When we lost our place we had everything that was told before this sequence; 0 if we did not lose it.
    pub had: u64,
    /// True once everything the peer had at our start, or at the loss of our place, has been told.
    pub synced: bool,
    /// We lost something that the peer believes we have: it is to tell us anew.
    lost: bool,
    ack_at: Option<Instant>,
    arrived: Option<Instant>,
    unacknowledged: u32,
    /// Changes of this peer that our kernel refused.
    pub refused: u64,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            base: 0,
            frontier: 0,
            received: RangeSet::new(RANGES_MAX),
            // Bounded by the window: a refusal here would leave a delta unacknowledged for ever.
            applied: RangeSet::new(WINDOW as usize),
            waiting: Vec::new(),
            tombstones: BTreeSet::new(),
            told: None,
            asked: None,
            outclaimed: MemberSet::default(),
            outclaimed_before: MemberSet::default(),
            had: 0,
            synced: false,
            lost: false,
            ack_at: None,
            arrived: None,
            unacknowledged: 0,
            refused: 0,
        }
    }
}

impl Incoming {
    /// The first sequence we need; 0 before the peer said so.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Every delta up to this one is in our kernel.
    pub fn frontier(&self) -> u64 {
        self.frontier
    }

    /// Deltas that are missing before the newest that came.
    pub fn missing(&self) -> u64 {
        let last = self.received.last();
        last.map_or(0, |last| last - self.frontier - self.received.len())
    }

    /// The peer tells us anew from `base` on; what was missing before it is not waited for any longer. What came of the
    /// new bulk update before we knew of it counts.
    pub fn handle_base(&mut self, base: u64, now: Instant) -> Place {
        if base <= self.base {
            if self.lost {
                self.ack_at = Some(now);
            }
            return Place::Kept;
        }
        let place = if self.is_complete() {
            Place::Lost
        } else {
            Place::Given
        };
        // What was refused may be missing.
        let has_all = place == Place::Lost && self.refused == 0;
        self.had = if has_all { self.frontier + 1 } else { 0 };
        self.base = base;
        self.received.remove_through(base - 1);
        self.applied.remove_through(base - 1);
        self.waiting.retain(|(seq, _)| *seq >= base);
        self.frontier = self.applied.advance(base - 1);
        self.received.remove_through(self.frontier);
        self.told = self.told.filter(|(_, told)| told.base == base);
        self.asked = None;
        self.synced = false;
        self.lost = false;
        self.ack_at = Some(now);
        place
    }

    /// Something that the peer believes we have is lost: after each hello it is asked to tell us anew, until it does.
    pub fn ask_anew(&mut self) {
        self.lost = self.base != 0;
    }

    /// Notes an arriving delta.
    pub fn handle_delta(&mut self, seq: u64, urgency: Urgency, now: Instant) -> Arrival {
        if self.base == 0 || seq < self.base || seq > self.frontier + WINDOW {
            return Arrival::OutOfWindow;
        }
        if seq <= self.frontier || self.received.contains(seq) {
            // Who sends it again and waits has not heard of the acknowledgement.
            let at_once = urgency == Urgency::Urgent;
            self.acknowledge_by(if at_once { now } else { now + ACK_DELAY }, now);
            return Arrival::Duplicate;
        }
        if !self.received.insert(seq) {
            return Arrival::OutOfWindow;
        }
        self.unacknowledged += 1;
        let gap = self
            .received
            .iter()
            .next()
            .is_some_and(|first| *first.start() > self.frontier + 1);
        let at_once = urgency == Urgency::Urgent || gap || self.unacknowledged >= ACK_EVERY;
        self.acknowledge_by(if at_once { now } else { now + ACK_DELAY }, now);
        Arrival::New
    }

    /// The kernel has `changes` of the delta `seq` to take.
    pub fn expect_applied(&mut self, seq: u64, changes: u32, now: Instant) {
        if changes == 0 {
            self.applied(seq, now);
        } else {
            self.waiting.push((seq, changes));
        }
    }

    /// The kernel has taken (or refused for good) one change of the delta `seq`.
    pub fn handle_applied(&mut self, seq: u64, now: Instant) {
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == seq) else {
            return;
        };
        let Some((_, left)) = self.waiting.get_mut(at) else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.waiting.swap_remove(at);
            self.applied(seq, now);
        }
    }

    fn applied(&mut self, seq: u64, now: Instant) {
        self.ack_at.get_or_insert(now);
        self.applied.insert(seq);
        self.frontier = self.applied.advance(self.frontier);
        self.received.remove_through(self.frontier);
    }

    /// The peer says, in the delta `seq`, that it told us everything.
    pub fn handle_told(&mut self, seq: u64, told: BulkUpdateEnd) {
        if told.base >= self.base {
            self.told = Some((seq, told));
        }
    }

    /// Once, when everything up to the end of the bulk update is in our kernel: that end.
    pub fn poll_told(&mut self) -> Option<BulkUpdateEnd> {
        let (_, told) = self
            .told
            .take_if(|(seq, told)| told.base == self.base && *seq <= self.frontier)?;
        self.asked = None;
        self.synced = true;
        Some(told)
    }

    /// True if everything that the peer has is here, and nothing of it was lost since.
    pub fn is_complete(&self) -> bool {
        self.synced && !self.lost
    }

    /// True if the peer was asked for another base and has not given it yet.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// True if the peer has everything to tell us and waits to be asked.
    pub fn is_unasked(&self) -> bool {
        self.base != 0 && !self.synced && self.asked.is_none()
    }

    /// Asks the peer, with each hello until it has, to tell us everything but what it told before `from`.
    pub fn ask(&mut self, from: u64) {
        self.asked = Some(from);
    }

    /// What was asked for with a part left out is asked for whole: that part is not known any longer.
    pub fn ask_all(&mut self) {
        self.asked = self.asked.map(|_| 0);
    }

    /// What it is asked for.
    pub fn asked(&self) -> Option<u64> {
        self.asked
    }

    /// A flow that ended and before whose end nothing can arrive any longer.
    pub fn poll_tombstone(&mut self) -> Option<(u64, Slot)> {
        match self.tombstones.first() {
            Some((seq, _)) if *seq <= self.frontier => self.tombstones.pop_first(),
            Some(_) | None => None,
        }
    }

    /// When the next acknowledgement is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ack_at
    }

    /// The acknowledgement, if one is due.
    pub fn poll_ack(&mut self, now: Instant) -> Option<Ack> {
        if self.base == 0 || self.ack_at.is_none_or(|at| at > now) {
            return None;
        }
        self.ack_at = None;
        self.unacknowledged = 0;
        if self.lost {
            return Some(Ack {
                base: 0,
                frontier: self.base,
                delay_micros: 0,
                refused: self.refused,
                beyond: RangeSet::new(ACK_RANGES_MAX),
            });
        }
        let delay = self
            .arrived
            .take()
            .map_or(0, |arrived| now.since(arrived).as_micros());
        let mut beyond = RangeSet::new(ACK_RANGES_MAX);
        for range in self.applied.iter().take(ACK_RANGES_MAX) {
            beyond.insert_range(*range.start(), *range.end());
        }
        Some(Ack {
            base: self.base,
            frontier: self.frontier,
            delay_micros: u32::try_from(delay).unwrap_or(u32::MAX),
            refused: self.refused,
            beyond,
        })
    }

    fn acknowledge_by(&mut self, at: Instant, now: Instant) {
        self.ack_at = Some(self.ack_at.map_or(at, |due| due.min(at)));
        self.arrived = Some(now);
    }
}

/// A peer's claim on a flow.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Who says it.
    pub member: MemberId,
    /// Which of its runs.
    pub run: u8,
    /// In which of its deltas.
    pub seq: u64,
    /// Term of the claim.
    pub term: Term,
    /// Its strength.
    pub claim: Claim,
    /// How it came to us.
    pub via: Via,
}

/// How a claim came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// In a delta, which has to be acknowledged.
    Delta,
    /// In a snapshot.
    Snapshot,
    /// By comparison with what its carrier has: what was told in the same delta is taken once more.
    Audit,
}

/// Is what a peer says of a flow newer than what is known? (PROTOCOL.md 6.2)
pub fn is_news(entry: &Entry, me: MemberId, said: &Said) -> bool {
    match (entry.origin, said.claim) {
        (Origin::Copy { member, run }, _) if member == said.member => {
            run != said.run || said.seq > entry.seq || said.via == Via::Audit
        }
        (_, Claim::Found) => false,
        (Origin::Found, Claim::Carried) => true,
        // Nobody was seen to carry it; or it ended and begins anew elsewhere.
        (Origin::Own | Origin::Copy { .. }, Claim::Carried)
            if entry.claim == Claim::Found || entry.life == Life::Dead && !entry.is_contested() =>
        {
            true
        }
        (Origin::Own, Claim::Carried) => (said.term, said.member) > (entry.term, me),
        (Origin::Copy { member, .. }, Claim::Carried) => {
            (said.term, said.member) > (entry.term, member)
        }
    }
}

#[cfg(test)]
mod tests;
