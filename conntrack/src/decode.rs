//! Bytes of ctnetlink to [`Event`]s and [`Flow`]s.
//!
//! No input can make it panic or allocate: it walks slices, to the fixed depth of the attributes it knows, and skips
//! those it doesn't. What is malformed is a [`DecodeError`]; a caller counts it by [`name`](DecodeError::name) and goes
//! on with the next message.

use crate::consts::*;
use crate::event::{Event, EventKind};
use crate::flow::{
    Counters, DccpInfo, Flow, HelperName, ProtoInfo, SctpInfo, SeqAdj, SynProxy, TcpInfo, Tuple,
};
use crate::nfnl::{Attributes, Message, Messages};

pub use error::DecodeError;
use tuple::read_tuple;

mod error;
mod tuple;

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
    let mut event = Ok(BLANK_EVENT);
    if let Ok(blank) = &mut event
        && let Err(error) = read_event(blank, message)
    {
        event = Err(error);
    }
    event
}

/// An event to be written by [`read_event`].
pub(crate) const BLANK_EVENT: Event = Event {
    kind: EventKind::New,
    portid: 0,
    flow: Flow::BLANK,
};

/// Writes the event that a message tells into a blank one.
///
/// Fields are written in place: copying a freshly written struct in smaller pieces stalls the processor and costs more than
/// decoding.
#[inline]
pub(crate) fn read_event(event: &mut Event, message: &Message<'_>) -> Result<(), DecodeError> {
    const NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
    const DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    event.kind = match message.kind {
        NEW if message.flags & (NLM_F_CREATE | NLM_F_EXCL) != 0 => EventKind::New,
        NEW => EventKind::Update,
        DELETE => EventKind::Destroy,
        kind => return Err(DecodeError::MessageKind { kind }),
    };
    event.portid = message.portid;
    read_flow(&mut event.flow, message.attributes()?)
}

/// The tuple that the attributes of a nest tell.
pub(crate) fn tuple(attributes: Attributes<'_>) -> Result<Tuple, DecodeError> {
    let mut tuple = Tuple::BLANK;
    read_tuple(&mut tuple, attributes)?;
    Ok(tuple)
}

/// The flow that a message of a dump, or the answer to a lookup, tells.
pub(crate) fn table_flow(message: &Message<'_>) -> Result<Flow, DecodeError> {
    event(message).map(|event| event.flow)
}

/// Writes what the attributes of a message, or of the nest of a held packet, tell.
#[inline]
pub(crate) fn read_flow(flow: &mut Flow, attributes: Attributes<'_>) -> Result<(), DecodeError> {
    let (mut orig, mut reply) = (false, false);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_ORIG => {
                read_tuple(&mut flow.orig, attribute.nested())?;
                orig = true;
            }
            CTA_TUPLE_REPLY => {
                read_tuple(&mut flow.reply, attribute.nested())?;
                reply = true;
            }
            CTA_TUPLE_MASTER => read_tuple(flow.master.insert(Tuple::BLANK), attribute.nested())?,
            CTA_ID => flow.id = Some(attribute.be32()?),
            CTA_STATUS => flow.status = Some(attribute.be32()?),
            CTA_TIMEOUT => flow.timeout = Some(attribute.be32()?),
            CTA_PROTOINFO => read_protoinfo(&mut flow.protoinfo, attribute.nested())?,
            CTA_MARK => flow.mark = Some(attribute.be32()?),
            CTA_ZONE => flow.zone = attribute.be16()?,
            CTA_LABELS => flow.labels = Some(attribute.array()?),
            CTA_HELP => flow.helper = helper(attribute.nested())?,
            CTA_SEQ_ADJ_ORIG => flow.seq_adj[0] = Some(seq_adj(attribute.nested())?),
            CTA_SEQ_ADJ_REPLY => flow.seq_adj[1] = Some(seq_adj(attribute.nested())?),
            CTA_SYNPROXY => flow.synproxy = synproxy(attribute.nested())?,
            CTA_COUNTERS_ORIG => {
                flow.counters.get_or_insert_default()[0] = counters(attribute.nested())?;
            }
            CTA_COUNTERS_REPLY => {
                flow.counters.get_or_insert_default()[1] = counters(attribute.nested())?;
            }
            CTA_TIMESTAMP => flow.start_nanos = start_nanos(attribute.nested())?,
            _ => {}
        }
    }
    if orig && reply {
        Ok(())
    } else {
        Err(DecodeError::TupleMissing)
    }
}

#[inline]
fn read_protoinfo(
    protoinfo: &mut Option<ProtoInfo>,
    attributes: Attributes<'_>,
) -> Result<(), DecodeError> {
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTOINFO_TCP => *protoinfo = tcp(attribute.nested())?.map(ProtoInfo::Tcp),
            CTA_PROTOINFO_SCTP => *protoinfo = sctp(attribute.nested())?.map(ProtoInfo::Sctp),
            CTA_PROTOINFO_DCCP => *protoinfo = dccp(attribute.nested())?.map(ProtoInfo::Dccp),
            _ => {}
        }
    }
    Ok(())
}

#[inline]
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

#[inline]
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

fn start_nanos(attributes: Attributes<'_>) -> Result<Option<u64>, DecodeError> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == CTA_TIMESTAMP_START {
            return attribute.be64().map(Some);
        }
    }
    Ok(None)
}

fn counters(attributes: Attributes<'_>) -> Result<Counters, DecodeError> {
    let mut counters = Counters::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_COUNTERS_PACKETS => counters.packets = attribute.be64()?,
            CTA_COUNTERS_BYTES => counters.bytes = attribute.be64()?,
            _ => {}
        }
    }
    Ok(counters)
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
