//! Peers that come and go. Each time is told, until there are too many to be read: then, once a minute, how many there were.

use std::collections::BTreeMap;
use std::time::Duration;

use ccp::record::MemberId;
use ccp::time::Instant;

/// Comings and goings of a peer that are told one by one in a [`PERIOD`].
const TOLD_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// What was told, by peer.
#[derive(Debug, Default)]
pub struct Flaps(BTreeMap<MemberId, Flap>);

/// Of one period.
#[derive(Debug)]
struct Flap {
    since: Instant,
    told: u32,
    untold: u32,
}

impl Flaps {
    /// A peer came or went: true if that is to be told by itself.
    pub fn tell(&mut self, member: MemberId, now: Instant) -> bool {
        let begun = || Flap {
            since: now,
            told: 0,
            untold: 0,
        };
        let flap = self.0.entry(member).or_insert_with(begun);
        if flap.untold == 0 && now.since(flap.since) >= PERIOD {
            *flap = begun();
        }
        if flap.told < TOLD_MAX {
            flap.told += 1;
            return true;
        }
        flap.untold += 1;
        false
    }

    /// A peer of which there was more than was told, with how often; its period is over.
    pub fn poll(&mut self, now: Instant) -> Option<(MemberId, u32)> {
        let is_due = |flap: &Flap| flap.untold > 0 && now.since(flap.since) >= PERIOD;
        let member = *self.0.iter().find(|(_, flap)| is_due(flap))?.0;
        let flap = self.0.remove(&member)?;
        Some((member, flap.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::{Flaps, PERIOD, TOLD_MAX};
    use ccp::record::MemberId;
    use ccp::time::Instant;

    #[test]
    fn each_time_is_told_until_there_are_too_many_then_how_many_more_once_a_period() {
        let member = MemberId::new(2).unwrap();
        let start = Instant::from_micros(1);
        let mut flaps = Flaps::default();
        for _ in 0..TOLD_MAX {
            assert!(flaps.tell(member, start));
        }
        assert!(!flaps.tell(member, start) && !flaps.tell(member, start));
        assert_eq!(flaps.poll(start), None);
        let later = start + PERIOD;
        assert!(!flaps.tell(member, later), "of that period, too");
        assert_eq!(flaps.poll(later), Some((member, 3)));
        assert_eq!(flaps.poll(later), None);
        assert!(flaps.tell(member, later));
    }

    #[test]
    fn a_peer_that_seldom_comes_and_goes_is_told_of_every_time() {
        let member = MemberId::new(2).unwrap();
        let mut now = Instant::from_micros(1);
        let mut flaps = Flaps::default();
        for _ in 0..10 * TOLD_MAX {
            assert!(flaps.tell(member, now));
            assert_eq!(flaps.poll(now), None);
            now = now + PERIOD / TOLD_MAX;
        }
    }
}
