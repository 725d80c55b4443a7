//! Packets that wait until the live peers have their flow: how long, for whom, and how each wait ends (PROTOCOL.md 11).
//!
//! Every packet that came in goes out by [`Holds::poll_verdict`] exactly once, with the reason. It waits for the sequence
//! of the delta that tells its flow, and only for peers that were live when it came: the *wait set*. A peer that misses
//! deadlines is put aside, so that one that hangs delays a few packets and not all; it is watched, and taken back when it
//! acknowledges in time.

use crate::latency::Latency;
use crate::record::{MemberId, MemberSet};
use crate::table::{Entry, Life, Origin, Pending, Slot, Table};
use crate::time::Instant;
use alloc::collections::VecDeque;
use core::time::Duration;

/// Deadlines in a row that a peer misses before nobody waits for it any longer.
const MISSES_MAX: u32 = 3;
/// Acknowledgements in time, in a row, that bring it back.
const GOOD_MIN: u32 = 3;
/// A deadline that follows the round trip is at least and at most this.
const AUTO: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// How long a packet waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// As long as this.
    Fixed(Duration),
    /// Four round trips to the slowest peer that is waited for, but 20 ms at least and 500 ms at most.
    Auto,
}

/// What the owner decides.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a packet waits at most.
    pub deadline: Deadline,
    /// How many wait at most.
    pub held_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: Deadline::Fixed(Duration::from_millis(20)),
            held_max: 4096,
        }
    }
}

/// Why a packet waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every peer waited for has the flow in its kernel.
    Acked,
    /// Time is over.
    Deadline,
    /// As many packets as may wait do already, or the table of flows is full.
    Limit,
    /// There is no live peer, or none is waited for.
    NoPeer,
    /// Its flow is not known here, has ended meanwhile, or is another's by now: nothing is told of it.
    Unknown,
    /// The owner ends.
    Shutdown,
}

/// A packet that waits. Names it to the owner.
pub type PacketNumber = u32;

#[derive(Debug)]
struct Hold {
    packet: PacketNumber,
    slot: Slot,
    since: Instant,
    /// The sequence that told its flow last; `None` until one did.
    seq: Option<u64>,
    waiting: MemberSet,
    acked: bool,
}

/// What was seen of a peer as somebody to wait for.
#[derive(Debug, Default)]
pub struct Watch {
    /// How long it took to acknowledge flows of held packets.
    pub latency: Latency,
    /// True if nobody waits for it.
    pub is_aside: bool,
    misses: u32,
    good: u32,
    /// While it is aside: what it is to acknowledge, and since when.
    probe: Option<(u64, Instant)>,
}

/// A peer that was put aside, or is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody waits for it any longer.
    Aside(MemberId),
    /// It is waited for again.
    Back(MemberId),
}

/// All packets that wait.
#[derive(Debug)]
pub struct Holds {
    config: Config,
    /// In the order in which they came, so in that of their deadlines.
    held: VecDeque<Hold>,
    /// The flow of the newest packet, when it came, until the flush is over that tells it.
    newest: Option<(Slot, Instant)>,
    verdicts: VecDeque<(PacketNumber, Ended)>,
    watched: [Watch; MemberId::MAX],
    turns: VecDeque<Turn>,
    deadline: Duration,
    /// How long packets waited that were acknowledged.
    pub latency: Latency,
}

impl Holds {
    /// Nobody waits yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            held: VecDeque::new(),
            newest: None,
            verdicts: VecDeque::new(),
            watched: core::array::from_fn(|_| Watch::default()),
            turns: VecDeque::new(),
            deadline: AUTO[0],
            latency: Latency::default(),
        }
    }

    /// How many packets wait.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// How long a packet waits at most, now.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What was seen of a peer.
    pub fn watch(&self, member: MemberId) -> &Watch {
        self.watched
            .get(member.index())
            .expect("a member's index is below MemberId::MAX")
    }

    fn watch_mut(&mut self, member: MemberId) -> &mut Watch {
        self.watched
            .get_mut(member.index())
            .expect("a member's index is below MemberId::MAX")
    }

    /// True if one more can wait; else its wait has ended.
    pub fn has_room(&mut self, packet: PacketNumber) -> bool {
        let has_room = self.held.len() < self.config.held_max;
        if !has_room {
            self.end(packet, Ended::Limit);
        }
        has_room
    }

    /// A packet is not held at all.
    pub fn end(&mut self, packet: PacketNumber, ended: Ended) {
        self.verdicts.push_back((packet, ended));
    }

    /// A packet waits for the flow at `slot`, which is about to be told, or was in `seq`.
    pub fn push(
        &mut self,
        packet: PacketNumber,
        slot: Slot,
        seq: Option<u64>,
        live: MemberSet,
        now: Instant,
    ) {
        if seq.is_none() {
            self.newest = Some((slot, now));
        }
        let mut waiting = live;
        for member in live.iter().filter(|member| self.watch(*member).is_aside) {
            waiting.remove(member);
        }
        if waiting.is_empty() {
            self.end(packet, Ended::NoPeer);
            return;
        }
        self.held.push_back(Hold {
            packet,
            slot,
            since: now,
            seq,
            waiting,
            acked: false,
        });
    }

    /// Everything pending was told: with a flow of it those that are aside are watched.
    pub fn handle_flushed(&mut self, table: &Table, live: MemberSet) {
        let Some((slot, since)) = self.newest.take() else {
            return;
        };
        let told = table.get(slot).and_then(told_in).map(|seq| (seq, since));
        for member in live.iter() {
            let watch = self.watch_mut(member);
            if watch.is_aside {
                watch.probe = watch.probe.or(told);
            }
        }
    }

    /// Ends every wait that is over: `acked` says whether a peer has a sequence in its kernel, `rtt` how far the slowest
    /// of them is.
    pub fn settle(
        &mut self,
        table: &Table,
        live: MemberSet,
        acked: impl Fn(MemberId, u64) -> bool,
        rtt: Option<Duration>,
        now: Instant,
    ) {
        self.deadline = match self.config.deadline {
            Deadline::Fixed(deadline) => deadline,
            Deadline::Auto => rtt.map_or(AUTO[0], |rtt| (rtt * 4).clamp(AUTO[0], AUTO[1])),
        };
        self.look_at_those_aside(live, &acked, now);
        let mut held = core::mem::take(&mut self.held);
        held.retain_mut(|hold| match self.settled(hold, table, live, &acked, now) {
            Some(ended) => {
                self.end(hold.packet, ended);
                false
            }
            None => true,
        });
        self.held = held;
    }

    /// Ends the wait that began last, if it is over already. The others are not looked at: each packet would cost as many
    /// looks as there are packets that wait.
    pub fn settle_last(
        &mut self,
        table: &Table,
        live: MemberSet,
        acked: impl Fn(MemberId, u64) -> bool,
        now: Instant,
    ) {
        let Some(mut hold) = self.held.pop_back() else {
            return;
        };
        match self.settled(&mut hold, table, live, &acked, now) {
            Some(ended) => self.end(hold.packet, ended),
            None => self.held.push_back(hold),
        }
    }

    fn settled(
        &mut self,
        hold: &mut Hold,
        table: &Table,
        live: MemberSet,
        acked: &impl Fn(MemberId, u64) -> bool,
        now: Instant,
    ) -> Option<Ended> {
        let Some(entry) = (table.get(hold.slot)).filter(|entry| entry.life == Life::Live) else {
            return Some(Ended::Unknown);
        };
        // A delta that is sent again tells only what no later one has told.
        hold.seq = told_in(entry).or(hold.seq);
        if hold.seq.is_none() && matches!(entry.origin, Origin::Copy { .. }) {
            return Some(Ended::Unknown);
        }
        let waited = now.since(hold.since);
        for member in hold.waiting.iter() {
            if hold.seq.is_some_and(|seq| acked(member, seq)) {
                let watch = self.watch_mut(member);
                watch.latency.record(waited);
                watch.misses = 0;
                hold.acked = true;
                hold.waiting.remove(member);
            } else if !live.contains(member) || self.watch(member).is_aside {
                hold.waiting.remove(member);
            }
        }
        if hold.waiting.is_empty() {
            if !hold.acked {
                return Some(Ended::NoPeer);
            }
            self.latency.record(waited);
            return Some(Ended::Acked);
        }
        if waited < self.deadline {
            return None;
        }
        for member in hold.waiting.iter() {
            let watch = self.watch_mut(member);
            watch.misses += 1;
            if watch.misses >= MISSES_MAX {
                watch.is_aside = true;
                watch.good = 0;
                watch.probe = None;
                self.turns.push_back(Turn::Aside(member));
            }
        }
        Some(Ended::Deadline)
    }

    fn look_at_those_aside(
        &mut self,
        live: MemberSet,
        acked: &impl Fn(MemberId, u64) -> bool,
        now: Instant,
    ) {
        let deadline = self.deadline;
        for member in MemberId::all() {
            let watch = self.watch_mut(member);
            let Some((seq, since)) = watch.probe else {
                continue;
            };
            let is_late = now.since(since) >= deadline || !live.contains(member);
            if !acked(member, seq) && !is_late {
                continue;
            }
            watch.probe = None;
            watch.good = if is_late { 0 } else { watch.good + 1 };
            if watch.good >= GOOD_MIN {
                watch.is_aside = false;
                watch.misses = 0;
                self.turns.push_back(Turn::Back(member));
            }
        }
    }

    /// A new run of a peer begins without a past.
    pub fn forget(&mut self, member: MemberId) {
        let watch = self.watch_mut(member);
        let was_aside = core::mem::take(&mut watch.is_aside);
        (watch.misses, watch.good, watch.probe) = (0, 0, None);
        if was_aside {
            self.turns.push_back(Turn::Back(member));
        }
    }

    /// Nobody waits any longer.
    pub fn end_all(&mut self) {
        for hold in core::mem::take(&mut self.held) {
            self.end(hold.packet, Ended::Shutdown);
        }
    }

    /// When the first wait is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.held.front().map(|hold| hold.since + self.deadline)
    }

    /// The next packet that waits no longer.
    pub fn poll_verdict(&mut self) -> Option<(PacketNumber, Ended)> {
        self.verdicts.pop_front()
    }

    /// The next peer that was put aside or is back.
    pub fn poll_turn(&mut self) -> Option<Turn> {
        self.turns.pop_front()
    }
}

/// The sequence of ours that told a flow last, if it says all there is.
pub fn told_in(entry: &Entry) -> Option<u64> {
    let is_told = entry.pending == Pending::Nothing && entry.seq > 0;
    (is_told && !matches!(entry.origin, Origin::Copy { .. })).then_some(entry.seq)
}
