//! Why a message could not be decoded: one variant, and one counter, a cause.

use std::fmt;

/// Why bytes are not a message that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The datagram was longer than the buffer it was read into.
    Truncated,
    /// The length of a message is less than its headers or more than there is.
    MessageLength,
    /// Not a message of this kind of socket.
    MessageKind {
        /// `nlmsg_type`
        kind: u16,
    },
    /// The length of an attribute is less than its header or more than there is.
    AttributeLength,
    /// The value of an attribute is not of the size that its type has.
    AttributeSize {
        /// The type, of which nest is not said.
        attribute: u16,
    },
    /// One of the two tuples of the flow is not there.
    TupleMissing,
    /// A tuple without two addresses of one family.
    TupleAddresses,
    /// A tuple without protocol number.
    TupleProtocol,
    /// The name of the helper is empty, too long or not UTF-8.
    HelperName,
    /// A held packet without its number.
    PacketHeaderMissing,
}

impl DecodeError {
    /// How many variants there are: the length of an array of counters.
    pub const COUNT: usize = 10;

    /// The number of the variant, below [`COUNT`](Self::COUNT), whatever its fields.
    pub fn index(&self) -> usize {
        match self {
            Self::Truncated => 0,
            Self::MessageLength => 1,
            Self::MessageKind { .. } => 2,
            Self::AttributeLength => 3,
            Self::AttributeSize { .. } => 4,
            Self::TupleMissing => 5,
            Self::TupleAddresses => 6,
            Self::TupleProtocol => 7,
            Self::HelperName => 8,
            Self::PacketHeaderMissing => 9,
        }
    }

    /// The name of the variant, for its counter.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::MessageLength => "message_length",
            Self::MessageKind { .. } => "message_kind",
            Self::AttributeLength => "attribute_length",
            Self::AttributeSize { .. } => "attribute_size",
            Self::TupleMissing => "tuple_missing",
            Self::TupleAddresses => "tuple_addresses",
            Self::TupleProtocol => "tuple_protocol",
            Self::HelperName => "helper_name",
            Self::PacketHeaderMissing => "packet_header_missing",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("a message of the kernel is longer than the buffer it was read into")
            }
            Self::MessageLength => f.write_str("the length of a message does not fit its datagram"),
            Self::MessageKind { kind } => {
                write!(f, "a message of type {kind:#06x} is none that is expected")
            }
            Self::AttributeLength => {
                f.write_str("the length of an attribute does not fit its message")
            }
            Self::AttributeSize { attribute } => {
                write!(f, "attribute {attribute} is of a wrong size")
            }
            Self::TupleMissing => f.write_str("a flow without its two tuples"),
            Self::TupleAddresses => f.write_str("a tuple without two addresses of one family"),
            Self::TupleProtocol => f.write_str("a tuple without protocol number"),
            Self::HelperName => f.write_str("the name of a helper is empty, too long or not UTF-8"),
            Self::PacketHeaderMissing => f.write_str("a held packet without its number"),
        }
    }
}

impl std::error::Error for DecodeError {}
