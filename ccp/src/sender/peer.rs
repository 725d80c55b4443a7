//! What one peer has of our deltas, as its acknowledgements say.

use super::log::Log;
use super::{ACK_DELAY, BACKLOG, PROBE_MAX, REORDER, RESENDS_PER_ACK, RTT_INITIAL};
use crate::range::RangeSet;
use crate::receiver::WINDOW;
use crate::time::Instant;
use crate::wire::control::Ack;
use crate::wire::header::Urgency;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

/// Ranges past the frontier that are remembered: twice what one acknowledgement carries.
const RANGES_MAX: usize = 64;

/// What a peer has for its kernel, beyond two round trips, when it is to acknowledge at once: a held packet can wait
/// through two losses.
const HURRIED_PATIENCE: Duration = Duration::from_millis(2);

/// A peer as the sender sees it.
#[derive(Debug)]
pub struct PeerSend {
    pub(super) base: u64,
    pub(super) frontier: u64,
    beyond: RangeSet,
    /// Deltas that were resent and not acknowledged since, and when.
    resent: BTreeMap<u64, Instant>,
    pub(super) bulk_update: BulkUpdate,
    /// Of flows that ended after this sequence the peer is to be told when it is told anew.
    pub(super) ends_after: u64,
    /// The log is kept from after this sequence on until the peer has asked for a bulk update: what it has from others may be
    /// as old.
    pub(super) kept_after: u64,
    /// The log forgot what the peer has not got: it has to be told anew.
    pub(super) lost: bool,
    rtt: Option<Duration>,
    pub(super) probe_at: Option<Instant>,
    probes: u32,
    /// Somebody waits for a delta that it has not acknowledged: it was asked to do so at once.
    hurried: bool,
    /// Changes the peer's kernel refused, as its last acknowledgement said.
    pub refused: u64,
}

/// Where a bulk update stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BulkUpdate {
    /// The peer has not asked for it: perhaps it gets a snapshot first.
    Unasked,
    /// It goes on.
    Going {
        /// The number of the next slot to look at.
        next: u32,
        /// What was told before this sequence the peer has.
        from: u64,
    },
    /// It is over.
    Done,
}

/// What an acknowledgement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acked {
    /// It contradicts what was sent, or is of another bulk update.
    Ignored,
    /// It counted. This is the newest delta that the peer has.
    Counted(u64),
}

impl PeerSend {
    pub(super) fn new(base: u64, ends_after: u64, kept_after: u64) -> Self {
        Self {
            base,
            frontier: base - 1,
            beyond: RangeSet::new(RANGES_MAX),
            resent: BTreeMap::new(),
            bulk_update: BulkUpdate::Unasked,
            ends_after,
            kept_after,
            lost: false,
            rtt: None,
            probe_at: None,
            probes: 0,
            hurried: false,
            refused: 0,
        }
    }

    /// The first sequence this peer needs.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Every delta up to this sequence is in the peer's kernel.
    pub fn frontier(&self) -> u64 {
        self.frontier
    }

    /// Round trip, smoothed; `None` before the first measurement.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// True until the peer was told everything.
    pub fn is_in_bulk_update(&self) -> bool {
        self.bulk_update != BulkUpdate::Done
    }

    /// The log may forget everything up to this sequence as far as this peer goes.
    pub(super) fn forgettable(&self) -> u64 {
        match (self.lost, self.bulk_update) {
            (true, _) => u64::MAX,
            (false, BulkUpdate::Unasked) => self.kept_after.min(self.frontier),
            (false, BulkUpdate::Going { .. }) => self.ends_after.min(self.frontier),
            (false, BulkUpdate::Done) => self.frontier,
        }
    }

    /// Of flows that ended up to this sequence the peer knows.
    pub(super) fn knows_ends(&self) -> u64 {
        match (self.lost, self.bulk_update) {
            (true, _) => u64::MAX,
            (false, BulkUpdate::Unasked | BulkUpdate::Going { .. }) => {
                self.ends_after.min(self.frontier)
            }
            (false, BulkUpdate::Done) => self.frontier,
        }
    }

    /// True if a bulk update goes on and the peer keeps up with it.
    pub(super) fn can_tell(&self, next_seq: u64) -> bool {
        matches!(self.bulk_update, BulkUpdate::Going { .. }) && self.keeps_up(next_seq)
    }

    /// True if it has not much to acknowledge.
    pub(super) fn keeps_up(&self, next_seq: u64) -> bool {
        let unacknowledged = next_seq.saturating_sub(self.frontier + 1);
        unacknowledged < BACKLOG + self.beyond.len()
    }

    /// The peer asks for the bulk update, but for what was told before `from`, if the log can still say what ended since.
    pub(super) fn handle_ask(&mut self, base: u64, from: u64, next_seq: u64) {
        if base != self.base || self.bulk_update != BulkUpdate::Unasked {
            return;
        }
        let is_granted = from > self.kept_after && from <= next_seq;
        let from = if is_granted { from } else { 0 };
        self.bulk_update = BulkUpdate::Going { next: 0, from };
        if is_granted {
            self.ends_after = self.ends_after.min(from - 1);
        }
    }

    /// True if the delta `seq`, which told it something, is in its kernel.
    pub fn has(&self, seq: u64) -> bool {
        seq >= self.base && !self.needs(seq)
    }

    pub(super) fn needs(&self, seq: u64) -> bool {
        seq > self.frontier && !self.beyond.contains(seq)
    }

    /// Takes in what the peer has.
    pub(super) fn handle_ack(&mut self, ack: &Ack, log: &Log, now: Instant) -> Acked {
        let last = log.last_seq();
        let greatest = ack.beyond.last().unwrap_or(ack.frontier);
        if ack.base != self.base
            || greatest > last
            || ack.frontier + 1 < self.base
            || greatest - ack.frontier > WINDOW
        {
            return Acked::Ignored;
        }
        let greatest_before = self.beyond.last().unwrap_or(self.frontier);
        if ack.frontier > self.frontier || greatest > greatest_before {
            self.probes = 0;
        }
        if greatest > greatest_before
            && !self.resent.contains_key(&greatest)
            && let Some(logged) = log.get(greatest)
        {
            let delay = Duration::from_micros(u64::from(ack.delay_micros));
            let sample = now.since(logged.sent).saturating_sub(delay);
            self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        }
        self.refused = self.refused.max(ack.refused);
        self.frontier = self.frontier.max(ack.frontier);
        for range in ack.beyond.iter() {
            // One range too many is told again by a later acknowledgement.
            self.beyond.insert_range(*range.start(), *range.end());
        }
        self.frontier = self.beyond.advance(self.frontier);
        self.beyond.remove_through(self.frontier);
        self.resent = self.resent.split_off(&(self.frontier + 1));
        self.hurried &= self.frontier < last;
        self.probe_at = (self.frontier < last).then(|| now + self.probe_interval());
        Acked::Counted(greatest)
    }

    /// What is missing below `greatest` and too old to be merely late, and counts as resent now.
    pub(super) fn take_lost(&mut self, greatest: u64, log: &Log, now: Instant) -> Vec<u64> {
        let patience = self.rtt.unwrap_or(RTT_INITIAL) * 5 / 4 + Duration::from_micros(500);
        let (mut lost, mut next) = (Vec::new(), self.frontier + 1);
        'gaps: for range in self.beyond.iter() {
            for seq in next..(*range.start()).min(greatest) {
                if lost.len() == RESENDS_PER_ACK {
                    break 'gaps;
                }
                let is_lost = match (self.resent.get(&seq), log.get(seq)) {
                    (Some(resent), _) => now.since(*resent) > patience,
                    (None, Some(logged)) => {
                        greatest - seq >= REORDER || now.since(logged.sent) > patience
                    }
                    (None, None) => true,
                };
                if is_lost {
                    lost.push(seq);
                }
            }
            next = range.end() + 1;
        }
        for seq in &lost {
            self.resent.insert(*seq, now);
        }
        lost
    }

    /// A delta went out: the peer is given time to acknowledge.
    pub(super) fn expect_ack(&mut self, urgency: Urgency, now: Instant) {
        self.hurried |= urgency == Urgency::Urgent;
        let at = now + self.probe_interval();
        let probe_at = self.probe_at.get_or_insert(at);
        *probe_at = at.min(*probe_at);
    }

    /// Asks again at once.
    pub(super) fn probe_now(&mut self, now: Instant) {
        self.probes = 0;
        self.probe_at = Some(now);
    }

    /// The peer has been silent for too long: what to resend. The oldest that it misses brings its frontier on; the
    /// newest that it can take makes it say what is missing between.
    pub(super) fn poll_probe(&mut self, last: u64, now: Instant) -> [Option<u64>; 2] {
        if self.probe_at.is_none_or(|at| at > now) {
            return [None; 2];
        }
        self.probe_at = None;
        if self.frontier >= last {
            return [None; 2];
        }
        self.probes = self.probes.saturating_add(1);
        self.probe_at = Some(now + self.probe_interval());
        let oldest = self.frontier + 1;
        let newest = last.min(self.frontier + WINDOW);
        let probes = [Some(oldest), Some(newest).filter(|seq| *seq != oldest)];
        for seq in probes.into_iter().flatten() {
            self.resent.insert(seq, now);
        }
        probes
    }

    fn probe_interval(&self) -> Duration {
        let patience = if self.hurried {
            HURRIED_PATIENCE
        } else {
            ACK_DELAY * 2
        };
        let round = self.rtt.unwrap_or(RTT_INITIAL) * 2 + patience;
        (round * 2u32.saturating_pow(self.probes.min(10))).min(PROBE_MAX)
    }
}
