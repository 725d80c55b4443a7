//! The only source of chance in a simulation: one seed, one stream of numbers (SplitMix64).

use std::ops::Range;
use std::time::Duration;

/// Numbers that look random and follow from the seed alone.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number of the range, which must not be empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// As [`Self::within`], of durations, to the microsecond.
    pub fn pause(&mut self, range: Range<Duration>) -> Duration {
        let micros =
            |duration: Duration| u64::try_from(duration.as_micros()).expect("pauses are short");
        Duration::from_micros(self.within(micros(range.start)..micros(range.end)))
    }

    /// True in `parts` of a million cases.
    pub fn one_in_million(&mut self, parts: u64) -> bool {
        self.within(0..1_000_000) < parts
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of `choices`, of which there must be some.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = u64::try_from(choices.len()).expect("few choices");
        choices[usize::try_from(self.within(0..count)).expect("an index of the slice")]
    }
}
