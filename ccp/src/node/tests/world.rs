//! Nodes, their kernels and the network between them, under one virtual clock. The same seed gives the same run.

use crate::audit::Class;
use crate::election;
use crate::hold::{self, Ended};
use crate::network::NetworkId;
use crate::node::{
    Action, Audience, Config, End, Event, HeldPacket, Local, Node, Outcome, Row, Ticket,
};
use crate::record::{
    Claim, Family, FlowKey, FlowState, MemberId, Packets, Patch, Status, TellingEnd, Term,
    ZoneDirection,
};
use crate::table::Origin;
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::flow;
use crate::wire::header::{HEADER_BYTES, Header, Opcode};
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use std::collections::VecDeque;
use std::vec::Vec;

/// The kernel table that every member has at first.
pub const TABLE_OLD: u64 = 1000;
const LATENCY: u64 = 150;

/// In percent of the datagrams.
#[derive(Clone, Copy)]
pub struct Faults {
    pub loss: u8,
    pub duplicates: u8,
    /// Up to 20 ms late, so overtaken by others.
    pub late: u8,
}

impl Faults {
    pub const NONE: Self = Self {
        loss: 0,
        duplicates: 0,
        late: 0,
    };
}

type Ask = (Ticket, Action, FlowKey, FlowState, bool);

struct Gateway {
    node: Option<Node>,
    kernel: BTreeMap<FlowKey, FlowState>,
    table: u64,
    /// Entries with the copy bit.
    marked: BTreeSet<FlowKey>,
    events: Vec<Event>,
    held: Option<VecDeque<Ask>>,
    outcome: Outcome,
    verdicts: Vec<(u32, Ended)>,
    flows_max: usize,
    calls: u64,
}

pub struct World {
    gateways: Vec<Gateway>,
    now: Instant,
    wire: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// What is said over links: from, to, kind and body; in order, and never lost while both ends run.
    streams: VecDeque<(Instant, [usize; 2], u8, Vec<u8>)>,
    sent: u64,
    faults: Faults,
    cut: BTreeSet<(usize, usize)>,
    random: u64,
    incarnation: u64,
    /// Flows that live, and the gateway that carries each.
    carriers: BTreeMap<FlowKey, usize>,
    fresh: u32,
}

pub fn member(at: usize) -> MemberId {
    MemberId::new(at as u8 + 1).unwrap()
}

pub fn key(n: u32) -> FlowKey {
    let mut src = [0; 16];
    src[..4].copy_from_slice(&n.to_be_bytes());
    FlowKey {
        src,
        dst: [0; 16],
        l4: [n as u16, 80],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

pub fn patch(proto_state: u8) -> Patch {
    Patch {
        timeout_secs: Some(432_000),
        proto_state: Some(proto_state),
        status: Some(Status {
            seen_reply: proto_state >= 2,
            assured: proto_state >= 3,
        }),
        ..Patch::default()
    }
}

/// What the kernel tells of an entry.
pub fn row(state: &FlowState) -> Patch {
    Patch {
        timeout_secs: Some(state.timeout_secs),
        proto_state: Some(state.proto_state),
        status: Some(state.status),
        ..Patch::default()
    }
}

/// Bodies with the greatest numbers where small ones are expected, by opcode.
pub fn hostile_bodies() -> Vec<(Opcode, Vec<u8>)> {
    let mut bodies = Vec::new();
    let max = |len: usize| std::vec![0xff; len];
    for len in 0..120 {
        for opcode in [Opcode::Delta, Opcode::Ack, Opcode::Hello] {
            bodies.push((opcode, max(len)));
            bodies.push((opcode, std::vec![0; len]));
            bodies.push((opcode, std::vec![0x7f; len]));
        }
    }
    for number in [0, 1, u64::MAX >> 1, crate::wire::SEQ_MAX, u64::MAX] {
        let mut ack = Vec::new();
        for _ in 0..6 {
            crate::wire::cursor::put_varint(&mut ack, number);
            bodies.push((Opcode::Ack, ack.clone()));
        }
        let mut delta = number.to_be_bytes().to_vec();
        bodies.push((Opcode::Delta, delta.clone()));
        let number = number.min(crate::wire::SEQ_MAX);
        flow::put_told(
            &mut delta,
            TellingEnd {
                member: member(1),
                base: number,
                from: number,
            },
        );
        bodies.push((Opcode::Delta, delta));
    }
    bodies
}

/// The delta `seq` tells that a flow is carried, the next one that it ended after others had claimed it.
pub fn deltas_of_life_and_end(seq: u64, key: &FlowKey) -> [(Opcode, Vec<u8>); 2] {
    let mut state = FlowState::default();
    state.apply(&patch(3));
    let mut carried = seq.to_be_bytes().to_vec();
    flow::put_upsert(&mut carried, key, &state, Term::default(), Claim::Carried);
    let mut ended = (seq + 1).to_be_bytes().to_vec();
    flow::put_delete(&mut ended, key, Term::default().next(), Claim::Carried);
    [carried, ended].map(|body| (Opcode::Delta, body))
}

impl World {
    pub fn new(members: usize, faults: Faults, seed: u64) -> Self {
        let mut world = Self {
            gateways: Vec::new(),
            now: Instant::from_micros(1_000_000),
            wire: BTreeMap::new(),
            streams: VecDeque::new(),
            sent: 0,
            faults,
            cut: BTreeSet::new(),
            random: seed | 1,
            incarnation: 0,
            carriers: BTreeMap::new(),
            fresh: 1_000_000,
        };
        for _ in 0..members {
            world.gateways.push(Gateway {
                node: None,
                kernel: BTreeMap::new(),
                marked: BTreeSet::new(),
                table: TABLE_OLD,
                events: Vec::new(),
                held: None,
                outcome: Outcome::Done,
                verdicts: Vec::new(),
                flows_max: 100_000,
                calls: 0,
            });
        }
        for at in 0..members {
            world.start(at, TABLE_OLD);
        }
        world
    }

    pub fn faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Starts all members again with tables of that limit.
    pub fn flows_max(&mut self, flows_max: usize) {
        for at in 0..self.gateways.len() {
            self.flows_max_of(at, flows_max);
        }
    }

    pub fn flows_max_of(&mut self, at: usize, flows_max: usize) {
        self.gateways[at].flows_max = flows_max;
        self.stop(at);
        self.start(at, TABLE_OLD);
    }

    /// The daemon starts and reads its kernel's table.
    pub fn start(&mut self, at: usize, table: u64) {
        self.start_unread(at, table);
        self.read_table(at);
    }

    pub fn start_unread(&mut self, at: usize, table: u64) {
        self.incarnation += 1;
        let members = self.gateways.len();
        let gateway = &mut self.gateways[at];
        gateway.table = table;
        let peers = (0..members).filter(|peer| *peer != at).map(member);
        let incarnation = self.incarnation * 0x9e37_79b9;
        let config = Config {
            table,
            hash_seed: [1, 2],
            flows_max: gateway.flows_max,
            dead_after: Duration::from_millis(500),
            roles: election::Config {
                settle: Duration::from_secs(1),
                ..election::Config::default()
            },
            hold: hold::Config {
                held_max: 64,
                ..hold::Config::default()
            },
            ..Config::new(1, member(at), peers.collect(), incarnation)
        };
        gateway.node = Some(Node::new(config, self.now));
        gateway.events.clear();
        for other in (0..members).filter(|other| *other != at) {
            self.link(at, other);
        }
    }

    /// There is a link between the two, if both run.
    pub fn link(&mut self, a: usize, b: usize) {
        let now = self.now;
        if self.gateways[a].node.is_some() && self.gateways[b].node.is_some() {
            for (at, other) in [(a, b), (b, a)] {
                let node = self.gateways[at].node.as_mut().unwrap();
                node.handle_link_up(member(other), now);
            }
        }
    }

    /// The link between the two breaks.
    pub fn unlink(&mut self, a: usize, b: usize) {
        let now = self.now;
        self.streams
            .retain(|(_, ends, ..)| *ends != [a, b] && *ends != [b, a]);
        for (at, other) in [(a, b), (b, a)] {
            if let Some(node) = &mut self.gateways[at].node {
                node.handle_link_down(member(other), now);
            }
        }
    }

    /// A pass.
    pub fn read_table(&mut self, at: usize) {
        self.read_table_while(at, |_| {});
    }

    /// Something happens to what `at` knows that should not.
    pub fn plant(&mut self, at: usize, plant: impl FnOnce(&mut Node)) {
        plant(self.gateways[at].node.as_mut().unwrap());
    }

    /// The copies of `at` are compared with what the others carry.
    pub fn compare(&mut self, at: usize) {
        let now = self.now;
        let node = self.gateways[at].node.as_mut().unwrap();
        node.handle_timeout(now);
        node.begin_comparison(false);
        self.drain(at);
    }

    /// What passes over the table of `at` have shown since this was asked last, by class.
    pub fn differences(&mut self, at: usize) -> [u64; Class::ALL.len()] {
        let node = self.gateways[at].node.as_mut().unwrap();
        node.take_differences().0
    }

    /// A pass; `meanwhile` happens after the last row was read.
    pub fn read_table_while(&mut self, at: usize, meanwhile: impl FnOnce(&mut Self)) {
        let gateway = &mut self.gateways[at];
        let node = gateway.node.as_mut().unwrap();
        let first = node.counters().reconciled == 0 && node.table().is_empty();
        node.begin_pass();
        for (key, state) in &gateway.kernel {
            let patch = row(state);
            let unknown = if first { Origin::Found } else { Origin::Own };
            node.handle_row(
                Row {
                    key,
                    state: &patch,
                    mark_mask: 0xff,
                },
                unknown,
            );
        }
        meanwhile(self);
        let node = self.gateways[at].node.as_mut().unwrap();
        assert!(node.end_pass());
        self.drain(at);
    }

    /// A pass during which the kernel tells a patch of a flow that nobody knows; its result.
    pub fn pass_with_update(&mut self, at: usize, key: FlowKey) -> bool {
        let node = self.gateways[at].node.as_mut().unwrap();
        node.begin_pass();
        let marked = Patch {
            mark: Some(1),
            ..Patch::default()
        };
        node.handle_local(&key, Local::Update(&marked));
        node.end_pass()
    }

    /// The daemon ends, its kernel goes on.
    pub fn stop(&mut self, at: usize) {
        self.gateways[at].node = None;
        for other in 0..self.gateways.len() {
            self.unlink(at, other);
        }
    }

    /// The whole gateway is gone; its flows live on with the others.
    pub fn crash(&mut self, at: usize) {
        self.stop(at);
        self.gateways[at].kernel.clear();
    }

    pub fn restart(&mut self, at: usize, keeps_table: bool) {
        let table = self.gateways[at].table;
        if keeps_table {
            self.stop(at);
            self.start(at, table);
        } else {
            self.crash(at);
            self.start(at, table + 1);
        }
    }

    pub fn node(&self, at: usize) -> &Node {
        self.gateways[at].node.as_ref().unwrap()
    }

    pub fn kernel(&self, at: usize) -> &BTreeMap<FlowKey, FlowState> {
        &self.gateways[at].kernel
    }

    pub fn events(&self, at: usize) -> &[Event] {
        &self.gateways[at].events
    }

    pub fn calls(&self, at: usize) -> u64 {
        self.gateways[at].calls
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn hold_kernel(&mut self, at: usize) {
        self.gateways[at].held = Some(VecDeque::new());
    }

    /// What the kernel of `at` has been asked while its answers are held.
    pub fn asked(&self, at: usize) -> Vec<Action> {
        let asks = self.gateways[at].held.iter().flatten();
        asks.map(|ask| ask.1).collect()
    }

    pub fn release_kernel(&mut self, at: usize) {
        for ask in self.gateways[at].held.take().unwrap() {
            self.apply(at, ask);
        }
        self.drain(at);
    }

    pub fn answer_with(&mut self, at: usize, outcome: Outcome) {
        self.gateways[at].outcome = outcome;
    }

    pub fn open(&mut self, at: usize, key: FlowKey) {
        self.open_unseen(at, key);
        self.local(at, &key, Local::New(&patch(1)));
    }

    pub fn open_unseen(&mut self, at: usize, key: FlowKey) {
        let mut state = FlowState::default();
        state.apply(&patch(1));
        self.gateways[at].kernel.insert(key, state);
        self.carriers.insert(key, at);
    }

    pub fn update(&mut self, at: usize, key: FlowKey, proto_state: u8) {
        self.change(at, key, &patch(proto_state));
    }

    pub fn change(&mut self, at: usize, key: FlowKey, patch: &Patch) {
        let state = self.gateways[at].kernel.get_mut(&key).unwrap();
        state.apply(patch);
        self.carriers.insert(key, at);
        self.local(at, &key, Local::Update(patch));
    }

    pub fn change_unseen(&mut self, at: usize, key: FlowKey, proto_state: u8) {
        let state = self.gateways[at].kernel.get_mut(&key).unwrap();
        state.apply(&patch(proto_state));
    }

    pub fn close(&mut self, at: usize, key: FlowKey) {
        self.close_unseen(at, key);
        self.local(at, &key, Local::Destroy(End::Over));
    }

    pub fn close_unseen(&mut self, at: usize, key: FlowKey) {
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        assert_eq!(self.carriers.remove(&key), Some(at));
    }

    /// The kernel of `at` drops an entry, whoever carries the flow.
    pub fn drop_entry(&mut self, at: usize, key: FlowKey, end: End) {
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        self.local(at, &key, Local::Destroy(end));
    }

    /// A packet passes that changes nothing of the flow; whether it made an event, as it cleared the copy bit.
    pub fn pass(&mut self, at: usize, key: FlowKey) -> bool {
        let was_marked = self.gateways[at].marked.remove(&key);
        if was_marked {
            let passed = Patch {
                packets: Some(Packets::Passed),
                nat: self.gateways[at].kernel[&key].nat(),
                ..patch(3)
            };
            self.local(at, &key, Local::Update(&passed));
        }
        was_marked
    }

    /// Nobody carries it any longer: it has ended for all.
    pub fn forget(&mut self, key: FlowKey) {
        self.carriers.remove(&key);
    }

    pub fn expire_copy(&mut self, at: usize, key: FlowKey) {
        assert_ne!(self.carriers.get(&key), Some(&at));
        assert!(self.gateways[at].kernel.remove(&key).is_some());
        self.local(at, &key, Local::Destroy(End::Over));
    }

    /// The kernel tells something.
    pub fn local(&mut self, at: usize, key: &FlowKey, change: Local<'_>) {
        if let Some(node) = &mut self.gateways[at].node {
            node.handle_local(key, change);
            self.drain(at);
        }
    }

    /// Some flows begin, change, move and end, a few a millisecond.
    pub fn work(&mut self, steps: usize) {
        for _ in 0..steps {
            let at = self.random(self.gateways.len() as u64) as usize;
            match self.random(10) {
                0..4 => {
                    self.fresh += 1;
                    self.open(at, key(self.fresh));
                }
                4..7 => {
                    if let Some(key) = self.pick(|world, key, _| world.kernel(at).contains_key(key))
                    {
                        let further = (self.kernel(at)[&key].proto_state + 1).min(5);
                        self.update(at, key, further);
                    }
                }
                _ => {
                    if let Some(key) =
                        self.pick(|world, key, carrier| carrier == at && world.is_quiet(at, key))
                    {
                        self.close(at, key);
                    }
                }
            }
            let pause = self.random(700);
            self.run(Duration::from_micros(pause));
        }
    }

    /// True if nobody but `at` believes that it carries the flow. A kernel ends a flow long after its last packet, never
    /// while the claims of that packet are on their way.
    fn is_quiet(&self, at: usize, key: &FlowKey) -> bool {
        let mut nodes = (self.gateways.iter().enumerate())
            .filter_map(|(i, gateway)| Some((i, gateway.node.as_ref()?)));
        nodes.all(|(i, node)| {
            let slot = node.table().find(key);
            match slot.and_then(|slot| node.table().get(slot)) {
                Some(entry) if i == at => entry.origin == Origin::Own,
                Some(entry) => {
                    matches!(entry.origin, Origin::Copy { member: carrier, .. } if carrier == member(at))
                }
                None => i != at,
            }
        })
    }

    /// A packet is held at `at`.
    pub fn hold(&mut self, at: usize, packet: u32, kind: HeldPacket, key: FlowKey, patch: &Patch) {
        let now = self.now;
        let node = self.gateways[at].node.as_mut().unwrap();
        node.handle_hold(packet, kind, &key, patch, now);
        self.drain(at);
    }

    pub fn end_holds(&mut self, at: usize) {
        self.gateways[at].node.as_mut().unwrap().end_holds();
        self.drain(at);
    }

    /// What has become of packets since the last call: when, which, why.
    pub fn verdicts(&mut self, at: usize) -> Vec<(u32, Ended)> {
        core::mem::take(&mut self.gateways[at].verdicts)
    }

    /// Runs until every live member has acknowledged everything.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            self.run(Duration::from_millis(20));
            let settled = self
                .gateways
                .iter()
                .flat_map(|gateway| &gateway.node)
                .all(|node| {
                    node.membership().peers().all(|peer| {
                        node.peer_send(peer.member).is_some_and(|send| {
                            send.frontier() == node.last_seq() && !send.is_telling()
                        })
                    })
                });
            if settled {
                return;
            }
        }
        panic!("never settles");
    }

    fn pick(&mut self, fits: impl Fn(&Self, &FlowKey, usize) -> bool) -> Option<FlowKey> {
        let fitting: Vec<FlowKey> = (self.carriers.iter())
            .filter(|(key, at)| fits(self, key, **at))
            .map(|(key, _)| *key)
            .collect();
        let at = self.random(fitting.len().max(1) as u64) as usize;
        fitting.get(at).copied()
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below.max(1)
    }

    fn percent(&mut self, percent: u8) -> bool {
        self.random(100) < u64::from(percent)
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrivals = self.wire.keys().next().map(|(at, _)| *at);
            let said = self.streams.front().map(|(at, ..)| *at);
            let arrival = arrivals.into_iter().chain(said).min();
            let timeouts = self
                .gateways
                .iter()
                .map(|gateway| gateway.node.as_ref().map(|node| node.poll_timeout().0));
            let (who, next) = timeouts
                .enumerate()
                .filter_map(|(at, timeout)| Some((Some(at), timeout?)))
                .chain(arrival.map(|at| (None, at)))
                .min_by_key(|(_, at)| *at)
                .unwrap_or((None, end));
            if next > end || (who.is_none() && arrival.is_none()) {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            match who {
                Some(at) => {
                    let now = self.now;
                    let gateway = &mut self.gateways[at];
                    gateway.calls += 1;
                    gateway.node.as_mut().unwrap().handle_timeout(now);
                    self.drain(at);
                    let after = self.node(at).poll_timeout();
                    let goes_on = after.1 == Timer::Snapshot;
                    assert!(
                        after.0 > now || goes_on,
                        "{after:?} is due again at {now:?}"
                    );
                }
                None if said == arrival => self.deliver_said(),
                None => self.deliver(),
            }
        }
    }

    fn deliver_said(&mut self) {
        let now = self.now;
        let (_, [from, to], kind, body) = self.streams.pop_front().unwrap();
        if self.cut.contains(&(from, to)) {
            let later = now + Duration::from_millis(20);
            self.streams.push_back((later, [from, to], kind, body));
            let streams = self.streams.make_contiguous();
            streams.sort_by_key(|(at, ..)| *at);
            return;
        }
        let Some(node) = &mut self.gateways[to].node else {
            return;
        };
        node.handle_link_message(member(from), kind, &body, now)
            .unwrap();
        self.gateways[to].calls += 1;
        self.drain(to);
    }

    fn deliver(&mut self) {
        let (_, (to, datagram)) = self.wire.pop_first().unwrap();
        let Some(node) = &mut self.gateways[to].node else {
            return;
        };
        let (header, body) = Header::decode(&datagram).unwrap();
        node.handle_datagram(&header, body, NetworkId::FIRST, self.now)
            .unwrap();
        self.gateways[to].calls += 1;
        self.drain(to);
    }

    /// As if `from` had said this, with its key.
    pub fn inject(&mut self, from: usize, to: usize, (opcode, body): &(Opcode, Vec<u8>)) {
        let mut out = Vec::new();
        let node = self.gateways[from].node.as_mut().unwrap();
        node.packet_number += 1;
        let header = Header {
            cluster: 1,
            opcode: *opcode,
            source: member(from),
            destination: crate::wire::header::Destination::All,
            interface: 0,
            urgency: crate::wire::header::Urgency::Urgent,
            incarnation: node.config.incarnation,
            epoch: node.epoch,
            packet_number: node.packet_number,
        };
        out.extend_from_slice(body);
        let now = self.now;
        // An error is an answer too.
        let _ = self.gateways[to].node.as_mut().unwrap().handle_datagram(
            &header,
            &out,
            NetworkId::FIRST,
            now,
        );
        self.drain(to);
    }

    /// Does everything that a node has to do now.
    fn drain(&mut self, at: usize) {
        let now = self.now;
        loop {
            let gateway = &mut self.gateways[at];
            let node = gateway.node.as_mut().unwrap();
            let Some(apply) = node.poll_apply() else {
                break;
            };
            let ask = (
                apply.ticket,
                apply.action,
                *apply.key,
                apply.state.clone(),
                apply.is_marked,
            );
            match &mut gateway.held {
                Some(held) => held.push_back(ask),
                None => self.apply(at, ask),
            }
        }
        let mut out = Vec::new();
        let node = self.gateways[at].node.as_mut().unwrap();
        let (mut sent, mut events) = (Vec::new(), Vec::new());
        while let Some(transmit) = node.poll_transmit(now, &mut out) {
            let (header, body) = Header::decode(&out).unwrap();
            assert_eq!(header, transmit.header);
            // A resend may be longer by what terms and timeouts in it have grown (PROTOCOL.md 2.5).
            let growth = match transmit.to {
                Audience::Member(_) => 300,
                Audience::Everyone | Audience::Live => 0,
            };
            assert!(
                HEADER_BYTES + body.len() + 16 <= 1472 + growth,
                "fits the MTU"
            );
            sent.push((transmit.to, core::mem::take(&mut out)));
        }
        let mut verdicts = Vec::new();
        while let Some(verdict) = node.poll_verdict() {
            verdicts.push(verdict);
        }
        while let Some(event) = node.poll_event() {
            events.push(event);
        }
        for to in (0..self.gateways.len()).filter(|to| *to != at) {
            let node = self.gateways[at].node.as_mut().unwrap();
            let mut body = Vec::new();
            while let Some(kind) = node.poll_link_message(member(to), &mut body) {
                let arrival = now + Duration::from_micros(LATENCY);
                let said = (arrival, [at, to], kind, core::mem::take(&mut body));
                self.streams.push_back(said);
            }
        }
        self.gateways[at].events.append(&mut events);
        self.gateways[at].verdicts.append(&mut verdicts);
        for (to, datagram) in sent {
            self.send(at, to, &datagram);
        }
    }

    fn send(&mut self, from: usize, to: Audience, datagram: &[u8]) {
        let live = self.node(from).membership().live();
        for at in 0..self.gateways.len() {
            let wanted = match to {
                Audience::Member(to) => to == member(at),
                Audience::Everyone => at != from,
                Audience::Live => live.contains(member(at)),
            };
            if !wanted || self.cut.contains(&(from, at)) || self.percent(self.faults.loss) {
                continue;
            }
            let copies = if self.percent(self.faults.duplicates) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let late = if self.percent(self.faults.late) {
                    self.random(20_000)
                } else {
                    0
                };
                self.sent += 1;
                let arrival = self.now + Duration::from_micros(LATENCY + late);
                self.wire
                    .insert((arrival, self.sent), (at, datagram.to_vec()));
            }
        }
    }

    fn apply(&mut self, at: usize, (ticket, action, key, state, is_marked): Ask) {
        let gateway = &mut self.gateways[at];
        let stays = action == Action::LookAndUpdate
            && gateway.kernel.get(&key).is_some_and(|entry| {
                let node = gateway.node.as_mut().unwrap();
                node.handle_look(ticket, &row(entry))
            });
        if gateway.outcome == Outcome::Done && !stays {
            match action {
                Action::Create | Action::Update | Action::LookAndUpdate | Action::Replace => {
                    gateway.kernel.insert(key, state);
                    if is_marked {
                        gateway.marked.insert(key);
                    } else {
                        gateway.marked.remove(&key);
                    }
                }
                Action::Delete => {
                    gateway.kernel.remove(&key);
                }
                Action::Refresh => {}
            }
        }
        let node = gateway.node.as_mut().unwrap();
        node.handle_applied(ticket, gateway.outcome, self.now);
    }

    /// Every kernel has every flow that lives, in the same state, and nothing else.
    #[track_caller]
    pub fn check(&self) {
        let living: BTreeSet<&FlowKey> = self.carriers.keys().collect();
        for (at, gateway) in self.gateways.iter().enumerate() {
            let keys: BTreeSet<&FlowKey> = gateway.kernel.keys().collect();
            // It compares with a count of all.
            let _ = gateway.node.as_ref().map(|node| node.table.counts());
            let (missing, ghosts): (Vec<_>, Vec<_>) = (
                living.difference(&keys).collect(),
                keys.difference(&living).collect(),
            );
            assert!(
                missing.is_empty() && ghosts.is_empty(),
                "gateway {at}: {} missing {:?}, {} ghosts {:?}",
                missing.len(),
                missing.first().map(|key| &key.src[..4]),
                ghosts.len(),
                ghosts.first().map(|key| &key.src[..4]),
            );
            let live = self.node(at).table().slots_from(0);
            let known = live.filter(|(_, entry)| entry.life == crate::table::Life::Live);
            assert_eq!(known.count(), living.len(), "table of gateway {at}");
        }
        let first = &self.gateways[0].kernel;
        for gateway in &self.gateways {
            for (key, state) in &gateway.kernel {
                assert!(
                    state.same_but_timeout(&first[key]),
                    "{:?} {state:?} {:?}",
                    &key.src[..4],
                    first[key]
                );
            }
        }
    }
}
