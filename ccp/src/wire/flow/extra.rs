//! What few flows have, each an attribute (PROTOCOL.md 4.3).

use super::{attribute, put_key, tag, take_key};
use crate::record::{Extra, Helper, SeqAdj, SynProxy};
use crate::wire::cursor::Reader;
use crate::wire::{DecodeError, Skipped};
use alloc::vec::Vec;

pub(super) fn put(out: &mut Vec<u8>, extra: &Extra) {
    if let Some(labels) = &extra.labels {
        attribute(out, tag::LABELS, |out| out.extend_from_slice(labels));
    }
    if let Some(helper) = &extra.helper {
        attribute(out, tag::HELPER, |out| {
            out.extend_from_slice(helper.as_bytes())
        });
    }
    if let Some(master) = &extra.master {
        attribute(out, tag::MASTER, |out| put_key(out, 0, master));
    }
    for (tag, seq_adj) in [tag::SEQ_ADJ_ORIGINAL, tag::SEQ_ADJ_REPLY]
        .into_iter()
        .zip(&extra.seq_adj)
    {
        if let Some(SeqAdj {
            correction_pos,
            offset_before,
            offset_after,
        }) = *seq_adj
        {
            put_u32s(out, tag, &[correction_pos, offset_before, offset_after]);
        }
    }
    if let Some(SynProxy { isn, its, tsoff }) = extra.synproxy {
        put_u32s(out, tag::SYNPROXY, &[isn, its, tsoff]);
    }
    if let Some(vtag) = &extra.sctp_vtag {
        put_u32s(out, tag::SCTP_VTAG, vtag);
    }
    if let Some((role, handshake_seq)) = extra.dccp {
        attribute(out, tag::DCCP, |out| {
            out.push(role);
            out.extend_from_slice(&handshake_seq.to_be_bytes());
        });
    }
}

pub(super) fn take(
    tag: u8,
    value: &mut Reader<'_>,
    extra: &mut Extra,
    skipped: &mut Skipped,
) -> Result<(), DecodeError> {
    match tag {
        tag::LABELS => extra.labels = Some(value.array()?),
        tag::HELPER => extra.helper = Some(take_helper(value)?),
        tag::MASTER => {
            let kind = value.u8()?;
            extra.master = Some(take_key(value, kind)?);
        }
        tag::SEQ_ADJ_ORIGINAL => extra.seq_adj[0] = Some(take_seq_adj(value)?),
        tag::SEQ_ADJ_REPLY => extra.seq_adj[1] = Some(take_seq_adj(value)?),
        tag::SYNPROXY => {
            extra.synproxy = Some(SynProxy {
                isn: value.u32()?,
                its: value.u32()?,
                tsoff: value.u32()?,
            });
        }
        tag::SCTP_VTAG => extra.sctp_vtag = Some([value.u32()?, value.u32()?]),
        tag::DCCP => extra.dccp = Some((value.u8()?, value.u64()?)),
        _ => skipped.attributes += 1,
    }
    Ok(())
}

fn take_seq_adj(value: &mut Reader<'_>) -> Result<SeqAdj, DecodeError> {
    Ok(SeqAdj {
        correction_pos: value.u32()?,
        offset_before: value.u32()?,
        offset_after: value.u32()?,
    })
}

fn take_helper(value: &mut Reader<'_>) -> Result<Helper, DecodeError> {
    Helper::new(value.rest()).ok_or(DecodeError::Record)
}

fn put_u32s(out: &mut Vec<u8>, tag: u8, numbers: &[u32]) {
    attribute(out, tag, |out| {
        numbers
            .iter()
            .for_each(|number| out.extend_from_slice(&number.to_be_bytes()))
    });
}
