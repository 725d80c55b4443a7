//! Why a flow is, or is not, where it should be.

use super::Core;
use crate::control::answer::Origin;
use crate::control::answer::explain::{Explanation, FlowQuery, Has, Known, PeerHas};
use crate::convert;
use crate::names;
use crate::policy::Hold;
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
        let decision = self.policy.decide(&key, mark);
        let reason = self.policy.reason(decision);
        let (sync, delay) = decision.sync.words();
        let hold = match decision.hold {
            Hold::Always => "always",
            Hold::Auto => "auto",
            Hold::Never => "never",
        };
        Explanation {
            forwarded: self.scope.is_forwarded(&key, &nat),
            service: reason.service.map(str::to_owned),
            builtin: reason.is_builtin,
            rule: reason.rule.map(|(number, _)| number),
            rule_name: reason.rule.and_then(|(_, name)| name.map(str::to_owned)),
            sync: sync.into(),
            delay_seconds: delay,
            hold: hold.into(),
            known: match (entry, self.delays.due(&key)) {
                (Some(entry), _) => self.known(entry),
                (None, Some(due)) => Known::Delayed {
                    seconds_left: due.since(now).as_secs(),
                },
                (None, None) => Known::No,
            },
            peers: (self.peers.iter())
                .map(|peer| PeerHas {
                    id: peer.get(),
                    name: self.names.get(peer).cloned().unwrap_or_default(),
                    has: self.has(*peer, entry),
                })
                .collect(),
        }
    }

    fn known(&self, entry: &Entry) -> Known {
        let (origin, member) = match entry.origin {
            table::Origin::Own => (Origin::Own, self.me),
            table::Origin::Found => (Origin::Found, self.me),
            table::Origin::Copy { member, .. } => (Origin::Copy, member),
        };
        let member = member.get();
        match entry.life {
            Life::Dead => Known::Ended { member },
            Life::Live => Known::Live {
                member,
                origin,
                state: names::state(entry.key.proto, entry.state.proto_state),
                timeout: entry.state.timeout_secs,
                in_kernel: entry.in_kernel,
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
                    !send.is_telling() && entry.seq > 0 && entry.seq <= send.frontier()
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
