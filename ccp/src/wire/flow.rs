//! Records of a delta: changes of flows, each led by its length (PROTOCOL.md 4).
//!
//! ```text
//! | length u8 | op:2 v6:1 proto:5 | (proto u8) | src | dst | (l4 2 x u16) | upsert: flags:4 state:4 | timeout varint |
//! | tcp: wscale u8, flags u8 | attributes: tag u8, length u8, value ... |
//! ```

mod expected;
mod extra;
mod outline;

pub use outline::{Outline, take_outline};

use super::cursor::{Reader, put_varint};
use super::{DecodeError, Skipped};
use crate::record::{
    Address, BulkUpdateEnd, Claim, Endpoint, Extra, Family, FlowKey, FlowState, Nat, Record,
    Status, TcpOptions, Term, ZoneDirection,
};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The longest a record can be, length byte included: what one length byte can say. The longest that there is today, with
/// everything in it, has 240.
pub const RECORD_BYTES_MAX: usize = 1 + 255;

/// The longest that the mark at the end of a bulk update can be: length, kind, member and twice nine bytes of a sequence.
pub const TOLD_BYTES_MAX: usize = 21;

const OP_UPSERT: u8 = 0;
const OP_DELETE: u8 = 1;
const OP_TOLD: u8 = 2;
const V6: u8 = 0x20;

const PROTO_OTHER: u8 = 31;
/// `IPPROTO_TCP`
pub const TCP: u8 = 6;
/// `IPPROTO_SCTP`
pub const SCTP: u8 = 132;
/// `IPPROTO_DCCP`
pub const DCCP: u8 = 33;

/// True if the kernel tells a state of the protocol's flows.
pub fn has_state(proto: u8) -> bool {
    matches!(proto, TCP | SCTP | DCCP)
}

/// Protocols with ports, keys or identifiers, by their code in a record.
const PROTOS: [u8; 8] = [TCP, 17, 1, 58, SCTP, DCCP, 47, 136];

/// True if the protocol's flows are told apart by ports, keys or identifiers.
pub fn has_l4(proto: u8) -> bool {
    PROTOS.contains(&proto)
}

const STATE_SEEN_REPLY: u8 = 0x10;
const STATE_ASSURED: u8 = 0x20;

mod tag {
    pub const TERM: u8 = 1;
    pub const FOUND: u8 = 2;
    pub const NAT_SRC: u8 = 3;
    pub const NAT_DST: u8 = 4;
    pub const MARK: u8 = 5;
    pub const ZONE: u8 = 6;
    pub const LABELS: u8 = 7;
    pub const HELPER: u8 = 8;
    pub const MASTER: u8 = 9;
    pub const SEQ_ADJ_ORIGINAL: u8 = 10;
    pub const SEQ_ADJ_REPLY: u8 = 11;
    pub const SYNPROXY: u8 = 12;
    pub const SCTP_VTAG: u8 = 13;
    pub const DCCP: u8 = 14;
    pub const EXPECTED: u8 = 15;
}

/// Appends an upsert.
pub fn put_upsert(out: &mut Vec<u8>, key: &FlowKey, state: &FlowState, term: Term, claim: Claim) {
    let start = out.len();
    framed(out, |out| {
        put_key(out, OP_UPSERT, key);
        out.push(state_byte(state));
        put_varint(out, u64::from(state.timeout_secs));
        if key.proto == TCP {
            out.push(state.tcp.wscale);
            out.push(state.tcp.flags);
        }
        put_claim(out, key, term, claim);
        put_rest(out, key, state);
        if let Some(extra) = &state.extra {
            // The oldest are left out where there is no room: better a flow without than none.
            let room = RECORD_BYTES_MAX.saturating_sub(out.len() - start)
                / expected::bytes_max(key.family);
            let left_out = extra.expected.len().saturating_sub(room);
            for expected in extra.expected.iter().skip(left_out) {
                expected::put(out, key.family, expected);
            }
        }
    });
}

/// Appends what a carrier and the holder of a copy have to agree on: the key, and all of the state but its timeout and what
/// is expected. Returns where the state begins.
pub fn put_compared(out: &mut Vec<u8>, key: &FlowKey, state: &FlowState) -> usize {
    put_key(out, OP_UPSERT, key);
    put_claim(out, key, Term::default(), Claim::Carried);
    let key_end = out.len();
    out.push(state_byte(state));
    if key.proto == TCP {
        out.extend_from_slice(&[state.tcp.wscale, state.tcp.flags]);
    }
    put_rest(out, key, state);
    key_end
}

/// Appends the mark, the translation and the rare parts, but for what is expected.
fn put_rest(out: &mut Vec<u8>, key: &FlowKey, state: &FlowState) {
    if state.mark != 0 {
        attribute(out, tag::MARK, |out| {
            out.extend_from_slice(&state.mark.to_be_bytes())
        });
    }
    if let Some(nat) = &state.nat {
        put_endpoint(out, tag::NAT_SRC, key.family, nat.src);
        put_endpoint(out, tag::NAT_DST, key.family, nat.dst);
    }
    if let Some(extra) = &state.extra {
        extra::put(out, extra);
    }
}

fn state_byte(state: &FlowState) -> u8 {
    let seen = if state.status.seen_reply {
        STATE_SEEN_REPLY
    } else {
        0
    };
    let assured = if state.status.assured {
        STATE_ASSURED
    } else {
        0
    };
    state.proto_state & 0x0f | seen | assured
}

/// Appends a delete.
pub fn put_delete(out: &mut Vec<u8>, key: &FlowKey, term: Term, claim: Claim) {
    framed(out, |out| {
        put_key(out, OP_DELETE, key);
        put_claim(out, key, term, claim);
    });
}

/// Appends the mark that ends a bulk update.
pub fn put_told(out: &mut Vec<u8>, told: BulkUpdateEnd) {
    framed(out, |out| {
        out.push(OP_TOLD << 6);
        out.push(told.member.get());
        put_varint(out, told.base);
        put_varint(out, told.from);
    });
}

/// Takes the next record off `reader`. `Ok(None)` is a record of a kind this version does not know.
pub fn take_record(
    reader: &mut Reader<'_>,
    skipped: &mut Skipped,
) -> Result<Option<Record>, DecodeError> {
    let len = usize::from(reader.u8()?);
    let mut reader = Reader::new(reader.bytes(len)?);
    let kind = reader.u8()?;
    match kind >> 6 {
        OP_UPSERT => take_upsert(&mut reader, kind, skipped).map(Some),
        OP_DELETE => take_delete(&mut reader, kind, skipped).map(Some),
        OP_TOLD => Ok(Some(Record::Told(BulkUpdateEnd {
            member: reader.member()?,
            base: reader.seq_varint()?,
            from: reader.seq_varint()?,
        }))),
        _ => {
            skipped.records += 1;
            Ok(None)
        }
    }
}

fn take_upsert(
    reader: &mut Reader<'_>,
    kind: u8,
    skipped: &mut Skipped,
) -> Result<Record, DecodeError> {
    let mut key = take_key(reader, kind)?;
    let flags = reader.u8()?;
    let mut state = FlowState {
        proto_state: flags & 0x0f,
        status: Status {
            seen_reply: flags & STATE_SEEN_REPLY != 0,
            assured: flags & STATE_ASSURED != 0,
        },
        timeout_secs: u32::try_from(reader.varint()?).map_err(|_| DecodeError::Number)?,
        ..FlowState::default()
    };
    if key.proto == TCP {
        state.tcp = TcpOptions {
            wscale: reader.u8()?,
            flags: reader.u8()?,
        };
    }
    let (mut term, mut claim) = (Term::default(), Claim::Carried);
    let (mut nat, mut extra) = (Nat::default(), Extra::default());
    while !reader.is_empty() {
        let tag = reader.u8()?;
        let len = usize::from(reader.u8()?);
        let mut value = Reader::new(reader.bytes(len)?);
        match tag {
            tag::MARK => state.mark = value.u32()?,
            tag::NAT_SRC => nat.src = Some(take_endpoint(&mut value, key.family)?),
            tag::NAT_DST => nat.dst = Some(take_endpoint(&mut value, key.family)?),
            tag::TERM | tag::FOUND | tag::ZONE => {
                take_claim(tag, &mut value, &mut key, &mut term, &mut claim)?
            }
            tag::EXPECTED => extra.expected.push(expected::take(&mut value, key.family)?),
            _ => extra::take(tag, &mut value, &mut extra, skipped)?,
        }
    }
    state.nat = (nat != Nat::default()).then(|| Box::new(nat));
    if let Some(master) = &mut extra.master {
        // The kernel looks for a master in the zone of its flow, so the record has the zone only once.
        master.zone = key.zone;
        master.zone_direction = key.zone_direction;
        if master.family != key.family {
            return Err(DecodeError::Record);
        }
    }
    state.extra = (extra != Extra::default()).then(|| Box::new(extra));
    Ok(Record::Upsert {
        key,
        state,
        term,
        claim,
    })
}

fn take_delete(
    reader: &mut Reader<'_>,
    kind: u8,
    skipped: &mut Skipped,
) -> Result<Record, DecodeError> {
    let mut key = take_key(reader, kind)?;
    let (mut term, mut claim) = (Term::default(), Claim::Carried);
    while !reader.is_empty() {
        let tag = reader.u8()?;
        let len = usize::from(reader.u8()?);
        let mut value = Reader::new(reader.bytes(len)?);
        match tag {
            tag::TERM | tag::FOUND | tag::ZONE => {
                take_claim(tag, &mut value, &mut key, &mut term, &mut claim)?
            }
            _ => skipped.attributes += 1,
        }
    }
    Ok(Record::Delete { key, term, claim })
}

fn framed(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.push(0);
    put(out);
    let len = out.len() - at - 1;
    if let Some(place) = out.get_mut(at) {
        *place = u8::try_from(len)
            .expect("no record is longer than RECORD_BYTES_MAX: its parts are bounded");
    }
}

fn attribute(out: &mut Vec<u8>, tag: u8, put: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    framed(out, put);
}

fn put_key(out: &mut Vec<u8>, op: u8, key: &FlowKey) {
    let v6 = if key.family == Family::V6 { V6 } else { 0 };
    let code = PROTOS.iter().position(|proto| *proto == key.proto);
    match code {
        Some(code) => out.push(op << 6 | v6 | code as u8),
        None => out.extend_from_slice(&[op << 6 | v6 | PROTO_OTHER, key.proto]),
    }
    put_address(out, key.family, &key.src);
    put_address(out, key.family, &key.dst);
    if code.is_some() {
        key.l4
            .iter()
            .for_each(|l4| out.extend_from_slice(&l4.to_be_bytes()));
    }
}

/// The key without its zone, which is an attribute.
fn take_key(reader: &mut Reader<'_>, kind: u8) -> Result<FlowKey, DecodeError> {
    let family = if kind & V6 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let (proto, has_l4) = match kind & 0x1f {
        PROTO_OTHER => (reader.u8()?, false),
        code => (
            *PROTOS.get(usize::from(code)).ok_or(DecodeError::Record)?,
            true,
        ),
    };
    let src = take_address(reader, family)?;
    let dst = take_address(reader, family)?;
    let l4 = if has_l4 {
        [reader.u16()?, reader.u16()?]
    } else {
        [0; 2]
    };
    Ok(FlowKey {
        src,
        dst,
        l4,
        zone: 0,
        proto,
        family,
        zone_direction: ZoneDirection::Both,
    })
}

fn put_address(out: &mut Vec<u8>, family: Family, address: &Address) {
    match family {
        Family::V4 => out.extend_from_slice(
            address
                .first_chunk::<4>()
                .expect("an address has sixteen bytes"),
        ),
        Family::V6 => out.extend_from_slice(address),
    }
}

fn take_address(reader: &mut Reader<'_>, family: Family) -> Result<Address, DecodeError> {
    match family {
        Family::V4 => {
            let [a, b, c, d] = reader.array::<4>()?;
            Ok([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        }
        Family::V6 => reader.array::<16>(),
    }
}

fn put_claim(out: &mut Vec<u8>, key: &FlowKey, term: Term, claim: Claim) {
    if term != Term::default() {
        attribute(out, tag::TERM, |out| {
            out.extend_from_slice(&term.0.to_be_bytes())
        });
    }
    if claim == Claim::Found {
        attribute(out, tag::FOUND, |_| {});
    }
    if key.zone != 0 {
        attribute(out, tag::ZONE, |out| {
            out.extend_from_slice(&key.zone.to_be_bytes());
            out.push(key.zone_direction as u8);
        });
    }
}

fn take_claim(
    tag: u8,
    value: &mut Reader<'_>,
    key: &mut FlowKey,
    term: &mut Term,
    claim: &mut Claim,
) -> Result<(), DecodeError> {
    match tag {
        tag::TERM => *term = Term(value.u16()?),
        tag::FOUND => *claim = Claim::Found,
        tag::ZONE => {
            key.zone = value.u16()?;
            key.zone_direction = match value.u8()? {
                0 => ZoneDirection::Both,
                1 => ZoneDirection::Original,
                2 => ZoneDirection::Reply,
                _ => return Err(DecodeError::Number),
            };
        }
        _ => {}
    }
    Ok(())
}

fn put_endpoint(out: &mut Vec<u8>, tag: u8, family: Family, endpoint: Option<Endpoint>) {
    if let Some(endpoint) = endpoint {
        attribute(out, tag, |out| {
            put_address(out, family, &endpoint.address);
            out.extend_from_slice(&endpoint.port.to_be_bytes());
        });
    }
}

fn take_endpoint(value: &mut Reader<'_>, family: Family) -> Result<Endpoint, DecodeError> {
    Ok(Endpoint {
        address: take_address(value, family)?,
        port: value.u16()?,
    })
}
