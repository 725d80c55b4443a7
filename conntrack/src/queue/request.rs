//! Requests to nfnetlink_queue: bind, and verdicts.

use crate::consts::*;
use crate::nfnl::{Builder, Message};
use crate::queue::{HEADER_BYTES, PacketId, QueueOptions, Verdict};

/// Bytes of a verdict: nlmsghdr, nfgenmsg, one attribute of two words.
pub(super) const VERDICT_LEN: usize = 32;

/// Appends a request to bind a queue, with all its settings, so that no packet meets a queue that is half set up.
///
/// Its sequence number is the queue's.
pub(super) fn bind(buffer: &mut Vec<u8>, queue: u16, options: &QueueOptions, flows: bool) {
    const KIND: u16 = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG;
    const SETTABLE: u32 = NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_CONNTRACK | NFQA_CFG_F_GSO;
    let mut request = Builder::message(buffer, KIND, NLM_F_ACK, u32::from(queue), AF_UNSPEC, queue);
    // A nfqnl_msg_config_cmd: command, padding, protocol family (not looked at since Linux 3.8).
    request.put(NFQA_CFG_CMD, &[NFQNL_CFG_CMD_BIND, 0, 0, 0]);
    // A nfqnl_msg_config_params, which is packed: range, mode.
    let [a, b, c, d] = HEADER_BYTES.to_be_bytes();
    request.put(NFQA_CFG_PARAMS, &[a, b, c, d, NFQNL_COPY_PACKET]);
    request.put_be32(NFQA_CFG_QUEUE_MAXLEN, options.length_max);
    // Without it the kernel would cut large packets into segments, and compute checksums that nobody here looks at.
    let mut flags = NFQA_CFG_F_GSO;
    if options.when_full == Verdict::Accept {
        flags |= NFQA_CFG_F_FAIL_OPEN;
    }
    if flows {
        flags |= NFQA_CFG_F_CONNTRACK;
    }
    request.put_be32(NFQA_CFG_FLAGS, flags);
    request.put_be32(NFQA_CFG_MASK, SETTABLE);
    request.finish();
}

/// Appends a verdict; an error of it is all that is answered.
pub(super) fn verdict(buffer: &mut Vec<u8>, packet: PacketId, verdict: Verdict) {
    const KIND: u16 = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT;
    let code = match verdict {
        Verdict::Accept => NF_ACCEPT,
        Verdict::Drop => NF_DROP,
    };
    let mut request = Builder::message(buffer, KIND, 0, packet.number, AF_UNSPEC, packet.queue);
    let mut header = [0; 8];
    header[..4].copy_from_slice(&code.to_be_bytes());
    header[4..].copy_from_slice(&packet.number.to_be_bytes());
    request.put(NFQA_VERDICT_HDR, &header);
    request.finish();
}

/// Which packet a verdict, as the kernel repeats it, was for.
pub(super) fn judged(request: &Message<'_>) -> Option<PacketId> {
    let queue = request.resource().ok()?;
    let mut attributes = request.attributes().ok()?.flatten();
    let header = attributes.find(|attribute| attribute.kind == NFQA_VERDICT_HDR)?;
    let [_, _, _, _, number @ ..] = header.array::<8>().ok()?;
    Some(PacketId {
        queue,
        number: u32::from_be_bytes(number),
    })
}
