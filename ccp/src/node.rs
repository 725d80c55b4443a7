//! One member of the cluster: the protocol's parts together, without I/O, clock or cipher.
//!
//! The owner hands in what happened (`handle_*`, with the time), then drains what there is to do: [`Node::poll_apply`]
//! until `None`, answering each with [`Node::handle_applied`] in that order, then [`Node::poll_transmit`] until `None`,
//! then it waits until [`Node::poll_timeout`] at most and calls [`Node::handle_timeout`]. An answer can give rise to
//! more for the kernel to do.
//!
//! A new node tells deltas, but does not tell a peer *everything* before the kernel table was read once
//! ([`Node::end_pass`]): the peer takes what was not named for gone.

mod apply;
mod compare;
mod contract;
mod expected;
mod grace;
mod held;
mod join;
mod local;
mod networks;
mod no_room;
mod pass;
mod probes;
mod refresh;
mod remote;
mod roles;
mod transmit;

pub use compare::{Comparing, Proof};
pub use contract::{Action, Apply, Audience, Config, Event, Outcome, Ticket, Transmit};
pub use expected::Expected;
pub use held::HeldPacket;
pub use join::{Join, Progress};
pub use local::{End, Local};
pub use pass::{PassEnd, Row};

use crate::audit::Audit;
use crate::counters::Counters;
use crate::election::{self, Election};
use crate::hold::Holds;
use crate::membership::{HelloEffect, Membership, PeerState};
use crate::modes::{Generation, Mode, Modes};
use crate::network::NetworkId;
use crate::outbox::Outbox;
use crate::paths::Paths;
use crate::probe::Probes;
use crate::receiver::Incoming;
use crate::record::{Claim, Expectation, FlowKey, MemberId, Record};
use crate::sender::{PeerSend, Sender};
use crate::table::{Entry, KeyedHash, Life, Origin, Slot, Table};
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::control::{Ack, Hello};
use crate::wire::header::{Header, Opcode, SEVERAL};
use crate::wire::{DecodeError, Skipped};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use contract::DeltaId;
use grace::Grace;
use hashbrown::{HashMap, HashSet};
use pass::Pass;
use probes::Report;
use refresh::Refresh;
use roles::Roles;

/// One member.
#[derive(Debug)]
pub struct Node {
    config: Config,
    table: Table,
    outbox: Outbox,
    sender: Sender,
    incoming: [Incoming; MemberId::MAX],
    membership: Membership,
    paths: Paths,
    modes: Modes,
    greeting: Option<networks::Greeting>,
    roles: Roles,
    probes: Probes,
    report: Report,
    applies: VecDeque<Ticket>,
    /// Flows of which the kernel was asked something and has not answered: as many as the owner asks at a time.
    asked: HashSet<Slot, KeyedHash>,
    /// Places of copies that are rightly not in the kernel, and why: kept out, or in conflict. Of the table's at most.
    left_out: HashMap<u32, Outcome, KeyedHash>,
    events: VecDeque<Event>,
    /// What did not fit there of what this member has become.
    role: Option<election::StateChange>,
    packet_number: u64,
    epoch: u8,
    flushed: Option<Instant>,
    flush_now: bool,
    /// A flush has begun and goes on until nothing is left.
    flushing: bool,
    pass: Pass,
    expired: Grace,
    graves: Grace,
    holds: Holds,
    /// Flows that were seen to pass two gateways of late.
    split: VecDeque<FlowKey>,
    /// Flows of packets that were held, and of which the kernel is yet to tell.
    unconfirmed: Grace,
    /// Of flows that the kernel has yet to tell of, the newest first.
    expected_early: VecDeque<(FlowKey, Expectation)>,
    no_room: no_room::NoRoom,
    refresh: Refresh,
    audit: Audit,
    comparing: Comparing,
    join: Join,
    records: Vec<Record>,
    /// The latest time that was handed in.
    now: Instant,
    counters: Counters,
}

/// Log lines that wait at most; the owner drains them after every input. More are lost, but not what this member is.
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
            sender: Sender::new(config.peers.iter().copied().collect(), config.flows_max),
            incoming: core::array::from_fn(|_| Incoming::default()),
            membership,
            paths: Paths::new(
                &config.peers,
                config.networks,
                config.spread,
                config.dead_after,
                now,
            ),
            modes: Modes::new(
                config.member,
                &vec![(Mode::Unicast, Generation::default()); config.networks],
            ),
            greeting: None,
            probes: Probes::new(config.probes, now),
            report: Report::default(),
            roles: Roles::new(Election::new(config.member, config.roles, now)),
            applies: VecDeque::new(),
            asked: HashSet::with_hasher(KeyedHash::new(config.hash_seed)),
            left_out: HashMap::with_hasher(KeyedHash::new(config.hash_seed)),
            events: VecDeque::new(),
            role: None,
            packet_number: 0,
            epoch: 0,
            flushed: None,
            flush_now: false,
            flushing: false,
            pass: Pass::new(now),
            expired: Grace::of_expired(),
            graves: Grace::of_graves(),
            holds: Holds::new(config.hold),
            split: VecDeque::new(),
            unconfirmed: Grace::of_unconfirmed(),
            expected_early: VecDeque::new(),
            no_room: no_room::NoRoom::default(),
            refresh: Refresh::default(),
            audit: Audit::new(config.hash_seed),
            comparing: Comparing::default(),
            join: Join::new(now),
            records: Vec::new(),
            now,
            counters: Counters::default(),
            config,
        }
    }

    /// Takes in an authentic datagram of another member of our cluster for us: its header, its body as it was before
    /// sealing, and the network that it came over, which is the one its header names unless that says several.
    pub fn handle_datagram(
        &mut self,
        header: &Header,
        body: &[u8],
        network: NetworkId,
        now: Instant,
    ) -> Result<(), DecodeError> {
        self.now = now;
        let member = header.source;
        if header.opcode == Opcode::Hello {
            let mut skipped = Skipped::default();
            let hello = Hello::decode(body, &mut skipped)?;
            self.count_skipped(skipped);
            self.handle_hello(header, &hello, network, now);
            return Ok(());
        }
        let copy = (header.interface == SEVERAL).then_some(header.packet_number);
        let is_run =
            (self.membership.peer(member)).is_some_and(|peer| peer.is_run(header.incarnation));
        let is_accepted =
            (self.membership).accept(member, header.incarnation, header.packet_number, now);
        // A copy that came by another network first is no replay: each network tells its own replays.
        let counts = is_run && (is_accepted || copy.is_some());
        let first_here = counts && self.paths.handle_datagram(member, network, copy);
        if !is_accepted {
            match first_here && copy.is_some() {
                true => self.counters.datagrams_duplicate += 1,
                false => self.counters.datagrams_replayed_or_unproven += 1,
            }
            return Ok(());
        }
        match header.opcode {
            Opcode::Delta => self.handle_delta(member, header.urgency, body, now)?,
            Opcode::Ack => {
                let ack = Ack::decode(body)?;
                let counters = &mut self.counters;
                counters.acks_received += 1;
                counters.acks_received_with_gaps += u64::from(ack.names_gaps());
                counters.bulk_updates_asked_by_peers += u64::from(ack.asks_anew());
                self.sender.handle_ack(member, &ack, now);
                self.settle_holds();
                let tombstones = self.tombstones();
                self.sender.trim(&mut self.table, tombstones);
            }
            // Probes come over interfaces of their own.
            Opcode::Hello | Opcode::Probe | Opcode::ProbeReply => {}
            Opcode::Unknown(_) => return Err(DecodeError::Opcode),
        }
        Ok(())
    }

    fn handle_hello(&mut self, header: &Header, hello: &Hello, network: NetworkId, now: Instant) {
        let member = header.source;
        let effect = self.membership.handle_hello(
            member,
            [header.incarnation, header.packet_number],
            hello,
            self.packet_number,
            now,
        );
        match effect {
            HelloEffect::NewRun => {
                self.forget_run(member);
                self.paths.forget(member, now);
                self.roles.election.forget(member);
                self.probes.forget(member, now);
                self.holds.forget(member);
                self.comparing.forget(member);
                self.restart_join_with(member);
                self.sender.tell_anew(member);
                self.note(Event::PeerLive(member));
            }
            HelloEffect::Back => {
                self.join.stir();
                self.sender.resume(member, now);
                self.note(Event::PeerLive(member));
            }
            HelloEffect::Nothing => {}
            HelloEffect::Refused => self.counters.datagrams_replayed_or_unproven += 1,
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
            let place = self.incoming_mut(member).handle_base(heard.base, now);
            self.handle_join_news(member, hello, place);
            self.advance(member);
        }
        if current && effect != HelloEffect::Refused {
            self.handle_path(header, hello, network, now);
            let hears_us = self.paths.hears_us(member);
            let heard = (member, header.packet_number);
            self.probes.handle_hello(heard, network, hears_us, now);
            self.handle_standing(member, header.packet_number, hello.standing);
        }
        self.elect();
    }

    /// So many flows are known at most from now on, tombstones included.
    pub fn set_flows_max(&mut self, flows_max: usize) {
        self.table.set_flows_max(flows_max);
    }

    /// The kernel took a flow without its helper, which it has not.
    pub fn note_helper_missing(&mut self) {
        self.counters.helpers_missing += 1;
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.note_turn(now);
        while let Some(member) = self.membership.poll_dead(now) {
            self.sender.handle_death();
            self.note(Event::PeerDead(member));
            self.join.stir();
        }
        self.begin_probes(now);
        self.elect();
        self.poll_modes(now);
        self.join.handle_timeout(now);
        self.end_graces(now);
        self.withdraw_unconfirmed(now);
        self.settle_holds();
        self.refresh_copies(now);
        self.try_again(now);
        self.step_comparison(now);
        self.sender.handle_timeout(self.membership.live(), now);
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
        consider(self.modes.poll_timeout(), Timer::Membership);
        consider(self.expired.poll_timeout(), Timer::Grace);
        consider(self.unconfirmed.poll_timeout(), Timer::Grace);
        consider(self.holds.poll_timeout(), Timer::Hold);
        consider(self.refresh.poll_timeout(), Timer::Refresh);
        consider(self.no_room.poll_timeout(), Timer::NoRoom);
        consider(
            self.comparing.poll_timeout(self.pass.last_began),
            Timer::Audit,
        );
        consider(self.roles.poll_timeout(), Timer::Election);
        consider(self.probes.poll_timeout(), Timer::Interfaces);
        let graves = self.graves.poll_timeout();
        consider(
            graves.filter(|_| !self.join.awaits_snapshot()),
            Timer::Grace,
        );
        consider(self.join.poll_timeout(), Timer::Snapshot);
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
        let event = self.events.pop_front();
        event.or_else(|| self.role.take().map(Event::Role))
    }

    /// True if the flow is live here, or a copy is.
    pub fn knows(&self, key: &FlowKey) -> bool {
        let entry = self.table.find(key).and_then(|slot| self.table.get(slot));
        entry.is_some_and(|entry| entry.life == Life::Live)
    }

    /// Every flow that is known.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Over which networks.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Who is there.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How far a peer has come with what we tell it.
    pub fn peer_send(&self, member: MemberId) -> Option<&PeerSend> {
        self.sender.peer(member)
    }

    /// True unless a live peer has so much to acknowledge that what is no news has to wait: rows of the kernel's table should
    /// not be handed in then, nor [`Self::end_pass`] be called.
    pub fn keeps_up(&self) -> bool {
        self.sender.keeps_up(self.membership.live())
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
            bulk_updates_sent: sent.bulk_updates,
            ..self.counters
        }
    }

    fn incoming_mut(&mut self, member: MemberId) -> &mut Incoming {
        self.incoming
            .get_mut(member.index())
            .expect("a member's index is below MemberId::MAX")
    }

    /// Which run of a member counts now.
    fn run(&self, member: MemberId) -> u8 {
        self.membership.peer(member).map_or(0, |peer| peer.run)
    }

    fn count_skipped(&mut self, skipped: Skipped) {
        self.counters.unknown_attributes += skipped.attributes;
        self.counters.unknown_records += skipped.records;
    }

    fn note(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else if let Event::Role(change) = event {
            let from = self.role.map_or(change.from, |first| first.from);
            self.role = Some(election::StateChange { from, ..change });
        }
    }

    /// Adds an entry, or counts that there is no room for it.
    fn insert(&mut self, entry: Entry) -> Option<Slot> {
        let slot = self
            .table
            .insert(Entry {
                pass: self.pass.number,
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
        entry.claim = Claim::Carried;
        match entry.origin {
            Origin::Own => {
                entry.outdo_end();
                return;
            }
            Origin::Copy { .. } => self.counters.takeovers += 1,
            Origin::Found => {}
        }
        entry.origin = Origin::Own;
        entry.is_unmarked = false;
        entry.term = entry.term.next();
        entry.seq = 0;
        entry.told = true;
    }
}

#[cfg(test)]
mod tests;
