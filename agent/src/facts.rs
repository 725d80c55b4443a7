//! What of a machine should be alike on all members: settings of its kernel, its interfaces, its clock.
//!
//! Members tell each other, over their links: each what it has, once and when it changes. What differs, and whether that
//! matters, [`crate::doctor`] says. A fact is a name and a number, so that a later version may tell more of them: who
//! does not know one compares it all the same.
//!
//! ```text
//!   clock (u64, ms since 1970) | for each: length of the name (u8) | name | value (u64)
//! ```

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod gather;

pub use gather::{gather, watch};

/// Facts that are told and taken; a gateway has about 60.
pub const FACTS_MAX: usize = 256;
/// Bytes of a name: that of an interface has 15, that of a setting of conntrack at most 60.
const NAME_BYTES_MAX: usize = 80;

/// Before the name of an interface, whose MTU the fact is.
pub const INTERFACE: &str = "interface ";
/// Before the name of a sync network, whose MTU the fact is; its interface may be called otherwise on each member.
pub const NETWORK: &str = "network ";
/// The digest of the service policy in force.
pub const POLICY: &str = "policy";
/// Before the name of a setting: this is what sysctl(8) calls it.
pub const SYSCTL: &str = "net.";

/// What a machine is like, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, u64>);

/// What one member told another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsMessage {
    /// Its clock when it said so, milliseconds since 1970.
    pub clock_ms: u64,
    /// The rest.
    pub facts: Facts,
}

impl Facts {
    /// Adds one, unless there are too many or the name is none.
    pub fn insert(&mut self, name: String, value: u64) {
        if self.0.len() < FACTS_MAX && is_name(name.as_bytes()) {
            self.0.insert(name, value);
        }
    }

    /// The value of one.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FactsMessage {
    /// The body of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.clock_ms.to_be_bytes().to_vec();
        for (name, value) in self.facts.iter() {
            body.push(u8::try_from(name.len()).expect("names are short"));
            body.extend_from_slice(name.as_bytes());
            body.extend(value.to_be_bytes());
        }
        body
    }

    /// What a frame says; `None` if it is not well formed, or has more facts than anybody has. Names are printed to
    /// terminals, so those that are not plain text are not well formed.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let (clock, mut rest) = body.split_first_chunk()?;
        let mut facts = BTreeMap::new();
        while let Some((length, after)) = rest.split_first() {
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            let (value, after) = after.split_first_chunk()?;
            if !is_name(name) || facts.len() == FACTS_MAX {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?.to_owned();
            facts.insert(name, u64::from_be_bytes(*value));
            rest = after;
        }
        Some(Self {
            clock_ms: u64::from_be_bytes(*clock),
            facts: Facts(facts),
        })
    }
}

impl FromIterator<(String, u64)> for Facts {
    fn from_iter<T: IntoIterator<Item = (String, u64)>>(facts: T) -> Self {
        let mut all = Self::default();
        facts
            .into_iter()
            .for_each(|(name, value)| all.insert(name, value));
        all
    }
}

fn is_name(bytes: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    (1..=NAME_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(is_plain)
}

#[cfg(test)]
mod tests;
