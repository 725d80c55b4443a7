//! Prefixes of addresses, and which of two contains the other.

use ccp::record::Family;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A prefix of IPv4 or IPv6.
///
/// Its bits stand where those of a [`FlowKey`](ccp::record::FlowKey)'s address do, as one number: an IPv4 address in the
/// upper 32 bits. So both families are compared alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The family.
    pub family: Family,
    bits: u128,
    len: u8,
}

/// Why a text is not a prefix.
#[derive(Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// It is not an address with a length.
    Malformed,
    /// It has bits past its length; what it would be without.
    HostBits(Prefix),
}

impl Prefix {
    /// `10.0.0.0/8`, or an address, which is a prefix of full length.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Malformed)?;
        let (family, bits, len_max) = match address {
            IpAddr::V4(address) => (Family::V4, u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (Family::V6, address.to_bits(), 128),
        };
        let len = match len {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| PrefixError::Malformed)?
            }
            Some(_) => return Err(PrefixError::Malformed),
            None => len_max,
        };
        if len > len_max {
            return Err(PrefixError::Malformed);
        }
        let prefix = Self {
            family,
            bits: bits & mask(len),
            len,
        };
        match prefix.bits == bits {
            true => Ok(prefix),
            false => Err(PrefixError::HostBits(prefix)),
        }
    }

    /// The least address.
    pub fn first(&self) -> u128 {
        self.bits
    }

    /// The greatest address, and everything past it in the number.
    pub fn last(&self) -> u128 {
        self.bits | !mask(self.len)
    }

    /// True if every address of `other` is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        self.family == other.family
            && self.len <= other.len
            && other.bits & mask(self.len) == self.bits
    }

    /// True if it holds nothing but addresses that stand for many machines.
    pub fn is_for_many(&self) -> bool {
        ["224.0.0.0/4", "255.255.255.255", "ff00::/8"]
            .iter()
            .any(|many| Self::parse(many).is_ok_and(|many| many.covers(self)))
    }
}

fn mask(len: u8) -> u128 {
    match len {
        0 => 0,
        len => u128::MAX << (128 - u32::from(len)),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::V4 => {
                let address = Ipv4Addr::from_bits((self.bits >> 96) as u32);
                write!(f, "{address}/{}", self.len)
            }
            Family::V6 => write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.len),
        }
    }
}
