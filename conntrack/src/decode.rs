//! Bytes of ctnetlink to [`Event`]s and [`Flow`]s.
//!
//! No input can make it panic or allocate: it walks slices, to the fixed depth of the attributes it knows, and skips
//! those it doesn't. What is malformed is a [`DecodeError`]; a caller counts it by [`name`](DecodeError::name) and goes
//! on with the next message.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::consts::*;
use crate::event::{Event, EventKind};
use crate::flow::{
    DccpInfo, Flow, HelperName, L4, ProtoInfo, SctpInfo, SeqAdj, SynProxy, TcpInfo, Tuple,
};
use crate::nfnl::{Attribute, Attributes, Message, Messages};

/// Why bytes are not a message that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The datagram was longer than the buffer it was read into.
    Truncated,
    /// The length of a message is less than its headers or more than there is.
    MessageLength,
    /// Not a message about a flow.
    MessageKind {
        /// `nlmsg_type`
        kind: u16,
    },
    /// The length of an attribute is less than its header or more than there is.
    AttributeLength,
    /// The value of an attribute is not of the size that its type has.
    AttributeSize {
        /// The type, of which nest is not said.
        attribute: u16,
    },
    /// One of the two tuples of the flow is not there.
    TupleMissing,
    /// A tuple without two addresses of one family.
    TupleAddresses,
    /// A tuple without protocol number.
    TupleProtocol,
    /// The name of the helper is empty, too long or not UTF-8.
    HelperName,
}

impl DecodeError {
    /// How many variants there are: the length of an array of counters.
    pub const COUNT: usize = 9;

    /// The number of the variant, below [`COUNT`](Self::COUNT), whatever its fields.
    pub fn index(&self) -> usize {
        match self {
            Self::Truncated => 0,
            Self::MessageLength => 1,
            Self::MessageKind { .. } => 2,
            Self::AttributeLength => 3,
            Self::AttributeSize { .. } => 4,
            Self::TupleMissing => 5,
            Self::TupleAddresses => 6,
            Self::TupleProtocol => 7,
            Self::HelperName => 8,
        }
    }

    /// The name of the variant, for its counter.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::MessageLength => "message_length",
            Self::MessageKind { .. } => "message_kind",
            Self::AttributeLength => "attribute_length",
            Self::AttributeSize { .. } => "attribute_size",
            Self::TupleMissing => "tuple_missing",
            Self::TupleAddresses => "tuple_addresses",
            Self::TupleProtocol => "tuple_protocol",
            Self::HelperName => "helper_name",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("a message of the kernel is longer than the buffer it was read into")
            }
            Self::MessageLength => f.write_str("the length of a message does not fit its datagram"),
            Self::MessageKind { kind } => {
                write!(f, "a message of type {kind:#06x} is not about a flow")
            }
            Self::AttributeLength => {
                f.write_str("the length of an attribute does not fit its message")
            }
            Self::AttributeSize { attribute } => {
                write!(f, "attribute {attribute} is of a wrong size")
            }
            Self::TupleMissing => f.write_str("a flow without its two tuples"),
            Self::TupleAddresses => f.write_str("a tuple without two addresses of one family"),
            Self::TupleProtocol => f.write_str("a tuple without protocol number"),
            Self::HelperName => f.write_str("the name of a helper is empty, too long or not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Decodes the first message of a datagram of the event groups.
///
/// [`EventSocket`](crate::events::EventSocket) does this by itself; this is for those who have the bytes: captures,
/// fuzzing.
pub fn decode_event(datagram: &[u8]) -> Result<Event, DecodeError> {
    let message = Messages::new(datagram)
        .next()
        .ok_or(DecodeError::MessageLength)??;
    event(&message)
}

/// The event that a message tells.
#[inline]
pub(crate) fn event(message: &Message<'_>) -> Result<Event, DecodeError> {
    const NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
    const DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let kind = match message.kind {
        NEW if message.flags & (NLM_F_CREATE | NLM_F_EXCL) != 0 => EventKind::New,
        NEW => EventKind::Update,
        DELETE => EventKind::Destroy,
        kind => return Err(DecodeError::MessageKind { kind }),
    };
    Ok(Event {
        kind,
        portid: message.portid,
        flow: flow(message.attributes()?)?,
    })
}

/// The flow that a message of a dump, or the answer to a lookup, tells.
pub(crate) fn table_flow(message: &Message<'_>) -> Result<Flow, DecodeError> {
    event(message).map(|event| event.flow)
}

/// The flow that the attributes of a message tell.
#[inline]
fn flow(attributes: Attributes<'_>) -> Result<Flow, DecodeError> {
    let (mut orig, mut reply) = (false, false);
    let mut flow = Flow::new(BLANK);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_ORIG => (flow.orig, orig) = (tuple(attribute.nested())?, true),
            CTA_TUPLE_REPLY => (flow.reply, reply) = (tuple(attribute.nested())?, true),
            CTA_ID => flow.id = Some(attribute.be32()?),
            CTA_STATUS => flow.status = Some(attribute.be32()?),
            CTA_TIMEOUT => flow.timeout = Some(attribute.be32()?),
            CTA_PROTOINFO => flow.protoinfo = protoinfo(attribute.nested())?,
            CTA_MARK => flow.mark = Some(attribute.be32()?),
            CTA_ZONE => flow.zone = attribute.be16()?,
            CTA_LABELS => flow.labels = Some(attribute.array()?),
            CTA_HELP => flow.helper = helper(attribute.nested())?,
            CTA_TUPLE_MASTER => flow.master = Some(tuple(attribute.nested())?),
            CTA_SEQ_ADJ_ORIG => flow.seq_adj[0] = Some(seq_adj(attribute.nested())?),
            CTA_SEQ_ADJ_REPLY => flow.seq_adj[1] = Some(seq_adj(attribute.nested())?),
            CTA_SYNPROXY => flow.synproxy = synproxy(attribute.nested())?,
            _ => {}
        }
    }
    if orig && reply {
        Ok(flow)
    } else {
        Err(DecodeError::TupleMissing)
    }
}

/// What stands where a tuple will be written.
const BLANK: Tuple = Tuple {
    src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    proto: 0,
    l4: L4::None,
    zone: 0,
};

#[inline]
fn tuple(attributes: Attributes<'_>) -> Result<Tuple, DecodeError> {
    let (mut addresses, mut proto, mut zone) = (None, None, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_IP => addresses = Some(tuple_addresses(attribute.nested())?),
            CTA_TUPLE_PROTO => proto = Some(tuple_proto(attribute.nested())?),
            CTA_TUPLE_ZONE => zone = attribute.be16()?,
            _ => {}
        }
    }
    let (src, dst) = addresses.ok_or(DecodeError::TupleAddresses)?;
    let (proto, l4) = proto.ok_or(DecodeError::TupleProtocol)?;
    Ok(Tuple {
        src,
        dst,
        proto,
        l4,
        zone,
    })
}

#[inline]
fn tuple_addresses(attributes: Attributes<'_>) -> Result<(IpAddr, IpAddr), DecodeError> {
    let (mut src, mut dst) = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_IP_V4_SRC => src = Some(ipv4(attribute)?),
            CTA_IP_V4_DST => dst = Some(ipv4(attribute)?),
            CTA_IP_V6_SRC => src = Some(ipv6(attribute)?),
            CTA_IP_V6_DST => dst = Some(ipv6(attribute)?),
            _ => {}
        }
    }
    match (src, dst) {
        (Some(src), Some(dst)) if src.is_ipv4() == dst.is_ipv4() => Ok((src, dst)),
        _ => Err(DecodeError::TupleAddresses),
    }
}

fn ipv4(attribute: Attribute<'_>) -> Result<IpAddr, DecodeError> {
    attribute
        .array::<4>()
        .map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
}

fn ipv6(attribute: Attribute<'_>) -> Result<IpAddr, DecodeError> {
    attribute
        .array::<16>()
        .map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))
}

#[inline]
fn tuple_proto(attributes: Attributes<'_>) -> Result<(u8, L4), DecodeError> {
    let mut proto = None;
    let (mut src, mut dst) = (None, None);
    let (mut kind, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTO_NUM => proto = Some(attribute.u8()?),
            CTA_PROTO_SRC_PORT => src = Some(attribute.be16()?),
            CTA_PROTO_DST_PORT => dst = Some(attribute.be16()?),
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => id = Some(attribute.be16()?),
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => kind = Some(attribute.u8()?),
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => code = Some(attribute.u8()?),
            _ => {}
        }
    }
    let l4 = match (src, dst, kind, code, id) {
        (Some(src), Some(dst), ..) => L4::Ports { src, dst },
        (_, _, Some(kind), Some(code), Some(id)) => L4::Icmp { kind, code, id },
        _ => L4::None,
    };
    Ok((proto.ok_or(DecodeError::TupleProtocol)?, l4))
}

fn protoinfo(attributes: Attributes<'_>) -> Result<Option<ProtoInfo>, DecodeError> {
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTOINFO_TCP => return Ok(tcp(attribute.nested())?.map(ProtoInfo::Tcp)),
            CTA_PROTOINFO_SCTP => return Ok(sctp(attribute.nested())?.map(ProtoInfo::Sctp)),
            CTA_PROTOINFO_DCCP => return Ok(dccp(attribute.nested())?.map(ProtoInfo::Dccp)),
            _ => {}
        }
    }
    Ok(None)
}

fn tcp(attributes: Attributes<'_>) -> Result<Option<TcpInfo>, DecodeError> {
    let mut state = None;
    let (mut wscale, mut flags) = ([None; 2], [None; 2]);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTOINFO_TCP_STATE => state = Some(attribute.u8()?),
            CTA_PROTOINFO_TCP_WSCALE_ORIGINAL => wscale[0] = Some(attribute.u8()?),
            CTA_PROTOINFO_TCP_WSCALE_REPLY => wscale[1] = Some(attribute.u8()?),
            // A nf_ct_tcp_flags: flags, then a mask that only requests use.
            CTA_PROTOINFO_TCP_FLAGS_ORIGINAL => flags[0] = Some(attribute.array::<2>()?[0]),
            CTA_PROTOINFO_TCP_FLAGS_REPLY => flags[1] = Some(attribute.array::<2>()?[0]),
            _ => {}
        }
    }
    Ok(state.map(|state| TcpInfo {
        state,
        wscale: both(wscale),
        flags: both(flags),
    }))
}

fn both<T: Copy>(values: [Option<T>; 2]) -> Option<[T; 2]> {
    Some([values[0]?, values[1]?])
}

fn sctp(attributes: Attributes<'_>) -> Result<Option<SctpInfo>, DecodeError> {
    let mut state = None;
    let mut vtag = [0; 2];
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTOINFO_SCTP_STATE => state = Some(attribute.u8()?),
            CTA_PROTOINFO_SCTP_VTAG_ORIGINAL => vtag[0] = attribute.be32()?,
            CTA_PROTOINFO_SCTP_VTAG_REPLY => vtag[1] = attribute.be32()?,
            _ => {}
        }
    }
    Ok(state.map(|state| SctpInfo { state, vtag }))
}

fn dccp(attributes: Attributes<'_>) -> Result<Option<DccpInfo>, DecodeError> {
    let mut state = None;
    let (mut role, mut handshake_seq) = (0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTOINFO_DCCP_STATE => state = Some(attribute.u8()?),
            CTA_PROTOINFO_DCCP_ROLE => role = attribute.u8()?,
            CTA_PROTOINFO_DCCP_HANDSHAKE_SEQ => handshake_seq = attribute.be64()?,
            _ => {}
        }
    }
    Ok(state.map(|state| DccpInfo {
        state,
        role,
        handshake_seq,
    }))
}

fn helper(attributes: Attributes<'_>) -> Result<Option<HelperName>, DecodeError> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == CTA_HELP_NAME {
            let bytes = attribute
                .value
                .split(|&byte| byte == 0)
                .next()
                .unwrap_or_default();
            let name = str::from_utf8(bytes).ok().and_then(HelperName::new);
            return name.map(Some).ok_or(DecodeError::HelperName);
        }
    }
    Ok(None)
}

fn seq_adj(attributes: Attributes<'_>) -> Result<SeqAdj, DecodeError> {
    let mut adj = SeqAdj {
        correction_pos: 0,
        offset_before: 0,
        offset_after: 0,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_SEQADJ_CORRECTION_POS => adj.correction_pos = attribute.be32()?,
            CTA_SEQADJ_OFFSET_BEFORE => adj.offset_before = attribute.be32()?,
            CTA_SEQADJ_OFFSET_AFTER => adj.offset_after = attribute.be32()?,
            _ => {}
        }
    }
    Ok(adj)
}

fn synproxy(attributes: Attributes<'_>) -> Result<Option<SynProxy>, DecodeError> {
    let mut synproxy = SynProxy {
        isn: 0,
        its: 0,
        tsoff: 0,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_SYNPROXY_ISN => synproxy.isn = attribute.be32()?,
            CTA_SYNPROXY_ITS => synproxy.its = attribute.be32()?,
            CTA_SYNPROXY_TSOFF => synproxy.tsoff = attribute.be32()?,
            _ => {}
        }
    }
    // The kernel gives an empty one to every entry that a request creates (`ctnetlink_create_conntrack`).
    let empty = SynProxy {
        isn: 0,
        its: 0,
        tsoff: 0,
    };
    Ok(Some(synproxy).filter(|&synproxy| synproxy != empty))
}

#[cfg(test)]
mod tests;
