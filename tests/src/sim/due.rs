//! The order of what will happen, and the trace of what has.

use std::cmp::Ordering;
use std::time::Duration;

use super::What;

/// Something that will happen: the earliest first, of those at one time the one scheduled first.
#[derive(Debug)]
pub(super) struct Due {
    pub at: Duration,
    pub number: u64,
    pub what: What,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// FNV-1a of every datagram: who sent it, when, and its bytes.
#[derive(Debug)]
pub(super) struct Trace(pub u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub fn note(&mut self, now: Duration, from: usize, datagram: &[u8]) {
        let micros = now.as_micros().to_le_bytes();
        for byte in micros.iter().chain(&from.to_le_bytes()).chain(datagram) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
