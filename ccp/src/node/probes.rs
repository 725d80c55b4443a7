//! The node's side of interface monitoring: probes out and in, and who is there by them (PROTOCOL.md 12.8 to 12.13).

use super::{Event, Node};
use crate::membership::{Peer, PeerState};
use crate::probe::{Other, Probes, Watched};
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use crate::wire::DecodeError;
use crate::wire::header::{Destination, HEADER_BYTES, Header, MONITORED, Opcode, Urgency};
use crate::wire::probe::{FRAME_INTERFACES, Probe, Row, encode_rows};
use alloc::string::String;
use alloc::vec::Vec;

/// What this member says of its interfaces.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    /// Who is yet to be told.
    to: MemberSet,
}

/// A peer that talked by probes in the last such part of the dead interval before it was dead by its hellos is not silent.
const TALKED_PART: u32 = 2;

impl Node {
    /// Every monitored interface.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// What is monitored from now on, and how the links are.
    pub fn set_interfaces(&mut self, watched: Vec<Watched>, now: Instant) {
        self.now = now;
        if self.probes.set(watched, now) {
            self.report_interfaces();
            self.judge_interfaces();
            self.elect();
        }
    }

    /// A host beside the members answered on an interface at that time.
    pub fn handle_answered(&mut self, name: &str, at: Instant) {
        self.probes.handle_answered(name, at);
    }

    /// The interfaces on which hosts beside the members are to be asked whether they answer; once a round of probes.
    pub fn poll_doubtful(&mut self, now: Instant) -> Vec<String> {
        self.probes.poll_doubtful(now)
    }

    /// An authentic datagram of another member of our cluster came over the monitored interface of this name.
    pub fn handle_probe(
        &mut self,
        header: &Header,
        body: &[u8],
        on: &str,
        now: Instant,
    ) -> Result<(), DecodeError> {
        self.now = now;
        let (member, number) = (header.source, header.packet_number);
        let probe = match header.opcode {
            Opcode::Probe | Opcode::ProbeReply => Probe::decode(body)?,
            Opcode::Hello | Opcode::Delta | Opcode::Ack | Opcode::Unknown(_) => {
                return Err(DecodeError::Opcode);
            }
        };
        let peer = self.membership.peer(member);
        let is_run = peer.is_some_and(|peer| peer.is_run(header.incarnation));
        let place = (on, self.config.member);
        if !is_run || !(self.probes).handle_probe((member, number), &probe, place, now) {
            self.counters.probes_refused += 1;
            return Ok(());
        }
        self.counters.probes_received += 1;
        self.handle_standing(member, number, probe.standing);
        if self.reachable() != self.membership.live() {
            self.elect();
        }
        Ok(())
    }

    /// The next probe, its header and body appended to `out`, and the number of the interface that it goes over.
    pub fn poll_probe(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<(Header, usize)> {
        let standing = self.roles.election.standing(now);
        let (at, probe, replies) = self.probes.poll_probe(now)?;
        self.packet_number += 1;
        self.counters.probes_sent += 1;
        let header = Header {
            cluster: self.config.cluster,
            opcode: match replies {
                true => Opcode::ProbeReply,
                false => Opcode::Probe,
            },
            source: self.config.member,
            destination: Destination::All,
            interface: MONITORED,
            urgency: Urgency::Normal,
            incarnation: self.config.incarnation,
            epoch: self.epoch,
            packet_number: self.packet_number,
        };
        out.extend_from_slice(&header.encode());
        let probe = Probe {
            standing: Some(standing),
            ..probe
        };
        probe.encode(out);
        debug_assert!(out.len() > HEADER_BYTES);
        Some((header, at))
    }

    /// Those that can be talked to: over a sync network, or if none works, over an interface that both monitor.
    pub fn reachable(&self) -> MemberSet {
        let by_probes =
            |peer: &&Peer| peer.state == PeerState::Live || self.is_there_by_probes(peer);
        let there = self.membership.peers().filter(by_probes);
        there.map(|peer| peer.member).collect()
    }

    /// One whose daemon was killed is not: its probes ended with its hellos.
    fn is_there_by_probes(&self, peer: &Peer) -> bool {
        let dead_after = self.config.dead_after;
        match (peer.died, self.probes.talked(peer.member)) {
            (Some(died), Some(talked)) => {
                talked + dead_after / TALKED_PART >= died && self.now.since(talked) < dead_after
            }
            (_, _) => false,
        }
    }

    /// Judges the interfaces, and lets their probes go out, when it is time.
    pub(super) fn begin_probes(&mut self, now: Instant) {
        if self.probes.begin_round(now) {
            self.judge_interfaces();
            self.report_interfaces();
        }
    }

    fn judge_interfaces(&mut self) {
        let (live, there, now) = (self.membership.live(), self.reachable(), self.now);
        let peers = self
            .membership
            .peers()
            .filter(|it| there.contains(it.member));
        let others: Vec<_> = peers
            .filter_map(|peer| {
                Some(Other {
                    member: peer.member,
                    heard: peer.heard()?,
                    load: peer.load()?,
                    tells: live.contains(peer.member),
                })
            })
            .collect();
        for at in self.probes.judge(&others, now) {
            self.note(Event::Interface(at));
        }
    }

    /// Everybody who can be told learns what this member monitors, and whom it hears there, if it has changed.
    fn report_interfaces(&mut self) {
        let rows = self.probes.rows(self.now);
        if rows != self.report.rows {
            let to = self.join.linked();
            self.report = Report { rows, to };
        }
    }

    pub(super) fn tell_interfaces_to(&mut self, member: MemberId) {
        self.report.to.insert(member);
    }

    pub(super) fn handle_interfaces(&mut self, from: MemberId, rows: Vec<Row>) {
        let (me, now) = (self.config.member, self.now);
        self.probes.handle_rows(from, me, rows, now);
    }

    /// What is yet to be told to a peer over its link.
    pub(super) fn poll_interfaces(&mut self, to: MemberId, out: &mut Vec<u8>) -> Option<u8> {
        if !self.report.to.contains(to) {
            return None;
        }
        self.report.to.remove(to);
        encode_rows(&self.report.rows, out);
        Some(FRAME_INTERFACES)
    }
}
