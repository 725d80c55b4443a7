//! What a hello says of its sender's build (PROTOCOL.md 10.6).

use super::DecodeError;
use super::cursor::Reader;
use crate::build::{Build, Capabilities, Version};
use alloc::vec::Vec;

pub(super) const ATTRIBUTE_BUILD: u8 = 2;
const BUILD_BYTES: u8 = 11;

impl Build {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Version {
            major,
            minor,
            patch,
        } = self.version;
        out.extend_from_slice(&[ATTRIBUTE_BUILD, BUILD_BYTES, major, minor, patch]);
        out.extend_from_slice(&self.capabilities.bits().to_be_bytes());
    }

    pub(super) fn decode(value: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: Version {
                major: value.u8()?,
                minor: value.u8()?,
                patch: value.u8()?,
            },
            capabilities: Capabilities::from_bits(value.u64()?),
        })
    }
}
