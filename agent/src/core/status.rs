//! What the operator asks of a running daemon, answered from what it knows.

use super::Core;
use crate::control::answer::sync::SyncStatus;
use crate::control::answer::{
    Counters, Cursor, Endpoints, Family, FlowCounts, FlowPage, FlowRow, KeyStatus, MemberStatus,
    Origin, PeerState, PeerStatus, Rolled, Status, Translation,
};
use crate::convert::ip;
use crate::protocols;
use crate::units::{micros, millis};
use ccp::build::Capability;
use ccp::membership::{Peer, PeerState as Liveness};
use ccp::record::{self, Endpoint, FlowKey, MemberId};
use ccp::table::{self, Entry, Life};
use ccp::time::Instant;
use ccp::wire::flow::has_l4;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Names of the members.
pub type Names = BTreeMap<MemberId, String>;

/// Entries looked at for one page, so that a page of a nearly empty table costs bounded time.
const LOOKS_MAX: u32 = 16_384;

impl Core {
    /// The answer to `status`.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.cluster,
            member: MemberStatus {
                id: self.me.get(),
                name: self.name(self.me),
            },
            uptime_seconds: now.since(self.started).as_secs(),
            flows: self.flow_counts(),
            sync: self.sync_status(now),
            holds: self.hold_status(),
            key: KeyStatus {
                epoch: self.keys.epoch(),
                age_seconds: self.keys.age(now).as_secs(),
            },
            role: self.role_status(now),
            peers: self
                .node
                .membership()
                .peers()
                .map(|peer| self.peer_status(peer, now))
                .collect(),
            capabilities: names_of(|capability| {
                self.node.membership().agreed().contains(capability)
            }),
            warnings: self.warnings(now),
            counters: Counters(self.counters()),
        }
    }

    /// Whether everything that the others have is here.
    pub fn sync_status(&self, now: Instant) -> SyncStatus {
        let Some(progress) = self.node.join().progress(now) else {
            return SyncStatus {
                complete: true,
                ..SyncStatus::default()
            };
        };
        let [flows, flows_expected] = progress.rows;
        let (parts, parts_expected) = progress.parts;
        SyncStatus {
            complete: false,
            incomplete_ms: millis(progress.lasts),
            from: progress.server.map(MemberId::get),
            flows,
            flows_expected,
            parts,
            parts_expected,
        }
    }

    /// The answer to `keys-roll`.
    pub fn rolled(&self) -> Rolled {
        let live = self.live_peers();
        let unlinked = (self.peers.iter())
            .filter(|peer| live.contains(**peer) && !self.keys.is_linked(**peer));
        Rolled {
            epoch: self.keys.epoch(),
            unlinked: unlinked.map(|peer| peer.get()).collect(),
        }
    }

    /// One page of the answer to `flows`.
    pub fn flows(&self, from: Cursor, limit: usize) -> FlowPage {
        let table = self.node.table();
        let mut rows = Vec::new();
        let end = from.0.saturating_add(LOOKS_MAX);
        for (slot, entry) in table.slots_from(from.0) {
            if slot.index() >= end || rows.len() == limit {
                return FlowPage {
                    rows,
                    next: Some(Cursor(slot.index())),
                };
            }
            if entry.life == Life::Live {
                rows.push(self.flow_row(entry));
            }
        }
        FlowPage { rows, next: None }
    }

    pub(super) fn name(&self, member: MemberId) -> String {
        self.names.get(&member).cloned().unwrap_or_default()
    }

    fn flow_counts(&self) -> FlowCounts {
        let table::Counts { own, found, copies } = self.node.table().counts();
        FlowCounts { own, found, copies }
    }

    fn peer_status(&self, peer: &Peer, now: Instant) -> PeerStatus {
        let send = self.node.peer_send(peer.member);
        let told_all = send.is_some_and(|send| !send.is_in_bulk_update());
        PeerStatus {
            id: peer.member.get(),
            name: self.name(peer.member),
            state: match peer.state {
                Liveness::NeverSeen => PeerState::NeverSeen,
                Liveness::Live => PeerState::Live,
                Liveness::Dead => PeerState::Dead,
            },
            version: peer.build.map(|build| build.version.to_string()),
            lacks: names_of(|capability| {
                self.node
                    .membership()
                    .lacking(capability)
                    .contains(peer.member)
            }),
            linked: self.keys.is_linked(peer.member),
            synced: told_all && self.node.incoming(peer.member).synced,
            rtt_us: send.and_then(|send| send.rtt()).map(micros),
            last_heard_ms: peer.heard().map(|heard| millis(now.since(heard))),
            unacknowledged: send.map_or(0, |send| {
                self.node.last_seq().saturating_sub(send.frontier())
            }),
            missing: self.node.incoming(peer.member).missing(),
            refused: send.map_or(0, |send| send.refused),
            hold: self.peer_hold(peer.member),
            reach: self.reach(peer.member, now),
        }
    }

    /// Every counter with its name.
    pub fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        let super::DatagramCounters {
            sent,
            unsent,
            received,
            sent_bytes,
            received_bytes,
            malformed,
            other_version,
            check_point,
            unknown_opcode,
            other_cluster,
            unknown_member,
            misdirected,
            other_network,
            unknown_key,
            forged,
            below_floor,
        } = self.datagrams;
        let super::LinkCounters {
            links,
            strangers,
            failures,
            malformed: links_malformed,
            unknown: links_unknown,
            keys_received,
            rolls,
        } = self.links;
        let super::EventCounters {
            received: events,
            out_of_scope,
            malformed: events_malformed,
            overruns,
        } = self.events;
        let super::PolicyCounters {
            never,
            delayed,
            delayed_ended,
            delayed_told,
            delayed_early,
            delayed_full,
            withdrawn,
        } = self.policy_counters;
        let super::HoldCounters {
            out_of_scope: held_out_of_scope,
            not_understood: held_not_understood,
            nat_unknown: held_nat_unknown,
            queue_faults,
        } = self.hold_counters;
        let own = [
            ("datagrams_sent", sent),
            ("datagrams_unsent", unsent),
            ("datagrams_received", received),
            ("sent_bytes", sent_bytes),
            ("received_bytes", received_bytes),
            ("datagrams_malformed", malformed),
            ("datagrams_other_version", other_version),
            ("datagrams_check_point", check_point),
            ("datagrams_unknown_opcode", unknown_opcode),
            ("datagrams_other_cluster", other_cluster),
            ("datagrams_unknown_member", unknown_member),
            ("datagrams_misdirected", misdirected),
            ("datagrams_other_network", other_network),
            ("datagrams_unknown_key", unknown_key),
            ("datagrams_forged", forged),
            ("datagrams_below_floor", below_floor),
            ("tls_links", links),
            ("tls_strangers", strangers),
            ("tls_failures", failures),
            ("tls_malformed", links_malformed),
            ("tls_unknown", links_unknown),
            ("keys_received", keys_received),
            ("key_rolls", rolls),
            ("events_received", events),
            ("events_out_of_scope", out_of_scope),
            ("events_malformed", events_malformed),
            ("event_overruns", overruns),
            ("policy_never", never),
            ("policy_delayed", delayed),
            ("policy_delayed_ended", delayed_ended),
            ("policy_delayed_told", delayed_told),
            ("policy_delayed_early", delayed_early),
            ("policy_delayed_full", delayed_full),
            ("policy_withdrawn", withdrawn),
            ("held_out_of_scope", held_out_of_scope),
            ("held_not_understood", held_not_understood),
            ("held_nat_unknown", held_nat_unknown),
            ("queue_faults", queue_faults),
            ("accounting_left_out", self.accounting.left_out()),
            ("audit_cpu_us", micros(self.audit_time())),
        ];
        own.into_iter()
            .chain(self.node.counters().iter())
            .map(|(name, value)| (name.into(), value))
            .collect()
    }

    fn flow_row(&self, entry: &Entry) -> FlowRow {
        let key = &entry.key;
        let nat = entry.state.nat();
        let (origin, member) = match entry.origin {
            table::Origin::Own => (Origin::Own, self.me),
            table::Origin::Found => (Origin::Found, self.me),
            table::Origin::Copy { member, .. } => (Origin::Copy, member),
        };
        FlowRow {
            family: match key.family {
                record::Family::V4 => Family::Ipv4,
                record::Family::V6 => Family::Ipv6,
            },
            proto: protocols::name(key.proto),
            orig: Endpoints {
                src: ip(key.family, &key.src),
                dst: ip(key.family, &key.dst),
                sport: has_l4(key.proto).then_some(key.l4[0]),
                dport: has_l4(key.proto).then_some(key.l4[1]),
            },
            nat_src: nat.src.map(|endpoint| translation(key, endpoint)),
            nat_dst: nat.dst.map(|endpoint| translation(key, endpoint)),
            state: protocols::state_name(key.proto, entry.state.proto_state),
            timeout: Some(entry.state.timeout_secs),
            mark: entry.state.mark,
            zone: key.zone,
            origin,
            member: member.get(),
        }
    }
}

fn names_of(wanted: impl Fn(Capability) -> bool) -> Vec<String> {
    let some = (Capability::ALL.into_iter()).filter(|capability| wanted(*capability));
    some.map(|capability| capability.name().to_owned())
        .collect()
}

fn translation(key: &FlowKey, endpoint: Endpoint) -> Translation {
    Translation {
        addr: ip(key.family, &endpoint.address),
        port: has_l4(key.proto).then_some(endpoint.port),
    }
}
