//! What the daemon answers to `audit`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Endpoints;

/// The answer to `audit`: what was found by comparing this kernel's table with what is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Seconds between two rounds, if the table is not so large that it takes longer.
    pub interval_seconds: u64,
    /// Rounds since the start.
    pub rounds: u64,
    /// The longest piece of one, in microseconds of a processor: nothing else was done meanwhile. Since the start.
    pub longest_us: u64,
    /// The last round; `None` before the first.
    pub last: Option<Round>,
    /// The last round that found nothing but lag and conflicts, also when copies were compared with what every peer carries.
    pub equal: Option<Round>,
    /// What the copies of each peer's flows were found to be.
    pub peers: Vec<Proof>,
    /// What was found since the start.
    pub differences: DifferenceCounts,
    /// The last differences, newest first.
    pub history: Vec<Difference>,
}

/// A round: the whole table was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// When it ended.
    pub seconds_ago: u64,
    /// How long it took.
    pub milliseconds: u64,
    /// What it took of a processor, in microseconds, with the answers to peers since the round before.
    pub cpu_us: u64,
    /// Entries that were compared.
    pub entries: u64,
    /// What it found; all of it was repaired, but conflicts.
    pub differences: DifferenceCounts,
}

/// Whether this member's copies are what a peer carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// The peer.
    pub member: u8,
    /// Its name.
    pub name: String,
    /// When they last were; `None` if never.
    pub equal: Option<Equal>,
}

/// Copies were what their carrier had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Equal {
    /// When.
    pub seconds_ago: u64,
    /// How many flows the peer carried.
    pub flows: u64,
}

/// How many differences there were, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceCounts {
    /// A kernel lacked a copy: this one, or, of a flow that this member carries, those of the peers.
    pub missing: u64,
    /// A kernel had a copy that nobody carries.
    pub ghost: u64,
    /// A copy was translated otherwise than its original.
    pub nat: u64,
    /// A copy had another state, status or mark than its original.
    pub attribute: u64,
    /// A kernel has no place for a copy: another flow has one of its tuples, and stays; `explain` names it.
    pub conflict: u64,
    /// What makes it good was on its way.
    pub lag: u64,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// When the round ended that found it.
    pub seconds_ago: u64,
    /// When the flow was first found to differ.
    pub first_seconds_ago: u64,
    /// In how many rounds it was.
    pub times: u32,
    /// Its class: one of the names in `differences`.
    pub class: Cow<'static, str>,
    /// Protocol of the flow, as in `flows`.
    pub proto: Cow<'static, str>,
    /// The flow.
    pub orig: Endpoints,
    /// Its zone.
    pub zone: u16,
    /// Number of the member that carries it; `None` if nobody does.
    pub member: Option<u8>,
}
