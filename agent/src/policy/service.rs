//! Services: what a flow is, and how one of that kind is treated.

use ccp::record::FlowKey;
use ccp::wire::flow::{DCCP, SCTP, TCP};
use conntrack::consts::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use std::borrow::Cow;
use std::time::Duration;

/// User datagrams.
pub const UDP: u8 = 17;
const UDPLITE: u8 = 136;

/// A kind of flow, by name, and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique in the policy.
    pub name: String,
    /// Which flows are of it.
    pub flows: Flows,
    /// What its packets carry, as far as that matters.
    pub kind: Kind,
    /// Whether and when peers are told.
    pub sync: Sync,
    /// Whether the first packet waits for the peers.
    pub hold: Hold,
}

/// Whether and when the peers are told of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// At once.
    Always,
    /// Not at all.
    Never,
    /// If it still lives that long after its start.
    Delayed(Duration),
}

impl Sync {
    /// How it is written, and of a delayed one the delay in seconds.
    pub fn words(self) -> (&'static str, Option<u64>) {
        match self {
            Self::Always => ("always", None),
            Self::Never => ("never", None),
            Self::Delayed(delay) => ("delayed", Some(delay.as_secs())),
        }
    }
}

/// Whether the first packet of a flow waits until the peers have the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Each does.
    Always,
    /// Those of paths that are known to be non-sticky do.
    Auto,
    /// None does.
    Never,
}

/// What the packets of a service carry, as far as it matters for how the service can be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing that the kernel reads.
    None,
    /// HTTP: many short flows.
    Http,
    /// What a helper of conntrack reads, to expect related flows; its name.
    Helper(&'static str),
}

/// The helpers of the kernel and of `conntrackd`, as the policy names them.
pub const HELPERS: [&str; 16] = [
    "amanda",
    "dhcpv6",
    "ftp",
    "h323",
    "irc",
    "mdns",
    "netbios-ns",
    "pptp",
    "rpc",
    "sane",
    "sip",
    "slp",
    "snmp",
    "ssdp",
    "tftp",
    "tns",
];

impl Kind {
    /// The kind that is written so.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "http" => Some(Self::Http),
            helper => (HELPERS.iter())
                .find(|name| **name == helper)
                .map(|name| Self::Helper(name)),
        }
    }

    /// How it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Http => "http",
            Self::Helper(name) => name,
        }
    }
}

/// A set of flows, by protocol and, in those that have any, by destination port or ICMP type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flows {
    /// Protocol numbers, ascending; none means all.
    pub protocols: Vec<u8>,
    /// Destination ports, or ICMP types: first and last of each range, ascending, none touching another; none means all.
    pub selectors: Vec<(u16, u16)>,
}

impl Flows {
    /// True if every flow of `other` is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        let protocols = self.protocols.is_empty()
            || !other.protocols.is_empty()
                && (other.protocols.iter()).all(|protocol| self.protocols.contains(protocol));
        let within = |inner: &(u16, u16)| {
            (self.selectors.iter()).any(|outer| outer.0 <= inner.0 && inner.1 <= outer.1)
        };
        protocols
            && (self.selectors.is_empty()
                || !other.selectors.is_empty() && other.selectors.iter().all(within))
    }

    /// True if a flow can be of both.
    pub fn meets(&self, other: &Self) -> bool {
        let protocols = self.protocols.is_empty()
            || other.protocols.is_empty()
            || (self.protocols.iter()).any(|protocol| other.protocols.contains(protocol));
        let meets = |one: &(u16, u16)| {
            (other.selectors.iter()).any(|other| one.0 <= other.1 && other.0 <= one.1)
        };
        protocols
            && (self.selectors.is_empty()
                || other.selectors.is_empty()
                || self.selectors.iter().any(meets))
    }
}

/// What tells services of one protocol apart: the destination port before any translation, the type of ICMP, or 0.
pub fn selector(key: &FlowKey) -> u16 {
    match key.proto {
        proto if has_ports(proto) => key.l4[1],
        IPPROTO_ICMP | IPPROTO_ICMPV6 => key.l4[1] >> 8,
        _ => 0,
    }
}

/// True of the protocols whose flows have a destination port.
pub fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | UDPLITE | SCTP | DCCP)
}

/// True of the protocols whose flows have a type.
pub fn has_types(protocol: u8) -> bool {
    matches!(protocol, IPPROTO_ICMP | IPPROTO_ICMPV6)
}

/// Protocols by the names of `/etc/protocols`.
const PROTOCOLS: [(&str, u8); 19] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
];

/// The number of a protocol that is written as its name or its number.
pub fn parse_protocol(word: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(name, _)| *name == word);
    named
        .map(|(_, number)| *number)
        .or_else(|| word.parse().ok())
}

/// How a protocol is written.
pub fn protocol_word(protocol: u8) -> Cow<'static, str> {
    let named = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    named.map_or_else(|| protocol.to_string().into(), |(name, _)| (*name).into())
}
