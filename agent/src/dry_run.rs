//! What another policy would have made of the events of a while: what is told of each service, and what a failover loses.
//!
//! It counts, and changes nothing. Not known here: sockets and clocks. A change is a message: several of them share a
//! datagram, and changes of one flow in quick succession become one, whatever the policy.
//!
//! Of flows that began before the dry run nobody knows whether their delay was over, unless the kernel dates them
//! (`net.netfilter.nf_conntrack_timestamp`): it counts as over.

use crate::addresses::AddressSet;
use crate::convert::{self, Shared};
use crate::core::scope::Scope;
use crate::policy::{DecidedBy, Decision, Policy, Sync};
use ccp::record::{Claim, FlowKey, FlowState, Term};
use ccp::time::Instant;
use ccp::wire::flow::{put_delete, put_upsert};
use conntrack::{Event, EventKind, Flow};
use hashbrown::HashMap;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

/// What became of the flows of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Flows that began.
    pub flows: u64,
    /// Changes that the kernel told.
    pub events: u64,
    /// Changes that the peers would have been told.
    pub told: u64,
    /// Changes that they would not.
    pub saved: u64,
    /// Bytes of those, as records of a datagram.
    pub saved_bytes: u64,
    /// Flows that the peers would have been told of when their delay was over, or before, as others came of them.
    pub late: u64,
    /// Flows that the peers would not have been told of while they lived.
    pub untold: u64,
    /// Flows in the kernel's table, at the end, that no peer would have: a failover then would lose them.
    pub exposed: u64,
}

/// The counts of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Row {
    /// Its name; `None` for flows that match none.
    pub service: Option<String>,
    /// True if that is a built-in one.
    pub builtin: bool,
    /// `always`, `never` or `delayed`.
    pub sync: &'static str,
    /// Of a delayed one.
    pub delay_seconds: Option<u64>,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A flow whose delay may not be over.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    clause: Option<usize>,
    due: Instant,
    /// Bytes of its record.
    bytes: u64,
}

/// A policy on trial.
#[derive(Debug)]
pub struct DryRun {
    policy: Policy,
    scope: Scope,
    shared: Shared,
    counts: BTreeMap<Option<usize>, (Decision, Counts)>,
    waiting: HashMap<FlowKey, Waiting>,
    /// As many as the daemon lets wait; one more is told at once.
    waiting_max: usize,
    /// Where records are made, to see how long they are.
    record: Vec<u8>,
}

impl DryRun {
    /// Nothing is counted yet. At most `waiting_max` flows wait at a time.
    pub fn new(policy: Policy, addresses: AddressSet, shared: Shared, waiting_max: usize) -> Self {
        Self {
            policy,
            scope: Scope::new(addresses),
            shared,
            counts: BTreeMap::new(),
            waiting: HashMap::new(),
            waiting_max,
            record: Vec::new(),
        }
    }

    /// The kernel told of a change.
    pub fn handle_event(&mut self, event: &Event, now: Instant) {
        // What a request did is no news of a packet: copies are written so.
        let is_written = event.portid != 0 && event.kind != EventKind::Destroy;
        let Some(key) = self.own_key(&event.flow).filter(|_| !is_written) else {
            return;
        };
        let decision = self.decide(&key, &event.flow);
        // The clause that a flow was first judged by stays its clause: marks change.
        let waiting = self.waiting.get(&key).copied();
        let clause = waiting.map_or(decision.clause, |waiting| waiting.clause);
        let is_new = event.kind == EventKind::New;
        let bytes = self.record_bytes(&key, event);
        let counts = self.counts(clause);
        counts.events += 1;
        counts.saved_bytes += bytes;
        counts.flows += u64::from(is_new);
        match (waiting, decision.sync) {
            (Some(waiting), _) => self.handle_waiting(&key, waiting, event, bytes, now),
            (None, Sync::Always) => self.tell(&event.flow, &key, clause, bytes),
            (None, Sync::Never) => self.counts(clause).untold += u64::from(is_new),
            (None, Sync::Delayed(delay)) => {
                let has_room = self.waiting.len() < self.waiting_max;
                match is_new && has_room && event.flow.helper.is_none() {
                    true => {
                        let due = now + delay;
                        self.waiting.insert(key, Waiting { clause, due, bytes });
                    }
                    false => self.tell(&event.flow, &key, clause, bytes),
                }
            }
        }
    }

    /// The dry run ends: what waits too long by now was told.
    pub fn end(&mut self, now: Instant) {
        let over: Vec<_> = (self.waiting)
            .extract_if(|_, waiting| waiting.due <= now)
            .collect();
        for (_, waiting) in over {
            self.tell_late(waiting);
        }
    }

    /// A flow is in the kernel's table after [`Self::end`]; its age is known if the kernel dates flows.
    pub fn handle_row(&mut self, flow: &Flow, age: Option<Duration>) {
        let Some(key) = self.own_key(flow) else {
            return;
        };
        let decision = self.decide(&key, flow);
        let (clause, is_exposed) = match (self.waiting.get(&key), decision.sync) {
            (Some(waiting), _) => (waiting.clause, true),
            (None, Sync::Always) => (decision.clause, false),
            (None, Sync::Never) => (decision.clause, true),
            (None, Sync::Delayed(delay)) => {
                let is_young = age.is_some_and(|age| age < delay);
                (decision.clause, is_young && flow.helper.is_none())
            }
        };
        self.counts(clause).exposed += u64::from(is_exposed);
    }

    /// The kernel's table is read from its beginning again.
    pub fn restart_rows(&mut self) {
        for (_, counts) in self.counts.values_mut() {
            counts.exposed = 0;
        }
    }

    /// What was counted, by service, in the order in which the policy asks for them.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut none = None;
        for (decision, counts) in self.counts.values() {
            if (counts.events, counts.exposed) == (0, 0) {
                continue;
            }
            let service = self.policy.service(decision.service);
            let name = service.map(|it| it.name.as_str());
            let decided_by = self.policy.decided_by(*decision);
            let (sync, delay) = decision.sync.words();
            let counts = Counts {
                saved: counts.events - counts.told,
                ..*counts
            };
            let known = rows.iter_mut().find(|row| row.service.as_deref() == name);
            match known {
                Some(row) => row.counts += counts,
                None => {
                    let row = Row {
                        service: name.map(str::to_owned),
                        builtin: matches!(decided_by, DecidedBy::BuiltinService { .. }),
                        sync,
                        delay_seconds: delay,
                        counts,
                    };
                    match row.service {
                        Some(_) => rows.push(row),
                        None => none = Some(row),
                    }
                }
            }
        }
        rows.extend(none);
        rows
    }

    /// The longest delay of a service that flows were of.
    pub fn longest_delay(&self) -> Option<Duration> {
        let delay = |(decision, _): &(Decision, Counts)| match decision.sync {
            Sync::Delayed(delay) => Some(delay),
            Sync::Always | Sync::Never => None,
        };
        self.counts.values().filter_map(delay).max()
    }

    /// The key of a flow that passes this machine; `None` for its own, and for those that another member carries.
    fn own_key(&self, flow: &Flow) -> Option<FlowKey> {
        let copy_bit = self.shared.copy_bit.map_or(0, |bit| bit.mask());
        if flow.mark.unwrap_or_default() & copy_bit != 0 {
            return None;
        }
        let key = convert::key(flow);
        let nat = convert::patch(flow, self.shared).nat;
        self.scope.is_forwarded(&key, &nat).then_some(key)
    }

    fn decide(&mut self, key: &FlowKey, flow: &Flow) -> Decision {
        let decision = self.policy.decide(key, flow.mark.unwrap_or_default());
        let fresh = || (decision, Counts::default());
        self.counts.entry(decision.clause).or_insert_with(fresh);
        decision
    }

    fn counts(&mut self, clause: Option<usize>) -> &mut Counts {
        let (_, counts) = (self.counts.get_mut(&clause)).expect("what decided has counts");
        counts
    }

    /// Something happened to a flow that waits, or whose delay is over and nobody looked since.
    fn handle_waiting(
        &mut self,
        key: &FlowKey,
        waiting: Waiting,
        event: &Event,
        bytes: u64,
        now: Instant,
    ) {
        if waiting.due <= now {
            self.waiting.remove(key);
            self.tell_late(waiting);
            self.tell(&event.flow, key, waiting.clause, bytes);
        } else if event.kind == EventKind::Destroy {
            self.waiting.remove(key);
            self.counts(waiting.clause).untold += 1;
        } else if event.flow.helper.is_some() {
            // What a helper reads may expect others at any moment.
            self.waiting.remove(key);
            self.tell_late(waiting);
        }
    }

    /// The peers are told of a change, and before it of the master of the flow, if that waits.
    fn tell(&mut self, flow: &Flow, key: &FlowKey, clause: Option<usize>, bytes: u64) {
        self.counts(clause).told(bytes);
        let master = (flow.master.as_ref()).map(|master| convert::master_key(key, master));
        if let Some(waiting) = master.and_then(|master| self.waiting.remove(&master)) {
            self.tell_late(waiting);
        }
    }

    /// The peers are told of a flow that waited.
    fn tell_late(&mut self, waiting: Waiting) {
        let counts = self.counts(waiting.clause);
        counts.told(waiting.bytes);
        counts.late += 1;
    }

    /// How long the record of a change is.
    fn record_bytes(&mut self, key: &FlowKey, event: &Event) -> u64 {
        self.record.clear();
        if event.kind == EventKind::Destroy {
            put_delete(&mut self.record, key, Term::default(), Claim::Carried);
        } else {
            let mut state = FlowState::default();
            state.apply(&convert::patch(&event.flow, self.shared));
            put_upsert(
                &mut self.record,
                key,
                &state,
                Term::default(),
                Claim::Carried,
            );
        }
        self.record.len() as u64
    }
}

impl Counts {
    /// What had counted as saved was told.
    fn told(&mut self, bytes: u64) {
        self.told += 1;
        self.saved_bytes = self.saved_bytes.saturating_sub(bytes);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.flows += other.flows;
        self.events += other.events;
        self.told += other.told;
        self.saved += other.saved;
        self.saved_bytes += other.saved_bytes;
        self.late += other.late;
        self.untold += other.untold;
        self.exposed += other.exposed;
    }
}

#[cfg(test)]
mod tests;
