//! A held packet, and the message that it comes in.

use std::num::NonZeroU32;

use crate::consts::*;
use crate::decode::{DecodeError, read_flow};
use crate::flow::Flow;
use crate::nfnl::{Attribute, Message};
use crate::packet::{Packet, PacketError};
use crate::queue::{PacketId, QueueItem};

/// A packet that waits for its verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Held<'a> {
    /// What a verdict names it by.
    pub id: PacketId,
    /// `NF_INET_*`: where in the stack it waits.
    pub hook: u8,
    /// Its own mark (not that of its flow).
    pub mark: u32,
    /// Index of the interface that it came in by.
    pub indev: Option<NonZeroU32>,
    /// Index of the interface that it is to go out by.
    pub outdev: Option<NonZeroU32>,
    /// `NFQA_SKB_*` bits.
    pub skb_info: u32,
    /// Its first 256 bytes, from the IP header on, as NAT has made them so far.
    pub payload: &'a [u8],
    /// Bytes of all of it.
    pub length: u32,
    /// The conntrack entry that it belongs to, where the kernel attaches it
    /// ([`attaches_flows`](crate::queue::QueueSocket::attaches_flows)) and tracks it. That of a packet that opens a flow
    /// is not in the table yet; its translation is known when source NAT has been decided: in postrouting, at a priority
    /// above 100.
    pub flow: Option<Flow>,
    /// What the packet is to that entry; there if and only if `flow` is.
    pub ct_info: Option<CtInfo>,
}

/// `NFQA_CT_INFO`: what a packet is to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtInfo {
    /// Of a flow with packets both ways, in the original direction.
    Established,
    /// Opens a flow that another one expects, or is an error message about a flow.
    Related,
    /// Opens a flow, or is in the original direction of one without an answer so far.
    New,
    /// In the reply direction.
    Reply,
    /// An error message about a flow, in the reply direction.
    RelatedReply,
}

impl Held<'_> {
    /// What its headers say.
    pub fn packet(&self) -> Result<Packet, PacketError> {
        Packet::parse(self.payload)
    }
}

/// What a message is that is no answer.
#[inline]
pub(super) fn item<'a>(message: &Message<'a>) -> QueueItem<'a> {
    let mut item = QueueItem::Held(BLANK_HELD);
    let QueueItem::Held(held) = &mut item else {
        return item;
    };
    // In place, as an event (`decode::read_event`).
    let mut numbered = false;
    if let Err(error) = read_held(held, &mut numbered, message) {
        let packet = numbered.then_some(held.id);
        return QueueItem::Malformed { packet, error };
    }
    item
}

const BLANK_HELD: Held<'static> = Held {
    id: PacketId {
        queue: 0,
        number: 0,
    },
    hook: 0,
    mark: 0,
    indev: None,
    outdev: None,
    skb_info: 0,
    payload: &[],
    length: 0,
    flow: None,
    ct_info: None,
};

/// Writes what a message tells into a blank one; `numbered` as soon as its `id` is known.
#[inline]
fn read_held<'a>(
    held: &mut Held<'a>,
    numbered: &mut bool,
    message: &Message<'a>,
) -> Result<(), DecodeError> {
    const PACKET: u16 = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET;
    if message.kind != PACKET {
        return Err(DecodeError::MessageKind { kind: message.kind });
    }
    held.id.queue = message.resource()?;
    let mut whole_length = None;
    for attribute in message.attributes()? {
        let attribute = attribute?;
        match attribute.kind {
            NFQA_PACKET_HDR => {
                // A nfqnl_msg_packet_hdr, which is packed: number, protocol of the frame, hook.
                let [a, b, c, d, _, _, hook] = attribute.array()?;
                held.id.number = u32::from_be_bytes([a, b, c, d]);
                held.hook = hook;
                *numbered = true;
            }
            NFQA_MARK => held.mark = attribute.be32()?,
            NFQA_IFINDEX_INDEV => held.indev = NonZeroU32::new(attribute.be32()?),
            NFQA_IFINDEX_OUTDEV => held.outdev = NonZeroU32::new(attribute.be32()?),
            NFQA_SKB_INFO => held.skb_info = attribute.be32()?,
            NFQA_CAP_LEN => whole_length = Some(attribute.be32()?),
            NFQA_PAYLOAD => held.payload = attribute.value,
            NFQA_CT => read_flow(held.flow.insert(Flow::BLANK), attribute.nested())?,
            NFQA_CT_INFO => held.ct_info = ct_info(&attribute)?,
            _ => {}
        }
    }
    let shown = u32::try_from(held.payload.len()).map_err(|_| DecodeError::MessageLength)?;
    held.length = whole_length.unwrap_or(shown);
    if *numbered {
        Ok(())
    } else {
        Err(DecodeError::PacketHeaderMissing)
    }
}

fn ct_info(attribute: &Attribute<'_>) -> Result<Option<CtInfo>, DecodeError> {
    Ok(match attribute.be32()? {
        0 => Some(CtInfo::Established),
        1 => Some(CtInfo::Related),
        2 => Some(CtInfo::New),
        3 => Some(CtInfo::Reply),
        4 => Some(CtInfo::RelatedReply),
        _ => None,
    })
}
