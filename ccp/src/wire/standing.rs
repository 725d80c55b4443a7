//! What a member says of itself: attribute 5 of a hello, and of a probe (PROTOCOL.md 12.2).

use super::DecodeError;
use super::cursor::Reader;
use crate::election::{Fitness, Load, Mode, Standing, State};
use alloc::vec::Vec;

/// The attribute's tag.
pub const ATTRIBUTE_STANDING: u8 = 5;
const STANDING_BYTES: u8 = 10;
const FLAG_LOAD_SHARING: u8 = 0x01;
const FLAG_STARVED: u8 = 0x02;

impl Standing {
    /// Appends the attribute.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let sharing = match self.mode {
            Mode::HighAvailability => 0,
            Mode::LoadSharing => FLAG_LOAD_SHARING,
        };
        let starved = match self.load {
            Load::Normal => 0,
            Load::Starved => FLAG_STARVED,
        };
        out.extend_from_slice(&[
            ATTRIBUTE_STANDING,
            STANDING_BYTES,
            self.state as u8,
            sharing | starved,
            self.priority,
            self.fitness.0,
        ]);
        out.extend_from_slice(&self.problems.to_be_bytes());
        out.extend_from_slice(&self.seconds.to_be_bytes());
    }

    /// Reads the attribute's value. A state of a later version is as if nothing had been said; flags not known are ignored.
    pub fn decode(value: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let [state, flags, priority, fitness] = value.array()?;
        let (problems, seconds) = (value.u16()?, value.u32()?);
        let state = State::ALL.get(usize::from(state)).copied();
        let mode = match flags & FLAG_LOAD_SHARING {
            0 => Mode::HighAvailability,
            _ => Mode::LoadSharing,
        };
        let load = match flags & FLAG_STARVED {
            0 => Load::Normal,
            _ => Load::Starved,
        };
        Ok(state.map(|state| Self {
            state,
            mode,
            load,
            priority,
            fitness: Fitness(fitness),
            problems,
            seconds,
        }))
    }
}
