//! Nodes, their kernels and the network between them, under one virtual clock. The same seed gives the same run.

use crate::election;
use crate::hold::{self, Ended};
use crate::node::{Action, Audience, Config, Event, Node, Outcome, Ticket};
use crate::record::{Family, FlowKey, FlowState, MemberId, Patch, Status, ZoneDirection};
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::header::{HEADER_BYTES, Header};
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use std::collections::VecDeque;
use std::vec::Vec;

pub use network::{deltas_of_life_and_end, hostile_bodies};

mod flows;
mod kernel;
mod network;

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
                            send.frontier() == node.last_seq() && !send.is_in_bulk_update()
                        })
                    })
                });
            if settled {
                return;
            }
        }
        panic!("never settles");
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
