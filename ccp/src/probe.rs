//! Which interfaces work, each direction judged apart (PROTOCOL.md 12.8 to 12.13).
//!
//! Members send probes over every interface that they monitor, and say in each whom they hear there. What comes in is known
//! from what is heard, what goes out from what others say that they hear.
//!
//! The subtle thing: silence alone blames nobody. A peer counts against an interface only if it is heard elsewhere, says that
//! its own link there is up, and has been silent (or deaf) there for long enough. Where probes leave it open, hosts beside
//! the members are asked: what they answer, both directions carry. With nobody to say otherwise an interface is *assumed*
//! to be up.

mod judge;

use crate::election::Load;
use crate::network::{NetworkId, NetworkSet};
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use crate::wire::probe::{Probe, Row};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

pub use judge::{Answers, Evidence, Judgement};

/// Interfaces that are monitored at most: each costs a probe an interval.
pub const INTERFACES_MAX: usize = 64;
/// The longest name, `IFNAMSIZ` less its zero, a dot and a VLAN's number.
pub const NAME_BYTES_MAX: usize = 20;
/// Hosts are asked when an interface has been silent for this part of what makes it down.
const ASK_PART: u32 = 2;
/// A silent round is answered at once, but not before this part of the interval is over.
const REPLY_PART: u32 = 4;

/// How an interface is, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    /// It is up, and has a carrier.
    Up = 0,
    /// It is not.
    Down = 1,
    /// There is no such interface.
    Missing = 2,
}

/// How often is asked, and how long silence may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// From one probe to the next.
    pub interval: Duration,
    /// An interface that is silent for so long is down, if nobody says otherwise.
    pub dead_after: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            dead_after: Duration::from_secs(1),
        }
    }
}

/// An interface that has to be up, as the owner finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// As the configuration calls it, so the same on every member.
    pub name: String,
    /// How it is.
    pub link: Link,
    /// The sync network that it carries, if any: there hellos are the probes.
    pub network: Option<NetworkId>,
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// How it is.
    pub is: Judgement,
    /// Since when.
    pub since: Instant,
    /// It was bad, and has been good since then: for long enough and it is up.
    better: Option<Instant>,
}

/// What is known of a peer on an interface.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// When it was heard there last.
    at: Option<Instant>,
    /// By what.
    packet_number: u64,
    /// Whether it says that it hears us there, and when it said so.
    hears_us: Option<(bool, Instant)>,
    /// Since when its own link there is up, as it says; `None` if it is not, or it does not monitor it.
    up_since: Option<Instant>,
}

/// A monitored interface.
#[derive(Debug)]
pub struct Interface {
    /// What the owner says.
    pub watched: Watched,
    /// What comes in.
    pub inbound: Direction,
    /// What goes out.
    pub outbound: Direction,
    /// True if peers that monitor it too are there, and none was ever heard on it.
    pub is_unseen: bool,
    link_since: Instant,
    peers: [Heard; MemberId::MAX],
    /// When a host of its network answered last.
    answered: Option<Instant>,
}

/// A peer that is there, for [`Probes::judge`].
#[derive(Clone, Copy, Debug)]
pub struct Other {
    /// Who.
    pub member: MemberId,
    /// When it was heard last, over whatever.
    pub heard: Instant,
    /// Whether its loop keeps its times, as it says.
    pub load: Load,
    /// What it says of its interfaces comes when it changes: what it said last still holds.
    pub tells: bool,
}

/// All monitored interfaces.
#[derive(Debug)]
pub struct Probes {
    timers: Timers,
    interfaces: Vec<Interface>,
    /// What each peer says that it monitors.
    told: [Option<Vec<Row>>; MemberId::MAX],
    /// When the next round is.
    due: Instant,
    /// When the last one was.
    sent: Instant,
    /// The next interface of the round that goes on.
    next: usize,
    /// That round answers somebody.
    replies: bool,
    /// In that round nobody was asked yet.
    asks: bool,
    /// Nothing is judged by what was said before: our own loop was late then.
    excused: Instant,
}

impl Interface {
    /// When each member was heard there last.
    pub fn heard(&self) -> impl Iterator<Item = (MemberId, Instant)> + '_ {
        let all = MemberId::all().zip(&self.peers);
        all.filter_map(|(member, heard)| Some((member, heard.at?)))
    }

    /// True if it keeps this member from being fit.
    pub fn is_bad(&self) -> bool {
        [self.inbound.is, self.outbound.is].contains(&Judgement::Down)
    }

    fn is_probed(&self) -> bool {
        self.watched.link == Link::Up && self.watched.network.is_none()
    }

    fn hears(&self, now: Instant, dead_after: Duration) -> MemberSet {
        let fresh = self.heard().filter(|(_, at)| now.since(*at) < dead_after);
        fresh.map(|(member, _)| member).collect()
    }
}

impl Probes {
    /// Nothing is monitored yet.
    pub fn new(timers: Timers, now: Instant) -> Self {
        Self {
            timers,
            interfaces: Vec::new(),
            told: core::array::from_fn(|_| None),
            due: now,
            sent: now,
            next: usize::MAX,
            replies: false,
            asks: false,
            excused: now,
        }
    }

    /// The interfaces, in the owner's order.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// How often, and how long.
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// What a peer says that it monitors; `None` if it has not said.
    pub fn told(&self, member: MemberId) -> Option<&[Row]> {
        self.told.get(member.index())?.as_deref()
    }

    /// What is monitored, and how it is by itself; what is known of those that stay is kept. True if it differs from before.
    pub fn set(&mut self, watched: Vec<Watched>, now: Instant) -> bool {
        let before = self.interfaces.iter().map(|it| &it.watched);
        if before.eq(watched.iter()) {
            return false;
        }
        let mut old = core::mem::take(&mut self.interfaces);
        for watched in watched.into_iter().take(INTERFACES_MAX) {
            let same = |it: &Interface| it.watched.name == watched.name;
            let mut interface = match old.iter().position(same) {
                Some(at) => old.swap_remove(at),
                None => Interface::new(watched.clone(), now),
            };
            if interface.watched.link != watched.link {
                interface.link_since = now;
                interface.answered = None;
            }
            interface.watched = watched;
            self.interfaces.push(interface);
        }
        for member in MemberId::all() {
            self.match_rows(member, now);
        }
        self.due = now;
        true
    }

    /// What this member says of its interfaces.
    pub fn rows(&self, now: Instant) -> Vec<Row> {
        let row = |it: &Interface| Row {
            name: it.watched.name.clone(),
            link: it.watched.link,
            hears: it.hears(now, self.timers.dead_after),
        };
        self.interfaces.iter().map(row).collect()
    }

    /// A peer says what it monitors, and whom it hears there.
    pub fn handle_rows(&mut self, member: MemberId, me: MemberId, rows: Vec<Row>, now: Instant) {
        for interface in &mut self.interfaces {
            let row = rows.iter().find(|it| it.name == interface.watched.name);
            if let (Some(row), Some(heard)) = (row, interface.peers.get_mut(member.index())) {
                heard.hears_us = Some((row.hears.contains(me), now));
            }
        }
        if let Some(told) = self.told.get_mut(member.index()) {
            *told = Some(rows);
        }
        self.match_rows(member, now);
    }

    /// Since when the links of a peer are up where we monitor too.
    fn match_rows(&mut self, member: MemberId, now: Instant) {
        let told = self.told.get(member.index()).and_then(Option::as_ref);
        for interface in &mut self.interfaces {
            let name = &interface.watched.name;
            let row = told.and_then(|rows| rows.iter().find(|it| it.name == *name));
            let is_up = row.is_some_and(|row| row.link == Link::Up);
            if let Some(heard) = interface.peers.get_mut(member.index()) {
                heard.up_since = is_up.then(|| heard.up_since.unwrap_or(now));
            }
        }
    }

    /// A new run of the peer: what it says begins anew. What it monitors it may have said already, over its link.
    pub fn forget(&mut self, member: MemberId, now: Instant) {
        for interface in &mut self.interfaces {
            if let Some(heard) = interface.peers.get_mut(member.index()) {
                *heard = Heard {
                    at: heard.at,
                    ..Heard::default()
                };
            }
        }
        self.match_rows(member, now);
    }

    /// A probe of a peer's present run came over the interface of this name. False if it is none that is newer than those
    /// that came there before, or was sent over another.
    pub fn handle_probe(
        &mut self,
        (member, packet_number): (MemberId, u64),
        probe: &Probe<'_>,
        (on, me): (&str, MemberId),
        now: Instant,
    ) -> bool {
        let dead_after = self.timers.dead_after;
        let interface = (self.interfaces.iter_mut())
            .find(|it| it.watched.name == on && it.is_probed() && probe.name == on.as_bytes());
        let heard = interface.and_then(|it| it.peers.get_mut(member.index()));
        let Some(heard) = heard.filter(|heard| heard.packet_number < packet_number) else {
            return false;
        };
        let hears_us = probe.hears.contains(me);
        let was_heard = (heard.at).is_some_and(|at| now.since(at) < dead_after);
        *heard = Heard {
            at: Some(now),
            packet_number,
            hears_us: Some((hears_us, now)),
            up_since: heard.up_since,
        };
        if !was_heard {
            self.reply(now);
        }
        true
    }

    /// A hello of a peer's present run came over a sync network: it says over which it hears us.
    pub fn handle_hello(
        &mut self,
        (member, packet_number): (MemberId, u64),
        network: NetworkId,
        hears_us: NetworkSet,
        now: Instant,
    ) {
        for interface in &mut self.interfaces {
            let (Some(its), Some(heard)) = (
                interface.watched.network,
                interface.peers.get_mut(member.index()),
            ) else {
                continue;
            };
            if heard.packet_number < packet_number {
                heard.packet_number = packet_number;
                heard.hears_us = Some((hears_us.contains(its), now));
            }
            if its == network {
                heard.at = Some(now);
            }
        }
    }

    /// A host beside the members answered on the interface of this name.
    pub fn handle_answered(&mut self, name: &str, at: Instant) {
        let named = |it: &&mut Interface| it.watched.name == name;
        if let Some(interface) = self.interfaces.iter_mut().find(named) {
            interface.answered = interface.answered.max(Some(at));
        }
    }

    /// When the peer was last heard over an interface that is no sync network, while it heard us there too.
    pub fn talked(&self, member: MemberId) -> Option<Instant> {
        let probed = self.interfaces.iter().filter(|it| it.is_probed());
        let heard = probed.filter_map(|it| it.peers.get(member.index()));
        let both = heard.filter(|it| it.hears_us.is_some_and(|(hears, _)| hears));
        both.filter_map(|it| it.at).max()
    }

    /// Our own loop was late: what was not read meanwhile is no silence, and what others did not hear no deafness.
    pub fn excuse(&mut self, late: Duration, now: Instant) {
        self.excused = now;
        let heard = self.interfaces.iter_mut().flat_map(|it| &mut it.peers);
        for at in heard.filter_map(|it| it.at.as_mut()) {
            *at = (*at + late).min(now);
        }
    }

    /// The next round is at once: who is heard again, or what has changed, is not to wait.
    pub fn reply(&mut self, now: Instant) {
        let allowed = self.sent + self.timers.interval / REPLY_PART;
        if allowed.max(now) < self.due {
            self.due = allowed.max(now);
            self.replies = true;
        }
    }

    /// True if a round is due, which begins with this.
    pub fn begin_round(&mut self, now: Instant) -> bool {
        if now < self.due || self.interfaces.is_empty() {
            return false;
        }
        (self.next, self.sent, self.due) = (0, now, now + self.timers.interval);
        self.asks = true;
        true
    }

    /// The next probe of the round that goes on: what it says, over which interface, and whether it replies.
    pub fn poll_probe(&mut self, now: Instant) -> Option<(usize, Probe<'_>, bool)> {
        let probed = self.interfaces.iter().enumerate().skip(self.next);
        let Some((at, interface)) = probed.clone().find(|(_, it)| it.is_probed()) else {
            self.next = usize::MAX;
            self.replies = false;
            return None;
        };
        self.next = at + 1;
        let probe = Probe {
            name: interface.watched.name.as_bytes(),
            hears: interface.hears(now, self.timers.dead_after),
            standing: None,
        };
        Some((at, probe, self.replies))
    }

    /// The interfaces on which hosts are to be asked, once in a round: probes leave open how they are.
    pub fn poll_doubtful(&mut self, now: Instant) -> Vec<String> {
        match core::mem::take(&mut self.asks) {
            true => self.doubtful(now).map(String::from).collect(),
            false => Vec::new(),
        }
    }

    fn doubtful(&self, now: Instant) -> impl Iterator<Item = &str> {
        let silence = self.timers.dead_after / ASK_PART;
        let is_doubtful = move |it: &&Interface| {
            let fresh = |at: Instant| now.since(at) < silence;
            let is_sure = |it: &Heard| {
                it.at.is_some_and(fresh) && it.hears_us.is_some_and(|(hears, _)| hears)
            };
            it.watched.link == Link::Up && !it.peers.iter().any(is_sure)
        };
        let doubtful = self.interfaces.iter().filter(is_doubtful);
        doubtful.map(|it| it.watched.name.as_str())
    }

    /// When the next round is.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.interfaces.is_empty()).then_some(self.due)
    }

    /// Judges every interface, with these peers there; returns those that are others now.
    pub fn judge(&mut self, others: &[Other], now: Instant) -> Vec<usize> {
        let others: Vec<_> = (others.iter())
            .map(|other| Other {
                heard: self.heard_last(other),
                ..*other
            })
            .collect();
        let times = judge::Times {
            dead_after: self.timers.dead_after,
            excused: self.excused,
            now,
        };
        let mut changed = Vec::new();
        for (at, interface) in self.interfaces.iter_mut().enumerate() {
            let before = interface.verdict();
            interface.judge(&others, times);
            if interface.verdict() != before {
                changed.push(at);
            }
        }
        changed
    }

    /// When the peer was heard last, over whatever.
    fn heard_last(&self, other: &Other) -> Instant {
        let interfaces = self.interfaces.iter();
        let heard = interfaces.filter_map(|it| it.peers.get(other.member.index())?.at);
        heard.fold(other.heard, Instant::max)
    }
}

impl Interface {
    fn new(watched: Watched, now: Instant) -> Self {
        let direction = Direction {
            is: Judgement::Assumed,
            since: now,
            better: None,
        };
        Self {
            watched,
            inbound: direction,
            outbound: direction,
            is_unseen: false,
            link_since: now,
            peers: [Heard::default(); MemberId::MAX],
            answered: None,
        }
    }

    /// What it is judged to be.
    fn verdict(&self) -> (Judgement, Judgement, bool) {
        (self.inbound.is, self.outbound.is, self.is_unseen)
    }
}

#[cfg(test)]
mod tests;
