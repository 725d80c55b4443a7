//! Probes of interfaces, and what members say of theirs over links (PROTOCOL.md 12.8, 12.9).

use super::DecodeError;
use super::cursor::Reader;
use super::standing::ATTRIBUTE_STANDING;
use crate::election::Standing;
use crate::probe::{INTERFACES_MAX, Link, NAME_BYTES_MAX};
use crate::record::MemberSet;
use alloc::string::String;
use alloc::vec::Vec;

/// The kind of the frame that says what a member monitors.
pub const FRAME_INTERFACES: u8 = 40;

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe<'a> {
    /// The interface that it goes over.
    pub name: &'a [u8],
    /// Whom its sender hears there.
    pub hears: MemberSet,
    /// What its sender says of itself.
    pub standing: Option<Standing>,
}

/// What a member says of one of its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its link.
    pub link: Link,
    /// Whom it hears there.
    pub hears: MemberSet,
}

impl<'a> Probe<'a> {
    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_name(self.name, out);
        out.extend_from_slice(&self.hears.bits().to_be_bytes());
        if let Some(standing) = &self.standing {
            standing.encode(out);
        }
    }

    /// Reads a body. Attributes not known are skipped.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let name = name(&mut reader)?;
        let hears = MemberSet::from_bits(reader.u16()?);
        let mut standing = None;
        while !reader.is_empty() {
            let (tag, length) = (reader.u8()?, reader.u8()?);
            let mut value = Reader::new(reader.bytes(length.into())?);
            if tag == ATTRIBUTE_STANDING {
                standing = Standing::decode(&mut value)?;
            }
        }
        Ok(Self {
            name,
            hears,
            standing,
        })
    }
}

/// Appends what a frame says of these interfaces.
pub fn encode_rows(rows: &[Row], out: &mut Vec<u8>) {
    out.push(u8::try_from(rows.len()).unwrap_or(u8::MAX));
    for row in rows {
        put_name(row.name.as_bytes(), out);
        out.push(row.link as u8);
        out.extend_from_slice(&row.hears.bits().to_be_bytes());
    }
}

/// Reads what a frame says. An interface in a state of a later version is as if it were missing; what follows is skipped.
pub fn decode_rows(body: &[u8]) -> Result<Vec<Row>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut rows = Vec::new();
    let count = usize::from(reader.u8()?);
    if count > INTERFACES_MAX {
        return Err(DecodeError::Record);
    }
    for _ in 0..count {
        let name = name(&mut reader)?;
        rows.push(Row {
            name: String::from_utf8_lossy(name).into_owned(),
            link: match reader.u8()? {
                0 => Link::Up,
                1 => Link::Down,
                _ => Link::Missing,
            },
            hears: MemberSet::from_bits(reader.u16()?),
        });
    }
    Ok(rows)
}

fn put_name(name: &[u8], out: &mut Vec<u8>) {
    let name = name.get(..NAME_BYTES_MAX).unwrap_or(name);
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend_from_slice(name);
}

fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = usize::from(reader.u8()?);
    let name = reader.bytes(length)?;
    // Operators read it.
    let is_clean = length <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic);
    is_clean.then_some(name).ok_or(DecodeError::Record)
}

#[cfg(test)]
mod tests;
