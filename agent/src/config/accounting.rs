//! Whether what passes is counted, and where it is written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Whether packets and bytes are counted by service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// Where the totals are written.
    pub target: Target,
    /// How often they are, and the peers are told; 1 s to 24 h.
    pub interval: Duration,
}

impl Accounting {
    /// True if anything is counted.
    pub fn is_on(&self) -> bool {
        self.target != Target::Off
    }
}

/// Where what has passed is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere, and nothing is counted.
    Off,
    /// To the log.
    Journal,
    /// To the file at an absolute path, in lines of JSON.
    File(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Journal => f.write_str("journal"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
