//! The question and the answer of `ctsync explain`: one flow, and why it is or is not where it should be.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::DecidedBy;

/// Which flow: its original direction, before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// Protocol number.
    pub proto: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; of ICMP the identifier; 0 for protocols without.
    pub sport: u16,
    /// Destination port; of ICMP type * 256 + code; 0 for protocols without.
    pub dport: u16,
    /// The zone.
    pub zone: u16,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// False if it is not the cluster's at all: of or to the gateway itself, broadcast, multicast or link-local.
    pub forwarded: bool,
    /// What decided, and the service that it is of.
    #[serde(flatten)]
    pub decided_by: DecidedBy,
    /// `always`, `never` or `delayed`.
    pub sync: Cow<'static, str>,
    /// How long it is delayed, in seconds; `None` if it is not.
    pub delay_seconds: Option<u64>,
    /// `always`, `auto` or `never`: whether its first packet waits for the peers.
    pub hold: Cow<'static, str>,
    /// What is known of it here.
    pub known: Known,
    /// The flow of this kernel that has its reply tuple, so that it is not there; `None` if it is, or nothing is in its way.
    pub conflict: Option<String>,
    /// Whether each of the other members has it, by id.
    pub peers: Vec<PeerHas>,
}

/// What a member knows of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Nothing: it is not in the kernel, or nobody is told of it.
    No,
    /// It waits for its delay to be over.
    Delayed {
        /// Seconds left.
        seconds_left: u64,
    },
    /// It is live.
    Live {
        /// Who carries it.
        member: u8,
        /// How this member came to know it.
        origin: super::Origin,
        /// State of the protocol, as the `conntrack` tool names it.
        state: Option<Cow<'static, str>>,
        /// Seconds that it had left when its carrier's kernel last told.
        timeout: u32,
        /// True if this kernel has it.
        in_kernel: bool,
        /// Seconds since its carrier told of its last change; `None` if it has told nobody.
        told_seconds_ago: Option<u64>,
    },
    /// It has ended, and its end is still remembered.
    Ended {
        /// Who carried it; `None` if no peer was told of it.
        member: Option<u8>,
        /// How long ago; `None` if only that is known.
        seconds: Option<u64>,
    },
}

/// Whether a member has a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeerHas {
    /// Its number.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// What is known of that.
    pub has: Has,
    /// Of one whose kernel has it: seconds since it was told what it has.
    pub seconds: Option<u64>,
}

/// Whether a member has a flow, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Has {
    /// It carries it.
    Carries,
    /// Its kernel has it as it is now.
    Yes,
    /// It is being told.
    Soon,
    /// It was not told.
    No,
    /// Only the carrier knows.
    AskCarrier,
}
