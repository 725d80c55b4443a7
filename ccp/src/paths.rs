//! The paths to each peer, one a network: whether they work, how well, and which of them is used (PROTOCOL.md 10).
//!
//! All of it is learned from hellos, which go over every network. A path is *heard* while hellos come over it; the peer
//! says over which networks it hears us, and that alone decides where we send: what comes back can take another way.
//! Loss is counted on everything that is sent, by what the sender says it sent and what arrived; the round trip is
//! that of hellos.

use crate::network::{NetworkId, NetworkSet, Routes};
use crate::record::{MemberId, MemberSet};
use crate::replay::ReplayWindow;
use crate::time::Instant;
use crate::wire::control::PathReport;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

mod loss;

use loss::Loss;

/// Round trip past which a path is degraded, and below which it is good again.
const RTT_BAD: Duration = Duration::from_millis(100);
const RTT_GOOD: Duration = Duration::from_millis(90);
/// Loss past which a path is degraded, and below which it is good again, in thousandths.
const LOSS_BAD: u16 = 50;
const LOSS_GOOD: u16 = 30;
/// Hellos whose time of departure is remembered, for the round trip: 3 s of them by default.
const HELLOS_KEPT: usize = 32;

/// How many networks what is not a hello goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// The best one to each peer.
    One,
    /// All that work.
    All,
}

/// A path took the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// To whom.
    pub member: MemberId,
    /// Over which network it went.
    pub from: NetworkId,
    /// Over which it goes.
    pub to: NetworkId,
}

/// Every path of this member.
#[derive(Debug)]
pub struct Paths {
    networks: NetworkSet,
    spread: Spread,
    /// Networks with a group that one datagram reaches all members by.
    groups: NetworkSet,
    /// A path that was silent for so long does not work.
    silence: Duration,
    /// How long a better path has to be better before it is used again.
    settled: Duration,
    peers: Vec<PeerPaths>,
    /// Of each network, the hellos that went out last: low half of the packet number, and when.
    hellos: [VecDeque<(u32, Instant)>; NetworkId::MAX],
}

/// The paths to one peer.
#[derive(Debug)]
struct PeerPaths {
    member: MemberId,
    /// The network that what we send goes over.
    used: NetworkId,
    /// The networks over which the peer hears us, as its newest hello said.
    hears_us: NetworkSet,
    /// Packet number of that hello.
    newest: u64,
    paths: [Path; NetworkId::MAX],
}

/// One path.
#[derive(Debug)]
pub struct Path {
    /// When the newest hello came over it, and its packet number.
    heard: Option<(Instant, u64)>,
    /// Datagrams of ours that went over it to the peer.
    pub sent: u32,
    /// Datagrams of the peer's present run that came over it.
    pub received: u32,
    incoming: Loss,
    /// Loss of what we send, in thousandths, as the peer says.
    outgoing: Option<u16>,
    rtt: Option<Duration>,
    degraded: bool,
    /// The last it changed, whether it works and is good.
    rank: (bool, bool),
    since: Instant,
    /// Datagrams for several networks that came over this one.
    copies: ReplayWindow,
}

impl Path {
    fn new(now: Instant) -> Self {
        Self {
            heard: None,
            sent: 0,
            received: 0,
            incoming: Loss::default(),
            outgoing: None,
            rtt: None,
            degraded: false,
            rank: (true, true),
            since: now,
            copies: ReplayWindow::new(0),
        }
    }

    /// Round trip of hellos, smoothed; `None` before the first.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// How much of what the peer sends over it is lost, in thousandths; `None` before enough was sent.
    pub fn loss_incoming(&self) -> Option<u16> {
        self.incoming.permille()
    }

    /// How much of what we send over it is lost, as the peer says.
    pub fn loss_outgoing(&self) -> Option<u16> {
        self.outgoing
    }

    /// True if it is too slow or loses too much for what the protocol was made for.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    fn judge(&mut self) {
        let (rtt, loss) = match self.degraded {
            true => (RTT_GOOD, LOSS_GOOD),
            false => (RTT_BAD, LOSS_BAD),
        };
        let losses = [self.outgoing, self.incoming.permille()];
        self.degraded =
            self.rtt.is_some_and(|it| it > rtt) || losses.iter().flatten().any(|it| *it > loss);
    }
}

impl Paths {
    /// Paths to `peers` over the first `networks` networks; nothing is known of them.
    pub fn new(
        peers: &[MemberId],
        networks: usize,
        spread: Spread,
        dead_after: Duration,
        now: Instant,
    ) -> Self {
        let networks = NetworkSet::first(networks);
        let peers = peers
            .iter()
            .map(|member| PeerPaths {
                member: *member,
                used: NetworkId::FIRST,
                hears_us: NetworkSet::default(),
                newest: 0,
                paths: core::array::from_fn(|_| Path::new(now)),
            })
            .collect();
        Self {
            networks,
            spread,
            groups: NetworkSet::default(),
            silence: dead_after / 2,
            settled: dead_after * 2,
            peers,
            hellos: core::array::from_fn(|_| VecDeque::new()),
        }
    }

    /// All networks.
    pub fn networks(&self) -> NetworkSet {
        self.networks
    }

    /// Which networks have a group, to which a datagram for all is sent once.
    pub fn set_groups(&mut self, groups: NetworkSet) {
        self.groups = groups;
    }

    /// The path to a peer over a network.
    pub fn path(&self, member: MemberId, network: NetworkId) -> Option<&Path> {
        self.peer(member)?.paths.get(network.index())
    }

    /// The network that is used to a peer.
    pub fn used(&self, member: MemberId) -> NetworkId {
        self.peer(member).map_or(NetworkId::FIRST, |peer| peer.used)
    }

    /// The networks over which the peer says that it hears us.
    pub fn hears_us(&self, member: MemberId) -> NetworkSet {
        self.peer(member)
            .map_or(NetworkSet::default(), |peer| peer.hears_us)
    }

    /// The networks over which the peer is heard now.
    pub fn heard(&self, member: MemberId, now: Instant) -> NetworkSet {
        self.peer(member)
            .map_or(NetworkSet::default(), |peer| peer.heard(now, self.silence))
    }

    fn peer(&self, member: MemberId) -> Option<&PeerPaths> {
        self.peers.iter().find(|peer| peer.member == member)
    }

    fn peer_mut(&mut self, member: MemberId) -> Option<&mut PeerPaths> {
        self.peers.iter_mut().find(|peer| peer.member == member)
    }

    /// Another run of the peer: what was counted of the one before means nothing now.
    pub fn forget(&mut self, member: MemberId, now: Instant) {
        if let Some(peer) = self.peer_mut(member) {
            peer.newest = 0;
            for path in &mut peer.paths {
                let fresh = Path::new(now);
                *path = Path {
                    sent: path.sent,
                    ..fresh
                };
            }
        }
    }

    /// A datagram of the peer's present run came over `network`. One that was sent over several comes once over each:
    /// false if it has come over this one.
    pub fn handle_datagram(
        &mut self,
        member: MemberId,
        network: NetworkId,
        copy: Option<u64>,
    ) -> bool {
        let Some(path) = self
            .peer_mut(member)
            .and_then(|peer| peer.paths.get_mut(network.index()))
        else {
            return false;
        };
        let first = copy.is_none_or(|packet_number| path.copies.accept(packet_number));
        if first {
            path.received = path.received.wrapping_add(1);
        }
        first
    }

    /// A hello of the peer's present run came over `network`; `report` is what it says of us, if it knows of networks.
    pub fn handle_hello(
        &mut self,
        member: MemberId,
        network: NetworkId,
        packet_number: u64,
        report: Option<&PathReport>,
        now: Instant,
    ) -> Option<Switch> {
        let (silence, settled, networks) = (self.silence, self.settled, self.networks);
        let rtt = report.and_then(|report| self.round_trip(network, report, now));
        let peer = self.peer_mut(member)?;
        let path = peer.paths.get_mut(network.index())?;
        if path.heard.is_some_and(|(_, newest)| packet_number < newest) {
            return None;
        }
        if path.heard.is_none_or(|(at, _)| now.since(at) >= silence) {
            // What was lost while nothing came says nothing of what comes now.
            path.incoming = Loss::default();
        }
        path.heard = Some((now, packet_number));
        if let Some(report) = report {
            path.incoming.handle(report.sent, path.received, now);
            path.outgoing = report.loss_permille;
            if let Some(sample) = rtt {
                path.rtt = Some(path.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
            }
            path.judge();
        }
        // Hellos of different networks overtake each other.
        if peer.newest < packet_number {
            peer.newest = packet_number;
            let hears_us =
                report.map_or_else(|| peer.heard(now, silence), |report| report.heard_over);
            peer.hears_us = hears_us.and(networks);
        }
        peer.choose(networks, settled, now)
    }

    fn round_trip(
        &self,
        network: NetworkId,
        report: &PathReport,
        now: Instant,
    ) -> Option<Duration> {
        let sent = self.hellos.get(network.index())?;
        let (_, at) = sent.iter().find(|(number, _)| *number == report.echo)?;
        let delay = Duration::from_micros(report.delay_micros.into());
        Some(now.since(*at).saturating_sub(delay))
    }

    /// What a hello that goes over `network` now says of the paths from each peer.
    pub fn reports<'a>(
        &'a self,
        network: NetworkId,
        hears: impl Fn(MemberId) -> MemberSet + 'a,
        now: Instant,
    ) -> impl Iterator<Item = PathReport> + 'a {
        let peers = self.peers.iter();
        peers.filter_map(move |peer| {
            let heard_over = peer.heard(now, self.silence);
            let path = peer.paths.get(network.index())?;
            let (echo, delay) = path.heard.map_or((0, Duration::ZERO), |(at, number)| {
                (low(number), now.since(at))
            });
            Some(PathReport {
                member: peer.member,
                heard_over,
                hears: hears(peer.member),
                echo,
                delay_micros: u32::try_from(delay.as_micros()).unwrap_or(u32::MAX),
                // The hello itself is the next one.
                sent: path.sent.wrapping_add(1),
                loss_permille: path.incoming.permille(),
            })
        })
    }

    /// A hello goes out over `network`.
    pub fn note_hello(&mut self, network: NetworkId, packet_number: u64, now: Instant) {
        if let Some(hellos) = self.hellos.get_mut(network.index()) {
            if hellos.len() == HELLOS_KEPT {
                hellos.pop_front();
            }
            hellos.push_back((low(packet_number), now));
        }
    }

    /// A hello goes to everyone over one network.
    pub fn to_everyone(&self, network: NetworkId) -> Routes {
        let mut routes = Routes::to_all();
        routes.set(network, self.members());
        routes
    }

    /// Where a datagram for one member goes.
    pub fn to_one(&self, member: MemberId) -> Routes {
        let mut routes = Routes::default();
        for network in self.over(member).iter() {
            routes.insert(network, member);
        }
        routes
    }

    /// Where a datagram for these members goes.
    pub fn to_all(&self, members: MemberSet) -> Routes {
        let mut routes = Routes::to_all();
        for member in members.iter() {
            for network in self.over(member).iter() {
                routes.insert(network, member);
            }
        }
        // What goes to a group reaches everyone.
        for network in self.groups.iter() {
            if !routes.over(network).is_empty() {
                routes.set(network, self.members());
            }
        }
        routes
    }

    /// A datagram goes out by these routes.
    pub fn handle_sent(&mut self, routes: &Routes) {
        for (network, members) in routes.iter() {
            for peer in &mut self.peers {
                if members.contains(peer.member)
                    && let Some(path) = peer.paths.get_mut(network.index())
                {
                    path.sent = path.sent.wrapping_add(1);
                }
            }
        }
    }

    fn members(&self) -> MemberSet {
        self.peers.iter().map(|peer| peer.member).collect()
    }

    fn over(&self, member: MemberId) -> NetworkSet {
        match self.peer(member) {
            Some(peer) if self.spread == Spread::All && !peer.hears_us.is_empty() => peer.hears_us,
            Some(peer) => [peer.used].into_iter().collect(),
            None => NetworkSet::default(),
        }
    }
}

impl PeerPaths {
    fn heard(&self, now: Instant, silence: Duration) -> NetworkSet {
        let heard = |path: &Path| path.heard.is_some_and(|(at, _)| now.since(at) < silence);
        NetworkId::all()
            .zip(&self.paths)
            .filter(|(_, path)| heard(path))
            .map(|(network, _)| network)
            .collect()
    }

    /// Leaves a path that does not work at once; goes to a better one when it has been better for a while.
    fn choose(&mut self, networks: NetworkSet, settled: Duration, now: Instant) -> Option<Switch> {
        for network in networks.iter() {
            let works = self.hears_us.contains(network);
            if let Some(path) = self.paths.get_mut(network.index()) {
                let rank = (!works, path.degraded);
                if path.rank != rank {
                    path.rank = rank;
                    path.since = now;
                }
            }
        }
        let rank = |network: NetworkId| {
            let path = self.paths.get(network.index());
            (path.map_or((true, true), |path| path.rank), network)
        };
        let (is_dead, _) = rank(self.used).0;
        let has_settled = |network: NetworkId| {
            is_dead
                || (self.paths.get(network.index()))
                    .is_some_and(|path| now.since(path.since) >= settled)
        };
        let best = networks
            .iter()
            .filter(|network| *network == self.used || has_settled(*network))
            .min_by_key(|network| rank(*network))?;
        if best == self.used || rank(best).0.0 {
            return None;
        }
        let from = core::mem::replace(&mut self.used, best);
        Some(Switch {
            member: self.member,
            from,
            to: best,
        })
    }
}

fn low(packet_number: u64) -> u32 {
    packet_number as u32
}

#[cfg(test)]
mod tests;
