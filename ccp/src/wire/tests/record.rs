//! Records: what is told of flows (PROTOCOL.md 4).

use super::expected::expectation;
use super::{member, put, seq, take_all};
use crate::record::{
    BulkUpdateEnd, Claim, Endpoint, Extra, Family, FlowKey, FlowState, Helper, Nat, Record, SeqAdj,
    Status, SynProxy, TcpOptions, Term, ZoneDirection,
};
use crate::wire::cursor::Reader;
use crate::wire::{DecodeError, Skipped, flow};
use alloc::boxed::Box;
use alloc::vec::Vec;
use proptest::option;
use proptest::prelude::*;
use std::vec;

fn address(family: Family) -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>().prop_map(move |mut address| {
        if family == Family::V4 {
            address[4..].fill(0);
        }
        address
    })
}

prop_compose! {
    fn key()(v6 in any::<bool>(), zone in prop_oneof![Just(0u16), any::<u16>()])(
        src in address(if v6 { Family::V6 } else { Family::V4 }),
        dst in address(if v6 { Family::V6 } else { Family::V4 }),
        l4 in any::<[u16; 2]>(),
        proto in prop_oneof![Just(6u8), Just(17), Just(1), Just(58), Just(132), Just(33), Just(47), Just(136), Just(4)],
        direction in 0u8..3,
        v6 in Just(v6),
        zone in Just(zone),
    ) -> FlowKey {
        FlowKey {
            src,
            dst,
            l4: if proto == 4 { [0; 2] } else { l4 },
            zone,
            proto,
            family: if v6 { Family::V6 } else { Family::V4 },
            zone_direction: match direction {
                1 if zone != 0 => ZoneDirection::Original,
                2 if zone != 0 => ZoneDirection::Reply,
                _ => ZoneDirection::Both,
            },
        }
    }
}

fn endpoint(family: Family) -> impl Strategy<Value = Endpoint> {
    (address(family), any::<u16>()).prop_map(|(address, port)| Endpoint { address, port })
}

fn seq_adj() -> impl Strategy<Value = Option<SeqAdj>> {
    option::of(
        any::<[u32; 3]>().prop_map(|[correction_pos, offset_before, offset_after]| SeqAdj {
            correction_pos,
            offset_before,
            offset_after,
        }),
    )
}

fn extra(key: FlowKey) -> impl Strategy<Value = Extra> {
    let master = FlowKey {
        l4: [9, 10],
        proto: 6,
        ..key
    };
    (
        option::of(any::<[u8; 16]>()),
        option::of(prop::collection::vec(any::<u8>(), 1..16)),
        any::<bool>(),
        [seq_adj(), seq_adj()],
        option::of(any::<[u32; 3]>()),
        option::of(any::<[u32; 2]>()),
        option::of((any::<u8>(), any::<u64>())),
    )
        .prop_map(
            move |(labels, helper, has_master, seq_adj, synproxy, sctp_vtag, dccp)| Extra {
                labels,
                helper: helper.and_then(|name| Helper::new(&name)),
                master: has_master.then_some(master),
                seq_adj,
                synproxy: synproxy.map(|[isn, its, tsoff]| SynProxy { isn, its, tsoff }),
                sctp_vtag,
                dccp,
                expected: Vec::new(),
            },
        )
}

fn state(key: FlowKey) -> impl Strategy<Value = FlowState> {
    let nat = (
        option::of(endpoint(key.family)),
        option::of(endpoint(key.family)),
    );
    (
        any::<u32>(),
        prop_oneof![Just(0u32), any::<u32>()],
        any::<[bool; 2]>(),
        0u8..16,
        any::<[u8; 2]>(),
        nat,
        extra(key),
    )
        .prop_map(
            move |(timeout_secs, mark, [seen_reply, assured], proto_state, tcp, nat, extra)| {
                let nat = Nat {
                    src: nat.0,
                    dst: nat.1,
                };
                FlowState {
                    timeout_secs,
                    mark,
                    status: Status {
                        seen_reply,
                        assured,
                    },
                    proto_state,
                    tcp: if key.proto == 6 {
                        TcpOptions {
                            wscale: tcp[0],
                            flags: tcp[1],
                        }
                    } else {
                        TcpOptions::default()
                    },
                    nat: (nat != Nat::default()).then(|| Box::new(nat)),
                    extra: (extra != Extra::default()).then(|| Box::new(extra)),
                }
            },
        )
}

fn record() -> impl Strategy<Value = Record> {
    let claim = prop_oneof![Just(Claim::Carried), Just(Claim::Found)];
    let flow = key().prop_flat_map(|key| (Just(key), state(key)));
    prop_oneof![
        (flow, any::<u16>(), claim.clone()).prop_map(|((key, state), term, claim)| {
            Record::Upsert {
                key,
                state,
                term: Term(term),
                claim,
            }
        }),
        (key(), any::<u16>(), claim).prop_map(|(key, term, claim)| Record::Delete {
            key,
            term: Term(term),
            claim
        }),
        (member(), seq(), seq()).prop_map(|(member, base, from)| Record::Told(BulkUpdateEnd {
            member,
            base,
            from
        })),
    ]
}

proptest! {
    /// PROTOCOL.md 4
    #[test]
    fn a_record_reads_back_as_it_was_and_not_at_all_when_cut(record in record()) {
        let mut bytes = Vec::new();
        put(&mut bytes, &record);
        prop_assert!(bytes.len() <= flow::RECORD_BYTES_MAX);
        if matches!(record, Record::Told(_)) {
            prop_assert!(bytes.len() <= flow::TOLD_BYTES_MAX);
        }
        prop_assert_eq!(take_all(&bytes), Ok(vec![record]));
        for cut in 1..bytes.len() {
            prop_assert_eq!(take_all(&bytes[..cut]), Err(DecodeError::Truncated));
        }
    }

    /// A length byte that lies about its record may make another record of it, never a panic.
    #[test]
    fn a_damaged_record_is_an_error_or_another_record(record in record(), at in any::<usize>(), value in any::<u8>()) {
        let mut bytes = Vec::new();
        put(&mut bytes, &record);
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = take_all(&bytes);
    }

    /// PROTOCOL.md 4.2, 4.3
    #[test]
    fn unknown_attributes_and_kinds_are_skipped(record in record(), tag in 128u8.., value in prop::collection::vec(any::<u8>(), 0..10)) {
        let mut bytes = Vec::new();
        put(&mut bytes, &record);
        bytes[0] += 2 + value.len() as u8;
        bytes.extend_from_slice(&[tag, value.len() as u8]);
        bytes.extend_from_slice(&value);
        let mut unknown = vec![value.len() as u8 + 1, 0xc0];
        unknown.extend_from_slice(&value);
        bytes.extend_from_slice(&unknown);
        let (mut reader, mut skipped) = (Reader::new(&bytes), Skipped::default());
        prop_assert_eq!(flow::take_record(&mut reader, &mut skipped), Ok(Some(record.clone())));
        prop_assert_eq!(flow::take_record(&mut reader, &mut skipped), Ok(None));
        let attributes = u64::from(!matches!(record, Record::Told(_)));
        prop_assert_eq!(skipped, Skipped { attributes, records: 1 });
    }
}

/// PROTOCOL.md 4.3
#[test]
fn a_tcp_flow_over_ipv4_takes_at_most_21_bytes_and_its_end_14() {
    let key = FlowKey {
        src: [1; 16],
        dst: [2; 16],
        l4: [40_000, 443],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    };
    let state = FlowState {
        timeout_secs: 432_000,
        status: Status {
            seen_reply: true,
            assured: true,
        },
        proto_state: 3,
        tcp: TcpOptions {
            wscale: 0x77,
            flags: 0x0b,
        },
        ..FlowState::default()
    };
    let (mut upsert, mut delete) = (Vec::new(), Vec::new());
    flow::put_upsert(&mut upsert, &key, &state, Term(0), Claim::Carried);
    flow::put_delete(&mut delete, &key, Term(0), Claim::Carried);
    assert!(upsert.len() <= 21, "{}", upsert.len());
    assert!(delete.len() <= 14, "{}", delete.len());
}

#[test]
fn the_longest_record_there_can_be_fits() {
    let key = FlowKey {
        src: [1; 16],
        dst: [2; 16],
        l4: [1, 2],
        zone: 7,
        proto: 6,
        family: Family::V6,
        zone_direction: ZoneDirection::Original,
    };
    let endpoint = Some(Endpoint {
        address: [3; 16],
        port: 3,
    });
    let seq_adj = Some(SeqAdj {
        correction_pos: 1,
        offset_before: 2,
        offset_after: 3,
    });
    let extra = Extra {
        labels: Some([1; 16]),
        helper: Helper::new(b"fifteen--letter"),
        master: Some(key),
        seq_adj: [seq_adj, seq_adj],
        synproxy: Some(SynProxy {
            isn: 1,
            its: 2,
            tsoff: 3,
        }),
        sctp_vtag: Some([1, 2]),
        dccp: Some((1, 2)),
        // Left out, as there is no room.
        expected: vec![expectation(None)],
    };
    let state = FlowState {
        timeout_secs: u32::MAX,
        mark: 1,
        nat: Some(Box::new(Nat {
            src: endpoint,
            dst: endpoint,
        })),
        extra: Some(Box::new(extra)),
        ..FlowState::default()
    };
    let mut bytes = Vec::new();
    flow::put_upsert(&mut bytes, &key, &state, Term(u16::MAX), Claim::Found);
    assert_eq!(bytes.len(), 240, "PROTOCOL.md 4.3 says so");
}
