//! Copies that the kernel has refused, mostly as its table has no room for them: tried again, ever more rarely while it stays
//! full (PROTOCOL.md 7.9).

use super::{Action, Node};
use crate::table::{Entry, Life, Origin, Slot};
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Time until the first are tried again; it doubles.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// As often as the table is read anyway, which shows all that was refused.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Time until the next are tried when there was room.
const PAUSE: Duration = Duration::from_millis(10);
/// Tried at a time: what a full table refuses costs little more than a packet each.
const AT_A_TIME: usize = 512;
/// Remembered, in 8 MB; more are left to the next reading of the table.
const WAITING_MAX: usize = 1 << 20;

/// What waits for room.
#[derive(Debug)]
pub struct NoRoom {
    waiting: VecDeque<Slot>,
    wait: Duration,
    at: Option<Instant>,
}

impl Default for NoRoom {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            wait: WAIT_MIN,
            at: None,
        }
    }
}

impl NoRoom {
    /// The kernel refused the flow at `slot`, as its table is full.
    pub fn push(&mut self, slot: Slot, now: Instant) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(slot);
        }
        self.at.get_or_insert(now + self.wait);
    }

    /// The table was read: these are all that are not in it though they should be. Some are tried at once, as not all were
    /// refused for lack of room.
    pub fn refill(&mut self, refused: Vec<Slot>, now: Instant) {
        self.at = (!refused.is_empty()).then_some(now);
        self.waiting = refused.into();
        self.waiting.truncate(WAITING_MAX);
    }

    /// The kernel took a flow that it had not: there is room.
    pub fn note_room(&mut self, now: Instant) {
        self.wait = WAIT_MIN;
        if let Some(at) = &mut self.at {
            *at = (*at).min(now + PAUSE);
        }
    }

    /// When [`Node::try_again`] has to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    fn take_due(&mut self, now: Instant) -> Vec<Slot> {
        if self.at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let count = self.waiting.len().min(AT_A_TIME);
        let due = self.waiting.drain(..count).collect();
        self.wait = (self.wait * 2).min(WAIT_MAX);
        self.at = (!self.waiting.is_empty()).then(|| now + self.wait);
        due
    }
}

impl Node {
    /// True of a copy that should be in the kernel, and is not.
    pub(super) fn is_refused(&self, entry: &Entry) -> bool {
        let is_carried = match entry.origin {
            Origin::Copy { member, run } => self.carries(member, run),
            Origin::Own | Origin::Found => false,
        };
        entry.life == Life::Live && !entry.in_kernel && is_carried
    }

    pub(super) fn try_again(&mut self, now: Instant) {
        for slot in self.no_room.take_due(now) {
            let entry = self.table.get(slot);
            if entry.is_some_and(|entry| self.is_refused(entry)) {
                self.apply(None, slot, Action::Create);
            }
        }
    }
}
