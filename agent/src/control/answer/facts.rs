//! What the daemon answers to `facts`: what of the members' machines should be alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::Facts;

/// The answer to `facts`, which `ctsync doctor` compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FactsReport {
    /// This machine.
    pub facts: Facts,
    /// Those of the peers that have told.
    pub peers: Vec<PeerFacts>,
}

/// A peer's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerFacts {
    /// Number of the peer.
    pub id: u8,
    /// Its name in the configuration.
    pub name: String,
    /// By how many milliseconds its clock was ahead of ours when it told.
    pub clock_ahead_ms: i64,
    /// What it is like.
    pub facts: Facts,
}
