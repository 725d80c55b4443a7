//! One member of the cluster: the protocol's parts together, without I/O, clock or cipher.
//!
//! The owner hands in what happened (`handle_*`, with the time), then drains what there is to do: [`Node::poll_apply`]
//! until `None`, answering each with [`Node::handle_applied`], then [`Node::poll_transmit`] until `None`, then it waits
//! until [`Node::poll_timeout`] at most and calls [`Node::handle_timeout`]. Nothing else may be handed in before
//! `poll_apply` has been drained: an [`Apply`] reads the flow as it is now.

mod local;
mod reconcile;
mod remote;

pub use local::Local;
pub use reconcile::Row;

use crate::counters::Counters;
use crate::membership::{Change, Membership, PeerState};
use crate::outbox::Outbox;
use crate::receiver::Incoming;
use crate::record::{FlowKey, FlowState, MemberId};
use crate::sender::{PeerSend, Sender};
use crate::table::{Entry, Life, Origin, Slot, Table};
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::DecodeError;
use crate::wire::control::{Ack, Hello};
use crate::wire::header::{Destination, HEADER_BYTES, Header, Opcode, TAG_BYTES, Urgency};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use hashbrown::HashSet;

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of the cluster.
    pub cluster: u16,
    /// Who this member is.
    pub member: MemberId,
    /// Who the others are.
    pub peers: Vec<MemberId>,
    /// Drawn anew at every start, never twice the same.
    pub incarnation: u64,
    /// Which kernel table this member has: the same after a restart of the daemon alone.
    pub table: u64,
    /// Key of the table's hash, drawn at start.
    pub hash_seed: [u64; 2],
    /// Greatest payload of a UDP datagram, header and tag included.
    pub datagram_bytes_max: usize,
    /// Flows that are known at most.
    pub flows_max: usize,
    /// Time that changes are gathered for, when they come fast.
    pub flush: Duration,
    /// Interval of hellos.
    pub hello: Duration,
    /// A peer that is silent for that long is dead.
    pub dead_after: Duration,
}

/// A datagram to be sealed and sent: its header is in clear, its body follows in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// To which members.
    pub to: Audience,
    /// The header, already encoded at the front of the buffer.
    pub header: Header,
}

/// Who a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// One member.
    Member(MemberId),
    /// Every member that is configured, dead or not.
    Everyone,
    /// Every live member.
    Live,
}

/// What the kernel is asked to do with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make an entry.
    Create,
    /// Change the entry.
    Update,
    /// Make it anew: its translation is another, which an update cannot say.
    Replace,
    /// Remove the entry.
    Delete,
}

/// Names an [`Apply`] when its outcome is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose delta it comes from, and its sequence; `None` if nobody waits for an acknowledgement.
    delta: Option<(MemberId, u64)>,
    slot: Slot,
    action: Action,
}

/// A change that the kernel has to take.
#[derive(Clone, Copy, Debug)]
pub struct Apply<'a> {
    /// For [`Node::handle_applied`].
    pub ticket: Ticket,
    /// What to do.
    pub action: Action,
    /// With which flow.
    pub key: &'a FlowKey,
    /// Its state.
    pub state: &'a FlowState,
}

/// How the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entry is as it was asked for.
    Done,
    /// It is not.
    Refused,
}

/// Something an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is there: a new run of it, or heard again.
    PeerLive(MemberId),
    /// The peer is silent, or does not hear us.
    PeerDead(MemberId),
    /// Everything the peer has is in our kernel too.
    Synced(MemberId),
}

/// One member.
#[derive(Debug)]
pub struct Node {
    config: Config,
    table: Table,
    outbox: Outbox,
    sender: Sender,
    incoming: [Incoming; MemberId::MAX],
    membership: Membership,
    applies: VecDeque<Ticket>,
    events: VecDeque<Event>,
    packet_number: u64,
    flushed: Option<Instant>,
    flush_now: bool,
    /// A flush has begun and goes on until nothing is left.
    flushing: bool,
    pass: u8,
    /// Flows that ended since a reconciliation began; `None` while there is none.
    ended: Option<HashSet<FlowKey, reconcile::KeyedHash>>,
    counters: Counters,
}

/// Log lines that wait at most; the owner drains them after every input.
const EVENTS_MAX: usize = 256;

impl Node {
    /// A member that knows nothing yet.
    pub fn new(config: Config, now: Instant) -> Self {
        let intervals = [config.hello, config.dead_after];
        let membership = Membership::new(
            config.member,
            &config.peers,
            config.incarnation,
            config.table,
            intervals,
            now,
        );
        Self {
            table: Table::new(config.flows_max, config.hash_seed),
            outbox: Outbox::default(),
            sender: Sender::default(),
            incoming: core::array::from_fn(|_| Incoming::default()),
            membership,
            applies: VecDeque::new(),
            events: VecDeque::new(),
            packet_number: 0,
            flushed: None,
            flush_now: false,
            flushing: false,
            pass: 0,
            ended: None,
            counters: Counters::default(),
            config,
        }
    }

    /// Takes in an authentic datagram: its header, and its body as it was before sealing.
    pub fn handle_datagram(
        &mut self,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) -> Result<(), DecodeError> {
        let member = header.source;
        if header.opcode == Opcode::Hello {
            let hello = Hello::decode(body)?;
            self.handle_hello(header, &hello, now);
            return Ok(());
        }
        if !self
            .membership
            .accept(member, header.incarnation, header.packet_number, now)
        {
            self.counters.datagrams_replayed_or_unproven += 1;
            return Ok(());
        }
        match header.opcode {
            Opcode::Delta => self.handle_delta(member, header.urgency, body, now)?,
            Opcode::Ack => {
                let ack = Ack::decode(body)?;
                self.sender.handle_ack(member, &ack, now);
                self.sender.trim(&mut self.table);
            }
            Opcode::Hello => {}
        }
        Ok(())
    }

    fn handle_hello(&mut self, header: &Header, hello: &Hello, now: Instant) {
        let member = header.source;
        let change = self.membership.handle_hello(
            member,
            header.incarnation,
            header.packet_number,
            hello,
            now,
        );
        match change {
            Change::NewRun => {
                self.forget_run(member);
                self.sender.tell_anew(member);
                self.note(Event::PeerLive(member));
            }
            Change::Back => {
                self.sender.resume(member, now);
                self.note(Event::PeerLive(member));
            }
            Change::Nothing => {}
            Change::Refused => self.counters.datagrams_replayed_or_unproven += 1,
        }
        let current = self
            .membership
            .peer(member)
            .is_some_and(|peer| peer.is_run(header.incarnation));
        let me = (self.config.member, self.config.incarnation);
        if current
            && let Some(heard) = hello
                .heard
                .iter()
                .find(|heard| (heard.member, heard.incarnation) == me)
        {
            let before = self.incoming_mut(member).base();
            self.incoming_mut(member).handle_base(heard.base, now);
            if before != 0 && heard.base > before {
                self.incoming_mut(member).synced = false;
            }
        }
    }

    /// The kernel answered an [`Apply`].
    pub fn handle_applied(&mut self, ticket: Ticket, outcome: Outcome, now: Instant) {
        if let Some(entry) = self.table.get_mut(ticket.slot) {
            entry.in_kernel = outcome == Outcome::Done && ticket.action != Action::Delete;
        }
        match outcome {
            Outcome::Done => self.counters.applied_changes += 1,
            Outcome::Refused => self.counters.refused_changes += 1,
        }
        if let Some((member, seq)) = ticket.delta {
            let incoming = self.incoming_mut(member);
            incoming.refused += u64::from(outcome == Outcome::Refused);
            incoming.handle_applied(seq, now);
            self.advance(member);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(member) = self.membership.poll_dead(now) {
            self.note(Event::PeerDead(member));
        }
        self.sender.handle_timeout(self.membership.live(), now);
    }

    /// The next thing that the kernel has to do.
    pub fn poll_apply(&mut self) -> Option<Apply<'_>> {
        while let Some(ticket) = self.applies.pop_front() {
            if self.table.get(ticket.slot).is_some() {
                let entry = self.table.get(ticket.slot)?;
                return Some(Apply {
                    ticket,
                    action: ticket.action,
                    key: &entry.key,
                    state: &entry.state,
                });
            }
            debug_assert!(false, "an entry is not freed before its apply was polled");
        }
        None
    }

    /// The next datagram, its header and body appended to `out`.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        let Some((opcode, to, urgency)) = self.poll_body(now, out) else {
            out.truncate(start);
            return None;
        };
        self.packet_number += 1;
        let header = Header {
            cluster: self.config.cluster,
            opcode,
            source: self.config.member,
            destination: match to {
                Audience::Member(member) => Destination::Member(member),
                Audience::Everyone | Audience::Live => Destination::All,
            },
            interface: 0,
            urgency,
            policy: 0,
            incarnation: self.config.incarnation,
            packet_number: self.packet_number,
        };
        if let Some(place) = out.get_mut(start..start + HEADER_BYTES) {
            place.copy_from_slice(&header.encode());
        }
        Some(Transmit { to, header })
    }

    fn poll_body(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(Opcode, Audience, Urgency)> {
        let sender = &self.sender;
        let base = |member| sender.peer(member).map_or(0, PeerSend::base);
        if let Some(hello) = self.membership.poll_hello(now, sender.last_seq(), base) {
            hello.encode(out);
            return Some((Opcode::Hello, Audience::Everyone, Urgency::Normal));
        }
        for peer in self
            .membership
            .peers()
            .filter(|peer| peer.state == PeerState::Live)
        {
            let member = peer.member;
            if let Some(ack) = self
                .incoming
                .get_mut(member.index())
                .and_then(|incoming| incoming.poll_ack(now))
            {
                ack.encode(out);
                return Some((Opcode::Ack, Audience::Member(member), Urgency::Normal));
            }
        }
        if let Some(member) = self.sender.poll_resend(&self.table, out) {
            return Some((Opcode::Delta, Audience::Member(member), Urgency::Urgent));
        }
        if !self.flushing {
            if !self.flush_due(now) {
                return None;
            }
            self.flushing = true;
            self.flushed = Some(now);
        }
        if !self.sender.has_peers() {
            self.flushing = false;
            self.discard_pending();
            return None;
        }
        let body_bytes_max = self.config.datagram_bytes_max - HEADER_BYTES - TAG_BYTES;
        let live = self.membership.live();
        let made = self.sender.poll_delta(
            &mut self.table,
            &mut self.outbox,
            live,
            body_bytes_max,
            now,
            out,
        );
        if made.is_none() {
            self.flushing = false;
            self.flush_now = false;
            self.sender.trim(&mut self.table);
            return None;
        }
        let urgency = if self.flush_now {
            Urgency::Urgent
        } else {
            Urgency::Normal
        };
        Some((Opcode::Delta, Audience::Live, urgency))
    }

    fn wants_to_flush(&self) -> bool {
        !self.outbox.is_empty() || self.sender.wants_to_tell(self.membership.live())
    }

    fn flush_at(&self) -> Instant {
        self.flushed
            .map_or(Instant::default(), |flushed| flushed + self.config.flush)
    }

    /// At once when the last flush is long ago, else when the flush interval is over: rare changes don't wait, frequent
    /// ones are gathered.
    fn flush_due(&self, now: Instant) -> bool {
        self.wants_to_flush() && (self.flush_now || self.flush_at() <= now)
    }

    /// Nobody ever asked for deltas: nobody has to be told.
    fn discard_pending(&mut self) {
        while let Some((slot, entry)) = self.outbox.peek(&mut self.table) {
            entry.pending = crate::table::Pending::Nothing;
            let dead = entry.life == Life::Dead;
            self.outbox.pop();
            if dead {
                self.table.remove(slot);
            }
        }
    }

    /// What is waiting goes out with the next [`Self::poll_transmit`], and is acknowledged as soon as it can be.
    pub fn flush(&mut self) {
        self.flush_now = true;
    }

    /// When [`Self::handle_timeout`] and the polls have to be called again, and why.
    pub fn poll_timeout(&self) -> (Instant, Timer) {
        let live = self.membership.live();
        let mut next = (self.membership.poll_timeout(), Timer::Membership);
        let mut consider = |at: Option<Instant>, timer| {
            if let Some(at) = at.filter(|at| *at < next.0) {
                next = (at, timer);
            }
        };
        consider(self.wants_to_flush().then(|| self.flush_at()), Timer::Flush);
        consider(self.sender.poll_timeout(live), Timer::Probe);
        for peer in self
            .membership
            .peers()
            .filter(|peer| peer.state == PeerState::Live)
        {
            consider(self.incoming(peer.member).poll_timeout(), Timer::Ack);
        }
        next
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Every flow that is known.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Who is there.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How far a peer has come with what we tell it.
    pub fn peer_send(&self, member: MemberId) -> Option<&PeerSend> {
        self.sender.peer(member)
    }

    /// Sequence of our last delta, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.sender.last_seq()
    }

    /// How far we have come with what a peer tells us.
    pub fn incoming(&self, member: MemberId) -> &Incoming {
        self.incoming
            .get(member.index())
            .expect("a member's index is below MemberId::MAX")
    }

    /// Totals since the start.
    pub fn counters(&self) -> Counters {
        let sent = self.sender.sent;
        Counters {
            deltas_sent: sent.deltas,
            deltas_resent: sent.resends,
            records_sent: sent.records,
            tellings: sent.tellings,
            ..self.counters
        }
    }

    fn incoming_mut(&mut self, member: MemberId) -> &mut Incoming {
        self.incoming
            .get_mut(member.index())
            .expect("a member's index is below MemberId::MAX")
    }

    fn note(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    /// Adds an entry, or counts that there is no room for it.
    fn insert(&mut self, entry: Entry) -> Option<Slot> {
        let slot = self
            .table
            .insert(Entry {
                pass: self.pass,
                ..entry
            })
            .ok();
        self.counters.table_full += u64::from(slot.is_none());
        slot
    }

    /// This gateway carries the flow from now on.
    fn take_over(&mut self, slot: Slot) {
        let Some(entry) = self.table.get_mut(slot) else {
            return;
        };
        match entry.origin {
            Origin::Own => return,
            Origin::Copy { .. } => self.counters.takeovers += 1,
            Origin::Found => {}
        }
        entry.origin = Origin::Own;
        entry.term = entry.term.next();
        entry.seq = 0;
        entry.told = true;
    }
}

#[cfg(test)]
mod tests;
