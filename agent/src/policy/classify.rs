//! Which clause decides on a flow: the first of thousands that matches, in less time than one miss of a cache.
//!
//! Each dimension (source, destination, service) is cut into intervals at every place where some clause begins or ends,
//! and each interval has a row of bits, one a clause: those that match there. A flow falls into one interval of each
//! dimension; the lowest bit that its rows have in common is the first clause that matches, zone and mark aside, which
//! few clauses name and which are looked at last. Words that are zero are not kept: most rows have a handful of clauses.

mod ranges;
mod rows;

use super::prefix::Prefix;
use super::service::{self, Flows};
use ccp::record::{Family, FlowKey};
use ranges::Ranges;
use rows::{Row, Rows};
use std::ops::ControlFlow;

/// Clauses at most: so many bits have the summaries of a row.
pub const CLAUSES_MAX: usize = rows::BITS_MAX;

/// What a clause asks of a flow; the first that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Prefixes of the source address before translation; none means all.
    pub source: Vec<Prefix>,
    /// Prefixes of the destination address before translation; none means all.
    pub destination: Vec<Prefix>,
    /// The zone, of either direction.
    pub zone: Option<u16>,
    /// Value and mask of the connmark.
    pub mark: Option<(u32, u32)>,
    /// Protocol and ports.
    pub flows: Flows,
}

impl Condition {
    /// True if it asks for nothing but protocol and ports.
    pub fn is_everywhere(&self) -> bool {
        self.source.is_empty() && self.destination.is_empty() && self.is_plain()
    }

    /// True if it asks neither for a zone nor for a mark.
    pub fn is_plain(&self) -> bool {
        self.zone.is_none() && self.mark.is_none()
    }

    /// True if every flow that `other` matches is matched by this.
    pub fn covers(&self, other: &Self) -> bool {
        let prefixes = |ours: &[Prefix], theirs: &[Prefix]| {
            ours.is_empty()
                || !theirs.is_empty()
                    && (theirs.iter()).all(|their| ours.iter().any(|our| our.covers(their)))
        };
        let mark = match (self.mark, other.mark) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((value, mask)), Some((other_value, other_mask))) => {
                other_mask & mask == mask && other_value & mask == value
            }
        };
        mark && (self.zone.is_none() || self.zone == other.zone)
            && self.flows.covers(&other.flows)
            && prefixes(&self.source, &other.source)
            && prefixes(&self.destination, &other.destination)
    }

    fn accepts(&self, zone: u16, mark: u32) -> bool {
        self.zone.is_none_or(|wanted| wanted == zone)
            && self.mark.is_none_or(|(value, mask)| mark & mask == value)
    }
}

/// Clauses, compiled.
#[derive(Clone, Debug)]
pub struct Classifier {
    rows: Rows,
    /// By family, then source and destination.
    addresses: [[Ranges; 2]; 2],
    /// By protocol: the row of each selector; those past the last have the last.
    services: Vec<Vec<Row>>,
    /// Zone and mark of the clauses that name one.
    rest: Vec<Option<Condition>>,
}

impl Classifier {
    /// Compiles at most [`CLAUSES_MAX`] clauses.
    pub fn new(clauses: &[Condition]) -> Self {
        assert!(clauses.len() <= CLAUSES_MAX, "who made them counted them");
        let mut rows = Rows::new(clauses.len());
        let addresses = [Family::V4, Family::V6].map(|family| {
            let dimension = |rows: &mut Rows, of: fn(&Condition) -> &[Prefix]| {
                let spans = (clauses.iter().enumerate()).flat_map(|(clause, condition)| {
                    spans(of(condition), family).map(move |span| (clause, span))
                });
                Ranges::new(rows, spans)
            };
            [
                dimension(&mut rows, |condition| &condition.source),
                dimension(&mut rows, |condition| &condition.destination),
            ]
        });
        let services = (0..=u8::MAX)
            .map(|protocol| selectors(&mut rows, protocol, clauses))
            .collect();
        let rest = (clauses.iter())
            .map(|condition| (!condition.is_plain()).then(|| condition.clone()))
            .collect();
        rows.seal();
        Self {
            rows,
            addresses,
            services,
            rest,
        }
    }

    /// The first clause that matches.
    pub fn first(&self, key: &FlowKey, mark: u32) -> Option<usize> {
        let [source, destination] = &self.addresses[usize::from(key.family == Family::V6)];
        let by_selector = &self.services[usize::from(key.proto)];
        let selector = usize::from(service::selector(key)).min(by_selector.len() - 1);
        let rows = [
            by_selector[selector],
            source.find(u128::from_be_bytes(key.src)),
            destination.find(u128::from_be_bytes(key.dst)),
        ];
        let found = self.rows.common(rows, |clause| match &self.rest[clause] {
            Some(condition) if !condition.accepts(key.zone, mark) => ControlFlow::Continue(()),
            Some(_) | None => ControlFlow::Break(clause),
        });
        found.break_value()
    }
}

/// The first and last number of what `prefixes` hold of `family`; everything if there are none.
fn spans(prefixes: &[Prefix], family: Family) -> impl Iterator<Item = (u128, u128)> {
    let all = prefixes.is_empty().then_some((0, u128::MAX));
    let some = prefixes
        .iter()
        .filter(move |prefix| prefix.family == family);
    all.into_iter()
        .chain(some.map(|prefix| (prefix.first(), prefix.last())))
}

/// The row of each selector of a protocol.
fn selectors(rows: &mut Rows, protocol: u8, clauses: &[Condition]) -> Vec<Row> {
    let of_protocol = || {
        (clauses.iter().enumerate())
            .map(|(clause, condition)| (clause, &condition.flows))
            .filter(|(_, flows)| flows.protocols.is_empty() || flows.protocols.contains(&protocol))
    };
    if of_protocol().all(|(_, flows)| flows.selectors.is_empty()) {
        return vec![rows.of(of_protocol().map(|(clause, _)| clause))];
    }
    let spans = of_protocol().flat_map(|(clause, flows)| {
        let all = flows.selectors.is_empty().then_some((0, u16::MAX));
        let some = all.into_iter().chain(flows.selectors.iter().copied());
        some.map(move |(first, last)| (clause, (first.into(), last.into())))
    });
    let ranges = Ranges::new(rows, spans);
    (0..=u16::MAX)
        .map(|selector| ranges.find(selector.into()))
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
