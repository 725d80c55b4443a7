//! Tuples: the usual ones by comparing headers, all others by walking attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::consts::*;
use crate::decode::DecodeError;
use crate::flow::{L4, Tuple};
use crate::nfnl::{Attributes, NLA_HDRLEN, attribute_header};

/// Writes the tuple that the attributes of a nest tell.
#[inline]
pub(super) fn read_tuple(tuple: &mut Tuple, attributes: Attributes<'_>) -> Result<(), DecodeError> {
    if read_usual_tuple(tuple, attributes.bytes()) {
        return Ok(());
    }
    walk_tuple(tuple, attributes)
}

/// Reads a tuple of ports without a zone that is laid out as `ctnetlink_dump_tuples` does it; false when it is not.
///
/// Its headers are compared instead of walked, as the two tuples take most of the time of an event.
#[inline]
fn read_usual_tuple(tuple: &mut Tuple, bytes: &[u8]) -> bool {
    const V4_LEN: usize = 48;
    const V6_LEN: usize = 72;
    match bytes.len() {
        V4_LEN => usual_tuple::<4>(tuple, bytes, CTA_IP_V4_SRC).is_some(),
        V6_LEN => usual_tuple::<16>(tuple, bytes, CTA_IP_V6_SRC).is_some(),
        _ => false,
    }
}

#[inline]
fn usual_tuple<const N: usize>(tuple: &mut Tuple, bytes: &[u8], src_kind: u16) -> Option<()>
where
    IpAddr: From<[u8; N]>,
{
    let mut usual = Usual { rest: bytes };
    usual.header(12 + 2 * N, CTA_TUPLE_IP | NLA_F_NESTED)?;
    usual.header(4 + N, src_kind)?;
    let src = usual.value::<N>()?;
    usual.header(4 + N, src_kind + 1)?;
    let dst = usual.value::<N>()?;
    usual.header(28, CTA_TUPLE_PROTO | NLA_F_NESTED)?;
    usual.header(5, CTA_PROTO_NUM)?;
    let [proto, ..] = usual.value::<4>()?;
    usual.header(6, CTA_PROTO_SRC_PORT)?;
    let [src_high, src_low, ..] = usual.value::<4>()?;
    usual.header(6, CTA_PROTO_DST_PORT)?;
    let [dst_high, dst_low, ..] = usual.value::<4>()?;
    tuple.src = IpAddr::from(src);
    tuple.dst = IpAddr::from(dst);
    tuple.proto = proto;
    let [src, dst] = [[src_high, src_low], [dst_high, dst_low]].map(u16::from_be_bytes);
    tuple.l4 = L4::Ports { src, dst };
    Some(())
}

/// Attributes that are expected to be laid out in one way.
struct Usual<'a> {
    rest: &'a [u8],
}

impl Usual<'_> {
    /// Passes over a header of this length and type; `None` when it is another.
    #[inline]
    fn header(&mut self, len: usize, kind: u16) -> Option<()> {
        let same = attribute_header(self.rest)? == (len, kind);
        self.rest = self.rest.get(NLA_HDRLEN..)?;
        same.then_some(())
    }

    /// Passes over a value and its padding.
    #[inline]
    fn value<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*value)
    }
}

fn walk_tuple(tuple: &mut Tuple, attributes: Attributes<'_>) -> Result<(), DecodeError> {
    let (mut addresses, mut protocol) = (false, false);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_IP => {
                read_addresses(tuple, attribute.nested())?;
                addresses = true;
            }
            CTA_TUPLE_PROTO => {
                read_protocol(tuple, attribute.nested())?;
                protocol = true;
            }
            CTA_TUPLE_ZONE => tuple.zone = attribute.be16()?,
            _ => {}
        }
    }
    match (addresses, protocol) {
        (false, _) => Err(DecodeError::TupleAddresses),
        (true, false) => Err(DecodeError::TupleProtocol),
        (true, true) => Ok(()),
    }
}

#[inline]
fn read_addresses(tuple: &mut Tuple, attributes: Attributes<'_>) -> Result<(), DecodeError> {
    const V4: u8 = 0b0011;
    const V6: u8 = 0b1100;
    let mut seen = 0;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_IP_V4_SRC => tuple.src = IpAddr::V4(Ipv4Addr::from(attribute.array::<4>()?)),
            CTA_IP_V4_DST => tuple.dst = IpAddr::V4(Ipv4Addr::from(attribute.array::<4>()?)),
            CTA_IP_V6_SRC => tuple.src = IpAddr::V6(Ipv6Addr::from(attribute.array::<16>()?)),
            CTA_IP_V6_DST => tuple.dst = IpAddr::V6(Ipv6Addr::from(attribute.array::<16>()?)),
            _ => continue,
        }
        seen |= 1 << (attribute.kind - CTA_IP_V4_SRC);
    }
    if matches!(seen, V4 | V6) {
        Ok(())
    } else {
        Err(DecodeError::TupleAddresses)
    }
}

#[inline]
fn read_protocol(tuple: &mut Tuple, attributes: Attributes<'_>) -> Result<(), DecodeError> {
    let mut proto = None;
    let (mut src, mut dst) = (None, None);
    let (mut kind, mut code, mut id) = (None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTO_NUM => proto = Some(attribute.u8()?),
            CTA_PROTO_SRC_PORT => src = Some(attribute.be16()?),
            CTA_PROTO_DST_PORT => dst = Some(attribute.be16()?),
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => id = Some(attribute.be16()?),
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => kind = Some(attribute.u8()?),
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => code = Some(attribute.u8()?),
            _ => {}
        }
    }
    tuple.proto = proto.ok_or(DecodeError::TupleProtocol)?;
    tuple.l4 = match (src, dst, kind, code, id) {
        (Some(src), Some(dst), ..) => L4::Ports { src, dst },
        (_, _, Some(kind), Some(code), Some(id)) => L4::Icmp { kind, code, id },
        _ => L4::None,
    };
    Ok(())
}
