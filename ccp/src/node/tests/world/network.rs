//! What members say to each other: datagrams that get lost, links that break, and what an erring peer might say.

use super::{LATENCY, World, member, patch};
use crate::network::NetworkId;
use crate::node::Audience;
use crate::record::{BulkUpdateEnd, Claim, FlowKey, FlowState, Term};
use crate::wire::SEQ_MAX;
use crate::wire::cursor::put_varint;
use crate::wire::flow;
use crate::wire::header::{Destination, Header, Opcode, Urgency};
use core::time::Duration;
use std::vec::Vec;

impl World {
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

    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn send(&mut self, from: usize, to: Audience, datagram: &[u8]) {
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

    pub(super) fn deliver(&mut self) {
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

    pub(super) fn deliver_said(&mut self) {
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

    /// As if `from` had said this, with its key.
    pub fn inject(&mut self, from: usize, to: usize, (opcode, body): &(Opcode, Vec<u8>)) {
        let mut out = Vec::new();
        let node = self.gateways[from].node.as_mut().unwrap();
        node.packet_number += 1;
        let header = Header {
            cluster: 1,
            opcode: *opcode,
            source: member(from),
            destination: Destination::All,
            interface: 0,
            urgency: Urgency::Urgent,
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
    for number in [0, 1, u64::MAX >> 1, SEQ_MAX, u64::MAX] {
        let mut ack = Vec::new();
        for _ in 0..6 {
            put_varint(&mut ack, number);
            bodies.push((Opcode::Ack, ack.clone()));
        }
        let mut delta = number.to_be_bytes().to_vec();
        bodies.push((Opcode::Delta, delta.clone()));
        let number = number.min(SEQ_MAX);
        flow::put_told(
            &mut delta,
            BulkUpdateEnd {
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
