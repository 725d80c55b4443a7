use super::{Carrier, Message, Request, Row, Start, put_row, take_row};
use crate::record::{
    Claim, Family, FlowKey, FlowState, MemberId, MemberSet, Record, Term, ZoneDirection,
};
use crate::snapshot::Parts;
use crate::table::{Entry, Origin};
use crate::wire::cursor::Reader;
use crate::wire::{DecodeError, SEQ_MAX, Skipped};
use alloc::vec::Vec;
use proptest::prelude::*;
use std::vec;

fn member() -> impl Strategy<Value = MemberId> {
    (1u8..=16).prop_map(|id| MemberId::new(id).unwrap())
}

prop_compose! {
    fn carrier()(member in member(), incarnation in any::<u64>(), from in 0..=SEQ_MAX) -> Carrier {
        Carrier { member, incarnation, from }
    }
}

prop_compose! {
    fn request()(
        [id, asker, server] in any::<[u64; 3]>(),
        of in proptest::collection::vec(member(), 0..16),
        parts in any::<u32>(),
    ) -> Request {
        let of = of.into_iter().collect::<MemberSet>();
        Request { id, asker, server, of, parts: Parts::of_bits(parts) }
    }
}

fn message() -> impl Strategy<Value = Message<'static>> {
    let start = (
        any::<u64>(),
        any::<u64>(),
        proptest::collection::vec(carrier(), 0..=MemberId::MAX),
    );
    prop_oneof![
        request().prop_map(Message::Request),
        start.prop_map(|(id, flows, carriers)| Message::Start(Start {
            id,
            flows,
            carriers
        })),
        any::<u64>().prop_map(|id| Message::Rows(id, b"rows")),
        any::<(u64, u8)>().prop_map(|(id, part)| Message::Part(id, part)),
        any::<u64>().prop_map(Message::End),
        any::<(u64, u64)>().prop_map(|(id, frames)| Message::More(id, frames)),
        any::<u64>().prop_map(Message::Refused),
    ]
}

fn flow(last: u8) -> FlowKey {
    let mut src = [0; 16];
    src[..4].copy_from_slice(&[10, 0, 0, last]);
    FlowKey {
        src,
        dst: src,
        l4: [1024, 443],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(message in message()) {
        let mut body = Vec::new();
        let kind = message.encode(&mut body);
        prop_assert_eq!(Message::decode(kind, &body), Ok(message));
    }

    #[test]
    fn no_bytes_panic_whatever_their_kind(kind in 16u8..32, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(kind, &body);
        let mut reader = Reader::new(&body);
        while !reader.is_empty() && take_row(&mut reader, &mut Skipped::default()).is_ok() {}
    }

    #[test]
    fn rows_come_out_as_they_went_in(rows in proptest::collection::vec((member(), 0..=SEQ_MAX, any::<u8>(), any::<u16>()), 0..20)) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (member, seq, last, term) in rows {
            let state = FlowState { timeout_secs: 600, ..FlowState::default() };
            let entry = Entry { seq, state, term: Term(term), ..Entry::new(flow(last), Origin::Own) };
            put_row(&mut bytes, member, Claim::Found, &entry);
            let record = Record::Upsert { key: entry.key, state: entry.state, term: entry.term, claim: Claim::Found };
            expected.push(Row { member, seq, record });
        }
        let mut reader = Reader::new(&bytes);
        for row in expected {
            prop_assert_eq!(take_row(&mut reader, &mut Skipped::default()), Ok(Some(row)));
        }
        prop_assert!(reader.is_empty());
    }
}

#[test]
fn a_frame_that_ends_early_is_an_error_and_one_of_a_later_version_is_none() {
    let request = Request {
        id: 1,
        asker: 2,
        server: 3,
        of: MemberSet::default(),
        parts: Parts::ALL,
    };
    let mut body = Vec::new();
    let kind = Message::Request(request).encode(&mut body);
    for length in 0..body.len() {
        assert_eq!(
            Message::decode(kind, &body[..length]),
            Err(DecodeError::Truncated),
            "{length}"
        );
    }
    assert_eq!(Message::decode(31, &body), Err(DecodeError::Opcode));
}

#[test]
fn more_carriers_than_there_can_be_members_are_refused() {
    let carrier = Carrier {
        member: MemberId::new(1).unwrap(),
        incarnation: 1,
        from: 1,
    };
    let carriers = vec![carrier; MemberId::MAX + 1];
    let mut body = Vec::new();
    let kind = Message::Start(Start {
        id: 1,
        flows: 0,
        carriers,
    })
    .encode(&mut body);
    assert_eq!(Message::decode(kind, &body), Err(DecodeError::Record));
}
