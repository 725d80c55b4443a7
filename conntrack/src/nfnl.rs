//! Netlink messages and attributes: walking received ones, building requests.
//!
//! ```text
//! nlmsghdr                                   nfgenmsg                nlattr
//! | len u32 | type u16 | flags u16 |         | family u8 | version u8 |   | len u16 | type u16 | value, padded to 4 |
//! | seq u32 | portid u32           |         | res_id u16             |
//! ```
//!
//! Headers are in the machine's byte order, values in the network's. Nothing here knows conntrack, and nothing
//! allocates but a request buffer that grows. Walking never reads past the slice: a length that does not fit is an
//! error, and ends the walk.

use rustix::io::Errno;

use crate::consts::*;
use crate::decode::DecodeError;

/// Bytes of a `nlmsghdr`.
pub(crate) const NLMSG_HDRLEN: usize = 16;
/// Bytes of a `nfgenmsg`.
pub(crate) const NFGENMSG_LEN: usize = 4;
/// Bytes of a `nlattr`.
pub(crate) const NLA_HDRLEN: usize = 4;

/// A message of a datagram.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// `nlmsg_type`
    pub(crate) kind: u16,
    /// `nlmsg_flags`
    pub(crate) flags: u16,
    /// `nlmsg_seq`
    pub(crate) seq: u32,
    /// `nlmsg_pid`
    pub(crate) portid: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after the `nfgenmsg`.
    #[inline]
    pub(crate) fn attributes(&self) -> Result<Attributes<'a>, DecodeError> {
        let rest = self
            .body
            .get(NFGENMSG_LEN..)
            .ok_or(DecodeError::MessageLength)?;
        Ok(Attributes { rest })
    }

    /// `res_id` of the `nfgenmsg`.
    pub(crate) fn resource(&self) -> Result<u16, DecodeError> {
        let resource = self.body.get(2..NFGENMSG_LEN).and_then(<[u8]>::first_chunk);
        resource
            .map(|bytes| u16::from_be_bytes(*bytes))
            .ok_or(DecodeError::MessageLength)
    }

    /// The request that a `NLMSG_ERROR` is the answer to; the kernel repeats it where the socket doesn't forbid it.
    pub(crate) fn request(&self) -> Option<Message<'a>> {
        Messages::new(self.body.get(4..)?).next()?.ok()
    }

    /// What a `NLMSG_ERROR` (which also acknowledges) or `NLMSG_DONE` says: 0 or a negative error number.
    pub(crate) fn outcome(&self) -> Result<(), Errno> {
        let number = self
            .body
            .first_chunk()
            .map(|bytes| i32::from_ne_bytes(*bytes));
        match number {
            Some(0) => Ok(()),
            Some(number @ -4095..0) => Err(Errno::from_raw_os_error(-number)),
            // No error of the kernel, though it should be one.
            Some(_) | None => Err(Errno::BADMSG),
        }
    }
}

/// The messages of a received datagram.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    /// How many bytes are not walked yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let Some(header) = bytes.first_chunk::<NLMSG_HDRLEN>() else {
            return Some(Err(DecodeError::MessageLength));
        };
        let [
            l0,
            l1,
            l2,
            l3,
            k0,
            k1,
            f0,
            f1,
            s0,
            s1,
            s2,
            s3,
            p0,
            p1,
            p2,
            p3,
        ] = *header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = bytes.get(NLMSG_HDRLEN..len) else {
            return Some(Err(DecodeError::MessageLength));
        };
        self.rest = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            seq: u32::from_ne_bytes([s0, s1, s2, s3]),
            portid: u32::from_ne_bytes([p0, p1, p2, p3]),
            body,
        }))
    }
}

/// An attribute of a message.
#[derive(Clone, Copy)]
pub(crate) struct Attribute<'a> {
    /// `nla_type` without its flags.
    pub(crate) kind: u16,
    /// Its value, without padding.
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as exactly `N` bytes.
    #[inline]
    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        self.value
            .try_into()
            .map_err(|_| DecodeError::AttributeSize {
                attribute: self.kind,
            })
    }

    #[inline]
    pub(crate) fn u8(&self) -> Result<u8, DecodeError> {
        self.array().map(|[value]| value)
    }

    #[inline]
    pub(crate) fn be16(&self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn be32(&self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn be64(&self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// The attributes nested in this one.
    #[inline]
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes { rest: self.value }
    }
}

/// The attributes of a message, or those nested in an attribute.
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// What is not walked yet.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let Some((len, kind)) = attribute_header(bytes) else {
            return Some(Err(DecodeError::AttributeLength));
        };
        let Some(value) = bytes.get(NLA_HDRLEN..len) else {
            return Some(Err(DecodeError::AttributeLength));
        };
        self.rest = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute {
            kind: kind & NLA_TYPE_MASK,
            value,
        }))
    }
}

/// Length and type, flags included, of the attribute that the bytes begin with.
#[inline]
pub(crate) fn attribute_header(bytes: &[u8]) -> Option<(usize, u16)> {
    let (len, rest) = bytes.split_first_chunk()?;
    let kind = rest.first_chunk()?;
    Some((
        usize::from(u16::from_ne_bytes(*len)),
        u16::from_ne_bytes(*kind),
    ))
}

/// Appends one message to a buffer; [`finish`](Self::finish) writes its length.
pub(crate) struct Builder<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Builder<'a> {
    /// Begins a request to ctnetlink.
    pub(crate) fn request(
        buffer: &'a mut Vec<u8>,
        operation: u16,
        flags: u16,
        seq: u32,
        family: u8,
    ) -> Self {
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | operation;
        Self::message(buffer, kind, flags, seq, family, 0)
    }

    /// Begins a request to any subsystem; `resource` is the `res_id` of its `nfgenmsg`.
    pub(crate) fn message(
        buffer: &'a mut Vec<u8>,
        kind: u16,
        flags: u16,
        seq: u32,
        family: u8,
        resource: u16,
    ) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&kind.to_ne_bytes());
        buffer.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        buffer.extend_from_slice(&seq.to_ne_bytes());
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&[family, 0]);
        buffer.extend_from_slice(&resource.to_be_bytes());
        Self { buffer, start }
    }

    /// Appends an attribute.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(NLA_HDRLEN + value.len()).expect("values are of a few bytes");
        self.buffer.extend_from_slice(&len.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }

    pub(crate) fn put_be16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_be_bytes());
    }

    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// Appends an attribute whose value are the attributes that `fill` puts.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.put(kind | NLA_F_NESTED, &[]);
        fill(self);
        let len =
            u16::try_from(self.buffer.len() - start).expect("a request is of a few hundred bytes");
        self.buffer[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Ends the message.
    pub(crate) fn finish(self) {
        let len = u32::try_from(self.buffer.len() - self.start)
            .expect("a request is of a few hundred bytes");
        self.buffer[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

/// Writes a sequence number, and flags to add, into the header of the message that `message` begins with.
pub(crate) fn stamp(message: &mut [u8], seq: u32, flags: u16) {
    let [f0, f1] = [message[6], message[7]];
    message[6..8].copy_from_slice(&(u16::from_ne_bytes([f0, f1]) | flags).to_ne_bytes());
    message[8..12].copy_from_slice(&seq.to_ne_bytes());
}

#[cfg(test)]
mod tests;
