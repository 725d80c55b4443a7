//! Why a flow is, or is not, where it should be.

use super::Core;
use crate::control::answer::Origin;
use crate::control::answer::explain::{Explanation, FlowQuery, Has, Known, PeerHas};
use crate::convert;
use crate::policy::Hold;
use crate::protocols;
use ccp::record::{FlowKey, MemberId, Nat};
use ccp::table::{self, Entry, Life, Pending};
use ccp::time::Instant;
use conntrack::consts::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use conntrack::{Flow, L4, Tuple};

impl Core {
    /// The answer to `explain`.
    pub fn explain(&self, query: &FlowQuery, now: Instant) -> Explanation {
        let key = key(query);
        let table = self.node.table();
        let entry = table.find(&key).and_then(|slot| table.get(slot));
        let mark = entry.map_or(0, |entry| entry.state.mark);
        let nat = entry.map_or(Nat::default(), |entry| entry.state.nat());
        let ended = match entry {
            Some(entry) if entry.life == Life::Live => None,
            Some(_) | None => self.ended.find(&key, now),
        };
        let decision = match ended {
            Some(end) => end.decision,
            None => self.policy.decide(&key, mark),
        };
        let (sync, delay) = decision.sync.words();
        let hold = match decision.hold {
            Hold::Always => "always",
            Hold::Auto => "auto",
            Hold::Never => "never",
        };
        Explanation {
            forwarded: self.scope.is_forwarded(&key, &nat),
            decided_by: self.policy.decided_by(decision),
            sync: sync.into(),
            delay_seconds: delay,
            hold: hold.into(),
            known: match (self.delays.due(&key), ended, entry) {
                (Some(due), _, None) => Known::Delayed {
                    seconds_left: due.since(now).as_secs(),
                },
                (_, Some(end), _) => Known::Ended {
                    member: end.carrier.map(MemberId::get),
                    seconds: Some(now.since(end.at).as_secs()),
                },
                (_, None, Some(entry)) => self.known(entry, now),
                (None, None, None) => Known::No,
            },
            conflict: None,
            peers: (self.peers.iter())
                .map(|peer| PeerHas {
                    id: peer.get(),
                    name: self.names.get(peer).cloned().unwrap_or_default(),
                    has: self.has(*peer, entry),
                    seconds: (entry.filter(|_| self.has(*peer, entry) == Has::Yes))
                        .and_then(|entry| self.told_ago(entry, now)),
                })
                .collect(),
        }
    }

    /// Seconds since its carrier told of its last change.
    fn told_ago(&self, entry: &Entry, now: Instant) -> Option<u64> {
        let teller = match entry.origin {
            table::Origin::Own | table::Origin::Found => self.me,
            table::Origin::Copy { member, .. } => member,
        };
        let age = self.chronicles[teller.index()].age(entry.seq, now);
        age.map(|age| age.as_secs())
    }

    /// Notes how far everybody has come with telling.
    pub(super) fn note_told(&mut self, now: Instant) {
        self.chronicles[self.me.index()].note(self.node.last_seq(), now);
        for peer in &self.peers {
            let told = self.node.incoming(*peer).frontier();
            self.chronicles[peer.index()].note(told, now);
        }
    }

    /// A copy that this kernel has not, though it should: as it was asked for.
    pub fn refused_copy(&self, query: &FlowQuery) -> Option<Flow> {
        let table = self.node.table();
        let entry = table.find(&key(query)).and_then(|slot| table.get(slot))?;
        let is_refused = entry.life == Life::Live
            && !entry.in_kernel
            && matches!(entry.origin, table::Origin::Copy { .. });
        is_refused.then(|| convert::flow(&entry.key, &entry.state, self.shared))
    }

    fn known(&self, entry: &Entry, now: Instant) -> Known {
        let (origin, member) = match entry.origin {
            table::Origin::Own => (Origin::Own, self.me),
            table::Origin::Found => (Origin::Found, self.me),
            table::Origin::Copy { member, .. } => (Origin::Copy, member),
        };
        let member = member.get();
        match entry.life {
            Life::Dead => Known::Ended {
                member: Some(member),
                seconds: None,
            },
            Life::Live => Known::Live {
                member,
                origin,
                state: protocols::state_name(entry.key.proto, entry.state.proto_state),
                timeout: entry.state.timeout_secs,
                in_kernel: entry.in_kernel,
                told_seconds_ago: self.told_ago(entry, now),
            },
        }
    }

    fn has(&self, peer: MemberId, entry: Option<&Entry>) -> Has {
        let Some(entry) = entry.filter(|entry| entry.life == Life::Live) else {
            return Has::No;
        };
        match entry.origin {
            table::Origin::Copy { member, .. } if member == peer => Has::Carries,
            table::Origin::Copy { .. } => Has::AskCarrier,
            table::Origin::Own | table::Origin::Found => {
                let send = self.node.peer_send(peer);
                let has_all = send.is_some_and(|send| {
                    !send.is_in_bulk_update() && entry.seq > 0 && entry.seq <= send.frontier()
                });
                match (self.live_peers().contains(peer), entry.pending) {
                    (false, _) => Has::No,
                    (true, Pending::Nothing) if has_all => Has::Yes,
                    (true, Pending::Nothing | Pending::Upsert | Pending::Delete) => Has::Soon,
                }
            }
        }
    }
}

fn key(query: &FlowQuery) -> FlowKey {
    let FlowQuery {
        proto,
        src,
        dst,
        sport,
        dport,
        zone,
    } = *query;
    let l4 = match proto {
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            let [kind, code] = dport.to_be_bytes();
            L4::Icmp {
                kind,
                code,
                id: sport,
            }
        }
        proto if ccp::wire::flow::has_l4(proto) => L4::Ports {
            src: sport,
            dst: dport,
        },
        _ => L4::None,
    };
    let orig = Tuple {
        src,
        dst,
        proto,
        l4,
        zone: 0,
    };
    convert::key(&Flow {
        zone,
        ..Flow::new(orig)
    })
}
