//! The answer of `ctsync services`: what each service costs.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All since the daemon's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// Those of the policy's files, and others that cost something; the costliest first.
    pub services: Vec<ServiceCost>,
    /// How many more there are.
    pub left_out: usize,
}

/// What one service has cost this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceCost {
    /// Its name; `None` for flows that match none.
    pub service: Option<String>,
    /// True if that is a built-in one.
    pub builtin: bool,
    /// `always`, `never` or `delayed`.
    pub sync: Cow<'static, str>,
    /// Of a delayed one.
    pub delay_seconds: Option<u64>,
    /// Flows that began.
    pub flows: u64,
    /// Changes that the kernel told.
    pub events: u64,
    /// Changes that the peers were told in datagrams, those that were sent again included; one to several peers is one.
    pub messages: u64,
    /// Bytes of those; headers, which many share, not included.
    pub bytes: u64,
    /// Flows of which it is known how long they lived: a sample of those that began more than 30 seconds ago.
    pub watched: u64,
    /// How many of these ended within a second,
    pub ended_within_1s: u64,
    /// within 3 seconds,
    pub ended_within_3s: u64,
    /// within 15 seconds,
    pub ended_within_15s: u64,
    /// and within 30 seconds.
    pub ended_within_30s: u64,
}
