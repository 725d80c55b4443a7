//! What is told of sync networks, and what of it is worth a warning.

use super::Core;
use crate::control::answer::{
    AtRisk, DeltaCounts, HeldStat, PathState, PathStatus, PeerReach, Queues, Reach, SyncStat,
    Timers,
};
use crate::units::{micros, millis, percent, short_time};
use ccp::membership::{Hearing, PeerState};
use ccp::modes::{Generation, Mode};
use ccp::network::NetworkId;
use ccp::record::MemberId;
use ccp::time::Instant;

impl Core {
    /// How this member and a peer reach each other.
    pub(super) fn reach(&self, peer: MemberId, now: Instant) -> Reach {
        let Hearing { heard, hears_us } = self.node.membership().hearing(peer, now);
        let paths = self.node.paths();
        Reach {
            heard,
            hears_us,
            network: self.network_name(paths.used(peer)),
            networks: (paths.networks().iter())
                .filter_map(|network| self.path_status(peer, network, now))
                .collect(),
        }
    }

    fn path_status(&self, peer: MemberId, network: NetworkId, now: Instant) -> Option<PathStatus> {
        let paths = self.node.paths();
        let path = paths.path(peer, network)?;
        let heard = paths.heard(peer, now).contains(network);
        // What a peer said that is silent now means nothing.
        let hears_us = !paths.heard(peer, now).is_empty() && paths.hears_us(peer).contains(network);
        Some(PathStatus {
            name: self.network_name(network),
            state: match (heard, hears_us) {
                (true, true) => PathState::Up,
                (true, false) => PathState::InOnly,
                (false, true) => PathState::OutOnly,
                (false, false) => PathState::Down,
            },
            rtt_us: path.rtt().map(micros),
            loss_in_permille: path.loss_incoming(),
            loss_out_permille: path.loss_outgoing(),
            degraded: path.is_degraded(),
            sent: path.sent,
            received: path.received,
        })
    }

    /// What the modes of networks are at the start.
    pub fn set_modes(&mut self, modes: &[(Mode, Generation)]) {
        self.node.set_modes(modes);
    }

    /// An operator wants another mode on a network: it is tried.
    pub fn ask_mode(&mut self, network: NetworkId, mode: Mode, now: Instant) {
        self.node.ask_mode(network, mode, now);
    }

    /// The answer to `syncstat`, but for what only the sockets know.
    pub fn syncstat(&self, now: Instant) -> SyncStat {
        let counters = self.node.counters();
        let peers: Vec<_> = (self.node.membership().peers())
            .map(|peer| peer.member)
            .collect();
        let behind = |peer| {
            let send = self.node.peer_send(peer)?;
            Some(self.node.last_seq().saturating_sub(send.frontier()))
        };
        let config = self.node.config();
        SyncStat {
            uptime_seconds: now.since(self.started).as_secs(),
            warnings: self.warnings(now),
            at_risk: AtRisk {
                bulk_updates_asked: counters.bulk_updates_asked,
                bulk_updates_asked_by_peers: counters.bulk_updates_asked_by_peers,
                bulk_updates_sent: counters.bulk_updates_sent,
                out_of_window: counters.deltas_out_of_window,
            },
            sent: DeltaCounts {
                deltas: counters.deltas_sent - counters.deltas_resent,
                changes: counters.records_sent,
                again: counters.deltas_resent,
                acknowledgements: counters.acks_sent,
                requests: counters.acks_sent_with_gaps,
            },
            received: DeltaCounts {
                deltas: counters.deltas_received,
                changes: counters.remote_changes,
                again: counters.deltas_duplicate,
                acknowledgements: counters.acks_received,
                requests: counters.acks_received_with_gaps,
            },
            queues: Queues {
                unacknowledged: peers.iter().copied().filter_map(behind).max().unwrap_or(0),
                missing: (peers.iter())
                    .map(|peer| self.node.incoming(*peer).missing())
                    .sum(),
            },
            timers: Timers {
                flush_us: micros(config.flush),
                hello_ms: millis(config.hello),
                dead_after_ms: millis(config.dead_after),
            },
            held: HeldStat {
                status: self.hold_status(),
                acked: counters.held_acked,
                deadline: counters.held_deadline,
                limit: counters.held_limit,
                no_peer: counters.held_no_peer,
                unknown: counters.held_unknown,
                shutdown: counters.held_shutdown,
            },
            networks: Vec::new(),
            peers: (peers.into_iter())
                .map(|peer| PeerReach {
                    id: peer.get(),
                    name: self.name(peer),
                    reach: self.reach(peer, now),
                    hold: self.peer_hold(peer),
                })
                .collect(),
        }
    }

    fn network_name(&self, network: NetworkId) -> String {
        let name = self.networks.get(network.index());
        name.cloned().unwrap_or_default()
    }

    /// What is wrong between members, a sentence each.
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        let mut warnings: Vec<_> = self.interface_warnings().collect();
        warnings.extend(self.hold_warnings(now));
        for peer in self.node.membership().peers() {
            if peer.state == PeerState::NeverSeen {
                continue;
            }
            let name = self.name(peer.member);
            let reach = self.reach(peer.member, now);
            match (reach.heard, reach.hears_us) {
                (true, Some(false)) => {
                    warnings.push(format!(
                        "one-way: {name} is heard, but does not hear this member"
                    ));
                }
                (false, Some(true)) => {
                    warnings.push(format!(
                        "one-way: {name} hears this member, but is not heard"
                    ));
                }
                (true | false, _) => {}
            }
            if peer.state == PeerState::Live {
                warnings.extend(path_warnings(&name, &reach));
                if self.has_other_policy(peer.member) {
                    warnings.push(format!(
                        "configuration: {name} has another service policy than this member"
                    ));
                }
            }
        }
        warnings
    }
}

fn path_warnings(name: &str, reach: &Reach) -> impl Iterator<Item = String> {
    reach.networks.iter().filter_map(move |path| {
        let PathStatus { name: network, .. } = path;
        let used = &reach.network;
        match path.state {
            PathState::Up if path.degraded && network == used => Some(format!(
                "degraded: wan-quality: to {name} over {network} {}",
                quality(path)
            )),
            PathState::Up => None,
            state => Some(format!(
                "network: {network} to {name} is {}; {used} is used",
                state.name()
            )),
        }
    })
}

/// Round trip and loss, as people read it.
fn quality(path: &PathStatus) -> String {
    let rtt = path.rtt_us.map_or_else(|| "unknown".to_owned(), short_time);
    let [loss_out, loss_in] = [path.loss_out_permille, path.loss_in_permille]
        .map(|loss| loss.map_or_else(|| "unknown".to_owned(), percent));
    format!("the round trip is {rtt}, the loss {loss_out} out and {loss_in} in")
}
