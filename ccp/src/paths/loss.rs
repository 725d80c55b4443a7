//! How much of what was sent over a path arrived, over the last ten seconds or so.

use crate::time::Instant;
use core::time::Duration;

/// The two counts are compared at most so often.
const INTERVAL: Duration = Duration::from_secs(1);
/// What was counted fades by an eighth an interval.
const FADE: u64 = 8;
/// Counts are kept in parts of this, so that small ones fade too.
const UNIT: u64 = 256;
/// Fewer datagrams say nothing about loss.
const SENT_MIN: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct Loss {
    /// When both counts were taken last, what was sent, and what arrived.
    last: Option<(Instant, u32, u32)>,
    sent: u64,
    received: u64,
}

impl Loss {
    /// The peer says that it sent `sent` by now; `received` of them arrived. Both wrap.
    pub fn handle(&mut self, sent: u32, received: u32, now: Instant) {
        let Some((at, sent_before, received_before)) = self.last else {
            self.last = Some((now, sent, received));
            return;
        };
        let [new_sent, new_received] = [
            sent.wrapping_sub(sent_before),
            received.wrapping_sub(received_before),
        ];
        // A hello that was overtaken by the one before.
        if now.since(at) < INTERVAL || new_sent > u32::MAX / 2 {
            return;
        }
        let fade = |sum: u64, new: u32| sum - sum / FADE + u64::from(new) * UNIT;
        self.sent = fade(self.sent, new_sent);
        self.received = fade(self.received, new_received);
        self.last = Some((now, sent, received));
    }

    /// What is lost, in thousandths.
    pub fn permille(&self) -> Option<u16> {
        let lost = self.sent.saturating_sub(self.received);
        let permille = (lost * 1000).checked_div(self.sent)?;
        (self.sent >= SENT_MIN * UNIT).then(|| u16::try_from(permille).unwrap_or(1000))
    }
}
