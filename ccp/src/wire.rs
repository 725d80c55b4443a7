//! Bytes on the wire: the only code that takes datagrams apart or puts them together (PROTOCOL.md 2 to 4).
//!
//! Everything is big-endian or LEB128. A body that does not decode changes nothing: it is taken apart whole before any
//! of it is acted on. What is unknown but well formed (a record kind, an attribute) is skipped by its length, and counted.

mod build;
pub mod compare;
pub mod control;
pub mod cursor;
pub mod flow;
pub mod header;
mod mode;
pub mod probe;
pub mod snapshot;
pub mod standing;

use core::fmt;

/// Greatest sequence that is taken for one: no sender lives to reach it, and sums with it cannot overflow.
pub const SEQ_MAX: u64 = 1 << 62;

/// What was passed over in a body as it is of another version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Attributes, of hellos and of records.
    pub attributes: u64,
    /// Records.
    pub records: u64,
}

/// Why a datagram was not understood; each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// Ends before its time.
    Truncated,
    /// Not one of ours.
    Magic,
    /// Check Point's CCP on the same wire.
    CheckPoint,
    /// Another version of the protocol.
    Version,
    /// An operation, or a kind of frame, that this version does not know.
    Opcode,
    /// No member has that number.
    Member,
    /// A number that does not fit where it stands.
    Number,
    /// A record whose parts contradict each other or its length.
    Record,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "datagram ends too early",
            Self::Magic => "not a datagram of this protocol",
            Self::CheckPoint => "a datagram of Check Point's CCP",
            Self::Version => "another version of the protocol",
            Self::Opcode => "unknown operation",
            Self::Member => "member number outside 1 to 16",
            Self::Number => "number out of range",
            Self::Record => "malformed record",
        })
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
