//! What is told of sync networks: in `status` of each peer, and in `syncstat` of everything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HeldStat, PeerHold};

/// How a peer and this member reach each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// Whether the peer is heard.
    pub heard: bool,
    /// Whether the peer hears this member, as it says itself or others say of it; `None` if nobody can tell.
    pub hears_us: Option<bool>,
    /// Name of the network that is used to it.
    pub network: String,
    /// Each network.
    pub networks: Vec<PathStatus>,
}

/// The way to and from a peer over one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathStatus {
    /// Name of the network.
    pub name: String,
    /// Which directions work.
    pub state: PathState,
    /// Smoothed round trip of a hello, in microseconds; `None` before the first.
    pub rtt_us: Option<u64>,
    /// Loss of what the peer sends, in thousandths, over the last ten seconds or so; `None` if too little was sent.
    pub loss_in_permille: Option<u16>,
    /// Loss of what this member sends, as the peer says.
    pub loss_out_permille: Option<u16>,
    /// Whether round trip or loss are past what the protocol was made for.
    pub degraded: bool,
    /// Datagrams sent to the peer over it.
    pub sent: u32,
    /// Datagrams of the peer's present run that came over it.
    pub received: u32,
}

/// Which directions of a way work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// Both.
    Up,
    /// The peer is heard, but does not hear this member.
    InOnly,
    /// The peer hears this member, but is not heard.
    OutOnly,
    /// None.
    Down,
}

impl PathState {
    /// Its name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::InOnly => "in-only",
            Self::OutOnly => "out-only",
            Self::Down => "down",
        }
    }
}

/// The answer to `syncstat`: how well changes get from member to member. Counts are since the daemon's start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncStat {
    /// Seconds since the daemon began its work, and to count.
    pub uptime_seconds: u64,
    /// What is wrong between members, a sentence each; all is well if there is none.
    pub warnings: Vec<String>,
    /// What was lost for good, as far as deltas go: bulk updates made it good.
    pub at_risk: AtRisk,
    /// What this member has told.
    pub sent: DeltaCounts,
    /// What peers have told this one.
    pub received: DeltaCounts,
    /// What waits.
    pub queues: Queues,
    /// What is waited for.
    pub timers: Timers,
    /// Packets that wait for the peers, or did.
    pub held: HeldStat,
    /// Each sync network.
    pub networks: Vec<NetworkStatus>,
    /// Each peer, over each network.
    pub peers: Vec<PeerReach>,
}

/// Times that what was missing could not be sent again: a bulk update told all flows anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AtRisk {
    /// Times that this member had missed too much, and asked a peer for a bulk update.
    pub bulk_updates_asked: u64,
    /// Times that a peer asked this member.
    pub bulk_updates_asked_by_peers: u64,
    /// Bulk updates that this member sent, for that or because the peer was new.
    pub bulk_updates_sent: u64,
    /// Deltas that came too long after, or before, what they belong to.
    pub out_of_window: u64,
}

/// Deltas in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeltaCounts {
    /// Deltas, those that went or came again left out.
    pub deltas: u64,
    /// Changes of flows in them.
    pub changes: u64,
    /// Deltas that went or came again.
    pub again: u64,
    /// Acknowledgements in the same direction.
    pub acknowledgements: u64,
    /// Of those, how many named missing deltas.
    pub requests: u64,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Queues {
    /// Deltas that the peer that is furthest behind has not acknowledged.
    pub unacknowledged: u64,
    /// Deltas of peers that are missing, though later ones have come.
    pub missing: u64,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timers {
    /// The longest that a change waits for others, in microseconds.
    pub flush_us: u64,
    /// Interval of hellos, in milliseconds.
    pub hello_ms: u64,
    /// A peer that is silent for so long is dead, in milliseconds.
    pub dead_after_ms: u64,
}

/// A sync network at this member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// The interface of this machine.
    pub interface: String,
    /// How a datagram for all peers is sent: `unicast`, `multicast` or `broadcast`.
    pub mode: String,
    /// How it is by the configuration; `ctsync mode` has switched it if that is another.
    pub configured: String,
    /// Whether the interface is there, with our address.
    pub open: bool,
    /// Speed of the interface in Mbit/s; `None` if it does not say.
    pub speed_mbit: Option<u64>,
    /// Datagrams sent, each copy counted.
    pub sent: u64,
    /// Datagrams received, from whomever.
    pub received: u64,
    /// Datagrams that the kernel would not send.
    pub unsent: u64,
    /// Bytes of those sent, without headers of UDP and IP.
    pub sent_bytes: u64,
    /// Bytes of those received.
    pub received_bytes: u64,
    /// Bytes sent in the last second.
    pub sent_per_second: u64,
    /// Bytes received in the last second.
    pub received_per_second: u64,
    /// The most bytes that went both ways in a second.
    pub peak_per_second: u64,
}

/// A peer and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerReach {
    /// Its number.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// How.
    #[serde(flatten)]
    pub reach: Reach,
    /// How long packets wait for it.
    pub hold: PeerHold,
}
