//! Who is there: incarnations, proof that a peer speaks now, and when it is dead.
//!
//! A peer is trusted only after a hello that echoes our current incarnation and one of our hellos from after the start of its
//! last known run. Such a hello is newer than both, so it is no recording, and a replaced run cannot prove itself again. From
//! then on packet numbers tell new from seen (PROTOCOL.md 3).

use crate::build::{Build, Capabilities, Capability};
use crate::election::Load;
use crate::record::{MemberId, MemberSet};
use crate::replay::ReplayWindow;
use crate::time::Instant;
use crate::wire::control::{Heard, Hello, PathReport};
use alloc::vec::Vec;
use core::time::Duration;

/// Hellos that answer an unproven one are at least this far apart.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);
/// A turn that is late by this part of the dead interval is worth a word; less happens on any busy machine.
const LATE_PART: u32 = 4;

/// What a member is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It never proved itself since our start.
    NeverSeen,
    /// Both hear each other.
    Live,
    /// It did, but is silent now, or does not hear us.
    Dead,
}

/// What a hello changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloEffect {
    /// A run of the member that we had not known has proven itself.
    NewRun,
    /// It is heard again after it was dead.
    Back,
    /// Nothing.
    Nothing,
    /// The hello was seen before, or nobody configured is its sender.
    Refused,
}

#[derive(Debug)]
struct Session {
    incarnation: u64,
    table: u64,
    window: ReplayWindow,
    heard: Instant,
    /// Packet number of its newest hello.
    hello: u64,
    /// What that hello said.
    hears_us: bool,
    /// Whom it hears, as that hello said.
    hears: MemberSet,
    /// Number of the last datagram that we had sent when it began.
    began_after: u64,
    /// Whether its own loop keeps its times, as it says.
    load: Load,
}

/// Which of the two directions between a peer and this member works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// It is heard.
    pub heard: bool,
    /// It hears us, as it says itself, or others say of it; `None` if nobody can tell.
    pub hears_us: Option<bool>,
}

/// A peer.
#[derive(Debug)]
pub struct Peer {
    /// Who.
    pub member: MemberId,
    session: Option<Session>,
    /// An incarnation that has not proven itself, with the packet number of its newest hello.
    candidate: Option<(u64, u64)>,
    /// Whom it hears, as another member said last, and when.
    rumour: Option<(MemberSet, Instant)>,
    /// Counts the incarnations that proved themselves; wraps.
    pub run: u8,
    /// The first run that had the peer's current kernel table.
    same_table_since: u8,
    /// What it was last time somebody looked.
    pub state: PeerState,
    /// When it died last.
    pub died: Option<Instant>,
    /// True if, as its newest hello says, it has everything that the others had at its start.
    pub joined: bool,
    /// What its newest hello says of its daemon.
    pub build: Option<Build>,
}

/// Runs of a peer, up to the present one. A run that ends before it could tell anything leaves the flows of those before it
/// to the next, so there can be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    first: u8,
    last: u8,
}

impl Runs {
    /// True if it is one of them.
    pub fn contains(self, run: u8) -> bool {
        self.last.wrapping_sub(run) <= self.last.wrapping_sub(self.first)
    }
}

/// All peers.
#[derive(Debug)]
pub struct Membership {
    me: MemberId,
    incarnation: u64,
    table: u64,
    peers: Vec<Peer>,
    hello_interval: Duration,
    dead_after: Duration,
    hello_at: Instant,
    answered: Option<Instant>,
    /// When the owner's loop turned last.
    turned: Instant,
}

impl Membership {
    /// `incarnation` must not have been used by `me` before; `table` says which kernel table we have.
    pub fn new(
        me: MemberId,
        peers: &[MemberId],
        incarnation: u64,
        table: u64,
        [hello_interval, dead_after]: [Duration; 2],
        now: Instant,
    ) -> Self {
        let peers = peers.iter().map(|member| Peer::new(*member)).collect();
        Self {
            me,
            incarnation,
            table,
            peers,
            hello_interval,
            dead_after,
            hello_at: now,
            answered: None,
            turned: now,
        }
    }

    /// The owner's loop turns. If it is late, by how much: it turns once between two hellos at least. What peers said
    /// meanwhile may lie unread, so the time does not count as their silence (PROTOCOL.md 12.7).
    pub fn handle_turn(&mut self, now: Instant) -> Option<Duration> {
        let late = now
            .since(core::mem::replace(&mut self.turned, now))
            .saturating_sub(self.hello_interval);
        if late * LATE_PART < self.dead_after {
            return None;
        }
        for session in self.peers.iter_mut().filter_map(|it| it.session.as_mut()) {
            session.heard = (session.heard + late).min(now);
        }
        Some(late)
    }

    /// A peer says whether its loop keeps its times.
    pub fn set_load(&mut self, member: MemberId, load: Load) {
        if let Some(session) = self.peer_mut(member).and_then(|it| it.session.as_mut()) {
            session.load = load;
        }
    }

    /// All peers, in the order of the configuration.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    /// One peer.
    pub fn peer(&self, member: MemberId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.member == member)
    }

    fn peer_mut(&mut self, member: MemberId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.member == member)
    }

    /// Those that hear us and are heard.
    pub fn live(&self) -> MemberSet {
        self.live_peers().map(|peer| peer.member).collect()
    }

    fn live_peers(&self) -> impl Iterator<Item = &Peer> {
        let peers = self.peers.iter();
        peers.filter(|peer| peer.state == PeerState::Live)
    }

    /// Those of the live peers that lack a capability.
    pub fn lacking(&self, capability: Capability) -> MemberSet {
        (self.live_peers())
            .filter(|peer| !peer.capabilities().contains(capability))
            .map(|peer| peer.member)
            .collect()
    }

    /// What this member and all live peers can.
    pub fn agreed(&self) -> Capabilities {
        let own = Build::THIS.capabilities;
        (self.live_peers()).fold(own, |all, peer| all.common(peer.capabilities()))
    }

    /// True if a datagram of `member` counts: it comes from the incarnation that has proven itself and was not seen.
    pub fn accept(
        &mut self,
        member: MemberId,
        incarnation: u64,
        packet_number: u64,
        now: Instant,
    ) -> bool {
        let Some(session) = self.peer_mut(member).and_then(|peer| peer.session.as_mut()) else {
            return false;
        };
        if session.incarnation != incarnation || !session.window.accept(packet_number) {
            return false;
        }
        session.heard = now;
        true
    }

    /// Takes in a hello that is authentic, but not necessarily new. `last_sent` is the number of our last datagram.
    pub fn handle_hello(
        &mut self,
        member: MemberId,
        [incarnation, packet_number]: [u64; 2],
        hello: &Hello,
        last_sent: u64,
        now: Instant,
    ) -> HelloEffect {
        let me = (self.me, self.incarnation);
        let echo = hello
            .heard
            .iter()
            .filter(|heard| (heard.member, heard.incarnation) == me)
            .map(|heard| heard.packet_number)
            .max();
        let Some(peer) = self.peer_mut(member) else {
            return HelloEffect::Refused;
        };
        let known = peer.is_run(incarnation);
        let began_after = peer
            .session
            .as_ref()
            .map_or(0, |session| session.began_after);
        if !known && echo.is_none_or(|echo| echo <= began_after) {
            // It may be there and not have heard of us: say that we heard of it, at once. It proves itself with the answer.
            peer.candidate = Some((incarnation, packet_number));
            self.answer(now);
            return HelloEffect::Nothing;
        }
        if !known {
            peer.begin([incarnation, packet_number], hello, last_sent, now);
            peer.joined = hello.joined;
            peer.build = hello.build;
            peer.state = PeerState::Live;
            self.answer(now);
            return HelloEffect::NewRun;
        }
        let proof = echo.is_some();
        if !self.accept(member, incarnation, packet_number, now) {
            return HelloEffect::Refused;
        }
        let Some(peer) = self.peer_mut(member) else {
            return HelloEffect::Nothing;
        };
        if let Some(session) = &mut peer.session {
            if session.hello > packet_number {
                return HelloEffect::Nothing;
            }
            session.hello = packet_number;
            session.hears_us = proof;
            session.hears = hello.heard.iter().map(|heard| heard.member).collect();
        }
        peer.joined = hello.joined;
        match (peer.state, proof) {
            (PeerState::Dead, true) => {
                peer.state = PeerState::Live;
                self.answer(now);
                HelloEffect::Back
            }
            (PeerState::Dead, false) => {
                self.answer(now);
                HelloEffect::Nothing
            }
            (PeerState::Live | PeerState::NeverSeen, _) => HelloEffect::Nothing,
        }
    }

    /// Whom a member hears, as it says itself; nobody if it is not heard.
    pub fn heard_by(&self, member: MemberId, now: Instant) -> MemberSet {
        let session = self.peer(member).and_then(|peer| peer.session.as_ref());
        session
            .filter(|session| now.since(session.heard) < self.dead_after)
            .map_or(MemberSet::default(), |session| session.hears)
    }

    /// A live peer says whom another hears.
    pub fn handle_rumour(&mut self, report: &PathReport, now: Instant) {
        if let Some(peer) = self
            .peer_mut(report.member)
            .filter(|_| !report.heard_over.is_empty())
        {
            peer.rumour = Some((report.hears, now));
        }
    }

    /// How well a peer and this member hear each other.
    pub fn hearing(&self, member: MemberId, now: Instant) -> Hearing {
        let fresh = |at: Instant| now.since(at) < self.dead_after;
        let peer = self.peer(member);
        let session = peer.and_then(|peer| peer.session.as_ref());
        let rumour = peer.and_then(|peer| peer.rumour);
        match session.filter(|session| fresh(session.heard)) {
            Some(session) => Hearing {
                heard: true,
                hears_us: Some(session.hears_us),
            },
            None => Hearing {
                heard: false,
                hears_us: rumour
                    .filter(|(_, at)| fresh(*at))
                    .map(|(hears, _)| hears.contains(self.me)),
            },
        }
    }

    /// Lets the next hello go out now, unless one did a moment ago.
    pub fn answer(&mut self, now: Instant) {
        let allowed = self
            .answered
            .map_or(now, |answered| (answered + ANSWER_INTERVAL).max(now));
        self.hello_at = self.hello_at.min(allowed);
        self.answered = Some(self.hello_at);
    }

    /// Lets the next hello go out now, whenever the last one did.
    pub fn announce(&mut self, now: Instant) {
        self.hello_at = now;
    }

    /// The next peer that has just died.
    pub fn poll_dead(&mut self, now: Instant) -> Option<MemberId> {
        let dead_after = self.dead_after;
        let peer = self.peers.iter_mut().find(|peer| {
            peer.state == PeerState::Live
                && peer.session.as_ref().is_none_or(|s| {
                    !s.hears_us || now.since(s.heard) >= s.load.patience(dead_after)
                })
        })?;
        peer.state = PeerState::Dead;
        peer.died = Some(now);
        Some(peer.member)
    }

    /// The hello that is due, without what it asks for; `base` says from which of our deltas on a member is told.
    pub fn poll_hello(
        &mut self,
        now: Instant,
        last_seq: u64,
        base: impl Fn(MemberId) -> u64,
    ) -> Option<Hello> {
        if now < self.hello_at {
            return None;
        }
        self.hello_at = now + self.hello_interval;
        let mut heard = Vec::new();
        for peer in &self.peers {
            let fresh = peer.session.as_ref().filter(|session| {
                now.since(session.heard) < session.load.patience(self.dead_after)
            });
            if let Some(session) = fresh {
                heard.push(Heard {
                    member: peer.member,
                    incarnation: session.incarnation,
                    base: base(peer.member),
                    packet_number: session.hello,
                });
            }
            if let Some((incarnation, packet_number)) = peer.candidate {
                heard.push(Heard {
                    member: peer.member,
                    incarnation,
                    base: 0,
                    packet_number,
                });
            }
        }
        Some(Hello {
            table: self.table,
            last_seq,
            heard,
            ..Hello::default()
        })
    }

    /// When to call again: for a hello, or because a peer dies if it stays silent.
    pub fn poll_timeout(&self) -> Instant {
        let deaths = self
            .peers
            .iter()
            .filter(|peer| peer.state == PeerState::Live)
            .filter_map(|peer| {
                let session = peer.session.as_ref()?;
                Some(if session.hears_us {
                    session.heard + session.load.patience(self.dead_after)
                } else {
                    Instant::default()
                })
            });
        deaths.fold(self.hello_at, Instant::min)
    }
}

impl Peer {
    fn new(member: MemberId) -> Self {
        Self {
            member,
            session: None,
            candidate: None,
            rumour: None,
            run: 0,
            same_table_since: 0,
            state: PeerState::NeverSeen,
            died: None,
            joined: false,
            build: None,
        }
    }

    /// What its daemon can, as it says itself.
    pub fn capabilities(&self) -> Capabilities {
        self.build.unwrap_or_default().capabilities
    }

    /// Its runs since which its kernel table is the one that it has now.
    pub fn runs_of_table(&self) -> Runs {
        Runs {
            first: self.same_table_since,
            last: self.run,
        }
    }

    /// True if `incarnation` is the one that has proven itself last.
    pub fn is_run(&self, incarnation: u64) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.incarnation == incarnation)
    }

    /// The incarnation that has proven itself last.
    pub fn incarnation(&self) -> Option<u64> {
        self.session.as_ref().map(|session| session.incarnation)
    }

    /// Whether its loop keeps its times, as it says.
    pub fn load(&self) -> Option<Load> {
        self.session.as_ref().map(|session| session.load)
    }

    /// When it was heard last.
    pub fn heard(&self) -> Option<Instant> {
        self.session.as_ref().map(|session| session.heard)
    }

    fn begin(
        &mut self,
        [incarnation, packet_number]: [u64; 2],
        hello: &Hello,
        last_sent: u64,
        now: Instant,
    ) {
        self.candidate = None;
        self.run = self.run.wrapping_add(1);
        if (self.session.as_ref()).is_none_or(|old| old.table != hello.table) {
            self.same_table_since = self.run;
        }
        let mut window = ReplayWindow::new(packet_number);
        window.accept(packet_number);
        self.session = Some(Session {
            incarnation,
            table: hello.table,
            window,
            heard: now,
            hello: packet_number,
            hears_us: true,
            hears: hello.heard.iter().map(|heard| heard.member).collect(),
            began_after: last_sent,
            load: Load::Normal,
        });
    }
}

#[cfg(test)]
mod tests;
