//! The core's side of interface monitoring: probes sealed and opened, and what the operator is told.

use super::Core;
use super::datagrams::Refusal;
use crate::control::answer::members::{Direction, Interface, Seen};
use crate::units::millis;
use ccp::modes::Mode;
use ccp::probe::{self, Judgement, Link, Watched};
use ccp::time::Instant;
use ccp::wire::header::MONITORED;
use std::collections::BTreeSet;
use std::time::Duration;

impl Core {
    /// What is monitored, and how the links are.
    pub fn set_interfaces(&mut self, watched: Vec<Watched>) {
        self.node.set_interfaces(watched, self.clock);
    }

    /// A datagram came over the monitored interface of this name. It is opened in place.
    pub fn handle_probe(&mut self, datagram: &mut [u8], on: &str, now: Instant) {
        let bytes = datagram.len() as u64;
        let taken = self
            .open(datagram, |interface| interface == MONITORED)
            .and_then(|(header, body)| {
                let taken = self.node.handle_probe(&header, body, on, now);
                taken.map_err(Refusal::Malformed)
            });
        match taken {
            Ok(()) => {
                self.datagrams.received += 1;
                self.datagrams.received_bytes += bytes;
            }
            // A broadcast comes back to who sent it.
            Err(Refusal::Own) => {}
            Err(refusal) => self.count(refusal),
        }
    }

    /// The next probe, sealed, and the interface that it goes over.
    pub fn poll_probe(&mut self, now: Instant) -> Option<(&str, &[u8])> {
        self.buffer.clear();
        let (header, at) = self.node.poll_probe(now, &mut self.buffer)?;
        (self.keys.cipher()).seal(header.packet_number, &mut self.buffer);
        self.datagrams.sent += 1;
        self.datagrams.sent_bytes += self.buffer.len() as u64;
        let interface = self.node.probes().interfaces().get(at)?;
        Some((&interface.watched.name, &self.buffer))
    }

    /// The interfaces on which hosts are to be asked whether they answer; once a round of probes.
    pub fn poll_doubtful(&mut self, now: Instant) -> Vec<String> {
        self.node.poll_doubtful(now)
    }

    /// A host on an interface answered that long ago.
    pub fn handle_answered(&mut self, name: &str, ago: Duration, now: Instant) {
        if let Ok(ago) = u64::try_from(ago.as_micros())
            && let Some(at) = now.as_micros().checked_sub(ago)
        {
            self.node.handle_answered(name, Instant::from_micros(at));
        }
    }

    /// What was found of the interface of this number, in words: `Err` if something is wrong with it.
    pub fn interface_sentence(&self, at: usize) -> Option<Result<String, String>> {
        let interface = self.node.probes().interfaces().get(at)?;
        let name = &interface.watched.name;
        Some(match (fault(interface), interface.is_unseen) {
            (Some(fault), _) => Err(format!("interface {name} {fault}")),
            (None, true) => Err(unseen(name)),
            (None, false) => Ok(format!("interface {name} {}", found(interface))),
        })
    }

    /// What is wrong with the interfaces, in words.
    pub(super) fn interface_faults(&self) -> impl Iterator<Item = String> {
        let interfaces = self.node.probes().interfaces().iter();
        interfaces.filter_map(|it| Some(format!("interface {} {}", it.watched.name, fault(it)?)))
    }

    /// Interfaces that no peer was ever seen on though it could be.
    pub(super) fn interface_warnings(&self) -> impl Iterator<Item = String> {
        let interfaces = self.node.probes().interfaces().iter();
        let unseen_ones = interfaces.filter(|it| it.is_unseen);
        unseen_ones.map(|it| unseen(&it.watched.name))
    }

    /// Which interfaces only some members have; every member says so.
    pub(super) fn interface_differences(&self) -> Vec<String> {
        let probes = self.node.probes();
        let now = self.clock;
        let mine = probes.rows(now);
        let live = self.live_peers();
        let rows: Vec<_> = (live.iter())
            .filter_map(|it| Some((it, probes.told(it)?)))
            .chain([(self.me, mine.as_slice())])
            .collect();
        let names: BTreeSet<&str> = (rows.iter())
            .flat_map(|(_, rows)| rows.iter().map(|row| row.name.as_str()))
            .collect();
        let has = |rows: &[ccp::wire::probe::Row], name: &str| {
            (rows.iter()).any(|row| row.name == name && row.link != Link::Missing)
        };
        let lacking = |name: &&str| {
            let without = rows.iter().filter(|(_, rows)| !has(rows, name));
            let without: Vec<String> = without.map(|(it, _)| self.name(*it)).collect();
            let verb = if without.len() == 1 { "has" } else { "have" };
            (!without.is_empty()).then(|| {
                let without = without.join(" and ");
                format!("{without} {verb} no monitored interface {name}, others have")
            })
        };
        names.iter().filter_map(lacking).collect()
    }

    /// The answer to `interfaces`.
    pub(super) fn interface_rows(&self, now: Instant) -> Vec<Interface> {
        let interfaces = self.node.probes().interfaces().iter();
        interfaces.map(|it| self.interface_row(it, now)).collect()
    }

    fn interface_row(&self, interface: &probe::Interface, now: Instant) -> Interface {
        let watched = &interface.watched;
        let (parent, vlan) = watched.name.rsplit_once('.').unwrap_or_default();
        let seen = interface.heard().max_by_key(|(_, at)| *at);
        let mode = (watched.network).map_or(Mode::Multicast, |it| self.node.modes().mode(it));
        Interface {
            name: watched.name.clone(),
            vlan: vlan.parse().ok().filter(|_| !parent.is_empty()),
            link: match watched.link {
                Link::Up => "up",
                Link::Down => "down",
                Link::Missing => "missing",
            }
            .to_owned(),
            inbound: direction(&interface.inbound, now),
            outbound: direction(&interface.outbound, now),
            sync: watched.network.is_some(),
            mode: crate::modes::name(mode).to_owned(),
            last_seen: seen.map(|(member, at)| Seen {
                member: self.name(member),
                ago_ms: millis(now.since(at)),
            }),
        }
    }
}

fn direction(direction: &probe::Direction, now: Instant) -> Direction {
    Direction {
        state: match direction.is {
            Judgement::Up => "up",
            Judgement::Assumed => "assumed",
            Judgement::Down => "down",
        }
        .to_owned(),
        seconds: now.since(direction.since).as_secs(),
    }
}

/// What is wrong with an interface, if anything is.
fn fault(interface: &probe::Interface) -> Option<&'static str> {
    let is_down = |it: &probe::Direction| it.is == Judgement::Down;
    let (inbound, outbound) = (is_down(&interface.inbound), is_down(&interface.outbound));
    match (interface.watched.link, inbound, outbound) {
        (Link::Missing, _, _) => Some("is not there"),
        (Link::Down, _, _) => Some("is down"),
        (Link::Up, true, true) => {
            Some("carries nothing, though its link is up: nobody is heard, and no host answers")
        }
        (Link::Up, true, false) => Some("lets nothing in, though its link is up"),
        (Link::Up, false, true) => Some("lets nothing out, though its link is up"),
        (Link::Up, false, false) => None,
    }
}

fn found(interface: &probe::Interface) -> &'static str {
    match (interface.inbound.is, interface.outbound.is) {
        (Judgement::Up, Judgement::Up) => "is up",
        (_, _) => {
            "is assumed to be up: its link is, and no member is there to tell, or hosts answer"
        }
    }
}

fn unseen(name: &str) -> String {
    format!(
        "no member was ever seen on {name}, which others monitor too: is it carried between their switches, and does every \
         member accept UDP port 8116 there?"
    )
}
