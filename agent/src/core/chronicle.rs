//! When something was told, known from its sequence alone: how far sequences had come, second by second.
//!
//! So that a flow need not remember when it was told last. The newest are exact to a second, older ones to a tenth of their age.

use ccp::time::Instant;
use std::time::Duration;

/// 16 bytes each.
const SAMPLES_MAX: usize = 1024;
/// What part of its age a sample is apart from the next, where there were too many: of ten years 600 stay.
const EXACTNESS: u32 = 32;
const SECOND: Duration = Duration::from_secs(1);

/// How far the sequences of one member had come.
#[derive(Debug, Default)]
pub(super) struct Chronicle {
    /// Ascending, both of time and of sequence.
    samples: Vec<(Instant, u64)>,
    looked: Instant,
}

impl Chronicle {
    /// Everything up to `seq` was told by `now`; nothing is noted more often than once a second.
    pub fn note(&mut self, seq: u64, now: Instant) {
        if now < self.looked + SECOND {
            return;
        }
        self.looked = now;
        match self.samples.last() {
            Some((_, last)) if *last == seq => return,
            // Another run begins at its own beginning.
            Some((_, last)) if *last > seq => self.samples.clear(),
            Some(_) | None => {}
        }
        if self.samples.len() == SAMPLES_MAX {
            let mut kept = Instant::default();
            self.samples.retain(|(at, _)| {
                let is_far = at.since(kept) >= now.since(*at) / EXACTNESS;
                kept = if is_far { *at } else { kept };
                is_far
            });
        }
        self.samples.push((now, seq));
    }

    /// How long ago `seq` was told; `None` if none that is told was.
    pub fn age(&self, seq: u64, now: Instant) -> Option<Duration> {
        let after = self.samples.partition_point(|(_, told)| *told < seq);
        (seq > 0).then(|| match self.samples.get(after) {
            Some((at, _)) => now.since(*at),
            None => Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default() + SECOND * u32::try_from(seconds).unwrap()
    }

    #[test]
    fn what_was_told_has_an_age_and_what_is_being_told_has_none_yet() {
        let mut chronicle = Chronicle::default();
        for (second, seq) in [(1, 10), (2, 10), (3, 10), (4, 20), (9, 21)] {
            chronicle.note(seq, at(second));
        }
        let age = |seq| chronicle.age(seq, at(10)).map(|age| age.as_secs());
        let ages = [0, 1, 10, 11, 20, 21, 22].map(age);
        assert_eq!(
            ages,
            [None, Some(9), Some(9), Some(6), Some(6), Some(1), Some(0)]
        );
    }

    #[test]
    fn it_is_bounded_and_begins_anew_with_another_run() {
        let mut chronicle = Chronicle::default();
        for second in 1..100_000 {
            chronicle.note(second * 7, at(second));
            assert!(chronicle.samples.len() <= SAMPLES_MAX);
        }
        let age = chronicle.age(7 * 50_000, at(100_000)).unwrap().as_secs();
        assert!((45_000..=50_000).contains(&age), "{age}");
        chronicle.note(3, at(100_000));
        assert_eq!(chronicle.samples, [(at(100_000), 3)]);
    }
}
