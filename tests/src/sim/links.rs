//! The links between daemons, over which they hand each other keys and whole tables: what is said arrives in order and
//! once, as late as a datagram; not while a direction between the two is cut on every network, or one of them is stopped;
//! and not at all if the link breaks meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use agent::core::LinkMessage;

use super::gateway::{Daemon, Gateway};
use super::net::Net;

/// What is on its way, by sender and receiver.
#[derive(Debug)]
pub struct Links {
    gateways: usize,
    ways: Vec<VecDeque<(Duration, LinkMessage)>>,
    broken: Vec<bool>,
}

/// What was said, and has to arrive: at whom, and when.
pub type Due = (usize, Duration);

impl Links {
    /// Between so many gateways.
    pub fn new(gateways: usize) -> Self {
        let ways = gateways * gateways;
        Self {
            gateways,
            ways: (0..ways).map(|_| VecDeque::new()).collect(),
            broken: vec![false; ways],
        }
    }

    /// The daemon of `at` has started: it is linked to all others that run.
    pub fn connect(&mut self, gateways: &mut [Gateway], at: usize, now: Duration) {
        for other in (0..self.gateways).filter(|other| *other != at) {
            if !self.broken[self.way(at, other)] {
                self.link(gateways, [at, other], now);
            }
        }
    }

    /// The daemon of `at` is about to die.
    pub fn disconnect(&mut self, gateways: &mut [Gateway], at: usize, now: Duration) {
        for other in (0..self.gateways).filter(|other| *other != at) {
            self.unlink(gateways, [at, other], now);
        }
    }

    /// The link between the two breaks, and does not come up before it is [mended](Self::mend).
    pub fn cut(&mut self, gateways: &mut [Gateway], pair: [usize; 2], now: Duration) {
        self.unlink(gateways, pair, now);
        self.set_broken(pair, true);
    }

    /// There is a link between the two again, if both run.
    pub fn mend(&mut self, gateways: &mut [Gateway], pair: [usize; 2], now: Duration) {
        if self.broken[self.way(pair[0], pair[1])] {
            self.set_broken(pair, false);
            self.link(gateways, pair, now);
        }
    }

    /// Takes what the daemon of `at` has to say to others on its way.
    pub fn carry(
        &mut self,
        gateways: &mut [Gateway],
        at: usize,
        now: Duration,
        delay: Duration,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        for other in (0..self.gateways).filter(|other| *other != at) {
            let to = gateways[other].member;
            let way = self.way(at, other);
            let Gateway { daemon, build, .. } = &mut gateways[at];
            let Some(daemon) = daemon else { continue };
            while let Some(message) = daemon.core.poll_link_message(to) {
                for message in build.says_over_link(message) {
                    let last = self.ways[way].back().map_or(now, |(arrival, _)| *arrival);
                    let arrival = last.max(now + delay);
                    self.ways[way].push_back((arrival, message));
                    due.push((other, arrival));
                }
            }
        }
        due
    }

    /// What comes next from one to the other.
    pub fn next(&self, [from, to]: [usize; 2]) -> Option<&LinkMessage> {
        let next = self.ways[self.way(from, to)].front();
        next.map(|(_, message)| message)
    }

    /// True if it is of a full sync.
    pub fn is_sync(message: Option<&LinkMessage>) -> bool {
        matches!(message, Some(LinkMessage::Protocol(..)))
    }

    /// Hands over what has come; if that cannot be now, when to try again.
    pub fn deliver(
        &mut self,
        gateways: &mut [Gateway],
        nets: &[Net],
        [from, to]: [usize; 2],
        now: Duration,
    ) -> Option<Duration> {
        let way = self.way(from, to);
        let (arrival, _) = self.ways[way].front()?;
        let waits = gateways[from].is_stopped || gateways[to].is_stopped;
        let is_cut = |net: &Net| net.is_cut(from, to) || net.is_cut(to, from);
        if *arrival > now || waits || nets.iter().all(is_cut) {
            return Some(Duration::from_millis(10).max(arrival.saturating_sub(now)));
        }
        let (_, message) = self.ways[way].pop_front()?;
        let from = gateways[from].member;
        let Gateway { daemon, kernel, .. } = &mut gateways[to];
        if let Some(daemon) = daemon {
            let at = daemon.clock(now);
            daemon.core.handle_link_message(from, &message, at);
            daemon.apply(kernel, at);
        }
        None
    }

    fn link(&mut self, gateways: &mut [Gateway], pair: [usize; 2], now: Duration) {
        self.clear(pair);
        with_both(gateways, pair, |daemon, peer| {
            daemon.core.handle_link_up(peer, daemon.clock(now));
        });
    }

    fn unlink(&mut self, gateways: &mut [Gateway], pair: [usize; 2], now: Duration) {
        self.clear(pair);
        with_both(gateways, pair, |daemon, peer| {
            daemon.core.handle_link_down(peer, daemon.clock(now));
        });
    }

    fn clear(&mut self, [a, b]: [usize; 2]) {
        for way in [self.way(a, b), self.way(b, a)] {
            self.ways[way].clear();
        }
    }

    fn set_broken(&mut self, [a, b]: [usize; 2], broken: bool) {
        for way in [self.way(a, b), self.way(b, a)] {
            self.broken[way] = broken;
        }
    }

    fn way(&self, from: usize, to: usize) -> usize {
        from * self.gateways + to
    }
}

/// Calls with each of two daemons, and who the other is, if both run.
fn with_both(
    gateways: &mut [Gateway],
    pair: [usize; 2],
    mut call: impl FnMut(&mut Daemon, ccp::record::MemberId),
) {
    let Ok([one, other]) = gateways.get_disjoint_mut(pair) else {
        return;
    };
    let members = [one.member, other.member];
    if let (Some(daemon), Some(peer)) = (&mut one.daemon, &mut other.daemon) {
        call(daemon, members[1]);
        call(peer, members[0]);
    }
}
