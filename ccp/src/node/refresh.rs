//! Copies are kept from running out while their carriers live (PROTOCOL.md 6.5).
//!
//! The kernel tells nobody when a packet refreshes a timeout, so nobody but the carrier's kernel knows how long a flow
//! still has. A copy of a live carrier is written its timeout anew when three quarters of it are over, at no cost on
//! the wire. What a dead carrier leaves is not: it has what is left of its timeout, as it would have had there.
//!
//! When each copy is due stands in two bytes beside the table, a number for each place: going through a million of them
//! takes less than a millisecond, four times a second. A place that is used again may be due by its past; that is
//! looked at then.

use super::{Action, Node};
use crate::progress;
use crate::table::{Entry, Life, Origin, Slot};
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// Times are counted in these.
const TICK: Duration = Duration::from_millis(250);
/// Longest time between two refreshes: half of what a number of ticks can tell apart, less what it may be late.
const PERIOD_MAX: u32 = 30_000;
/// Copies written at a time, so that deltas wait for well under 2 ms.
const AT_A_TIME: usize = 512;
/// Pause between two of those, when more are due.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest time that a copy stays without the copy bit (PROTOCOL.md 7.8).
const MARK_AGAIN: Duration = Duration::from_secs(10);

/// When each copy has to be written again.
#[derive(Debug, Default)]
pub struct Refresh {
    /// By place in the table: the tick at which it is due, 0 for never.
    due: Vec<u16>,
    /// Places before this one were looked at in the round that goes on.
    looked: usize,
    at: Option<Instant>,
}

impl Refresh {
    /// The copy at `slot` is due in `period` ticks.
    fn arm(&mut self, slot: Slot, period: u32, now: Instant) {
        let place = slot.index() as usize;
        if self.due.len() <= place {
            self.due.resize(place + 1, 0);
        }
        if let Some(due) = self.due.get_mut(place) {
            *due = tick(now)
                .wrapping_add(period.clamp(1, PERIOD_MAX) as u16)
                .max(1);
        }
        self.at.get_or_insert(now + TICK);
    }

    /// When [`Self::take_due`] has to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    /// Places that are due, a limited number; each is not due again before it is armed again.
    fn take_due(&mut self, now: Instant) -> Vec<u32> {
        let mut taken = Vec::new();
        if self.at.is_none_or(|at| at > now) {
            return taken;
        }
        let tick = tick(now);
        let mut armed = false;
        for (place, due) in (self.due.iter_mut().enumerate()).skip(self.looked) {
            if *due == 0 {
                continue;
            }
            armed = true;
            if tick.wrapping_sub(*due) < u16::MAX / 2 {
                *due = 0;
                taken.push(place as u32);
                if taken.len() == AT_A_TIME {
                    self.looked = place + 1;
                    self.at = Some(now + PAUSE);
                    return taken;
                }
            }
        }
        // Whoever was armed before the place where this round went on keeps the clock running.
        let goes_on = armed || self.looked > 0;
        self.looked = 0;
        self.at = goes_on.then(|| now + TICK);
        taken
    }
}

/// Never 0, which means *never*.
fn tick(now: Instant) -> u16 {
    ((now.as_micros() / TICK.as_micros() as u64) as u16).max(1)
}

/// Ticks from writing a copy until it is written again: between five and six eighths of its timeout, so that those
/// written together are not all due together.
fn period(entry: &Entry, slot: Slot) -> u32 {
    let ticks = entry
        .state
        .timeout_secs
        .saturating_mul(4)
        .min(PERIOD_MAX / 3 * 4);
    let spread = ticks / 8 * (slot.index() % 64) / 64;
    ticks / 4 * 3 - spread
}

impl Node {
    /// The kernel is about to have the copy at `slot` with its whole timeout.
    pub(super) fn arm_refresh(&mut self, slot: Slot) {
        let Some(entry) = self.table.get(slot).filter(|entry| may_outlive(entry)) else {
            return;
        };
        let period = if entry.is_unmarked {
            mark_again(entry)
        } else {
            period(entry, slot)
        };
        self.refresh.arm(slot, period, self.now);
    }

    pub(super) fn refresh_copies(&mut self, now: Instant) {
        for place in self.refresh.take_due(now) {
            let Some((slot, entry)) = self.table.slot(place) else {
                continue;
            };
            let Origin::Copy { member, run } = entry.origin else {
                continue;
            };
            if !may_outlive(entry) || !entry.in_kernel {
                continue;
            }
            if self.carries(member, run) {
                let action = if entry.is_unmarked {
                    Action::Update
                } else {
                    Action::Refresh
                };
                if let Some(entry) = self.table.get_mut(slot) {
                    entry.is_unmarked = false;
                }
                self.counters.copies_refreshed += 1;
                self.apply(None, slot, action);
            } else {
                // It may be back before the copy has run out.
                let soon = period(entry, slot) / 8;
                self.refresh.arm(slot, soon, now);
            }
        }
    }
}

/// True if packets may pass for longer than the copy's timeout without any of them being told.
fn may_outlive(entry: &Entry) -> bool {
    entry.life == Life::Live
        && matches!(entry.origin, Origin::Copy { .. })
        && progress::goes_on(entry.key.proto, entry.state.proto_state)
}

/// An eighth of the timeout at most, so that who carries the flow is known long before it runs out at either gateway.
fn mark_again(entry: &Entry) -> u32 {
    let ticks = (MARK_AGAIN.as_millis() / TICK.as_millis()) as u32;
    ticks.min(entry.state.timeout_secs / 2)
}
