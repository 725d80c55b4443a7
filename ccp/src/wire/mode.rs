//! What a hello says of the mode of a network (PROTOCOL.md 10.5).

use super::DecodeError;
use super::cursor::Reader;
use crate::modes::{Generation, Mode, ModeReport, Stage};
use crate::network::NetworkId;
use crate::record::MemberSet;
use alloc::vec::Vec;

pub(super) const ATTRIBUTE_MODE: u8 = 10;
const MODE_BYTES: u8 = 10;

impl ModeReport {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mode = match self.mode {
            Mode::Unicast => 0,
            Mode::Multicast => 1,
            Mode::Broadcast => 2,
        };
        let stage = match self.stage {
            Stage::Used => 0,
            Stage::Tried => 1,
            Stage::Undone => 2,
        };
        out.extend_from_slice(&[ATTRIBUTE_MODE, MODE_BYTES, self.network.get(), mode, stage]);
        out.push(self.generation.by);
        out.extend_from_slice(&self.generation.number.to_be_bytes());
        out.extend_from_slice(&self.carried.bits().to_be_bytes());
    }

    /// `None` for a network, mode or stage of a later version.
    pub(super) fn decode(value: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let (network, mode, stage) = (value.u8()?, value.u8()?, value.u8()?);
        let by = value.u8()?;
        let generation = Generation {
            number: value.u32()?,
            by,
        };
        let carried = MemberSet::from_bits(value.u16()?);
        let mode = match mode {
            0 => Some(Mode::Unicast),
            1 => Some(Mode::Multicast),
            2 => Some(Mode::Broadcast),
            _ => None,
        };
        let stage = match stage {
            0 => Some(Stage::Used),
            1 => Some(Stage::Tried),
            2 => Some(Stage::Undone),
            _ => None,
        };
        let report =
            NetworkId::new(network)
                .zip(mode)
                .zip(stage)
                .map(|((network, mode), stage)| Self {
                    network,
                    mode,
                    stage,
                    generation,
                    carried,
                });
        Ok(report)
    }
}
