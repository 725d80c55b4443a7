//! How long something took, counted in buckets: four to each doubling, from 16 us to 1 s.

use core::time::Duration;

/// Buckets: four to each of sixteen doublings, and one below and above.
const BUCKETS: usize = 66;
/// Everything up to this is in the first bucket.
const LEAST_MICROS: u64 = 16;

/// A histogram of durations; a bucket's bounds are at most a quarter apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    counts: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            count: 0,
            sum: Duration::ZERO,
            max: Duration::ZERO,
        }
    }
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += took;
        self.max = self.max.max(took);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What all of them took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest; `None` if none was counted.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then_some(self.max)
    }

    /// The time that so many in a thousand were within; `None` if none was counted. It is a bucket's upper bound or, if that
    /// is less, the longest; of those that took more than a second only this is known.
    pub fn within(&self, permille: u64) -> Option<Duration> {
        let wanted = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        self.buckets()
            .find(|(_, count)| {
                seen += count;
                seen >= wanted
            })
            .map(|(bound, _)| bound.min(self.max))
    }

    /// Each bucket's upper bound, and how many are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bounds = (0..BUCKETS).map(|at| Duration::from_micros(upper_bound(at)));
        bounds.zip(self.counts)
    }
}

/// Where a time belongs: its two bits after the first say which quarter of a doubling.
fn bucket(micros: u64) -> usize {
    if micros <= LEAST_MICROS {
        return 0;
    }
    let below = micros - 1;
    let doubling = below.ilog2();
    let quarter = below >> (doubling - 2) & 3;
    let number = u64::from(doubling - LEAST_MICROS.ilog2()) * 4 + quarter + 1;
    usize::try_from(number).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let Some(number) = bucket.checked_sub(1) else {
        return LEAST_MICROS;
    };
    let number = number as u64;
    (LEAST_MICROS << (number / 4)) / 4 * (number % 4 + 5)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Latency, bucket, upper_bound};
    use core::time::Duration;

    #[test]
    fn a_time_is_in_the_bucket_whose_bound_is_at_most_a_quarter_above_it() {
        for micros in (0..2000).chain([10_000, 99_999, 1_000_000]) {
            let at = bucket(micros);
            assert!(upper_bound(at) >= micros, "{micros}");
            assert!(at == 0 || upper_bound(at - 1) < micros, "{micros}");
            assert!(at == 0 || upper_bound(at) * 4 <= micros * 5 + 4, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_bounds_of_what_was_counted() {
        let mut latency = Latency::default();
        assert_eq!((latency.within(500), latency.max()), (None, None));
        for micros in 1..=1000 {
            latency.record(Duration::from_micros(micros));
        }
        assert_eq!(latency.count(), 1000);
        assert_eq!(latency.within(500), Some(Duration::from_micros(512)));
        let longest = Some(Duration::from_micros(1000));
        assert_eq!((latency.within(990), latency.max()), (longest, longest));
    }
}
