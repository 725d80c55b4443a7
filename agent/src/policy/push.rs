//! What of the policy the kernel can do: which flows are never synchronised, as far as it can tell by their first packet.
//!
//! It never says more than the policy does. What is *certain* follows from protocol and port alone, and is said however
//! large the policy is. Where addresses count too, and the clauses are few, they are said one by one, in their order; a
//! clause that asks for a mark or a zone, which are set later or elsewhere, leaves what it may match to the daemon.

use super::classify::Condition;
use super::service::{self, Hold, Sync};
use super::{By, Clause, Policy};
use std::collections::BTreeSet;

/// Clauses that are said one by one at most: each new flow is compared with all of them.
const STEPS_MAX: usize = 64;

/// What the kernel is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Protocols and, of those that have any, the selectors of which every flow is never synchronised; an empty list
    /// stands for the whole protocol.
    pub certain: Vec<(u8, Vec<(u16, u16)>)>,
    /// All protocols but these are never synchronised.
    pub all_but: Option<Vec<u8>>,
    /// What is left, the first that matches counts.
    pub steps: Vec<Step>,
    /// The ends of all these flows are told nevertheless: they say what has passed.
    pub ends: bool,
}

/// A clause, as the kernel can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it asks of a flow; never for a mark or a zone.
    pub condition: Condition,
    /// True if its flows are never synchronised; else they are the daemon's.
    pub never: bool,
}

impl Policy {
    /// What of this policy the kernel can do.
    pub fn plan(&self) -> Plan {
        let named: BTreeSet<u8> = (self.clauses.iter())
            .flat_map(|clause| clause.condition.flows.protocols.iter().copied())
            .collect();
        let certain: Vec<_> = (named.iter())
            .filter_map(|protocol| Some((*protocol, certain(&self.clauses, *protocol)?)))
            .collect();
        let of_all =
            (self.clauses.iter()).filter(|clause| clause.condition.flows.protocols.is_empty());
        let all_but = is_never(of_all).then(|| named.into_iter().collect());
        let steps = self.steps();
        Plan {
            certain,
            all_but,
            steps,
            ends: false,
        }
    }

    /// What is said of flows whose first packets are held, whoever else may be matched before.
    pub fn held(&self) -> impl Iterator<Item = &Condition> {
        (self.clauses.iter())
            .filter(|clause| clause.hold == Hold::Always)
            .map(|clause| &clause.condition)
    }

    fn steps(&self) -> Vec<Step> {
        let clauses = || (self.clauses.iter()).filter(|it| !matches!(it.by, By::Builtin(_)));
        let has_more = clauses().any(|clause| {
            clause.sync == Sync::Never
                && clause.condition.is_plain()
                && !clause.condition.is_everywhere()
        });
        if !has_more || clauses().count() > STEPS_MAX {
            return Vec::new();
        }
        let step = |clause: &Clause| Step {
            never: clause.sync == Sync::Never && clause.condition.is_plain(),
            condition: Condition {
                zone: None,
                mark: None,
                ..clause.condition.clone()
            },
        };
        clauses().map(step).collect()
    }
}

/// The selectors of a protocol of which every flow is never synchronised; `None` if there are none, an empty list if that
/// is so of all.
fn certain(clauses: &[Clause], protocol: u8) -> Option<Vec<(u16, u16)>> {
    let of_protocol: Vec<_> = (clauses.iter())
        .filter(|clause| {
            let protocols = &clause.condition.flows.protocols;
            protocols.is_empty() || protocols.contains(&protocol)
        })
        .collect();
    let last = match protocol {
        protocol if service::has_ports(protocol) => u16::MAX,
        protocol if service::has_types(protocol) => u8::MAX.into(),
        _ => 0,
    };
    // Where something begins.
    let mut begins = BTreeSet::from([0]);
    for (first, past) in (of_protocol.iter())
        .flat_map(|clause| &clause.condition.flows.selectors)
        .map(|(first, last)| (*first, last.checked_add(1)))
    {
        begins.extend(
            [first]
                .into_iter()
                .chain(past)
                .filter(|begin| *begin <= last),
        );
    }
    let begins: Vec<u16> = begins.into_iter().collect();
    let ends = begins.iter().skip(1).map(|next| next - 1).chain([last]);
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for (begin, end) in begins.iter().copied().zip(ends) {
        let there = of_protocol.iter().copied().filter(|clause| {
            let selectors = &clause.condition.flows.selectors;
            selectors.is_empty() || selectors.iter().any(|it| it.0 <= begin && begin <= it.1)
        });
        if is_never(there) {
            match ranges.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(begin) => before.1 = end,
                Some(_) | None => ranges.push((begin, end)),
            }
        }
    }
    match ranges.as_slice() {
        [] => None,
        [whole] if *whole == (0, last) => Some(Vec::new()),
        _ => Some(ranges),
    }
}

/// True if whichever of these clauses decides, first or later, the flow is never synchronised.
fn is_never<'a>(clauses: impl Iterator<Item = &'a Clause>) -> bool {
    for clause in clauses {
        if clause.sync != Sync::Never {
            return false;
        }
        if clause.condition.is_everywhere() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
