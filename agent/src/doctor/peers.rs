//! The peers, as the daemon knows them: whether they are heard, and in what their machines differ from this one.

use std::path::Path;

use super::{Finding, differences};
use crate::config::Config;
use crate::control::answer::facts::FactsReport;
use crate::control::answer::{PeerState, PeerStatus, Status};
use crate::control::{Client, ClientError};
use crate::facts;

/// Asks the daemon. This machine is as it is now, the peers as they were when they told, seconds ago.
pub fn examine(config: &Config) -> Vec<Finding> {
    match ask(&config.control.socket) {
        Ok((status, mut report)) => {
            for (name, value) in facts::gather(config).iter() {
                report.facts.insert(name.to_owned(), value);
            }
            let reached = status.peers.iter().filter_map(|peer| reach(peer, &report));
            reached.chain(differences::compare(&report)).collect()
        }
        Err(error) => vec![Finding::warning(
            "peers",
            error.to_string(),
            "the daemon knows what the peers' machines are like; without it they are not compared",
            "systemctl start ctsync, or run it as root: sudo ctsync doctor",
        )],
    }
}

fn ask(socket: &Path) -> Result<(Status, FactsReport), ClientError> {
    let mut daemon = Client::connect(socket)?;
    Ok((daemon.status()?, daemon.facts()?))
}

/// What keeps a peer from being compared.
fn reach(peer: &PeerStatus, report: &FactsReport) -> Option<Finding> {
    const CHECK: &str = "peer";
    let name = &peer.name;
    let has_told = report.peers.iter().any(|it| it.id == peer.id);
    match (peer.state, peer.linked) {
        // Its keys come over the link, so that nothing of it is understood before there was one.
        (PeerState::NeverSeen, false) => Some(Finding::bad(
            CHECK,
            format!("there is no link to {name}"),
            "keys are exchanged over it: without one nothing is replicated from or to that peer",
            format!(
                "let TCP and UDP port 8116 in on the sync network, here and on {name}; there: systemctl start ctsync, \
                 and journalctl -u ctsync says what is amiss"
            ),
        )),
        (PeerState::NeverSeen | PeerState::Dead, _) => Some(Finding::bad(
            CHECK,
            format!("{name} is not heard"),
            "nothing is replicated from or to that peer",
            format!(
                "on {name}: systemctl start ctsync; if it runs: `ctsync syncstat` says which network does not carry, and UDP port \
                 8116 has to be let in, here and there"
            ),
        )),
        (PeerState::Live, _) if !has_told => Some(Finding::warning(
            CHECK,
            format!("{name} has not told what its machine is like"),
            "whether it has the same settings, table, interfaces and time cannot be said",
            "ask again in a minute; earlier versions do not tell",
        )),
        (PeerState::Live, _) => None,
    }
}
