//! Whose a record is and what it weighs, without reading the rest of it.

use super::{OP_DELETE, OP_UPSERT, TCP, tag, take_claim, take_key};
use crate::record::{Claim, FlowKey, Term};
use crate::wire::DecodeError;
use crate::wire::cursor::Reader;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The flow.
    pub key: FlowKey,
    /// Its connmark; 0 if the record does not tell it, as that of an end.
    pub mark: u32,
    /// Length of the record, the byte that says it included.
    pub bytes: usize,
}

/// Takes the next record off `reader`; `Ok(None)` is one of no flow.
pub fn take_outline(reader: &mut Reader<'_>) -> Result<Option<Outline>, DecodeError> {
    let len = usize::from(reader.u8()?);
    let mut record = Reader::new(reader.bytes(len)?);
    let kind = record.u8()?;
    let op = kind >> 6;
    if op != OP_UPSERT && op != OP_DELETE {
        return Ok(None);
    }
    let mut key = take_key(&mut record, kind)?;
    if op == OP_UPSERT {
        record.u8()?;
        record.varint()?;
        if key.proto == TCP {
            record.u16()?;
        }
    }
    let (mut mark, mut term, mut claim) = (0, Term::default(), Claim::Carried);
    while !record.is_empty() {
        let attribute = record.u8()?;
        let len = usize::from(record.u8()?);
        let mut value = Reader::new(record.bytes(len)?);
        match attribute {
            tag::MARK => mark = value.u32()?,
            tag::ZONE => take_claim(attribute, &mut value, &mut key, &mut term, &mut claim)?,
            _ => {}
        }
    }
    Ok(Some(Outline {
        key,
        mark,
        bytes: 1 + len,
    }))
}
