//! What members tell each other of their machines, over their links: [`crate::facts`].

use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;
use std::time::Duration;

use super::Core;
use crate::control::answer::facts::{FactsReport, PeerFacts};
use crate::facts::{Facts, FactsMessage, POLICY};

/// Peers are told again after this long though nothing has changed: clocks drift.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

/// What is known of this machine and those of the peers.
#[derive(Debug, Default)]
pub(super) struct KnownFacts {
    own: Facts,
    told_at: Instant,
    /// Peers that have a link and do not know it yet.
    untold: MemberSet,
    linked: MemberSet,
    peers: [Option<Peer>; MemberId::MAX],
}

#[derive(Debug)]
struct Peer {
    facts: Facts,
    clock_ahead_ms: i64,
}

impl KnownFacts {
    pub fn handle_link_up(&mut self, member: MemberId) {
        self.linked.insert(member);
        self.untold.insert(member);
    }

    pub fn handle_link_down(&mut self, member: MemberId) {
        self.linked.remove(member);
        self.untold.remove(member);
    }

    /// What there is to tell a peer, if it has not been told.
    pub fn poll(&mut self, to: MemberId, clock_ms: u64) -> Option<FactsMessage> {
        if self.own.is_empty() || !self.untold.contains(to) {
            return None;
        }
        self.untold.remove(to);
        let facts = self.own.clone();
        Some(FactsMessage { clock_ms, facts })
    }

    pub fn handle(&mut self, from: MemberId, told: FactsMessage, clock_ms: u64) {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        if let Some(peer) = self.peers.get_mut(from.index()) {
            *peer = Some(Peer {
                facts: told.facts,
                clock_ahead_ms: signed(told.clock_ms) - signed(clock_ms),
            });
        }
    }
}

impl Core {
    /// This machine is like that now; peers are told if it has changed.
    pub fn set_facts(&mut self, mut facts: Facts, now: Instant) {
        facts.insert(POLICY.to_owned(), self.policy.digest());
        if facts != self.facts.own || now.since(self.facts.told_at) >= TOLD_AGAIN {
            self.facts.own = facts;
            self.facts.told_at = now;
            self.facts.untold = self.facts.linked;
        }
    }

    /// Peers are told that the policy is another, if it is.
    pub(super) fn tell_policy(&mut self) {
        let facts = self.facts.own.clone();
        // Before the first look at the machine there is nothing to tell yet.
        if !facts.is_empty() {
            self.set_facts(facts, self.clock);
        }
    }

    /// True if the peer has told that its service policy is another.
    pub(super) fn has_other_policy(&self, member: MemberId) -> bool {
        let peer = (self.facts.peers.get(member.index())).and_then(Option::as_ref);
        let theirs = peer.and_then(|peer| peer.facts.value(POLICY));
        theirs.is_some_and(|digest| digest != self.policy.digest())
    }

    /// True if every peer has told that its service policy is the same, however long ago.
    pub fn have_all_this_policy(&self) -> bool {
        let digest = Some(self.policy.digest());
        self.peers.iter().all(|member| {
            let peer = (self.facts.peers.get(member.index())).and_then(Option::as_ref);
            peer.and_then(|peer| peer.facts.value(POLICY)) == digest
        })
    }

    /// This machine, and those of the peers that have told.
    pub fn facts(&self) -> FactsReport {
        let peers = self.peers.iter().filter_map(|id| self.peer_facts(*id));
        FactsReport {
            facts: self.facts.own.clone(),
            peers: peers.collect(),
        }
    }

    /// A peer's machine, if it has told.
    fn peer_facts(&self, member: MemberId) -> Option<PeerFacts> {
        let peer = self.facts.peers.get(member.index())?.as_ref()?;
        Some(PeerFacts {
            id: member.get(),
            name: self.names.get(&member).cloned().unwrap_or_default(),
            clock_ahead_ms: peer.clock_ahead_ms,
            facts: peer.facts.clone(),
        })
    }

    pub(super) fn clock_ms(&self) -> u64 {
        self.wall_clock_nanos / 1_000_000
    }
}

#[cfg(test)]
mod tests;
