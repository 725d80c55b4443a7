//! What we tell the others: deltas in one sequence for all, kept until every peer acknowledged, resent to whom they miss.
//!
//! The log does not keep bytes, only which flows a delta told. A delta that was lost is made again from the flows' state
//! of now, less those that a later delta has told anew: so a resend is never older than what was lost, and a flow that
//! changed a hundred times while a peer was deaf costs one record.
//!
//! A peer that needs more than the log still has is *told anew*: from a new `base` on it gets every flow once more,
//! among the deltas of the day and acknowledged like them, then a mark that says that this was all (PROTOCOL.md 5).

use crate::outbox::Outbox;
use crate::range::RangeSet;
use crate::record::{Claim, MemberId, MemberSet};
use crate::table::{Entry, Life, Origin, Pending, Slot, Table};
use crate::time::Instant;
use crate::wire::control::Ack;
use crate::wire::flow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

/// Flows that the log remembers; above this the oldest deltas are forgotten, and who still misses one is told anew.
pub const LOG_FLOWS_MAX: usize = 262_144;
/// Deltas that a peer being told anew may have unacknowledged before the telling waits: about 15,000 flows.
pub const TELLING_WINDOW: u64 = 256;
/// Deltas resent for one acknowledgement at most; what is still missing then is seen in the next.
const RESENDS_PER_ACK: usize = 64;
/// Entries looked at for one delta of a telling, so that one with nothing to tell costs bounded time.
const TELLING_LOOKS: usize = 4096;
/// How far the acknowledged have to be past a missing delta before it counts as lost rather than late.
const REORDER: u64 = 3;
/// The round trip assumed before one was measured.
const RTT_INITIAL: Duration = Duration::from_millis(5);
/// Longest wait of a receiver before it acknowledges (PROTOCOL.md 5.3), and of a sender between probes of a silent peer.
pub const ACK_DELAY: Duration = Duration::from_millis(5);
const PROBE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Logged {
    sent: Instant,
    /// Where its flows begin, counted from the first flow ever logged.
    first: u64,
    told: Option<(MemberId, u64)>,
}

/// A peer as the sender sees it.
#[derive(Debug)]
pub struct PeerSend {
    base: u64,
    frontier: u64,
    beyond: RangeSet,
    resent: BTreeMap<u64, Instant>,
    /// The next slot to look at, while the peer is being told anew.
    telling: Option<u32>,
    rtt: Option<Duration>,
    probe_at: Option<Instant>,
    probes: u32,
    /// Changes the peer's kernel refused, as its last acknowledgement said.
    pub refused: u64,
}

impl PeerSend {
    fn new(base: u64) -> Self {
        Self {
            base,
            frontier: base - 1,
            beyond: RangeSet::new(64),
            resent: BTreeMap::new(),
            telling: Some(0),
            rtt: None,
            probe_at: None,
            probes: 0,
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

    /// True while the peer is being told anew.
    pub fn is_telling(&self) -> bool {
        self.telling.is_some()
    }

    fn probe_interval(&self) -> Duration {
        let round = self.rtt.unwrap_or(RTT_INITIAL) * 2 + ACK_DELAY * 2;
        (round * 2u32.saturating_pow(self.probes.min(10))).min(PROBE_MAX)
    }

    fn can_tell(&self, next_seq: u64) -> bool {
        self.telling.is_some() && next_seq.saturating_sub(self.frontier) <= TELLING_WINDOW
    }

    fn needs(&self, seq: u64) -> bool {
        seq > self.frontier && !self.beyond.contains(seq)
    }
}

/// What the sender did of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Deltas, resends included.
    pub deltas: u64,
    /// Resent deltas.
    pub resends: u64,
    /// Flows told, resends included.
    pub records: u64,
    /// Times that a peer missed more than the log had, or was new.
    pub tellings: u64,
}

/// The sending half of a member.
#[derive(Debug)]
pub struct Sender {
    next_seq: u64,
    log: VecDeque<Logged>,
    flows: VecDeque<Slot>,
    flows_forgotten: u64,
    peers: Peers,
    resends: VecDeque<(MemberId, u64)>,
    /// Totals.
    pub sent: Sent,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            next_seq: 1,
            log: VecDeque::new(),
            flows: VecDeque::new(),
            flows_forgotten: 0,
            peers: [const { None }; MemberId::MAX],
            resends: VecDeque::new(),
            sent: Sent::default(),
        }
    }
}

impl Sender {
    /// Sequence of the last delta, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// What is known of a peer since it was first told something.
    pub fn peer(&self, member: MemberId) -> Option<&PeerSend> {
        self.peers.get(member.index())?.as_ref()
    }

    /// True if somebody may need deltas; if nobody does, none are made.
    pub fn has_peers(&self) -> bool {
        self.peers.iter().any(Option::is_some)
    }

    /// Begins to tell `member` everything from now on, and everything there is. It is a new run, or has lost its place.
    pub fn tell_anew(&mut self, member: MemberId) {
        if let Some(place) = self.peers.get_mut(member.index()) {
            *place = Some(PeerSend::new(self.next_seq));
            self.sent.tellings += 1;
        }
    }

    /// The peer is heard again after a silence: goes on where it was, or anew if the log has not kept that long.
    pub fn resume(&mut self, member: MemberId, now: Instant) {
        let start = self.log_start();
        match self.peers.get_mut(member.index()) {
            Some(Some(peer)) if peer.frontier + 1 >= start => {
                peer.probes = 0;
                peer.probe_at = Some(now);
            }
            Some(_) | None => self.tell_anew(member),
        }
    }

    /// Takes in what `member` has. Lost deltas are queued to be resent.
    pub fn handle_ack(&mut self, member: MemberId, ack: &Ack, now: Instant) {
        let (start, last) = (self.log_start(), self.last_seq());
        let Some(Some(peer)) = self.peers.get_mut(member.index()) else {
            return;
        };
        let greatest = ack.beyond.last().unwrap_or(ack.frontier);
        if ack.base != peer.base || greatest > last || ack.frontier + 1 < peer.base {
            return;
        }
        let progress =
            ack.frontier > peer.frontier || greatest > peer.beyond.last().unwrap_or(peer.frontier);
        if progress {
            peer.probes = 0;
            if let Some(logged) = greatest
                .checked_sub(start)
                .and_then(|at| self.log.get(at as usize))
                && !peer.resent.contains_key(&greatest)
            {
                let delay = Duration::from_micros(u64::from(ack.delay_micros));
                let sample = now.since(logged.sent).saturating_sub(delay);
                peer.rtt = Some(peer.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
            }
        }
        peer.refused = peer.refused.max(ack.refused);
        peer.frontier = peer.frontier.max(ack.frontier);
        for range in ack.beyond.iter() {
            peer.beyond.insert_range(*range.start(), *range.end());
        }
        peer.frontier = peer.beyond.advance(peer.frontier);
        peer.beyond.remove_through(peer.frontier);
        peer.resent = peer.resent.split_off(&(peer.frontier + 1));
        peer.probe_at = (peer.frontier < last).then(|| now + peer.probe_interval());
        self.queue_lost(member, greatest, now);
    }

    /// Queues what `member` misses below `greatest`, unless it is too young to be called lost.
    fn queue_lost(&mut self, member: MemberId, greatest: u64, now: Instant) {
        let start = self.log_start();
        let Some(Some(peer)) = self.peers.get_mut(member.index()) else {
            return;
        };
        if peer.beyond.is_empty() {
            return;
        }
        let patience = peer.rtt.unwrap_or(RTT_INITIAL) * 5 / 4 + Duration::from_micros(500);
        let mut queued = 0;
        for seq in peer.frontier + 1..greatest {
            if queued == RESENDS_PER_ACK {
                break;
            }
            if peer.beyond.contains(seq) {
                continue;
            }
            let Some(logged) = seq
                .checked_sub(start)
                .and_then(|at| self.log.get(at as usize))
            else {
                continue;
            };
            let lost = match peer.resent.get(&seq) {
                Some(resent) => now.since(*resent) > patience,
                None => greatest - seq >= REORDER || now.since(logged.sent) > patience,
            };
            if lost {
                peer.resent.insert(seq, now);
                self.resends.push_back((member, seq));
                queued += 1;
            }
        }
    }

    /// When a silent peer is probed next.
    pub fn poll_timeout(&self, live: MemberSet) -> Option<Instant> {
        peers(&self.peers, live)
            .filter_map(|(_, peer)| peer.probe_at)
            .min()
    }

    /// Resends the oldest unacknowledged delta to each live peer that has been silent for too long.
    pub fn handle_timeout(&mut self, live: MemberSet, now: Instant) {
        let last = self.last_seq();
        for (member, peer) in peers_mut(&mut self.peers, live) {
            if peer.probe_at.is_none_or(|at| at > now) {
                continue;
            }
            peer.probe_at = None;
            if peer.frontier < last {
                let lost = peer.frontier + 1;
                peer.probes = peer.probes.saturating_add(1);
                peer.probe_at = Some(now + peer.probe_interval());
                peer.resent.insert(lost, now);
                self.resends.push_back((member, lost));
            }
        }
    }

    /// Makes the next resend: appends its body, says to whom. A delta that left the log leads to telling anew.
    /// It can be longer than it was at first, where flows have grown since; IP fragments it then.
    pub fn poll_resend(&mut self, table: &Table, out: &mut Vec<u8>) -> Option<MemberId> {
        while let Some((member, seq)) = self.resends.pop_front() {
            let start = self.log_start();
            let Some(Some(peer)) = self.peers.get_mut(member.index()) else {
                continue;
            };
            if !peer.needs(seq) {
                continue;
            }
            let Some((told, flows)) = seq
                .checked_sub(start)
                .and_then(|at| self.logged(at as usize))
            else {
                self.tell_anew(member);
                continue;
            };
            out.extend_from_slice(&seq.to_be_bytes());
            for entry in flows
                .filter_map(|slot| table.get(slot))
                .filter(|entry| last_told_in(entry, seq))
            {
                put(out, entry);
            }
            if let Some((member, base)) = told {
                flow::put_told(out, member, base);
            }
            self.sent.deltas += 1;
            self.sent.resends += 1;
            return Some(member);
        }
        None
    }

    /// Makes the next delta of what is pending, then of what peers are being told anew: appends its body of at most
    /// `bytes_max` bytes and returns its sequence. `None` if there is nothing to tell.
    pub fn poll_delta(
        &mut self,
        table: &mut Table,
        outbox: &mut Outbox,
        live: MemberSet,
        bytes_max: usize,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let seq = self.next_seq;
        let start = out.len();
        let logged_before = self.flows.len();
        out.extend_from_slice(&seq.to_be_bytes());
        let full = |out: &Vec<u8>| out.len() - start + flow::RECORD_BYTES_MAX > bytes_max;
        while !full(out)
            && let Some((slot, entry)) = outbox.peek(table)
        {
            self.flows.push_back(slot);
            tell(out, entry, seq);
            outbox.pop();
        }
        let told = if outbox.is_empty() {
            self.tell_more(table, live, full, out)
        } else {
            None
        };
        let records = self.flows.len() - logged_before;
        if records == 0 && told.is_none() {
            out.truncate(start);
            return None;
        }
        if let Some((member, base)) = told {
            flow::put_told(out, member, base);
        }
        self.sent.deltas += 1;
        self.sent.records += records as u64;
        self.log.push_back(Logged {
            sent: now,
            first: self.flows_forgotten + logged_before as u64,
            told,
        });
        self.next_seq += 1;
        for (_, peer) in peers_mut(&mut self.peers, live) {
            peer.probe_at.get_or_insert(now + peer.probe_interval());
        }
        Some(seq)
    }

    /// Goes on with one telling that has room to go on; returns the mark when it came to the end.
    fn tell_more(
        &mut self,
        table: &mut Table,
        live: MemberSet,
        full: impl Fn(&Vec<u8>) -> bool,
        out: &mut Vec<u8>,
    ) -> Option<(MemberId, u64)> {
        let seq = self.next_seq;
        let (member, peer) =
            peers_mut(&mut self.peers, live).find(|(_, peer)| peer.can_tell(seq))?;
        let base = peer.base;
        let cursor = peer.telling.as_mut()?;
        for _ in 0..TELLING_LOOKS {
            if *cursor >= table.slot_end() {
                peer.telling = None;
                return Some((member, base));
            }
            if full(out) {
                return None;
            }
            let slot = table.slot(*cursor);
            *cursor += 1;
            let Some(entry) = table.get_mut(slot) else {
                continue;
            };
            let known = match entry.origin {
                Origin::Own | Origin::Found => entry.seq >= base,
                // The flows of a dead member are everybody's to tell; those of a member that is back are its own to tell.
                Origin::Copy { member, .. } => live.contains(member),
            };
            if entry.life == Life::Dead || known {
                continue;
            }
            if matches!(entry.origin, Origin::Copy { .. }) {
                entry.origin = Origin::Found;
            }
            self.flows.push_back(slot);
            tell(out, entry, seq);
        }
        None
    }

    /// True if a telling can go on now.
    pub fn wants_to_tell(&self, live: MemberSet) -> bool {
        peers(&self.peers, live).any(|(_, peer)| peer.can_tell(self.next_seq))
    }

    /// Forgets from the log what every peer has, and the oldest of what is more than it may hold; frees tombstones that
    /// nobody can ask for any longer.
    pub fn trim(&mut self, table: &mut Table) {
        let acknowledged = self
            .peers
            .iter()
            .flatten()
            .map(PeerSend::frontier)
            .min()
            .unwrap_or(u64::MAX);
        while self.log_start() <= acknowledged || self.flows.len() > LOG_FLOWS_MAX {
            let seq = self.log_start();
            if self.log.pop_front().is_none() {
                break;
            }
            let end = self.log.front().map_or(u64::MAX, |next| next.first);
            while self.flows_forgotten < end
                && let Some(slot) = self.flows.pop_front()
            {
                self.flows_forgotten += 1;
                if let Some(entry) = table.get(slot)
                    && last_told_in(entry, seq)
                    && entry.life == Life::Dead
                    && entry.pending == Pending::Nothing
                {
                    table.remove(slot);
                }
            }
        }
    }

    fn log_start(&self) -> u64 {
        self.next_seq - self.log.len() as u64
    }

    fn logged(
        &self,
        at: usize,
    ) -> Option<(
        Option<(MemberId, u64)>,
        impl Iterator<Item = Slot> + use<'_>,
    )> {
        let logged = self.log.get(at)?;
        let from = (logged.first - self.flows_forgotten) as usize;
        let to = self.log.get(at + 1).map_or(self.flows.len(), |next| {
            (next.first - self.flows_forgotten) as usize
        });
        Some((logged.told, self.flows.range(from..to).copied()))
    }
}

type Peers = [Option<PeerSend>; MemberId::MAX];

fn peers(peers: &Peers, live: MemberSet) -> impl Iterator<Item = (MemberId, &PeerSend)> {
    MemberId::all()
        .zip(peers)
        .filter_map(move |(member, peer)| {
            Some((member, peer.as_ref().filter(|_| live.contains(member))?))
        })
}

fn peers_mut(
    peers: &mut Peers,
    live: MemberSet,
) -> impl Iterator<Item = (MemberId, &mut PeerSend)> {
    MemberId::all()
        .zip(peers)
        .filter_map(move |(member, peer)| {
            Some((member, peer.as_mut().filter(|_| live.contains(member))?))
        })
}

/// True if no later delta told the flow again, and it is still ours to tell.
fn last_told_in(entry: &Entry, seq: u64) -> bool {
    entry.seq == seq
        && match entry.origin {
            Origin::Own | Origin::Found => true,
            Origin::Copy { .. } => false,
        }
}

fn tell(out: &mut Vec<u8>, entry: &mut Entry, seq: u64) {
    put(out, entry);
    entry.seq = seq;
    entry.told = true;
    entry.pending = Pending::Nothing;
}

fn put(out: &mut Vec<u8>, entry: &Entry) {
    let claim = match entry.origin {
        Origin::Own | Origin::Copy { .. } => Claim::Carried,
        Origin::Found => Claim::Found,
    };
    match entry.life {
        Life::Live => flow::put_upsert(out, &entry.key, &entry.state, entry.term, claim),
        Life::Dead => flow::put_delete(out, &entry.key, entry.term, claim),
    }
}
