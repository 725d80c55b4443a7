//! Expected flows: what a record tells of the flows that a helper expects (PROTOCOL.md 4.6).

use crate::record::{
    Claim, EXPECTED_MAX, Endpoint, Expectation, Extra, Family, FlowKey, FlowState, Helper, Nat,
    Record, Term, Translator, ZoneDirection,
};
use crate::wire::cursor::Reader;
use crate::wire::{Skipped, flow};
use alloc::boxed::Box;
use alloc::vec::Vec;
use std::vec;

pub(super) fn expectation(nat: Option<(u8, Endpoint)>) -> Expectation {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[192, 0, 2, 1]);
    Expectation {
        proto: 6,
        src: address,
        dst: address,
        l4: [0, 2021],
        src_mask: address,
        src_port_mask: 0xffff,
        timeout_secs: 300,
        flags: 1,
        class: 2,
        nat,
        translator: nat.map(|(direction, _)| match direction {
            0 => Translator::FollowMaster,
            _ => Translator::Sip,
        }),
    }
}

/// A connection whose helper expects others.
fn ftp_key(family: Family) -> FlowKey {
    FlowKey {
        src: [0; 16],
        dst: [0; 16],
        l4: [1, 21],
        zone: 0,
        proto: 6,
        family,
        zone_direction: ZoneDirection::Both,
    }
}

#[test]
fn what_a_helper_expects_travels_with_the_flow_that_announced_it() {
    for family in [Family::V4, Family::V6] {
        let key = ftp_key(family);
        let endpoint = Endpoint {
            address: [0; 16],
            port: 7,
        };
        for nat in [None, Some((0, endpoint)), Some((1, endpoint))] {
            let extra = Extra {
                expected: vec![expectation(None), expectation(nat)],
                ..Extra::default()
            };
            let state = FlowState {
                extra: Some(Box::new(extra)),
                ..FlowState::default()
            };
            let mut bytes = Vec::new();
            flow::put_upsert(&mut bytes, &key, &state, Term::default(), Claim::Carried);
            let taken =
                flow::take_record(&mut Reader::new(&bytes), &mut Skipped::default()).unwrap();
            let Some(Record::Upsert { state: taken, .. }) = taken else {
                panic!("{taken:?}");
            };
            assert_eq!(taken, state);
            for len in 1..bytes.len() {
                let mut short = bytes[..len].to_vec();
                short[0] = len as u8 - 1;
                let _ = flow::take_record(&mut Reader::new(&short), &mut Skipped::default());
            }
        }
    }
}

/// PROTOCOL.md 4.6
#[test]
fn a_record_has_room_for_as_many_expected_flows_as_the_protocol_says() {
    let endpoint = Endpoint {
        address: [9; 16],
        port: 7,
    };
    let cases = [
        (Family::V4, None, 7),
        (Family::V4, Some(endpoint), 6),
        (Family::V6, None, 2),
        (Family::V6, Some(endpoint), 2),
    ];
    for (family, translated_to, room) in cases {
        let key = ftp_key(family);
        let expected = expectation(translated_to.map(|endpoint| (0, endpoint)));
        let state = FlowState {
            timeout_secs: 432_000,
            nat: translated_to.map(|src| {
                Box::new(Nat {
                    src: Some(src),
                    dst: None,
                })
            }),
            extra: Some(Box::new(Extra {
                helper: Helper::new(b"ftp"),
                expected: vec![expected; EXPECTED_MAX],
                ..Extra::default()
            })),
            ..FlowState::default()
        };
        let mut bytes = Vec::new();
        flow::put_upsert(&mut bytes, &key, &state, Term::default(), Claim::Carried);
        let Ok(Some(Record::Upsert { state: taken, .. })) =
            flow::take_record(&mut Reader::new(&bytes), &mut Skipped::default())
        else {
            panic!("{family:?}: an upsert was put");
        };
        let taken = taken.extra.expect("it has a helper").expected.len();
        assert_eq!(taken, room, "{family:?} {translated_to:?}");
    }
}
