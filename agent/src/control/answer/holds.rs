//! What is told of packets that wait for the peers: in `status` how long they do, in `paths` which ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Endpoints;

/// Packets that wait, or did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldStatus {
    /// How many wait now.
    pub now: u64,
    /// How long one waits at most, in microseconds.
    pub deadline_us: u64,
    /// How long those waited that were acknowledged.
    pub latency: Latency,
}

/// Packets that wait or did, by how their waits ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldStat {
    /// How many wait now, and how long those did that were acknowledged.
    #[serde(flatten)]
    pub status: HoldStatus,
    /// Every peer that was waited for had the flow.
    pub acked: u64,
    /// Time was over.
    pub deadline: u64,
    /// As many waited as may.
    pub limit: u64,
    /// Nobody was there to wait for.
    pub no_peer: u64,
    /// The flow was not known, or ended meanwhile.
    pub unknown: u64,
    /// The daemon ended.
    pub shutdown: u64,
}

/// A peer, as somebody to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerHold {
    /// True if it missed its deadline repeatedly: nobody waits for it.
    pub aside: bool,
    /// How long it took to acknowledge the flows of packets that waited for it.
    pub latency: Latency,
}

/// Times, in microseconds, since the daemon's start; `None` if none was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// How many were taken.
    pub count: u64,
    /// All of them together.
    pub sum_us: u64,
    /// What half of them were within; up to a quarter too much.
    pub p50_us: Option<u64>,
    /// What 99 % of them were within; up to a quarter too much.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
}

/// The answer to `paths`: the destinations whose flows pass this gateway one way and another the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitDestinations {
    /// Whether first packets are held because of what was learnt: with `hold: { mode: auto }`, where the kernel can.
    pub used: bool,
    /// A destination is forgotten when none of its flows was seen on two gateways for so long.
    pub forgotten_after_seconds: u64,
    /// Flows whose destinations were not learnt, as there were as many already as may be.
    pub not_learnt: u64,
    /// The destinations.
    pub destinations: Vec<SplitDestination>,
}

/// A destination whose flows pass two gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitDestination {
    /// Address and length of the prefix, `203.0.113.0/24`.
    pub destination: String,
    /// The interfaces by which first packets to there are held; none if by any.
    pub interfaces: Vec<String>,
    /// Seconds since it was learnt.
    pub seconds: u64,
    /// Seconds since a flow to there was seen on two gateways last.
    pub seen_seconds_ago: u64,
    /// Seconds until it is forgotten, if no other is seen.
    pub forgotten_in_seconds: u64,
    /// How many flows were seen.
    pub flows: u64,
    /// Protocol of the last of them.
    pub proto: String,
    /// Its original direction.
    pub orig: Endpoints,
}
