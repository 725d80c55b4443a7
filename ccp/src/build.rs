//! What the builds of different members can do together (PROTOCOL.md 10.6).
//!
//! A build skips what it does not know, so most additions need no negotiation. A capability covers the rest: what a member
//! may do, or ask for, only if the others support it. A new one is a variant here and its use where it matters.

use core::fmt;

/// Something that not every build can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Gives snapshots: who lacks it is not asked for one, but told everything by deltas (PROTOCOL.md 9).
    FullSync = 0,
    /// Switches modes: none is tried while a live member lacks it (PROTOCOL.md 10.5).
    Modes = 1,
}

/// Some of them, those of later versions included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

/// Of which version a member's daemon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Of the three numbers the first.
    pub major: u8,
    /// The second.
    pub minor: u8,
    /// The third.
    pub patch: u8,
}

/// What a member says of its daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// For people; nothing is decided by it.
    pub version: Version,
    /// What it can.
    pub capabilities: Capabilities,
}

impl Capability {
    /// All that this build knows.
    pub const ALL: [Self; 2] = [Self::FullSync, Self::Modes];

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FullSync => "full-sync",
            Self::Modes => "modes",
        }
    }
}

impl Capabilities {
    /// The set of those that have their bit set.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// A bit for each.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// True if this one is among them.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// Those that are in both.
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Build {
    /// This one.
    pub const THIS: Self = Self {
        version: Version {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        },
        capabilities: Capabilities(1 << Capability::FullSync as u8 | 1 << Capability::Modes as u8),
    };
}

const fn number(digits: &str) -> u8 {
    match u8::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("the parts of a version are below 256"),
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}
