//! The answer of `ctsync accounting`: what has passed, by member and service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every member has counted, as far as it has told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accounting {
    /// How often this member counts and tells; `None` if it does not count.
    pub interval_seconds: Option<u64>,
    /// This one first.
    pub members: Vec<MemberTraffic>,
    /// What this member counted since its daemon's start, which is what the metrics tell.
    pub since_start: Vec<ServiceTraffic>,
}

/// What one member has counted since it began to, restarts included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberTraffic {
    /// Its number.
    pub member: u8,
    /// Its name.
    pub name: String,
    /// When it told; `None` of this one.
    pub told_seconds_ago: Option<u64>,
    /// In all.
    #[serde(flatten)]
    pub total: Traffic,
    /// By service, the most bytes first.
    pub services: Vec<ServiceTraffic>,
    /// How many more services there are.
    pub left_out: usize,
}

/// What has passed of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceTraffic {
    /// Its name; `None` for flows that match none.
    pub service: Option<String>,
    /// What has passed.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// Packets, and bytes of them with their IP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// Of the directions in which flows began.
    pub packets: u64,
    /// Of those.
    pub bytes: u64,
    /// Replies.
    pub reply_packets: u64,
    /// Of those.
    pub reply_bytes: u64,
}

impl Traffic {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
            reply_packets: self.reply_packets.saturating_add(other.reply_packets),
            reply_bytes: self.reply_bytes.saturating_add(other.reply_bytes),
        }
    }

    /// Bytes of both directions.
    pub fn bytes_both(self) -> u64 {
        self.bytes.saturating_add(self.reply_bytes)
    }
}
