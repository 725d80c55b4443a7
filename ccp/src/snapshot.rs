//! Full sync: one member gives another everything that it knows, over their link, while deltas go on (PROTOCOL.md 9).
//!
//! A snapshot says of each flow who told of it, in which delta, so that its rows are taken as if they came late from their
//! carriers: what a delta has said since, or ended, stays. It begins with a vector: up to which delta of each carrier it is
//! complete. From there on the carriers themselves tell, so nothing falls between the two.
//!
//! It goes in parts, by a hash of the key that is the same everywhere; what breaks off after some of them is fetched
//! from another member without those. Related flows come last, as the kernel takes none without its master.

pub mod client;
pub mod server;

use crate::record::FlowKey;
use crate::table::{Entry, Table};

/// Frames that may be on their way: with [`FRAME_BYTES`] half a megabyte, enough for 50 MB/s at 10 ms.
pub const WINDOW: u64 = 64;
/// A frame of rows is sent when it has that many bytes.
pub const FRAME_BYTES: usize = 8192;

/// Parts of flows without a master.
const HASHED: u8 = 16;
/// Parts of related flows: those of such a flow, those of these, and all that are related further.
const RELATED: u8 = 3;
const PARTS: u8 = HASHED + RELATED;

/// Parts of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts(u32);

impl Parts {
    /// The whole.
    pub const ALL: Self = Self((1 << PARTS) - 1);

    /// One bit a part.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// What [`Self::bits`] says; parts that this version does not know are none.
    pub fn of_bits(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// True if it is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many of the whole are not in it.
    pub fn done(self) -> (u8, u8) {
        (PARTS - self.0.count_ones() as u8, PARTS)
    }

    /// The next part.
    pub fn first(self) -> Option<u8> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as u8)
    }

    /// Takes a part out.
    pub fn remove(&mut self, part: u8) {
        if part < PARTS {
            self.0 &= !(1 << part);
        }
    }
}

/// The part in which a flow is.
fn part_of(table: &Table, entry: &Entry) -> u8 {
    let Some(mut master) = master(entry) else {
        return hashed(&entry.key);
    };
    for depth in 0..RELATED - 1 {
        let above = table.find(&master).and_then(|slot| table.get(slot));
        match above.and_then(self::master) {
            Some(next) => master = next,
            None => return HASHED + depth,
        }
    }
    HASHED + RELATED - 1
}

fn master(entry: &Entry) -> Option<FlowKey> {
    entry.state.extra.as_ref()?.master
}

/// Nothing depends on how even it is; the same on every machine is all that it has to be.
fn hashed(key: &FlowKey) -> u8 {
    let word = |bytes: &[u8; 16], at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|word| word.try_into().ok())
            .map_or(0, u32::from_be_bytes)
    };
    let addresses = [&key.src, &key.dst]
        .iter()
        .flat_map(|address| [0, 4, 8, 12].map(|at| word(address, at)))
        .fold(0u32, |sum, word| sum.rotate_left(5) ^ word);
    let ports = u32::from(key.l4[0]) << 16 | u32::from(key.l4[1]);
    let mixed = (addresses ^ ports.rotate_left(7)).wrapping_mul(0x9e37_79b9);
    (mixed >> 28) as u8 % HASHED
}

#[cfg(test)]
mod tests;
