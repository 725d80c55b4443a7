//! What is said over links during a full sync: bodies of frames (PROTOCOL.md 9).

use super::cursor::{Reader, put_varint};
use super::{DecodeError, Skipped, flow};
use crate::record::{Claim, MemberId, MemberSet, Record};
use crate::snapshot::Parts;
use crate::table::Entry;
use alloc::vec::Vec;

/// Kinds of frames; of the 16 to 31 that are set aside for full syncs.
mod kind {
    pub const REQUEST: u8 = 16;
    pub const START: u8 = 17;
    pub const ROWS: u8 = 18;
    pub const PART: u8 = 19;
    pub const END: u8 = 20;
    pub const MORE: u8 = 21;
    pub const REFUSED: u8 = 22;
}

/// A frame of a full sync. Each begins with the number that the one who asked gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Give me these parts of what you have.
    Request(Request),
    /// This follows.
    Start(Start),
    /// Flows, read by [`take_row`].
    Rows(u64, &'a [u8]),
    /// The part is whole.
    Part(u64, u8),
    /// Everything was sent.
    End(u64),
    /// So many frames of it have been taken in.
    More(u64, u64),
    /// There is none, or no more of it.
    Refused(u64),
}

/// A wish for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the snapshot, the asker's.
    pub id: u64,
    /// Incarnation of the asker.
    pub asker: u64,
    /// Incarnation of the one that is asked.
    pub server: u64,
    /// Whose flows.
    pub of: MemberSet,
    /// Which parts of them.
    pub parts: Parts,
}

/// The begin of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Number of the snapshot.
    pub id: u64,
    /// About how many flows the sender knows.
    pub flows: u64,
    /// Whose flows it has completely.
    pub carriers: Vec<Carrier>,
}

/// A member whose flows are in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Who.
    pub member: MemberId,
    /// Of which run.
    pub incarnation: u64,
    /// Everything that it told before this sequence is in the snapshot.
    pub from: u64,
}

/// A flow in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who told of it.
    pub member: MemberId,
    /// In which of its deltas.
    pub seq: u64,
    /// What.
    pub record: Record,
}

impl<'a> Message<'a> {
    /// Appends the body, says its kind.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        let mut put = |number: u64| out.extend_from_slice(&number.to_be_bytes());
        match self {
            Self::Request(request) => {
                [request.id, request.asker, request.server]
                    .into_iter()
                    .for_each(put);
                out.extend_from_slice(&request.of.bits().to_be_bytes());
                out.extend_from_slice(&request.parts.bits().to_be_bytes());
                kind::REQUEST
            }
            Self::Start(start) => {
                [start.id, start.flows].into_iter().for_each(put);
                for carrier in &start.carriers {
                    out.push(carrier.member.get());
                    for number in [carrier.incarnation, carrier.from] {
                        out.extend_from_slice(&number.to_be_bytes());
                    }
                }
                kind::START
            }
            Self::Rows(id, rows) => {
                put(*id);
                out.extend_from_slice(rows);
                kind::ROWS
            }
            Self::Part(id, part) => {
                put(*id);
                out.push(*part);
                kind::PART
            }
            Self::End(id) => {
                put(*id);
                kind::END
            }
            Self::More(id, frames) => {
                put(*id);
                put(*frames);
                kind::MORE
            }
            Self::Refused(id) => {
                put(*id);
                kind::REFUSED
            }
        }
    }

    /// Reads a body; a kind that this version does not know is [`DecodeError::Opcode`]. Bytes past the known are skipped.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        Ok(match kind {
            kind::REQUEST => Self::Request(Request {
                id: reader.u64()?,
                asker: reader.u64()?,
                server: reader.u64()?,
                of: MemberSet::from_bits(reader.u16()?),
                parts: Parts::of_bits(reader.u32()?),
            }),
            kind::START => Self::Start(take_start(&mut reader)?),
            kind::ROWS => Self::Rows(reader.u64()?, reader.rest()),
            kind::PART => Self::Part(reader.u64()?, reader.u8()?),
            kind::END => Self::End(reader.u64()?),
            kind::MORE => Self::More(reader.u64()?, reader.u64()?),
            kind::REFUSED => Self::Refused(reader.u64()?),
            _ => return Err(DecodeError::Opcode),
        })
    }
}

fn take_start(reader: &mut Reader<'_>) -> Result<Start, DecodeError> {
    let (id, flows) = (reader.u64()?, reader.u64()?);
    let mut carriers = Vec::new();
    while !reader.is_empty() {
        if carriers.len() == MemberId::MAX {
            return Err(DecodeError::Record);
        }
        carriers.push(Carrier {
            member: reader.member()?,
            incarnation: reader.u64()?,
            from: reader.seq()?,
        });
    }
    Ok(Start {
        id,
        flows,
        carriers,
    })
}

/// Appends a live flow of `member`.
pub fn put_row(out: &mut Vec<u8>, member: MemberId, claim: Claim, entry: &Entry) {
    out.push(member.get());
    put_varint(out, entry.seq);
    flow::put_upsert(out, &entry.key, &entry.state, entry.term, claim);
}

/// Takes the next flow off `reader`; `None` is one of a kind that this version does not know.
pub fn take_row(
    reader: &mut Reader<'_>,
    skipped: &mut Skipped,
) -> Result<Option<Row>, DecodeError> {
    let (member, seq) = (reader.member()?, reader.seq_varint()?);
    let record = flow::take_record(reader, skipped)?;
    Ok(record.map(|record| Row {
        member,
        seq,
        record,
    }))
}

#[cfg(test)]
mod tests;
