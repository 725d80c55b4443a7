//! A flow that is expected: an attribute of the flow that announced it (PROTOCOL.md 4.6).

use super::{attribute, put_address, tag, take_address, take_endpoint};
use crate::record::{Expectation, Family, Translator};
use crate::wire::DecodeError;
use crate::wire::cursor::Reader;
use alloc::vec::Vec;

/// Tag, length, and an expectation with a translation.
pub(super) fn bytes_max(family: Family) -> usize {
    let address = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    2 + 12 + 3 * address + address + 2
}

const FOLLOWS_MASTER: u8 = 1;
const TRANSLATED: u8 = 2;
const OF_REPLY: u8 = 4;
const BY_SIP: u8 = 8;

pub(super) fn put(out: &mut Vec<u8>, family: Family, expected: &Expectation) {
    let Expectation {
        proto,
        src,
        dst,
        l4,
        src_mask,
        src_port_mask,
        timeout_secs,
        flags,
        class,
        nat,
        translator,
    } = expected;
    attribute(out, tag::EXPECTED, |out| {
        let mut bits = match translator {
            None => 0,
            Some(Translator::FollowMaster) => FOLLOWS_MASTER,
            Some(Translator::Sip) => BY_SIP,
        };
        if let Some((direction, _)) = nat {
            bits |= TRANSLATED | if *direction == 0 { 0 } else { OF_REPLY };
        }
        out.extend_from_slice(&[bits, *flags, *class, *proto]);
        for address in [src, dst, src_mask] {
            put_address(out, family, address);
        }
        for number in [l4[0], l4[1], *src_port_mask, *timeout_secs] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        if let Some((_, endpoint)) = nat {
            put_address(out, family, &endpoint.address);
            out.extend_from_slice(&endpoint.port.to_be_bytes());
        }
    });
}

pub(super) fn take(value: &mut Reader<'_>, family: Family) -> Result<Expectation, DecodeError> {
    let [bits, flags, class, proto] = value.array()?;
    Ok(Expectation {
        proto,
        flags,
        class,
        src: take_address(value, family)?,
        dst: take_address(value, family)?,
        src_mask: take_address(value, family)?,
        l4: [value.u16()?, value.u16()?],
        src_port_mask: value.u16()?,
        timeout_secs: value.u16()?,
        nat: match bits & TRANSLATED {
            0 => None,
            _ => Some((
                u8::from(bits & OF_REPLY != 0),
                take_endpoint(value, family)?,
            )),
        },
        translator: match (bits & FOLLOWS_MASTER != 0, bits & BY_SIP != 0) {
            (true, _) => Some(Translator::FollowMaster),
            (false, true) => Some(Translator::Sip),
            (false, false) => None,
        },
    })
}
