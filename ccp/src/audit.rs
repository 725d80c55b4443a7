//! What comparing the kernel's table with what is known has shown (PROTOCOL.md 13).
//!
//! A pass over the table ([`crate::node::Node::begin_pass`]) repairs what it finds; here stands what that was, by class, until
//! the owner takes it. The list is short: it is for the operator's eyes, the counts are complete.

use crate::record::{FlowKey, MemberId};
use alloc::collections::VecDeque;

/// Differences that wait for the owner at most; further ones are only counted.
const WAITING_MAX: usize = 64;

/// How the kernel's table differed from what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The kernel lacked a copy: it was put in.
    Missing,
    /// The kernel had a copy that nobody carries: it was removed.
    Ghost,
    /// A copy was translated otherwise than its carrier tells: it was made anew.
    Nat,
    /// A copy had another state, status or mark than its carrier tells: it was set right.
    Attribute,
    /// A flow of our own was other than known, begun or ended: its event was lost or is on its way. The peers were told.
    Lag,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 5] = [
        Self::Missing,
        Self::Ghost,
        Self::Nat,
        Self::Attribute,
        Self::Lag,
    ];
}

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of which kind.
    pub class: Class,
    /// Of which flow.
    pub key: FlowKey,
    /// Who carries it; `None` if nobody does.
    pub carrier: Option<MemberId>,
}

/// Differences since they were taken last.
#[derive(Debug, Default)]
pub struct Audit {
    counts: [u64; Class::ALL.len()],
    waiting: VecDeque<Difference>,
}

impl Audit {
    /// Notes a difference.
    pub fn note(&mut self, difference: Difference) {
        if let Some(count) = self.counts.get_mut(difference.class as usize) {
            *count += 1;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(difference);
        }
    }

    /// How many there were of each class, in the order of [`Class::ALL`], and the first of them.
    pub fn take(&mut self) -> ([u64; Class::ALL.len()], VecDeque<Difference>) {
        (
            core::mem::take(&mut self.counts),
            core::mem::take(&mut self.waiting),
        )
    }
}
