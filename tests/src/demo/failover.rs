//! The experiment of the demo and of the failover tests: connections of every kind, a gateway that dies, and what then
//! becomes of each connection.
//!
//! The steps are separate, so that the demo can tell of each: [`Failover::prepare`], [`Failover::kill_daemon`],
//! [`Failover::cut_links`], [`Failover::move_routes`], [`Failover::observe`].
//!
//! The subtle thing is the order of death. While its daemon lives, the kernel of a gateway whose links go down deletes
//! the entries it masquerades, and a daemon tells its peers of every deletion. A gateway whose power fails tells nobody
//! anything: so the daemon dies first.

use std::time::Duration;

use crate::cluster::{Cluster, Transport};
use crate::lab::{Family, Lab, Path};
use crate::netns::holds_within;
use crate::table::{Table, table, wait_equal};
use crate::traffic::{Connection, Kind, Progress};

/// How long a connection that goes on is watched, after it has come back.
const WATCH: Duration = Duration::from_secs(2);
/// How long connections may take to come back: longer than TCP waits before its fourth attempt.
const COME_BACK_DEADLINE: Duration = Duration::from_secs(8);
/// How long the control is watched: TCP tries to send again 5 times in that, and UDP 400 times.
const WATCH_DEAD: Duration = Duration::from_secs(4);
/// A connection lives if it has brought something within this time: the slowest of them speaks 10 times in it.
const ALIVE: Duration = Duration::from_millis(500);
/// How long the gateways' tables may take to agree.
const REPLICATION_DEADLINE: Duration = Duration::from_secs(5);

/// What protects the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A daemon on each gateway.
    Ctsync,
    /// Nothing: the control.
    Nothing,
}

/// Two gateways, and connections through the first.
#[derive(Debug)]
pub struct Failover {
    // Connections end before the daemons, the daemons before the machines they run on.
    connections: Vec<Connection>,
    cluster: Option<Cluster>,
    lab: Lab,
    before: Vec<Progress>,
}

/// What became of a connection.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it carried.
    pub kind: Kind,
    /// How it was led.
    pub path: Path,
    /// IPv4 or IPv6.
    pub family: Family,
    /// What it had done when the gateway died.
    pub before: Progress,
    /// What it had done at the end.
    pub end: Progress,
}

/// Every connection that the experiment opens.
pub fn every_connection() -> impl Iterator<Item = (Kind, Family, Path)> {
    let kinds = [Kind::Bulk, Kind::Interactive, Kind::Datagrams];
    let families = [Family::Ipv4, Family::Ipv6];
    let paths = [Path::Plain, Path::Masqueraded, Path::Redirected];
    kinds.into_iter().flat_map(move |kind| {
        families
            .into_iter()
            .flat_map(move |family| paths.into_iter().map(move |path| (kind, family, path)))
    })
}

impl Failover {
    /// Builds the lab, and starts the daemons if they are to protect it.
    #[track_caller]
    pub fn prepare(protection: Protection) -> Failover {
        let lab = Lab::new(2);
        let cluster = match protection {
            Protection::Ctsync => Some(Cluster::start(&lab, Transport::Unicast)),
            Protection::Nothing => None,
        };
        Failover {
            connections: Vec::new(),
            cluster,
            lab,
            before: Vec::new(),
        }
    }

    /// Opens every connection through the first gateway, lets them flow for a while, and waits until the second gateway
    /// has every entry of the first, if it is to have them.
    #[track_caller]
    pub fn open(&mut self, flow_for: Duration) {
        self.connections = every_connection()
            .map(|(kind, family, path)| Connection::open(&self.lab, kind, path, family))
            .collect();
        holds_within(flow_for, || false);
        if self.cluster.is_some() {
            wait_equal(&self.lab.gateways, REPLICATION_DEADLINE);
        }
    }

    /// The tables of both gateways.
    #[track_caller]
    pub fn tables(&self) -> [Table; 2] {
        [0, 1].map(|it| table(&self.lab.gateways[it]))
    }

    /// Kills the daemon of the first gateway with SIGKILL.
    pub fn kill_daemon(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.members[0].process().kill();
        }
    }

    /// Takes the links of the first gateway down.
    #[track_caller]
    pub fn cut_links(&mut self) {
        self.lab.cut(0);
        self.before = self.connections.iter().map(Connection::progress).collect();
    }

    /// Moves routes and shared addresses to the second gateway.
    #[track_caller]
    pub fn move_routes(&self) {
        self.lab.activate(1);
    }

    /// Watches the connections: until all have come back, and a while longer, if they are protected; else long enough to
    /// see that none does. Then ends them.
    pub fn observe(&mut self) -> Vec<Outcome> {
        match self.cluster {
            Some(_) => {
                holds_within(COME_BACK_DEADLINE, || {
                    let mut now = self
                        .connections
                        .iter()
                        .map(Connection::progress)
                        .zip(&self.before);
                    now.all(|(now, before)| now.count > before.count && now.silence < ALIVE)
                });
                holds_within(WATCH, || false);
            }
            None => {
                holds_within(WATCH_DEAD, || false);
            }
        }
        let ends: Vec<_> = self.connections.iter().map(Connection::progress).collect();
        let outcomes = self.connections.iter().zip(&self.before).zip(ends);
        outcomes
            .map(|((connection, before), end)| Outcome {
                kind: connection.kind,
                path: connection.path,
                family: connection.family,
                before: before.clone(),
                end,
            })
            .collect()
    }
}

impl Outcome {
    /// Whether the connection lives.
    pub fn goes_on(&self) -> bool {
        self.end.failure.is_none() && self.end.count > self.before.count && self.end.silence < ALIVE
    }
}
