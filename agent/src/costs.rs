//! What each service costs, so that an operator sees what to delay.
//!
//! Counted are flows that begin, changes that the kernel tells, and what the peers are told in datagrams. How long flows live
//! is found by watching some: up to 64 new flows of each service a second, 16,384 in all; others are not watched, whatever
//! becomes of them. What became of a flow counts once it would be as old as the longest age asked for, not before: else the
//! short ones would come first.

use crate::control::answer::services::{ServiceCost, Services as Answer};
use crate::policy::{Policy, Service, ServiceId, Sync};
use ccp::record::FlowKey;
use ccp::time::Instant;
use ccp::wire::cursor::Reader;
use ccp::wire::flow::{Outline, take_outline};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::hash::RandomState;
use std::time::Duration;

/// Flows of a service that begin to be watched within a second.
const WATCHED_A_SECOND: u8 = 64;
/// Flows that are watched at a time: 2 MB.
const WATCHED_MAX: usize = 16_384;
/// The ages that are asked for, in seconds.
const AGES: [u64; 4] = [1, 3, 15, 30];
/// The last of them.
const AGE_MAX: Duration = Duration::from_secs(AGES[AGES.len() - 1]);
/// Services in an answer, the costliest; it is a line of JSON, and has a length at most.
const ROWS_MAX: usize = 1024;

/// What every service has cost so far.
#[derive(Debug)]
pub struct ServiceCosts {
    /// By [`ServiceId`].
    costs: Vec<Cost>,
    /// In the order in which they began.
    watched: VecDeque<Watched>,
    /// Watched flows that have not ended, by the number of their place in `watched` since the first ever.
    live: HashMap<FlowKey, u64, RandomState>,
    /// The number of the first in `watched`.
    first: u64,
}

/// What one service has cost.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    flows: u64,
    events: u64,
    messages: u64,
    bytes: u64,
    /// Flows of which it is known how long they lived, and how many of them ended within each of [`AGES`].
    watched: u64,
    ended: [u64; AGES.len()],
    /// The second in which it was watched last, and how many began to be.
    second: u64,
    begun: u8,
}

#[derive(Debug)]
struct Watched {
    key: FlowKey,
    service: ServiceId,
    born: Instant,
    /// How long it lived, if it has ended.
    lived: Option<Duration>,
}

impl ServiceCosts {
    /// Nothing was counted yet of any service of `policy`.
    pub fn new(policy: &Policy) -> Self {
        Self {
            costs: vec![Cost::default(); policy.all_services().count()],
            watched: VecDeque::new(),
            live: HashMap::default(),
            first: 0,
        }
    }

    /// Another policy is in force: what its services have in name with the `old` ones goes on.
    pub fn replace(&mut self, old: &Policy, new: &Policy) {
        let name = |(service, is_builtin): (Option<&Service>, bool)| {
            (service.map(|service| service.name.clone()), is_builtin)
        };
        let known: HashMap<_, _, RandomState> =
            (old.all_services().map(name).zip(self.costs.iter().copied())).collect();
        *self = Self::new(new);
        for (cost, name) in self.costs.iter_mut().zip(new.all_services().map(name)) {
            *cost = known.get(&name).copied().unwrap_or_default();
        }
    }

    /// The kernel told of a change of a flow.
    pub fn note_event(&mut self, service: ServiceId) {
        self.costs[service.index()].events += 1;
    }

    /// It began.
    pub fn note_begun(&mut self, key: &FlowKey, service: ServiceId, now: Instant) {
        self.settle(now);
        let cost = &mut self.costs[service.index()];
        cost.flows += 1;
        let second = now.as_micros() / 1_000_000;
        if cost.second != second {
            (cost.second, cost.begun) = (second, 0);
        }
        if cost.begun < WATCHED_A_SECOND && self.watched.len() < WATCHED_MAX {
            cost.begun += 1;
            // One that was there under the same key goes on for all that is known.
            self.live
                .insert(*key, self.first + self.watched.len() as u64);
            self.watched.push_back(Watched {
                key: *key,
                service,
                born: now,
                lived: None,
            });
        }
    }

    /// It ended.
    pub fn note_ended(&mut self, key: &FlowKey, now: Instant) {
        if let Some(number) = self.live.remove(key)
            && let Some(watched) = self.watched.get_mut((number - self.first) as usize)
        {
            watched.lived = Some(now.since(watched.born));
        }
    }

    /// The peers are told of changes: the body of a delta. `policy` is in force.
    pub fn note_delta(&mut self, policy: &Policy, body: &[u8]) {
        let mut records = Reader::new(body);
        if records.seq().is_err() {
            return;
        }
        // It ends where there is no more to read: what was made here is understood.
        while let Ok(outline) = take_outline(&mut records) {
            if let Some(Outline { key, mark, bytes }) = outline {
                let cost = &mut self.costs[policy.decide(&key, mark).service.index()];
                cost.messages += 1;
                cost.bytes += bytes as u64;
            }
        }
    }

    /// Of those that would be old enough by now it is known what became of them.
    fn settle(&mut self, now: Instant) {
        let is_over = |watched: &Watched| watched.born + AGE_MAX <= now;
        while self.watched.front().is_some_and(is_over)
            && let Some(watched) = self.watched.pop_front()
        {
            let cost = &mut self.costs[watched.service.index()];
            cost.watched += 1;
            match watched.lived {
                Some(lived) => {
                    for (ended, age) in cost.ended.iter_mut().zip(AGES) {
                        *ended += u64::from(lived <= Duration::from_secs(age));
                    }
                }
                None if self.live.get(&watched.key) == Some(&self.first) => {
                    self.live.remove(&watched.key);
                }
                None => {}
            }
            self.first += 1;
        }
    }

    /// The answer to `services`: those of the files, and others that cost something; the costliest first.
    pub fn answer(&mut self, policy: &Policy, now: Instant) -> Answer {
        self.settle(now);
        let mut services: Vec<_> = (policy.all_services().zip(&self.costs))
            .filter(|((service, is_builtin), cost)| {
                cost.events + cost.messages > 0 || service.is_some() && !is_builtin
            })
            .map(|((service, builtin), cost)| {
                let (sync, delay_seconds) = service.map_or(Sync::Always, |it| it.sync).words();
                let [
                    ended_within_1s,
                    ended_within_3s,
                    ended_within_15s,
                    ended_within_30s,
                ] = cost.ended;
                ServiceCost {
                    service: service.map(|service| service.name.clone()),
                    builtin,
                    sync: sync.into(),
                    delay_seconds,
                    flows: cost.flows,
                    events: cost.events,
                    messages: cost.messages,
                    bytes: cost.bytes,
                    watched: cost.watched,
                    ended_within_1s,
                    ended_within_3s,
                    ended_within_15s,
                    ended_within_30s,
                }
            })
            .collect();
        services.sort_by_key(|cost| Reverse((cost.bytes, cost.events)));
        let left_out = services.len().saturating_sub(ROWS_MAX);
        services.truncate(ROWS_MAX);
        Answer { services, left_out }
    }
}

#[cfg(test)]
mod tests;
