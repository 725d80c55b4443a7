//! What the daemon answers about full syncs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether everything that the others have is in this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncStatus {
    /// It is, changes on their way aside.
    pub complete: bool,
    /// For how many milliseconds it has not been; 0 if it is.
    pub incomplete_ms: u64,
    /// Number of the peer that gives a snapshot now.
    pub from: Option<u8>,
    /// Flows that came by snapshot since it was complete last.
    pub flows: u64,
    /// How many there are about; 0 before a peer said so.
    pub flows_expected: u64,
    /// Parts of the snapshot that are whole.
    pub parts: u8,
    /// Parts that it has.
    pub parts_expected: u8,
}
