//! Hellos over every network, and what they say of the paths there.

use super::{Audience, Event, Node};
use crate::network::{NetworkId, Routes};
use crate::sender::PeerSend;
use crate::time::Instant;
use crate::wire::control::Hello;
use crate::wire::header::{Header, Opcode, Urgency};
use alloc::vec::Vec;

impl Node {
    /// The hello that is due, once over each network.
    pub(super) fn poll_greeting(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(Opcode, Audience, Urgency)> {
        if self.greeting.is_none() {
            if self.sender.take_base_changed() {
                self.membership.answer(now);
            }
            let sender = &self.sender;
            let base = |member| sender.peer(member).map_or(0, PeerSend::base);
            let mut hello = self.membership.poll_hello(now, sender.last_seq(), base)?;
            hello.standing = Some(self.roles.election.standing(now));
            self.greeting = Some((hello, self.paths.networks()));
        }
        let (hello, left) = self.greeting.as_mut()?;
        let network = left.iter().next()?;
        let membership = &self.membership;
        let hears = |member| membership.heard_by(member, now);
        hello.paths.clear();
        hello.paths.extend(self.paths.reports(network, hears, now));
        hello.encode(out);
        Some((Opcode::Hello, Audience::Everyone, Urgency::Normal))
    }

    /// Where the datagram that was just made goes; its packet number is the node's.
    pub(super) fn routes(&mut self, opcode: Opcode, to: Audience, now: Instant) -> Routes {
        let routes = match (opcode, to) {
            (Opcode::Hello, _) => self.next_greeting_route(now),
            (_, Audience::Member(member)) => self.paths.to_one(member),
            (_, Audience::Everyone | Audience::Live) => self.paths.to_all(self.membership.live()),
        };
        self.paths.handle_sent(&routes);
        routes
    }

    /// The hello goes over the next network that it has not gone over.
    fn next_greeting_route(&mut self, now: Instant) -> Routes {
        let Some((_, left)) = &mut self.greeting else {
            return Routes::default();
        };
        let network = left.iter().next().unwrap_or(NetworkId::FIRST);
        left.remove(network);
        if left.is_empty() {
            self.greeting = None;
        }
        self.paths.note_hello(network, self.packet_number, now);
        self.paths.to_everyone(network)
    }

    /// A hello of a peer's present run counted: what it says of the way that it came.
    pub(super) fn handle_path(
        &mut self,
        header: &Header,
        hello: &Hello,
        network: NetworkId,
        now: Instant,
    ) {
        let (member, me) = (header.source, self.config.member);
        self.paths.handle_datagram(member, network, None);
        let report = hello.paths.iter().find(|report| report.member == me);
        let switch = self
            .paths
            .handle_hello(member, network, header.packet_number, report, now);
        if let Some(switch) = switch {
            self.counters.network_switches += 1;
            // What went the other way last may be lost.
            self.sender.resume(member, now);
            self.note(Event::Switched(switch));
        }
        for report in &hello.paths {
            self.membership.handle_rumour(report, now);
        }
    }
}
