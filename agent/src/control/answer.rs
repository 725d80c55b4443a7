//! What the daemon answers on the control socket: the types behind `ctsync status --json` and `ctsync flows --json`.
//!
//! Units stand last in a name (`rtt_us`); a name without one is a plain number. A field may be added, none may change
//! its meaning: other people's scripts read this.

pub mod accounting;
pub mod audit;
pub mod explain;
pub mod facts;
pub mod members;
pub mod services;
pub mod sync;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

pub use holds::{HeldStat, HoldStatus, Latency, PeerHold, SplitDestination, SplitDestinations};
use members::Check;
pub use networks::{
    AtRisk, DeltaCounts, NetworkStatus, PathState, PathStatus, PeerReach, Queues, Reach, SyncStat,
    Timers,
};
use sync::SyncStatus;

mod holds;
mod networks;

/// The answer to `status`: this member, as it sees itself and its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the daemon, as `ctsync --version` prints it.
    pub version: String,
    /// Number of the cluster.
    pub cluster: u16,
    /// This member.
    pub member: MemberStatus,
    /// Seconds since the daemon began its work.
    pub uptime_seconds: u64,
    /// How many flows it knows.
    pub flows: FlowCounts,
    /// Whether it has everything that the others have.
    pub sync: SyncStatus,
    /// Packets that wait until the peers have their flow.
    pub holds: HoldStatus,
    /// The key that seals its datagrams.
    pub key: KeyStatus,
    /// What this member is in the cluster.
    pub role: RoleStatus,
    /// The other members, by id.
    pub peers: Vec<PeerStatus>,
    /// What this member and every live peer can, whatever their versions.
    pub capabilities: Vec<String>,
    /// What is wrong between members, a sentence each.
    pub warnings: Vec<String>,
    /// Everything that is counted since the start.
    pub counters: Counters,
}

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberStatus {
    /// Its number, 1 to 16.
    pub id: u8,
    /// Its name in the configuration.
    pub name: String,
}

/// What a member is in the cluster; `members` has the rest of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleStatus {
    /// `down`, `init`, `standby`, `ready`, `active`, or `active-attention`.
    pub state: String,
    /// Seconds that it has been so.
    pub seconds: u64,
    /// Why, with all that it lacks.
    pub why: String,
    /// What is checked.
    pub checks: Vec<Check>,
}

/// The key that seals a member's datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyStatus {
    /// Its number among the keys of this run, from 0; it wraps after 255.
    pub epoch: u8,
    /// Seconds since it came into use.
    pub age_seconds: u64,
}

/// How many flows are known, by how this member came to know them; each flow counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowCounts {
    /// Flows that began here, or moved here.
    pub own: u64,
    /// Copies of flows that a peer carries.
    pub copies: u64,
    /// Flows that were in the kernel before the daemon was.
    pub found: u64,
}

/// A peer, as this member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerStatus {
    /// Its number, 1 to 16.
    pub id: u8,
    /// Its name in the configuration.
    pub name: String,
    /// Whether it lives.
    pub state: PeerState,
    /// Version of its daemon; `None` if it did not say.
    pub version: Option<String>,
    /// What this member's version can and the peer's cannot, as far as it is live.
    pub lacks: Vec<String>,
    /// Whether there is a link to it (TLS), over which keys are handed out.
    pub linked: bool,
    /// Whether it was told every flow that this member has, and told every one of its own; changes on their way aside.
    pub synced: bool,
    /// Smoothed time from sending it a datagram to its acknowledgement, in microseconds; `None` before the first.
    pub rtt_us: Option<u64>,
    /// Milliseconds since its last datagram; `None` before the first.
    pub last_heard_ms: Option<u64>,
    /// Datagrams that it was sent and has not acknowledged.
    pub unacknowledged: u64,
    /// Deltas of it that are missing, though a later one has come; they are on their way again.
    pub missing: u64,
    /// Changes that its kernel refused since it started.
    pub refused: u64,
    /// How long packets wait for it.
    pub hold: PeerHold,
    /// How it and this member reach each other.
    #[serde(flatten)]
    pub reach: Reach,
}

/// Whether a peer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// It was heard within `dead_after`.
    Live,
    /// It was heard once, but not within `dead_after`.
    Dead,
    /// It was not heard since this daemon started.
    NeverSeen,
}

/// The answer to `keys-roll`: another key is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rolled {
    /// Its number.
    pub epoch: u8,
    /// Numbers of the live peers that have no link, and cannot have got it.
    pub unlinked: Vec<u8>,
}

/// The answer to `reload`: the policy as it is written now is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// How many services it has.
    pub services: usize,
    /// How many rules.
    pub rules: usize,
    /// Keys of the configuration that have changed too, and take effect at the next restart.
    pub restart: Vec<String>,
}

/// Counters by name, in the order in which they are shown; a JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub Vec<(Cow<'static, str>, u64)>);

/// One row of the answer to `flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowRow {
    /// Address family.
    pub family: Family,
    /// Protocol by name (`tcp`), or by number when it has none here.
    pub proto: Cow<'static, str>,
    /// The original direction, before any translation.
    pub orig: Endpoints,
    /// What the source becomes; `None` when it stays.
    pub nat_src: Option<Translation>,
    /// What the destination becomes; `None` when it stays.
    pub nat_dst: Option<Translation>,
    /// State of the protocol as the `conntrack` tool names it (`ESTABLISHED`); `None` for protocols without any.
    pub state: Option<Cow<'static, str>>,
    /// Seconds that the flow had left when the kernel last told; `None` for an offloaded flow, which has no timeout.
    pub timeout: Option<u32>,
    /// The connmark.
    pub mark: u32,
    /// The zone; 0 is the default one.
    pub zone: u16,
    /// How this member came to know it.
    pub origin: Origin,
    /// Number of the member that carries it.
    pub member: u8,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

/// Who talks to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoints {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; of ICMP the identifier; `None` for protocols without ports.
    pub sport: Option<u16>,
    /// Destination port; of ICMP type and code, as type * 256 + code; `None` for protocols without ports.
    pub dport: Option<u16>,
}

/// What one end of a flow is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Translation {
    /// The address.
    pub addr: IpAddr,
    /// The port, or the identifier of ICMP; `None` for protocols without ports.
    pub port: Option<u16>,
}

/// How this member came to know a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// It began here, or moved here.
    Own,
    /// It was in the kernel before the daemon was.
    Found,
    /// A peer told of it.
    Copy,
}

/// Where a page of flows begins: a position that only the daemon's driver can read; the first page is at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u32);

/// Some of the flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowPage {
    /// At most as many as were asked for.
    pub rows: Vec<FlowRow>,
    /// Where the next page begins, always after this one; `None` when this was the last.
    pub next: Option<Cursor>,
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Counters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Counters;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Counters, A::Error> {
                let mut counters = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, u64>()? {
                    counters.push((name.into(), value));
                }
                Ok(Counters(counters))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
