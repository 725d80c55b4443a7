//! Which packet numbers of a peer were seen: a datagram is acted on once (PROTOCOL.md 3.4).
//!
//! The cipher is the owner's: it seals a body under the key of the sender's incarnation, with the packet number as the
//! nonce and the header as associated data, and hands in only what it opened.

/// Words of the bitmap, used as a ring.
const WORDS: usize = 16;
/// Packet numbers below the highest seen that are still told apart; one word less than the ring, as the word of the
/// highest is shared with numbers a whole ring earlier.
const WINDOW: u64 = 64 * (WORDS as u64 - 1);

/// A sliding window over packet numbers, as in RFC 4303 section 3.4.3.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u64,
    floor: u64,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Refuses every number below `floor`.
    pub fn new(floor: u64) -> Self {
        Self {
            highest: 0,
            floor,
            seen: [0; WORDS],
        }
    }

    /// True if `number` is new; it is not from then on.
    pub fn accept(&mut self, number: u64) -> bool {
        if number < self.floor || number.saturating_add(WINDOW) <= self.highest {
            return false;
        }
        if number > self.highest {
            let words_crossed = number / 64 - self.highest / 64;
            for word in 1..=words_crossed.min(WORDS as u64) {
                self.seen[((self.highest / 64 + word) % WORDS as u64) as usize] = 0;
            }
            self.highest = number;
        }
        let word = &mut self.seen[(number / 64 % WORDS as u64) as usize];
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplayWindow, WINDOW};
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_number_is_accepted_twice_and_no_recent_new_one_is_refused(
            numbers in prop::collection::vec(prop_oneof![0u64..3000, 2000u64..2100], 0..2000),
            floor in 0u64..50,
        ) {
            let (mut window, mut seen, mut highest) = (ReplayWindow::new(floor), BTreeSet::new(), 0);
            for number in numbers {
                let accepted = window.accept(number);
                highest = highest.max(number);
                if accepted {
                    prop_assert!(number >= floor && seen.insert(number));
                } else {
                    prop_assert!(number < floor || seen.contains(&number) || number + WINDOW <= highest);
                }
            }
        }
    }

    #[test]
    fn a_jump_past_the_whole_window_forgets_it() {
        let mut window = ReplayWindow::new(1);
        assert!(window.accept(1) && window.accept(5_000) && window.accept(4_500));
        assert!(!window.accept(1), "too old");
        assert!(!window.accept(4_500) && !window.accept(5_000), "seen");
    }
}
