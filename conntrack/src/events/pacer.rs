//! When to drain: at once when events are rare, in batches when they are not.
//!
//! Pure: told the time and what a drain gave, it says how to wait. Waking a reader for each event costs more than the
//! event (2.5 us against 1.2 us of CPU, and twice that in packets not forwarded), and waiting costs delay. So it sleeps
//! on the socket until a burst shows that events come fast, then on a timer which aims at [`BATCH`] events a drain, and
//! goes back to the socket when a few drains in a row found almost nothing.

use std::time::Duration;

/// Events within [`BURST_WINDOW`] that begin a load: 2,000 a second. A daemon that wakes for each, and tells it alone, spends
/// 28 us of CPU on one; at 3,000 a second that is 8 % of a core, and 4 % by the timer.
const BURST: usize = 16;
const BURST_WINDOW: Duration = Duration::from_millis(8);

/// Events that a drain under load aims at. Larger ones hardly cost less an event.
const BATCH: u32 = 128;

/// The timer under load: not shorter, or it saves no wake-ups; not longer, or the peers lag. At 10,000 flows a second a
/// daemon spends 5.5 us of CPU on a flow with 2 ms, 8 us with 1 ms: each wake-up costs as much as a dozen events.
const WAIT_MIN: Duration = Duration::from_micros(200);
const WAIT_MAX: Duration = Duration::from_millis(2);

/// A drain that finds fewer, after [`WAIT_MAX`], is a quiet one: 1,000 events a second. So many in a row end the load.
const QUIET: usize = 2;
const QUIET_DRAINS_MAX: u32 = 3;

/// How to wait before the next drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until the socket is readable.
    Socket,
    /// For a time, 200 us to 2 ms, whether the socket is readable or not.
    For(Duration),
}

/// Decides how to wait: on the socket when events are rare, on a timer when they come fast.
///
/// Told the time and what each drain gave, it knows no clock and no socket.
#[derive(Debug)]
pub struct Pacer {
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Sleeping on the socket. Events are counted from `since` on.
    Idle { since: Duration, events: usize },
    /// Sleeping on a timer of `wait`.
    Loaded { wait: Duration, quiet_drains: u32 },
}

impl Pacer {
    /// Begins idle.
    pub fn new() -> Self {
        Self {
            mode: Mode::Idle {
                since: Duration::ZERO,
                events: 0,
            },
        }
    }

    /// How to wait after a drain that ended at `now`, time since any fixed start, and gave so many events.
    pub fn handle_drain(&mut self, now: Duration, events: usize) -> Wait {
        self.mode = match self.mode {
            Mode::Idle {
                since,
                events: before,
            } => {
                let in_window = now.saturating_sub(since) <= BURST_WINDOW;
                match if in_window { before + events } else { events } {
                    total if total >= BURST => Mode::Loaded {
                        wait: WAIT_MIN,
                        quiet_drains: 0,
                    },
                    total if in_window => Mode::Idle {
                        since,
                        events: total,
                    },
                    total => Mode::Idle {
                        since: now,
                        events: total,
                    },
                }
            }
            Mode::Loaded { wait, quiet_drains } if events < QUIET && wait == WAIT_MAX => {
                if quiet_drains + 1 >= QUIET_DRAINS_MAX {
                    Mode::Idle {
                        since: now,
                        events: 0,
                    }
                } else {
                    Mode::Loaded {
                        wait,
                        quiet_drains: quiet_drains + 1,
                    }
                }
            }
            Mode::Loaded { wait, .. } => {
                let found = u32::try_from(events).unwrap_or(u32::MAX).max(1);
                Mode::Loaded {
                    wait: (wait * BATCH / found).clamp(WAIT_MIN, WAIT_MAX),
                    quiet_drains: 0,
                }
            }
        };
        match self.mode {
            Mode::Idle { .. } => Wait::Socket,
            Mode::Loaded { wait, .. } => Wait::For(wait),
        }
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
