//! What we tell the others: deltas in one sequence for all, kept until every peer acknowledged, resent to whom they miss.
//!
//! The log does not keep bytes, only which flows a delta told. A delta that was lost is made again from the flows' state
//! of now, less those that a later delta has told anew: so a resend is never older than what was lost, and a flow that
//! changed a hundred times while a peer was deaf costs one record.
//!
//! A peer that needs more than the log still has is *told anew*, by a **bulk update**: from a new `base` on it gets every
//! flow once more, among the deltas of the day and acknowledged like them, then a mark that says that this was all
//! (PROTOCOL.md 5).

mod log;
mod peer;

pub use peer::PeerSend;

use crate::outbox::Outbox;
use crate::record::{BulkUpdateEnd, Claim, MemberId, MemberSet};
use crate::table::{Entry, Life, Origin, Pending, Slot, Table};
use crate::time::Instant;
use crate::wire::control::Ack;
use crate::wire::flow;
use crate::wire::header::Urgency;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;
use log::Log;
use peer::{Acked, BulkUpdate};

/// Flows that the log remembers; above this the oldest deltas are forgotten, and who still misses one is told anew.
/// 8 bytes each; at 100,000 changes a second it bridges 2.6 s, at the usual 5,000 close to a minute.
pub const LOG_FLOWS_MAX: usize = 262_144;
/// What part of the table the log's tombstones may fill.
const LOG_PART_OF_TABLE: usize = 4;
/// Deltas that a peer may have unacknowledged before what is no news waits, a bulk update or what passes find
/// (PROTOCOL.md 7.13). So news come after about 1,500 flows, which a kernel takes 15 ms for; a peer that is 100 ms away is
/// told 15,000 flows a second.
pub const BACKLOG: u64 = 32;
/// Deltas resent for one acknowledgement at most; what is still missing then is seen in the next.
const RESENDS_PER_ACK: usize = 64;
/// Entries looked at for one delta of a bulk update, so that one with nothing to tell costs bounded time.
const BULK_UPDATE_LOOKS: usize = 4096;
/// How far the acknowledged have to be past a missing delta before it counts as lost rather than late.
const REORDER: u64 = 3;
/// The round trip assumed before one was measured.
const RTT_INITIAL: Duration = Duration::from_millis(5);
/// Longest wait of a receiver before it acknowledges (PROTOCOL.md 5.3).
pub const ACK_DELAY: Duration = Duration::from_millis(5);
/// Longest wait of a sender between probes of a silent peer.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// What the sender did of late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Deltas, resends included.
    pub deltas: u64,
    /// Resent deltas.
    pub resends: u64,
    /// Flows told for the first time, resends not counted.
    pub records: u64,
    /// Times that a peer missed more than the log had, or was new.
    pub bulk_updates: u64,
}

/// The sending half of a member.
#[derive(Debug)]
pub struct Sender {
    log: Log,
    peers: Peers,
    /// Members that were never told anything: until they are, the log keeps the ends of flows for them.
    expected: MemberSet,
    resends: VecDeque<(MemberId, u64)>,
    /// A peer was given another base, which only a hello tells it.
    base_changed: bool,
    /// Dead members whose flows were told as ours to keep.
    adopted: MemberSet,
    /// Totals.
    pub sent: Sent,
}

/// A flush of what is pending.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    /// Who hears it.
    pub live: MemberSet,
    /// Who may be told anew in it.
    pub to_tell: MemberSet,
    /// Whether somebody waits for it.
    pub urgency: Urgency,
    /// How long a body may be.
    pub bytes_max: usize,
}

/// May tombstones that nobody asks for be forgotten?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tombstones {
    /// They may.
    Free,
    /// Not yet.
    Held,
}

/// What a datagram has room for.
#[derive(Clone, Copy)]
struct Body {
    start: usize,
    bytes_max: usize,
}

impl Body {
    fn has_room(self, out: &[u8], bytes: usize) -> bool {
        out.len() - self.start + bytes <= self.bytes_max
    }
}

impl Sender {
    /// None of the `expected` was told anything yet. `flows_max` is the limit of the table: tombstones of the log take
    /// part of it.
    pub fn new(expected: MemberSet, flows_max: usize) -> Self {
        Self {
            log: Log::new(LOG_FLOWS_MAX.min(flows_max / LOG_PART_OF_TABLE).max(1)),
            peers: [const { None }; MemberId::MAX],
            expected,
            resends: VecDeque::new(),
            base_changed: false,
            adopted: MemberSet::default(),
            sent: Sent::default(),
        }
    }

    /// Sequence of the last delta, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.log.last_seq()
    }

    /// What is known of a peer since it was first told something.
    pub fn peer(&self, member: MemberId) -> Option<&PeerSend> {
        self.peers.get(member.index())?.as_ref()
    }

    /// True if somebody may need deltas; if nobody does, none are made.
    pub fn has_peers(&self) -> bool {
        self.peers.iter().any(Option::is_some)
    }

    /// True once after a peer was given another base.
    pub fn take_base_changed(&mut self) -> bool {
        core::mem::take(&mut self.base_changed)
    }

    /// Members whose flows we keep for them since the last call. If one is back it has to tell us of them again.
    pub fn take_adopted(&mut self) -> MemberSet {
        core::mem::take(&mut self.adopted)
    }

    /// Tells `member` everything from now on, and everything there is when it asks for it ([`Self::handle_ask`]). It is a
    /// new run, or has lost its place.
    pub fn tell_anew(&mut self, member: MemberId) {
        let (base, forgotten) = (self.log.next_seq(), self.log.start() - 1);
        self.expected.remove(member);
        if let Some(place) = self.peers.get_mut(member.index()) {
            // It may still have flows whose ends it missed: from an earlier run of it, or of us.
            let ends_after = place.as_ref().map_or(forgotten, |peer| {
                peer.knows_ends().clamp(forgotten, base - 1)
            });
            *place = Some(PeerSend::new(base, ends_after, forgotten));
            self.sent.bulk_updates += 1;
            self.base_changed = true;
        }
    }

    /// The peer is heard again after a silence: goes on where it was, or anew if the log has not kept that long.
    pub fn resume(&mut self, member: MemberId, now: Instant) {
        match self.peers.get_mut(member.index()) {
            Some(Some(peer)) if !peer.lost => peer.probe_now(now),
            Some(_) | None => self.tell_anew(member),
        }
    }

    /// `member`, which was given `base`, wants to be told, but for what was told before `from`.
    pub fn handle_ask(&mut self, member: MemberId, base: u64, from: u64) {
        let next_seq = self.log.next_seq();
        if let Some(Some(peer)) = self.peers.get_mut(member.index()) {
            peer.handle_ask(base, from, next_seq);
        }
    }

    /// A member died, whose flows may now be ours to tell: bulk updates that go on look at every flow again.
    pub fn handle_death(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            if let BulkUpdate::Going { next, .. } = &mut peer.bulk_update {
                *next = 0;
            }
        }
    }

    /// Takes in what `member` has. Lost deltas are queued to be resent.
    pub fn handle_ack(&mut self, member: MemberId, ack: &Ack, now: Instant) {
        let Some(Some(peer)) = self.peers.get_mut(member.index()) else {
            return;
        };
        let asks = ack.base == 0 && ack.frontier == peer.base;
        if asks || peer.lost {
            self.tell_anew(member);
        } else if let Acked::Counted(greatest) = peer.handle_ack(ack, &self.log, now) {
            let lost = peer.take_lost(greatest, &self.log, now);
            self.resends
                .extend(lost.into_iter().map(|seq| (member, seq)));
        }
    }

    /// When a silent peer is probed next.
    pub fn poll_timeout(&self, live: MemberSet) -> Option<Instant> {
        peers(&self.peers, live)
            .filter_map(|(_, peer)| peer.probe_at)
            .min()
    }

    /// Resends to each live peer that has been silent for too long.
    pub fn handle_timeout(&mut self, live: MemberSet, now: Instant) {
        let last = self.last_seq();
        for (member, peer) in peers_mut(&mut self.peers, live) {
            let probes = peer.poll_probe(last, now);
            self.resends
                .extend(probes.into_iter().flatten().map(|seq| (member, seq)));
        }
    }

    /// Makes the next resend: appends its body, says to whom. A delta that left the log leads to a bulk update.
    pub fn poll_resend(
        &mut self,
        table: &Table,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Option<MemberId> {
        while let Some((member, seq)) = self.resends.pop_front() {
            let Some(Some(peer)) = self.peers.get(member.index()) else {
                continue;
            };
            if !peer.needs(seq) {
                continue;
            }
            let Some(told) = self.log.get(seq).map(|logged| logged.told) else {
                self.tell_anew(member);
                continue;
            };
            self.put_resend(table, seq, bytes_max, out);
            if let Some(told) = told {
                flow::put_told(out, told);
            }
            self.sent.deltas += 1;
            self.sent.resends += 1;
            return Some(member);
        }
        None
    }

    /// What the delta `seq` told and no later one told again, as it is now. A flow that has changed since may be
    /// left out if it no longer fits: its new state is told soon anyway.
    fn put_resend(&self, table: &Table, seq: u64, bytes_max: usize, out: &mut Vec<u8>) {
        let body = Body {
            start: out.len(),
            bytes_max: bytes_max.saturating_sub(flow::TOLD_BYTES_MAX),
        };
        out.extend_from_slice(&seq.to_be_bytes());
        let entries = || {
            let entries = self.log.flows(seq).filter_map(|slot| table.get(slot));
            entries.filter(|entry| last_told_in(entry, seq))
        };
        for entry in entries().filter(|entry| entry.pending == Pending::Nothing) {
            put(out, entry);
        }
        for entry in entries().filter(|entry| entry.pending != Pending::Nothing) {
            let end = out.len();
            put(out, entry);
            if !body.has_room(out, 0) {
                out.truncate(end);
            }
        }
    }

    /// Makes the next delta of what is pending, then of what the peers `to_tell` are being told anew: appends its body of
    /// at most `bytes_max` bytes and returns its sequence. `None` if there is nothing to tell.
    pub fn poll_delta(
        &mut self,
        table: &mut Table,
        outbox: &mut Outbox,
        flush: Flush,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let Flush {
            live,
            to_tell,
            urgency,
            bytes_max,
        } = flush;
        let seq = self.log.next_seq();
        let body = Body {
            start: out.len(),
            bytes_max,
        };
        out.extend_from_slice(&seq.to_be_bytes());
        let mut room = true;
        while room && let Some((slot, entry)) = outbox.peek(table) {
            room = tell(&mut self.log, slot, entry, body, out);
            if room {
                outbox.pop();
            }
        }
        let told = if room {
            self.tell_more(table, to_tell, body, out)
        } else {
            None
        };
        let records = self.log.flows_of_next();
        if records == 0 && told.is_none() {
            out.truncate(body.start);
            return None;
        }
        if let Some(told) = told {
            flow::put_told(out, told);
        }
        self.sent.deltas += 1;
        self.sent.records += records;
        self.log.push(now, told);
        for (_, peer) in peers_mut(&mut self.peers, live) {
            peer.expect_ack(urgency, now);
        }
        Some(seq)
    }

    /// Goes on with one bulk update that has room to go on; returns the mark when it came to the end.
    fn tell_more(
        &mut self,
        table: &mut Table,
        to_tell: MemberSet,
        body: Body,
        out: &mut Vec<u8>,
    ) -> Option<BulkUpdateEnd> {
        let seq = self.log.next_seq();
        let (member, peer) =
            peers_mut(&mut self.peers, to_tell).find(|(_, peer)| peer.can_tell(seq))?;
        let (base, ends_after) = (peer.base, peer.ends_after);
        let BulkUpdate::Going { next, from } = &mut peer.bulk_update else {
            return None;
        };
        let from = *from;
        for _ in 0..BULK_UPDATE_LOOKS {
            if *next >= table.slot_end() {
                if !body.has_room(out, flow::TOLD_BYTES_MAX) && self.log.flows_of_next() > 0 {
                    return None;
                }
                peer.bulk_update = BulkUpdate::Done;
                return Some(BulkUpdateEnd { member, base, from });
            }
            let slot = table.slot(*next).map(|(slot, _)| slot);
            if let Some(slot) = slot
                && let Some(entry) = table.get_mut(slot)
                && is_ours_to_tell(entry, from, ends_after..base, to_tell)
            {
                let before = (entry.origin, entry.seq);
                if let Origin::Copy { .. } = entry.origin {
                    (entry.origin, entry.seq) = (Origin::Found, 0);
                }
                if !tell(&mut self.log, slot, entry, body, out) {
                    (entry.origin, entry.seq) = before;
                    return None;
                }
                if let (Origin::Copy { member, .. }, _) = before {
                    self.adopted.insert(member);
                }
            }
            *next += 1;
        }
        None
    }

    /// True if no live peer has more to acknowledge than what is no news may add to.
    pub fn keeps_up(&self, live: MemberSet) -> bool {
        peers(&self.peers, live).all(|(_, peer)| peer.keeps_up(self.log.next_seq()))
    }

    /// True if a bulk update can go on now.
    pub fn wants_to_tell(&self, to_tell: MemberSet) -> bool {
        peers(&self.peers, to_tell).any(|(_, peer)| peer.can_tell(self.log.next_seq()))
    }

    /// Forgets from the log what every peer has, and the oldest of what is more than it may hold; frees tombstones that
    /// nobody can ask for any longer.
    ///
    /// While `tombstones` are held, because a snapshot could bring back what they end, only what is too much goes.
    pub fn trim(&mut self, table: &mut Table, tombstones: Tombstones) {
        let mut forgettable = self.forgettable();
        let is_held = tombstones == Tombstones::Held;
        while self.log.start() <= forgettable && !is_held || self.log.is_over() {
            let Some((seq, flows)) = self.log.pop() else {
                break;
            };
            for slot in flows {
                if let Some(entry) = table.get(slot)
                    && last_told_in(entry, seq)
                    && entry.life == Life::Dead
                    && entry.pending == Pending::Nothing
                    && !entry.is_contested()
                {
                    table.remove(slot);
                }
            }
            if seq > forgettable {
                for peer in self.peers.iter_mut().flatten() {
                    peer.ends_after = peer.ends_after.max(seq);
                    peer.kept_after = peer.kept_after.max(seq);
                    peer.lost |= peer.frontier < seq;
                }
                self.expected = MemberSet::default();
                forgettable = self.forgettable();
            }
        }
    }

    /// True if a peer may still ask for the delta `seq`.
    pub fn keeps(&self, seq: u64) -> bool {
        seq >= self.log.start()
    }

    /// The log may forget everything up to this sequence without anybody missing it.
    fn forgettable(&self) -> u64 {
        if !self.expected.is_empty() {
            return 0;
        }
        let peers = self.peers.iter().flatten();
        peers.map(PeerSend::forgettable).min().unwrap_or(u64::MAX)
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

/// Does a peer that is told anew need this entry from us? It has what was told before `from`, and missed ends of flows that
/// were told in `missed`; what was told after that it gets anyway.
fn is_ours_to_tell(entry: &Entry, from: u64, missed: Range<u64>, live: MemberSet) -> bool {
    match (entry.origin, entry.life) {
        (Origin::Own | Origin::Found, Life::Live) => (from..missed.end).contains(&entry.seq),
        (Origin::Own | Origin::Found, Life::Dead) => {
            missed.start < entry.seq && entry.seq < missed.end
        }
        // The flows of a dead member are everybody's to tell; those of a member that is back are its own to tell.
        (Origin::Copy { member, .. }, Life::Live) => entry.in_kernel && !live.contains(member),
        (Origin::Copy { .. }, Life::Dead) => false,
    }
}

/// Adds a flow to the delta that is being made; false if that has no room left. One flow always has.
fn tell(log: &mut Log, slot: Slot, entry: &mut Entry, body: Body, out: &mut Vec<u8>) -> bool {
    let end = out.len();
    put(out, entry);
    if !body.has_room(out, 0) && log.flows_of_next() > 0 {
        out.truncate(end);
        return false;
    }
    log.push_flow(slot);
    entry.seq = log.next_seq();
    entry.told = true;
    entry.pending = Pending::Nothing;
    true
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

#[cfg(test)]
mod tests;
