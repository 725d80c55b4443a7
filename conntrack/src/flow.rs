//! What a conntrack entry is: tuples, state, and everything the kernel tells of it.
//!
//! The types mirror the attributes of `linux/netfilter/nfnetlink_conntrack.h`; nothing here knows bytes.
//! Every field that the kernel may leave out of a message is an `Option`: `None` means *not said*, which in an
//! update is *unchanged* ([`crate::event::EventKind::Update`] is a patch).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::consts::{IPPROTO_ICMP, IPPROTO_ICMPV6};

/// One direction of a flow, as `CTA_TUPLE_ORIG` or `CTA_TUPLE_REPLY` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address; both addresses are of one family.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol number (`IPPROTO_*`).
    pub proto: u8,
    /// What tells flows of this protocol between the two addresses apart.
    pub l4: L4,
    /// Zone of this direction alone (`CTA_TUPLE_ZONE`); 0 when the zone is the flow's or the default one.
    pub zone: u16,
}

impl Tuple {
    /// A tuple for a decoder to write into.
    pub(crate) const BLANK: Self = Self {
        src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        proto: 0,
        l4: L4::None,
        zone: 0,
    };

    /// The tuple of the answers to a packet of this one, without NAT: what the kernel calls the inverse.
    ///
    /// ICMP and ICMPv6 queries become their replies and back (`nf_conntrack_invert_icmp_tuple`); other types stay.
    /// A zone of one direction is not the other's, so the mirror has none.
    pub fn mirror(&self) -> Self {
        let l4 = match self.l4 {
            L4::Ports { src, dst } => L4::Ports { src: dst, dst: src },
            L4::Icmp { kind, code, id } => L4::Icmp {
                kind: mirror_icmp(self.proto, kind),
                code,
                id,
            },
            L4::None => L4::None,
        };
        Self {
            src: self.dst,
            dst: self.src,
            proto: self.proto,
            l4,
            zone: 0,
        }
    }
}

/// The ICMP type that answers `kind`, or that `kind` answers.
fn mirror_icmp(proto: u8, kind: u8) -> u8 {
    match (proto, kind) {
        (IPPROTO_ICMP, 0) => 8,
        (IPPROTO_ICMP, 8) => 0,
        (IPPROTO_ICMP, 13 | 15 | 17) | (IPPROTO_ICMPV6, 128 | 139) => kind + 1,
        (IPPROTO_ICMP, 14 | 16 | 18) | (IPPROTO_ICMPV6, 129 | 140) => kind - 1,
        _ => kind,
    }
}

/// The transport part of a [`Tuple`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4 {
    /// Ports of TCP, UDP, UDPLite, SCTP, DCCP; keys of GRE (call identifiers of PPTP).
    Ports {
        /// `CTA_PROTO_SRC_PORT`
        src: u16,
        /// `CTA_PROTO_DST_PORT`
        dst: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// Identifier (of echo and the like).
        id: u16,
    },
    /// Any other protocol (generic tracker): addresses and protocol are all there is.
    None,
}

/// A conntrack entry, or the part of it that a message tells or a request sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// The original direction.
    pub orig: Tuple,
    /// The reply direction as the kernel has it: with NAT it is not the mirror of `orig`.
    pub reply: Tuple,
    /// `CTA_ZONE`: zone of both directions, 0 is the default zone.
    pub zone: u16,
    /// `CTA_ID`: the kernel's identifier, a keyed hash of the entry.
    pub id: Option<u32>,
    /// `CTA_STATUS`: `IPS_*` bits.
    pub status: Option<u32>,
    /// `CTA_TIMEOUT`: seconds left.
    pub timeout: Option<u32>,
    /// `CTA_MARK`
    pub mark: Option<u32>,
    /// `CTA_PROTOINFO`
    pub protoinfo: Option<ProtoInfo>,
    /// `CTA_LABELS`
    pub labels: Option<Labels>,
    /// `CTA_HELP`: name of the helper.
    pub helper: Option<HelperName>,
    /// `CTA_TUPLE_MASTER`: original tuple of the master of an expected flow.
    pub master: Option<Tuple>,
    /// `CTA_SEQ_ADJ_ORIG`, `CTA_SEQ_ADJ_REPLY`
    pub seq_adj: [Option<SeqAdj>; 2],
    /// `CTA_SYNPROXY`; `None` also when it is all zeros, as it is in entries that a request created.
    pub synproxy: Option<SynProxy>,
    /// `CTA_TIMESTAMP_START`: when the flow began, in nanoseconds of the wall clock. The kernel tells it only in its table
    /// and at the end, and only of flows that began while `net.netfilter.nf_conntrack_timestamp` was 1.
    pub start_nanos: Option<u64>,
    /// `CTA_COUNTERS_ORIG`, `CTA_COUNTERS_REPLY`: what passed this kernel. It tells that only in its table and at the end, and
    /// only of flows that began while `net.netfilter.nf_conntrack_acct` was 1.
    pub counters: Option<[Counters; 2]>,
}

/// Packets of one direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `CTA_COUNTERS_PACKETS`
    pub packets: u64,
    /// `CTA_COUNTERS_BYTES`: of the IP packets, with their headers.
    pub bytes: u64,
}

impl Flow {
    /// A flow of which nothing is said, for a decoder to write into.
    pub(crate) const BLANK: Self = Self {
        orig: Tuple::BLANK,
        reply: Tuple::BLANK,
        zone: 0,
        id: None,
        status: None,
        timeout: None,
        mark: None,
        protoinfo: None,
        labels: None,
        helper: None,
        master: None,
        seq_adj: [None; 2],
        synproxy: None,
        start_nanos: None,
        counters: None,
    };

    /// A flow without NAT of which only the tuples are said.
    pub fn new(orig: Tuple) -> Self {
        Self {
            orig,
            reply: orig.mirror(),
            ..Self::BLANK
        }
    }
}

/// `CTA_PROTOINFO`: what the kernel's tracker of the protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoInfo {
    /// `CTA_PROTOINFO_TCP`
    Tcp(TcpInfo),
    /// `CTA_PROTOINFO_SCTP`
    Sctp(SctpInfo),
    /// `CTA_PROTOINFO_DCCP`
    Dccp(DccpInfo),
}

/// `CTA_PROTOINFO_TCP`. Index 0 is the original direction, 1 the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// `TCP_CONNTRACK_*` (`linux/netfilter/nf_conntrack_tcp.h`): 1 SYN_SENT, 2 SYN_RECV, 3 ESTABLISHED, ...
    pub state: u8,
    /// Window scale of each direction.
    pub wscale: Option<[u8; 2]>,
    /// `IP_CT_TCP_FLAG_*` of each direction.
    pub flags: Option<[u8; 2]>,
}

/// `CTA_PROTOINFO_SCTP`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpInfo {
    /// `SCTP_CONNTRACK_*`
    pub state: u8,
    /// Verification tags of the original and the reply direction; 0 where the message has none (DESTROY).
    pub vtag: [u32; 2],
}

/// `CTA_PROTOINFO_DCCP`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DccpInfo {
    /// `CT_DCCP_*` state.
    pub state: u8,
    /// `CTA_PROTOINFO_DCCP_ROLE`
    pub role: u8,
    /// `CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ`
    pub handshake_seq: u64,
}

/// Connection labels: 128 bits, as the bytes of the attribute.
pub type Labels = [u8; 16];

/// The labels whose numbers are the bits of `bits`: the kernel has them in words of the machine.
pub fn labels(bits: u128) -> Labels {
    let words = [bits as u64, (bits >> 64) as u64].map(u64::to_ne_bytes);
    std::array::from_fn(|at| words[at / 8][at % 8])
}

/// The name of a conntrack helper; at most 15 bytes (`NF_CT_HELPER_NAME_LEN` is 16 with its NUL).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HelperName {
    len: u8,
    /// The name, then NUL.
    bytes: [u8; 16],
}

impl HelperName {
    /// The longest name the kernel takes, in bytes.
    pub const LEN_MAX: usize = 15;

    /// `None` when the name is empty, too long, or has a NUL in it.
    pub fn new(name: &str) -> Option<Self> {
        let source = name.as_bytes();
        if source.is_empty() || source.contains(&0) {
            return None;
        }
        let mut bytes = [0; Self::LEN_MAX + 1];
        bytes[..Self::LEN_MAX]
            .get_mut(..source.len())?
            .copy_from_slice(source);
        Some(Self {
            len: u8::try_from(source.len()).ok()?,
            bytes,
        })
    }

    /// The name, as in `nfct-helper` modules and in rules: `ftp`, `sip`, `RAS`.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("it was made of a str")
    }

    /// The name with the NUL after it, as the kernel wants it.
    pub(crate) fn with_nul(&self) -> &[u8] {
        &self.bytes[..=usize::from(self.len)]
    }
}

impl fmt::Debug for HelperName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// `CTA_SEQ_ADJ_*` of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqAdj {
    /// `CTA_SEQADJ_CORRECTION_POS`
    pub correction_pos: u32,
    /// `CTA_SEQADJ_OFFSET_BEFORE`
    pub offset_before: u32,
    /// `CTA_SEQADJ_OFFSET_AFTER`
    pub offset_after: u32,
}

/// `CTA_SYNPROXY`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynProxy {
    /// Initial sequence number that the client was given.
    pub isn: u32,
    /// Initial TCP timestamp.
    pub its: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}

#[cfg(test)]
mod tests;
