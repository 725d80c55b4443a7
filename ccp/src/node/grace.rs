//! Flows that have ended, until it is certain what that means.
//!
//! *Expired copies* ended in our kernel, their carrier has not said so. The kernel tells nobody that it refreshed a timeout, so
//! a copy of an idle connection or of a busy UDP flow runs out while the flow goes on (PROTOCOL.md 6.5). It is put back
//! after a grace in which most carriers say that the flow did end: copies run out when their originals do.
//!
//! *Graves* are tombstones of flows that several members have claimed. While claims of those other than the last may be on
//! their way, the tombstone refuses what is not newer; after the grace it gives way to anybody (PROTOCOL.md 6.4).

use super::{Action, Node};
use crate::record::Claim;
use crate::table::{Life, Origin, Slot};
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

/// Least time between the end of a copy and its return. It also bounds what a kernel table that is full, and evicts what
/// is put back, costs.
const EXPIRED_GRACE: Duration = Duration::from_secs(1);
/// Least time that a tombstone refuses older claims: far longer than a datagram is on its way.
const GRAVE_GRACE: Duration = Duration::from_secs(2);

/// Least time in which the kernel tells of a flow whose packet was let go.
const UNCONFIRMED_GRACE: Duration = Duration::from_secs(1);

/// Slots whose grace runs: each for at least the time said, and less than twice of it. Bounded by what the table can go
/// through in that time.
#[derive(Debug)]
pub struct Grace {
    least: Duration,
    recent: Vec<Slot>,
    ripe: Vec<Slot>,
    at: Option<Instant>,
}

impl Grace {
    fn new(least: Duration) -> Self {
        Self {
            least,
            recent: Vec::new(),
            ripe: Vec::new(),
            at: None,
        }
    }

    /// For expired copies.
    pub fn of_expired() -> Self {
        Self::new(EXPIRED_GRACE)
    }

    /// For graves.
    pub fn of_graves() -> Self {
        Self::new(GRAVE_GRACE)
    }

    /// For flows of packets that were held.
    pub fn of_unconfirmed() -> Self {
        Self::new(UNCONFIRMED_GRACE)
    }

    /// The grace of a slot begins, or begins anew.
    pub fn push(&mut self, slot: Slot, now: Instant) {
        self.recent.push(slot);
        self.at.get_or_insert(now + self.least);
    }

    /// When [`Self::take_ripe`] has to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.at
    }

    /// Whose grace runs, in order.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<_> = self.recent.iter().chain(&self.ripe).copied().collect();
        slots.sort_unstable();
        slots
    }

    /// Those whose grace is over.
    pub(super) fn take_ripe(&mut self, now: Instant) -> Vec<Slot> {
        if self.at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let recent = core::mem::take(&mut self.recent);
        let mut ripe = core::mem::replace(&mut self.ripe, recent);
        let begun_anew = self.slots();
        ripe.retain(|slot| begun_anew.binary_search(slot).is_err());
        self.at = (!self.ripe.is_empty()).then(|| now + self.least);
        ripe
    }
}

impl Node {
    pub(super) fn end_graces(&mut self, now: Instant) {
        let graves = if self.join.awaits_snapshot() {
            // A row of it could bring back what they end.
            Vec::new()
        } else {
            self.graves.take_ripe(now)
        };
        for slot in graves {
            if let Some(entry) = self.table.get_mut(slot)
                && entry.life == Life::Dead
            {
                entry.claim = Claim::Found;
                self.bury(slot);
            }
        }
        for slot in self.expired.take_ripe(now) {
            self.put_back(slot);
        }
    }

    fn put_back(&mut self, slot: Slot) {
        let Some(entry) = self.table.get(slot) else {
            return;
        };
        let Origin::Copy { member, run } = entry.origin else {
            return;
        };
        if entry.life == Life::Dead || entry.in_kernel {
            return;
        }
        if self.carries(member, run) {
            self.counters.copies_put_back += 1;
            self.apply(None, slot, Action::Create);
        } else {
            self.let_go(member, run, slot);
        }
    }
}
