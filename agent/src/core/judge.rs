//! What the policy makes of what the kernel tells: told on, kept back, or waited for.
//!
//! It decides whether a flow is announced at all. Once peers know a flow, the protocol reports its changes whatever the policy
//! says, until a reloaded policy withdraws it (`core::reload`).

use super::Core;
use super::ended::End;
use super::reload::Rejudging;
use crate::control::answer::services::Services;
use crate::convert;
use crate::policy::{Decision, Sync};
use ccp::node::Local;
use ccp::record::{FlowKey, FlowState, MemberId};
use ccp::table::{Entry, Life, Origin};
use ccp::time::Instant;
use conntrack::{Flow, Tuple};
use std::time::Duration;

/// What became of flows that the policy does not have told at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyCounters {
    /// Changes of flows that are never told.
    pub never: u64,
    /// Flows whose delay began.
    pub delayed: u64,
    /// Flows that ended before their delay was over: nobody was told of them.
    pub delayed_ended: u64,
    /// Flows that were told when their delay was over.
    pub delayed_told: u64,
    /// Flows that were told before their delay was over, as they are another's master or pass another member too.
    pub delayed_early: u64,
    /// Flows that were told at once, as too many waited.
    pub delayed_full: u64,
    /// Flows that were taken back from the peers by another policy.
    pub withdrawn: u64,
}

/// A flow that the kernel is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// For [`Core::handle_lookup`].
    pub key: FlowKey,
    /// Its original direction.
    pub orig: Tuple,
    /// Its zone.
    pub zone: u16,
}

/// When a flow began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Began {
    /// Just now.
    Now,
    /// So long ago.
    Ago(Duration),
    /// Nobody knows, but before we looked.
    Before,
}

impl Core {
    /// The answer to `services`.
    pub fn services(&mut self, now: Instant) -> Services {
        self.costs.answer(&self.policy, now)
    }

    /// What the policy says of a flow of the kernel.
    pub(super) fn decide(&self, key: &FlowKey, flow: &Flow) -> Decision {
        self.policy.decide(key, flow.mark.unwrap_or_default())
    }

    /// True if what the kernel told of a flow is for the protocol: the peers are to know of it.
    pub(super) fn admits(
        &mut self,
        key: &FlowKey,
        flow: &Flow,
        decision: Decision,
        began: Began,
    ) -> bool {
        match decision.sync {
            Sync::Always => {
                self.delays.remove(key);
                flow.master
                    .is_none_or(|master| self.admits_child(key, &master))
            }
            Sync::Never if self.rejudging != Rejudging::Over && self.node.withdraw(key) => {
                self.policy_counters.withdrawn += 1;
                false
            }
            Sync::Never if self.node.knows(key) => true,
            Sync::Never => {
                self.delays.remove(key);
                self.policy_counters.never += 1;
                false
            }
            Sync::Delayed(_) if self.node.knows(key) => true,
            // What a helper reads may expect others at any moment.
            Sync::Delayed(_) if flow.helper.is_some() => !self.delays.end(key),
            Sync::Delayed(delay) => !self.delay(key, delay, began),
        }
    }

    /// The flow waits, for what is left of `delay`; false if it does not.
    fn delay(&mut self, key: &FlowKey, delay: Duration, began: Began) -> bool {
        if self.delays.contains(key) {
            return true;
        }
        let left = match began {
            Began::Now => delay,
            Began::Ago(age) => delay.saturating_sub(age),
            Began::Before => Duration::ZERO,
        };
        if left.is_zero() {
            self.policy_counters.delayed_told += 1;
            return false;
        }
        let waits = self.delays.insert(key, left, self.clock).is_ok();
        self.policy_counters.delayed += u64::from(waits);
        self.policy_counters.delayed_full += u64::from(!waits);
        waits
    }

    /// True if the master of a flow is told already, or never. Else it is told at once, and the flow after it.
    fn admits_child(&mut self, key: &FlowKey, master: &Tuple) -> bool {
        let master = convert::master_key(key, master);
        let waits = self.delays.end(&master);
        if waits {
            self.policy_counters.delayed_early += 1;
            // If there is no room, the flow goes in without its master.
            return self.delays.insert(key, Duration::ZERO, self.clock).is_err()
                || !self.delays.end(key);
        }
        true
    }

    /// A flow was seen to pass another member too: its peers are told at once, if it waits.
    pub fn handle_non_sticky(&mut self, key: &FlowKey) {
        if self.delays.end(key) {
            self.policy_counters.delayed_early += 1;
        }
    }

    /// A peer told of a flow that waits here: it needs no word of ours, and its packets are news from now on.
    pub(super) fn note_claimed(&mut self, key: &FlowKey) {
        if self.delays.remove(key) {
            self.policy_counters.delayed_early += 1;
        }
    }

    /// A flow ended.
    pub(super) fn note_destroyed(&mut self, key: &FlowKey, flow: &Flow) {
        let has_waited = self.delays.remove(key);
        self.policy_counters.delayed_ended += u64::from(has_waited);
        let is_forwarded = || {
            let patch = convert::patch(flow, self.shared);
            self.scope.is_forwarded(key, &patch.nat)
        };
        let table = self.node.table();
        let entry = table.find(key).and_then(|slot| table.get(slot));
        let entry = entry.filter(|entry| entry.life == Life::Live);
        if has_waited || entry.is_some() || is_forwarded() {
            let carrier = entry.map(|entry| self.carrier(entry));
            let decision = self.decide(key, flow);
            self.costs.note_event(decision.service);
            self.costs.note_ended(key, self.clock);
            self.note_end(key, decision, carrier);
        }
    }

    /// The kernel is asked to delete a copy, since its carrier said that it ended.
    pub(super) fn note_deleted(&mut self, key: &FlowKey) {
        let table = self.node.table();
        if let Some(entry) = table.find(key).and_then(|slot| table.get(slot)) {
            let carrier = Some(self.carrier(entry));
            let decision = self.policy.decide(key, entry.state.mark);
            self.note_end(key, decision, carrier);
        }
    }

    fn note_end(&mut self, key: &FlowKey, decision: Decision, carrier: Option<MemberId>) {
        self.ended.push(End {
            key: *key,
            at: self.clock,
            decision,
            carrier,
        });
    }

    fn carrier(&self, entry: &Entry) -> MemberId {
        match entry.origin {
            Origin::Own | Origin::Found => self.me,
            Origin::Copy { member, .. } => member,
        }
    }

    /// The next flow whose delay is over: the kernel is to be asked for it, and the answer is for [`Self::handle_lookup`].
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        let key = self.delays.poll()?;
        let flow = convert::flow(&key, &FlowState::default(), self.shared);
        Some(Lookup {
            key,
            orig: flow.orig,
            zone: flow.zone,
        })
    }

    /// What the kernel has of a flow whose delay is over; `None` if it has ended.
    pub fn handle_lookup(&mut self, key: &FlowKey, flow: Option<&Flow>) {
        let Some(flow) = flow.filter(|flow| convert::key(flow) == *key) else {
            self.policy_counters.delayed_ended += 1;
            return;
        };
        let patch = convert::patch(flow, self.shared);
        if !self.scope.is_forwarded(key, &patch.nat) {
            return;
        }
        self.policy_counters.delayed_told += 1;
        let change = match self.node.knows(key) {
            true => Local::Update(&patch),
            false => Local::New(&patch),
        };
        self.node.handle_local(key, change);
    }

    /// The wall clock, in nanoseconds since its epoch: what the kernel dates flows by.
    pub fn set_wall_clock(&mut self, nanos: u64) {
        self.wall_clock_nanos = nanos;
    }

    /// When a flow of the kernel's table began.
    pub(super) fn began(&self, flow: &Flow) -> Began {
        match flow.start_nanos {
            Some(start) => Began::Ago(Duration::from_nanos(
                self.wall_clock_nanos.saturating_sub(start),
            )),
            // One that was there before us may be of any age. Later, the birth of one that we do not know was lost not long ago.
            None if !self.passes.has_ended() => Began::Before,
            None => Began::Now,
        }
    }
}
