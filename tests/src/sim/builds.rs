//! Daemons of other versions. They run the code under test, but what they say is rewritten on its way: a *later* build says
//! more than this one knows, and an *earlier* one neither says nor understands the newest of what this one does.

use agent::core::LinkMessage;
use agent::core::keys::KeyOffer;
use agent::core::seal::{Cipher, PeerKeys};
use ccp::wire::header::{Header, Opcode};

use super::gateway::key;

/// Of which version a daemon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    /// As it is.
    #[default]
    This,
    /// With an operation, a frame, a capability, a record, and attributes of hellos and of records that this one has not.
    Later,
    /// Without the attributes of hellos for builds and modes, and so without capabilities.
    Earlier,
}

/// What stands for all that is new.
const NEW: u8 = 200;
/// Hellos whose number this divides are something else instead.
const OPERATION_EVERY: u64 = 5;
const ATTRIBUTE_BUILD: u8 = 2;
const ATTRIBUTE_MODE: u8 = 10;
/// Table and last sequence.
const HELLO_FIELDS: usize = 16;
/// Number of the snapshot.
const ROWS_FIELDS: usize = 8;
const START: u8 = 17;
const ROWS: u8 = 18;

impl Build {
    /// What a daemon of this build sends where the code under test would send `datagram`.
    pub fn says(self, datagram: &[u8]) -> Vec<u8> {
        match self {
            Build::This => datagram.to_vec(),
            Build::Later => rewritten(datagram, |header, body| match header.opcode {
                Opcode::Hello if header.packet_number % OPERATION_EVERY == 0 => {
                    header.opcode = Opcode::Unknown(NEW);
                    vec![NEW; 40]
                }
                Opcode::Hello => later_hello(body),
                Opcode::Delta => {
                    let (seq, records) = body.split_at(8);
                    [seq, &later_records(records, 0), &[2, 0xc0, NEW]].concat()
                }
                Opcode::Ack | Opcode::Probe | Opcode::ProbeReply | Opcode::Unknown(_) => {
                    body.to_vec()
                }
            }),
            Build::Earlier => self.understands(datagram),
        }
    }

    /// What of a datagram a daemon of this build understands.
    pub fn understands(self, datagram: &[u8]) -> Vec<u8> {
        match self {
            Build::This | Build::Later => datagram.to_vec(),
            Build::Earlier => rewritten(datagram, |header, body| match header.opcode {
                Opcode::Hello => earlier_hello(body),
                Opcode::Delta
                | Opcode::Ack
                | Opcode::Probe
                | Opcode::ProbeReply
                | Opcode::Unknown(_) => body.to_vec(),
            }),
        }
    }

    /// As [`Self::says`], over a link.
    pub fn says_over_link(self, message: LinkMessage) -> Vec<LinkMessage> {
        match (self, message) {
            (Build::Later, LinkMessage::Protocol(kind, body)) => {
                let body = match kind {
                    ROWS => {
                        let (id, rows) = body.split_at(ROWS_FIELDS);
                        [id, &later_records(rows, 1)].concat()
                    }
                    START => body,
                    _ => [&body[..], &[NEW; 3]].concat(),
                };
                let new = LinkMessage::Protocol(31, vec![NEW; 9]);
                vec![new, LinkMessage::Protocol(kind, body)]
            }
            (_, message) => vec![message],
        }
    }
}

/// The datagram with another body, sealed as its sender does; as it is if it was not sealed by any.
fn rewritten(datagram: &[u8], rewrite: impl FnOnce(&mut Header, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let Ok((mut header, _)) = Header::decode(datagram) else {
        return datagram.to_vec();
    };
    // Keys are counted as epochs are, and no run is so long that those wrap.
    let key = key(header.incarnation, header.epoch.into());
    let mut keys = PeerKeys::default();
    keys.handle_offer(&KeyOffer {
        incarnation: header.incarnation,
        epoch: header.epoch,
        key: key.clone(),
        floor: 0,
    });
    let mut opened = datagram.to_vec();
    let Ok(body) = keys.open(&header, &mut opened) else {
        return datagram.to_vec();
    };
    let body = rewrite(&mut header, body);
    let mut sealed = [&header.encode()[..], &body].concat();
    Cipher::new(&key).seal(header.packet_number, &mut sealed);
    sealed
}

/// The attributes of a hello, by their tags.
fn attributes(hello: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = &hello[HELLO_FIELDS..];
    std::iter::from_fn(move || {
        let (head, values) = rest.split_first_chunk::<2>()?;
        let (value, next) = values.split_at(head[1].into());
        rest = next;
        Some((head[0], value))
    })
}

fn later_hello(hello: &[u8]) -> Vec<u8> {
    let mut out = hello[..HELLO_FIELDS].to_vec();
    for (tag, value) in attributes(hello) {
        let mut value = value.to_vec();
        if tag == ATTRIBUTE_BUILD {
            // Another version, one capability more, and fields behind those that are known.
            value[1] += 1;
            value[3] |= 0x80;
            value.extend([NEW; 2]);
        }
        put_attribute(&mut out, tag, &value);
    }
    put_attribute(&mut out, NEW, b"new");
    out
}

fn earlier_hello(hello: &[u8]) -> Vec<u8> {
    let mut out = hello[..HELLO_FIELDS].to_vec();
    for (tag, value) in attributes(hello) {
        if ![ATTRIBUTE_BUILD, ATTRIBUTE_MODE].contains(&tag) {
            put_attribute(&mut out, tag, value);
        }
    }
    out
}

/// Each record with one attribute more, if there is room; before it stand `fields` bytes and a number in LEB128, if any.
fn later_records(mut records: &[u8], fields: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while !records.is_empty() {
        let continued = |byte: &&u8| **byte & 0x80 != 0;
        let number = match fields {
            0 => 0,
            _ => 1 + records[fields..].iter().take_while(continued).count(),
        };
        let (before, rest) = records.split_at(fields + number);
        let (record, rest) = rest[1..].split_at(rest[0].into());
        records = rest;
        let mut record = record.to_vec();
        if record.len() + 5 <= u8::MAX.into() {
            put_attribute(&mut record, NEW, b"new");
        }
        out.extend_from_slice(before);
        out.push(u8::try_from(record.len()).expect("there was room"));
        out.extend(record);
    }
    out
}

fn put_attribute(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let len = u8::try_from(value.len()).expect("it was one before");
    out.extend([tag, len]);
    out.extend_from_slice(value);
}
