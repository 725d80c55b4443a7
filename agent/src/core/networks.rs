//! What is told of sync networks, and what of it is worth a warning.

use super::Core;
use crate::control::answer::{PathState, PathStatus, Reach};
use ccp::membership::{Hearing, PeerState};
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
            rtt_us: path
                .rtt()
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            loss_in_permille: path.loss_incoming(),
            loss_out_permille: path.loss_outgoing(),
            degraded: path.is_degraded(),
            sent: path.sent,
            received: path.received,
        })
    }

    fn network_name(&self, network: NetworkId) -> String {
        let name = self.networks.get(network.index());
        name.cloned().unwrap_or_default()
    }

    /// What is wrong between members, a sentence each.
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        let mut warnings = Vec::new();
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
    let rtt = path.rtt_us.map_or_else(
        || "unknown".to_owned(),
        |micros| format!("{}.{:03} ms", micros / 1000, micros % 1000),
    );
    let percent = |permille: Option<u16>| {
        permille.map_or_else(
            || "unknown".to_owned(),
            |loss| format!("{}.{} %", loss / 10, loss % 10),
        )
    };
    format!(
        "the round trip is {rtt}, the loss {} out and {} in",
        percent(path.loss_out_permille),
        percent(path.loss_in_permille)
    )
}
