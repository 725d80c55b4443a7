//! Hellos over every network, and what they say of the paths there.

use super::{Audience, Event, Node};
use crate::build::Build;
use crate::modes::{Changed, Generation, Mode, Modes};
use crate::network::{NetworkId, NetworkSet, Routes};
use crate::sender::PeerSend;
use crate::time::Instant;
use crate::wire::control::Hello;
use crate::wire::header::{Header, Opcode, Urgency};
use alloc::vec::Vec;

/// A hello that is going out.
#[derive(Debug)]
pub(super) struct Greeting {
    hello: Hello,
    /// The networks that it has yet to go over.
    left: NetworkSet,
    /// Those that it goes over once more after that, by the mode that is tried there.
    tried: NetworkSet,
}

impl Node {
    /// What the modes of networks are at the start.
    pub fn set_modes(&mut self, modes: &[(Mode, Generation)]) {
        self.modes = Modes::new(self.config.member, modes);
        self.paths.set_groups(self.modes.groups());
    }

    /// How datagrams for all leave on each network.
    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    /// The operator wants another mode on a network: it is tried, and an event tells what became of it.
    pub fn ask_mode(&mut self, network: NetworkId, mode: Mode, now: Instant) {
        self.modes.ask(network, mode, now);
        self.membership.answer(now);
    }

    /// Trials that are over.
    pub(super) fn poll_modes(&mut self, now: Instant) {
        while let Some(changed) = self.modes.poll(self.membership.live(), now) {
            self.note_mode(Some(changed));
            self.membership.answer(now);
        }
    }

    fn note_mode(&mut self, changed: Option<Changed>) {
        if let Some(changed) = changed {
            self.paths.set_groups(self.modes.groups());
            self.note(Event::Mode(changed));
        }
    }

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
            let hello = self.membership.poll_hello(now, sender.last_seq(), base)?;
            let hello = Hello {
                build: Some(Build::THIS),
                joined: self.join().is_joined(),
                asks: self.asks(),
                standing: Some(self.roles.election.standing(now)),
                modes: self.modes.reports().collect(),
                ..hello
            };
            self.greeting = Some(Greeting {
                hello,
                left: self.paths.networks(),
                tried: self.modes.tries(),
            });
        }
        let Greeting { hello, left, tried } = self.greeting.as_mut()?;
        let network = left.iter().chain(tried.iter()).next()?;
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
            (Opcode::Hello, _) => return self.next_greeting_route(now),
            (_, Audience::Member(member)) => self.paths.to_one(member),
            (_, Audience::Everyone | Audience::Live) => self.paths.to_all(self.membership.live()),
        };
        self.paths.handle_sent(&routes);
        routes
    }

    /// The hello goes over the next network that it has not gone over.
    fn next_greeting_route(&mut self, now: Instant) -> Routes {
        let Some(Greeting { left, tried, .. }) = &mut self.greeting else {
            return Routes::default();
        };
        let usual = left.iter().next();
        let network = usual
            .or_else(|| tried.iter().next())
            .unwrap_or(NetworkId::FIRST);
        match usual {
            Some(network) => left.remove(network),
            None => tried.remove(network),
        }
        if left.is_empty() && tried.is_empty() {
            self.greeting = None;
        }
        self.paths.note_hello(network, self.packet_number, now);
        let mut routes = self.paths.to_everyone(network);
        match usual {
            Some(_) => self.paths.handle_sent(&routes),
            None => {
                // Not counted as sent: it is no loss if it does not arrive.
                self.modes.note_hello(network, self.packet_number);
                routes.by = self.modes.tried(network);
            }
        }
        routes
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
        if let Some(report) = report {
            self.modes.handle_echo(member, network, report.echo);
        }
        for report in &hello.modes {
            let changed = self.modes.handle_report(member, report, now);
            self.note_mode(changed);
        }
        self.poll_modes(now);
        for report in &hello.paths {
            self.membership.handle_rumour(report, now);
        }
    }
}
