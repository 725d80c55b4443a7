//! Headers of a packet to the tuple that the kernel makes of them.
//!
//! For packets without their conntrack entry. What is read, and what is refused, is what the kernel does
//! (`nf_ct_get_tuple`, `ipv6_skip_exthdr`, `tcp_options`); a packet whose tuple can't be known is a [`PacketError`].
//! Checksums are not looked at: the kernel has done that when a packet is in state new. No bytes make it panic.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::consts::*;
use crate::flow::{Flow, L4, ProtoInfo, SctpInfo, TcpInfo, Tuple};

pub use tcp::{TcpHeader, TcpKind};

mod tcp;

/// What the headers of a packet say of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The direction that the packet goes in, without zone, which no packet tells.
    pub tuple: Tuple,
    /// What matters of the transport header beyond the ports.
    pub transport: Transport,
}

/// The part of a transport header that decides on the state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP
    Tcp(TcpHeader),
    /// A SCTP packet whose first chunk is an INIT: it opens an association.
    SctpInit {
        /// Verification tag that the answers will carry.
        init_tag: u32,
    },
    /// Any other packet.
    Other,
}

/// Why the tuple of a packet can't be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketError {
    /// It ends, or what is shown of it ends, within a header.
    Short,
    /// Neither IPv4 nor IPv6.
    Version,
    /// A header says that it is shorter than it can be.
    HeaderLength,
    /// A part of a packet: the kernel tracks only whole ones.
    Fragment,
    /// A packet that no flow begins or goes on with: an error message, or no transport at all.
    NoFlow,
    /// A protocol whose tuple is not in the packet alone: the source key of PPTP's GRE is known to its helper, and
    /// whether DCCP has ports depends on the kernel.
    NotInPacket,
}

impl Packet {
    /// Reads a packet from its IP header on. It need not be whole, but its headers must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        match first(bytes)? >> 4 {
            4 => ipv4(bytes),
            6 => ipv6(bytes),
            _ => Err(PacketError::Version),
        }
    }

    /// The flow that the kernel makes of it when it opens one and is not translated, as far as it follows from the
    /// packet: tuples, and the first state of TCP and SCTP. Status and timeout are not said.
    pub fn opened_flow(&self) -> Flow {
        let protoinfo = match self.transport {
            Transport::Tcp(header) if header.kind == TcpKind::Syn => {
                Some(ProtoInfo::Tcp(TcpInfo {
                    state: TCP_CONNTRACK_SYN_SENT,
                    wscale: Some([header.window_scale.unwrap_or(0), 0]),
                    flags: Some([header.conntrack_flags(), 0]),
                }))
            }
            Transport::SctpInit { init_tag } => Some(ProtoInfo::Sctp(SctpInfo {
                state: SCTP_CONNTRACK_CLOSED,
                vtag: [0, init_tag],
            })),
            Transport::Tcp(_) | Transport::Other => None,
        };
        Flow {
            protoinfo,
            ..Flow::new(self.tuple)
        }
    }
}

fn ipv4(bytes: &[u8]) -> Result<Packet, PacketError> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
    let header: &[u8; 20] = at(bytes, 0)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header_len < header.len() {
        return Err(PacketError::HeaderLength);
    }
    if u16::from_be_bytes([header[6], header[7]]) & MORE_FRAGMENTS_AND_OFFSET != 0 {
        return Err(PacketError::Fragment);
    }
    let [src, dst] = [12, 16].map(|start| at::<4>(bytes, start));
    let addresses = [src?, dst?].map(|octets| IpAddr::V4(Ipv4Addr::from(*octets)));
    transport(addresses, header[9], from(bytes, header_len)?)
}

fn ipv6(bytes: &[u8]) -> Result<Packet, PacketError> {
    const MORE_FRAGMENTS_AND_OFFSET: u16 = 0xfff9;
    let header: &[u8; 40] = at(bytes, 0)?;
    let [src, dst] = [8, 24].map(|start| at::<16>(bytes, start));
    let addresses = [src?, dst?].map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)));
    let mut next = header[6];
    let mut rest = from(bytes, header.len())?;
    // Each turn takes 8 bytes at least.
    loop {
        let [_, length] = *match next {
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS | IPPROTO_AH | IPPROTO_FRAGMENT => {
                at::<2>(rest, 0)?
            }
            IPPROTO_NONE => return Err(PacketError::NoFlow),
            proto => return transport(addresses, proto, rest),
        };
        let length = usize::from(length);
        let header_len = match next {
            IPPROTO_FRAGMENT => {
                let place = u16::from_be_bytes(*at(rest, 2)?);
                if place & MORE_FRAGMENTS_AND_OFFSET != 0 {
                    return Err(PacketError::Fragment);
                }
                8
            }
            IPPROTO_AH => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        next = first(rest)?;
        rest = from(rest, header_len)?;
    }
}

fn transport(addresses: [IpAddr; 2], proto: u8, bytes: &[u8]) -> Result<Packet, PacketError> {
    let (l4, transport) = match proto {
        IPPROTO_TCP => (ports(bytes)?, Transport::Tcp(TcpHeader::parse(bytes)?)),
        IPPROTO_SCTP => (ports(bytes)?, sctp(bytes)?),
        IPPROTO_UDP | IPPROTO_UDPLITE => (ports(bytes)?, Transport::Other),
        IPPROTO_ICMP => (
            icmp(bytes, |kind| matches!(kind, 0 | 8 | 13..=18))?,
            Transport::Other,
        ),
        IPPROTO_ICMPV6 => (
            icmp(bytes, |kind| matches!(kind, 128 | 129 | 139 | 140))?,
            Transport::Other,
        ),
        IPPROTO_GRE => (gre(bytes)?, Transport::Other),
        IPPROTO_DCCP => return Err(PacketError::NotInPacket),
        _ => (L4::None, Transport::Other),
    };
    let [src, dst] = addresses;
    Ok(Packet {
        tuple: Tuple {
            src,
            dst,
            proto,
            l4,
            zone: 0,
        },
        transport,
    })
}

fn ports(bytes: &[u8]) -> Result<L4, PacketError> {
    let [a, b, c, d] = *at(bytes, 0)?;
    Ok(L4::Ports {
        src: u16::from_be_bytes([a, b]),
        dst: u16::from_be_bytes([c, d]),
    })
}

/// Type, code and identifier of a message that has one.
fn icmp(bytes: &[u8], has_id: impl Fn(u8) -> bool) -> Result<L4, PacketError> {
    let [kind, code, _, _, a, b, _, _] = *at(bytes, 0)?;
    if !has_id(kind) {
        return Err(PacketError::NoFlow);
    }
    Ok(L4::Icmp {
        kind,
        code,
        id: u16::from_be_bytes([a, b]),
    })
}

/// The kernel's tuple of plain GRE has keys of 0.
fn gre(bytes: &[u8]) -> Result<L4, PacketError> {
    const VERSION: u8 = 0x07;
    let [_, version] = *at(bytes, 0)?;
    if version & VERSION != 0 {
        return Err(PacketError::NotInPacket);
    }
    Ok(L4::Ports { src: 0, dst: 0 })
}

fn sctp(bytes: &[u8]) -> Result<Transport, PacketError> {
    const INIT: u8 = 1;
    /// Ports, tag, checksum.
    const HEADER_LEN: usize = 12;
    if *at::<1>(bytes, HEADER_LEN)? != [INIT] {
        return Ok(Transport::Other);
    }
    // Type, flags, length; then the tag.
    let init_tag = u32::from_be_bytes(*at(bytes, HEADER_LEN + 4)?);
    Ok(Transport::SctpInit { init_tag })
}

fn first(bytes: &[u8]) -> Result<u8, PacketError> {
    at::<1>(bytes, 0).map(|[byte]| *byte)
}

/// What follows the first `start` bytes.
fn from(bytes: &[u8], start: usize) -> Result<&[u8], PacketError> {
    bytes.get(start..).ok_or(PacketError::Short)
}

/// `N` bytes from `start` on.
fn at<const N: usize>(bytes: &[u8], start: usize) -> Result<&[u8; N], PacketError> {
    from(bytes, start)?.first_chunk().ok_or(PacketError::Short)
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "a packet ends within a header",
            Self::Version => "a packet is neither IPv4 nor IPv6",
            Self::HeaderLength => "a header says that it is shorter than it can be",
            Self::Fragment => "a packet is only a fragment of one",
            Self::NoFlow => "a packet belongs to no flow of its own",
            Self::NotInPacket => "what tells flows of a protocol apart is not in its packets",
        })
    }
}

impl std::error::Error for PacketError {}

#[cfg(test)]
mod tests;
