//! What has passed: rows and ends of flows to the books, and the books to the operator.

use super::Core;
use crate::accounting::{Totals, message::TotalsMessage};
use crate::control::answer::accounting::{Accounting, MemberTraffic, ServiceTraffic, Traffic};
use crate::convert;
use crate::policy::Decision;
use ccp::record::{FlowKey, MemberId};
use ccp::time::Instant;
use conntrack::Flow;
use std::cmp::Reverse;

/// Services in an answer, of all members together; it is a line of JSON, and has a length at most.
const ROWS_MAX: usize = 3072;

impl Core {
    /// An entry is gone from the kernel, as we asked.
    pub fn handle_own_end(&mut self, flow: &Flow) {
        self.count_end(&convert::key(flow), flow);
    }

    /// What the kernel has counted of a flow that it has.
    pub(super) fn count_row(&mut self, key: &FlowKey, flow: &Flow, decision: Decision) {
        if let Some(counted) = &flow.counters {
            let service = self.policy.service(decision.service);
            (self.accounting).note_row(key, service.map_or("", |it| &it.name), counted);
        }
    }

    /// What the kernel had counted of a flow that it has no longer.
    pub(super) fn count_end(&mut self, key: &FlowKey, flow: &Flow) {
        let Some(counted) = flow.counters else {
            return;
        };
        let patch = convert::patch(flow, self.shared);
        if self.accounting.interval().is_some() && self.scope.is_forwarded(key, &patch.nat) {
            let decision = self.decide(key, flow);
            let service = self.policy.service(decision.service);
            (self.accounting).note_end(key, service.map_or("", |it| &it.name), &counted);
        }
    }

    /// What has passed, if that is to be written: once an interval.
    pub fn poll_accounting(&mut self, now: Instant) -> Option<Accounting> {
        std::mem::take(&mut self.accounting_ended).then(|| self.accounting(now))
    }

    /// The answer to `accounting`.
    pub fn accounting(&self, now: Instant) -> Accounting {
        let rows_max = ROWS_MAX / (self.peers.len() + 2);
        let member = |member: MemberId, totals: &Totals, told: Option<Instant>| {
            let mut services = rows(totals);
            let left_out = services.len().saturating_sub(rows_max);
            services.truncate(rows_max);
            MemberTraffic {
                member: member.get(),
                name: self.name(member),
                told_seconds_ago: told.map(|told| now.since(told).as_secs()),
                total: traffic(&totals.sum()),
                services,
                left_out,
            }
        };
        let peers = self.peers.iter().filter_map(|peer| {
            let (totals, told) = self.accounting.of_peer(*peer)?;
            Some(member(*peer, &totals, Some(told)))
        });
        let own = member(self.me, &self.accounting.own(), None);
        let mut since_start = rows(self.accounting.since_start());
        since_start.truncate(rows_max);
        Accounting {
            interval_seconds: self.accounting.interval().map(|it| it.as_secs()),
            members: [own].into_iter().chain(peers).collect(),
            since_start,
        }
    }

    pub(super) fn handle_told(&mut self, from: MemberId, body: &[u8], now: Instant) {
        match TotalsMessage::decode(body) {
            Some(told) => self.accounting.handle(from, told, now),
            None => self.links.malformed += 1,
        }
    }
}

fn rows(totals: &Totals) -> Vec<ServiceTraffic> {
    let row = |(name, it): (&str, _)| ServiceTraffic {
        service: (!name.is_empty()).then(|| name.to_owned()),
        traffic: traffic(it),
    };
    let mut rows: Vec<_> = totals.iter().map(row).collect();
    rows.sort_by_key(|row| Reverse(row.traffic.bytes_both()));
    rows
}

fn traffic([original, reply]: &crate::accounting::Traffic) -> Traffic {
    Traffic {
        packets: original.packets,
        bytes: original.bytes,
        reply_packets: reply.packets,
        reply_bytes: reply.bytes,
    }
}
