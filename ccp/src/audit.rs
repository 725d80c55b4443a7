//! What comparing the kernel's table with what is known has shown (PROTOCOL.md 13).
//!
//! A pass over the table ([`crate::node::Node::begin_pass`]) repairs what it finds; here stands what that was, by class, until
//! the owner takes it. The list is short: it is for the operator's eyes, the counts are complete.

use crate::record::{FlowKey, MemberId};
use crate::table::KeyedHash;
use alloc::collections::VecDeque;
use hashbrown::HashMap;

/// Differences that wait for the owner at most; further ones are only counted.
const WAITING_MAX: usize = 64;
/// Suspects at a time; what is more counts at once, though its event may be on its way.
const SUSPECTS_MAX: usize = 1 << 16;

/// How a kernel's table differed. Whose: for a copy, its holder's; for an own flow, the peers', because they had been told
/// something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A kernel lacked a copy.
    Missing,
    /// A kernel had a copy that nobody carries.
    Ghost,
    /// A copy was translated otherwise than its original.
    Nat,
    /// A copy had another state, status or mark than its original.
    Attribute,
    /// A kernel has no place for a copy, as another flow has one of its tuples (7.10).
    Conflict,
    /// The event, the delta or the end that makes it good was on its way.
    Lag,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::Missing,
        Self::Ghost,
        Self::Nat,
        Self::Attribute,
        Self::Conflict,
        Self::Lag,
    ];

    /// True if kernels with such a difference are not what they should be: of a conflict either is right, lag passes.
    pub fn is_unequal(self) -> bool {
        match self {
            Self::Missing | Self::Ghost | Self::Nat | Self::Attribute => true,
            Self::Conflict | Self::Lag => false,
        }
    }
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
#[derive(Debug)]
pub struct Audit {
    counts: [u64; Class::ALL.len()],
    waiting: VecDeque<Difference>,
    /// Own flows whose row differed from our record: the event that explains it may still be queued.
    suspects: HashMap<FlowKey, Class, KeyedHash>,
}

impl Audit {
    /// Nothing was seen yet; `hash_seed` as the table's.
    pub fn new(hash_seed: [u64; 2]) -> Self {
        Self {
            counts: [0; Class::ALL.len()],
            waiting: VecDeque::new(),
            suspects: HashMap::with_hasher(KeyedHash::new(hash_seed)),
        }
    }

    /// A flow that `me` carries was other than known. It is lag if its event comes before the suspects are settled.
    pub fn suspect(&mut self, key: FlowKey, class: Class, me: MemberId) {
        if class == Class::Lag || self.suspects.len() >= SUSPECTS_MAX {
            self.note(Difference {
                class,
                key,
                carrier: Some(me),
            });
        } else {
            self.suspects.insert(key, class);
        }
    }

    /// Somebody told of the flow.
    pub fn clear(&mut self, key: &FlowKey, carrier: MemberId) {
        if !self.suspects.is_empty() && self.suspects.remove(key).is_some() {
            self.note(Difference {
                class: Class::Lag,
                key: *key,
                carrier: Some(carrier),
            });
        }
    }

    /// All events older than the last row have been handled, so what is still suspect had no event at all.
    pub fn settle(&mut self, me: MemberId) {
        let hasher = *self.suspects.hasher();
        let suspects = core::mem::replace(&mut self.suspects, HashMap::with_hasher(hasher));
        for (key, class) in suspects {
            self.note(Difference {
                class,
                key,
                carrier: Some(me),
            });
        }
    }

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
