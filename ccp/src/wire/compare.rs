//! What is said over links when tables are compared: bodies of frames (PROTOCOL.md 13.2).

use super::cursor::{Reader, put_varint};
use super::flow;
use super::{DecodeError, Skipped};
use crate::record::{Claim, Record};
use crate::table::Entry;
use alloc::vec::Vec;

/// Kinds of frames; of the 48 to 55 that are set aside for audits.
mod kind {
    pub const ASK: u8 = 48;
    pub const DIGESTS: u8 = 49;
    pub const ROWS: u8 = 50;
    pub const END: u8 = 51;
}

/// Buckets that flows are in at most.
pub const BUCKETS_MAX: u16 = 4096;

/// A frame of a comparison. Each begins with the number that the asker gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// What do you carry?
    Ask(Ask),
    /// A digest for each bucket.
    Digests(Digests),
    /// Flows, read by [`take_row`].
    Rows(u64, &'a [u8]),
    /// Those were the flows of the buckets: all that were told last up to this sequence.
    End(u64, u64),
}

/// What copies are compared against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Against {
    /// What their carriers' tables say.
    #[default]
    Tables,
    /// The same, once the carriers have read their kernels anew.
    Kernels,
}

/// A question of a holder of copies to their carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Number of the comparison.
    pub id: u64,
    /// Incarnation of the asker.
    pub asker: u64,
    /// Incarnation of the carrier.
    pub carrier: u64,
    /// Whether the carrier is to read its kernel first.
    pub against: Against,
    /// How many buckets there are; a power of two.
    pub buckets: u16,
    /// The flows of these are wanted; if there are none, all digests.
    pub wanted: Vec<u16>,
}

/// Digests of what a member carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Number of the comparison.
    pub id: u64,
    /// Of flows that were told last up to this sequence.
    pub cut: u64,
    /// How many those are.
    pub flows: u64,
    /// The sum of their digests, a bucket each.
    pub sums: Vec<u64>,
}

impl<'a> Message<'a> {
    /// Appends the body, says its kind.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        let mut put = |number: u64| out.extend_from_slice(&number.to_be_bytes());
        match self {
            Self::Ask(ask) => {
                [ask.id, ask.asker, ask.carrier].into_iter().for_each(put);
                out.push(u8::from(ask.against == Against::Kernels));
                for number in core::iter::once(&ask.buckets).chain(&ask.wanted) {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                kind::ASK
            }
            Self::Digests(digests) => {
                let Digests {
                    id,
                    cut,
                    flows,
                    sums,
                } = digests;
                [*id, *cut, *flows].into_iter().for_each(&mut put);
                sums.iter().copied().for_each(put);
                kind::DIGESTS
            }
            Self::Rows(id, rows) => {
                put(*id);
                out.extend_from_slice(rows);
                kind::ROWS
            }
            Self::End(id, cut) => {
                put(*id);
                put(*cut);
                kind::END
            }
        }
    }

    /// Reads a body; `Ok(None)` is a kind that this version does not know.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(body);
        Ok(Some(match kind {
            kind::ASK => Self::Ask(take_ask(&mut reader)?),
            kind::DIGESTS => {
                let (id, cut, flows) = (reader.u64()?, reader.seq()?, reader.u64()?);
                let mut sums = Vec::new();
                while !reader.is_empty() {
                    if sums.len() >= usize::from(BUCKETS_MAX) {
                        return Err(DecodeError::Number);
                    }
                    sums.push(reader.u64()?);
                }
                Self::Digests(Digests {
                    id,
                    cut,
                    flows,
                    sums,
                })
            }
            kind::ROWS => Self::Rows(reader.u64()?, reader.rest()),
            kind::END => Self::End(reader.u64()?, reader.seq()?),
            _ => return Ok(None),
        }))
    }
}

fn take_ask(reader: &mut Reader<'_>) -> Result<Ask, DecodeError> {
    let mut ask = Ask {
        id: reader.u64()?,
        asker: reader.u64()?,
        carrier: reader.u64()?,
        against: match reader.u8()? & 1 {
            0 => Against::Tables,
            _ => Against::Kernels,
        },
        buckets: reader.u16()?,
        wanted: Vec::new(),
    };
    if !ask.buckets.is_power_of_two() || ask.buckets > BUCKETS_MAX {
        return Err(DecodeError::Number);
    }
    while !reader.is_empty() {
        let bucket = reader.u16()?;
        if bucket >= ask.buckets || ask.wanted.len() >= usize::from(BUCKETS_MAX) {
            return Err(DecodeError::Number);
        }
        ask.wanted.push(bucket);
    }
    Ok(ask)
}

/// Appends a flow that the sender carries.
pub fn put_row(out: &mut Vec<u8>, entry: &Entry) {
    put_varint(out, entry.seq);
    flow::put_upsert(out, &entry.key, &entry.state, entry.term, Claim::Carried);
}

/// Takes the next flow off `reader`, and the sequence that told it; `None` is one of a kind that this version does not know.
pub fn take_row(
    reader: &mut Reader<'_>,
    skipped: &mut Skipped,
) -> Result<Option<(u64, Record)>, DecodeError> {
    let seq = reader.seq_varint()?;
    let record = flow::take_record(reader, skipped)?;
    Ok(record.map(|record| (seq, record)))
}

#[cfg(test)]
mod tests;
