//! Flows that ended of late, for who asks what became of one: a minute of them, but no more than [`FLOWS_MAX`].

use crate::policy::Decision;
use ccp::record::{FlowKey, MemberId};
use ccp::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// 6 MB of them.
const FLOWS_MAX: usize = 65_536;
/// How long an end is remembered.
const KEPT: Duration = Duration::from_secs(60);

/// A flow that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub key: FlowKey,
    pub at: Instant,
    /// What the policy said of it.
    pub decision: Decision,
    /// Who carried it, if the peers had it.
    pub carrier: Option<MemberId>,
}

/// The flows that ended of late, the last one last.
#[derive(Debug, Default)]
pub(super) struct Ended {
    ends: VecDeque<End>,
}

impl Ended {
    /// A flow ended. What is too old goes, and where there are too many the oldest.
    pub fn push(&mut self, end: End) {
        let is_old = |first: &End| first.at + KEPT <= end.at;
        while self.ends.len() >= FLOWS_MAX || self.ends.front().is_some_and(is_old) {
            self.ends.pop_front();
        }
        self.ends.push_back(end);
    }

    /// The last end of a flow, if it is not too long ago.
    pub fn find(&self, key: &FlowKey, now: Instant) -> Option<&End> {
        let mut ends = self.ends.iter().rev();
        ends.find(|end| end.key == *key)
            .filter(|end| now < end.at + KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use ccp::record::{Family, ZoneDirection};

    #[test]
    fn an_end_is_remembered_for_a_minute_and_so_many_at_most() {
        let policy = Policy::new(8116);
        let end = |port: u32, seconds: u64| {
            let key = FlowKey {
                src: [1; 16],
                dst: [2; 16],
                l4: [(port >> 16) as u16, port as u16],
                zone: 0,
                proto: 6,
                family: Family::V4,
                zone_direction: ZoneDirection::Both,
            };
            End {
                key,
                at: Instant::from_micros(seconds * 1_000_000),
                decision: policy.decide(&key, 0),
                carrier: None,
            }
        };
        let mut ended = Ended::default();
        ended.push(end(1, 10));
        ended.push(end(1, 20));
        ended.push(end(2, 21));
        let found = |ended: &Ended, port, seconds| {
            let End { key, at, .. } = end(port, seconds);
            ended.find(&key, at).map(|end| end.at)
        };
        assert_eq!(found(&ended, 1, 79), Some(end(1, 20).at));
        assert_eq!(found(&ended, 1, 80), None);
        ended.push(end(3, 90));
        assert_eq!(ended.ends.len(), 1);
        for port in 0..100_000 {
            ended.push(end(port, 91));
        }
        assert_eq!(ended.ends.len(), FLOWS_MAX);
        assert!(found(&ended, 99_999, 92).is_some());
    }
}
