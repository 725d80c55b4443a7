//! The header (PROTOCOL.md 2.1).

use super::member;
use crate::record::MemberId;
use crate::wire::DecodeError;
use crate::wire::header::{Destination, HEADER_BYTES, Header, Opcode, Urgency};
use proptest::option;
use proptest::prelude::*;

prop_compose! {
    fn header()(cluster in any::<u16>(), opcode in 0usize..4, source in member(), to in option::of(member()),
        interface in any::<u8>(), urgent in any::<bool>(), epoch in any::<u8>(),
        numbers in any::<[u64; 2]>()) -> Header {
        Header {
            cluster,
            opcode: [Opcode::Hello, Opcode::Delta, Opcode::Ack, Opcode::Unknown(0x7f)][opcode],
            source,
            destination: to.map_or(Destination::All, Destination::Member),
            interface,
            urgency: if urgent { Urgency::Urgent } else { Urgency::Normal },
            incarnation: numbers[0],
            epoch,
            packet_number: numbers[1],
        }
    }
}

proptest! {
    /// PROTOCOL.md 2.1
    #[test]
    fn a_header_reads_back_as_it_was_and_not_at_all_when_cut(header in header(), body in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(&body);
        prop_assert_eq!(Header::decode(&bytes), Ok((header, &body[..])));
        for cut in 0..HEADER_BYTES {
            prop_assert_eq!(Header::decode(&bytes[..cut]), Err(DecodeError::Truncated));
        }
    }
}

/// PROTOCOL.md 2.4
#[test]
fn what_is_not_ours_is_told_apart_by_cause() {
    let header = Header {
        cluster: 1,
        opcode: Opcode::Delta,
        source: MemberId::new(1).unwrap(),
        destination: Destination::All,
        interface: 0,
        urgency: Urgency::Normal,
        incarnation: 1,
        epoch: 0,
        packet_number: 1,
    };
    let cases = [
        (0, 0x1a, DecodeError::Magic),
        (2, 2, DecodeError::Version),
        (6, 0, DecodeError::Member),
        (6, 17, DecodeError::Member),
        (7, 200, DecodeError::Member),
    ];
    for (at, value, error) in cases {
        let mut bytes = header.encode();
        bytes[at] = value;
        assert_eq!(Header::decode(&bytes), Err(error), "byte {at}");
    }
    let mut bytes = header.encode();
    bytes[..2].copy_from_slice(&[0x1a, 0x90]);
    assert_eq!(Header::decode(&bytes), Err(DecodeError::CheckPoint));
}
