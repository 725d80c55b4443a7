use super::control::{ACK_RANGES_MAX, Ack, Ask, Heard, Hello, PathReport};
use super::cursor::{Reader, put_varint};
use super::header::{Destination, HEADER_BYTES, Header, Opcode, Urgency};
use super::{DecodeError, SEQ_MAX, Skipped, flow};
use crate::build::{Build, Capabilities, Version};
use crate::election::{Fitness, Load, Mode, Standing, State};
use crate::network::NetworkSet;
use crate::range::RangeSet;
use crate::record::{
    Claim, EXPECTED_MAX, Endpoint, Expectation, Extra, Family, FlowKey, FlowState, Helper,
    MemberId, MemberSet, Nat, Record, SeqAdj, Status, SynProxy, TcpOptions, TellingEnd, Term,
    Translator, ZoneDirection,
};
use alloc::boxed::Box;
use alloc::vec::Vec;
use proptest::option;
use proptest::prelude::*;
use std::vec;

mod golden;

fn member() -> impl Strategy<Value = MemberId> {
    (1u8..=16).prop_map(|id| MemberId::new(id).unwrap())
}

fn seq() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..1000, 0..=SEQ_MAX]
}

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
        (member(), seq(), seq()).prop_map(|(member, base, from)| Record::Told(TellingEnd {
            member,
            base,
            from
        })),
    ]
}

fn put(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Upsert {
            key,
            state,
            term,
            claim,
        } => flow::put_upsert(out, key, state, *term, *claim),
        Record::Delete { key, term, claim } => flow::put_delete(out, key, *term, *claim),
        Record::Told(told) => flow::put_told(out, *told),
    }
}

fn take_all(bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
    let (mut reader, mut records) = (Reader::new(bytes), Vec::new());
    while !reader.is_empty() {
        records.extend(flow::take_record(&mut reader, &mut Skipped::default())?);
    }
    Ok(records)
}

prop_compose! {
    fn ack()(base in seq(), frontier in 0u64..1 << 40, delay_micros in any::<u32>(), refused in any::<u64>(),
        gaps in prop::collection::vec((0u64..1000, 0u64..1000), 0..ACK_RANGES_MAX)) -> Ack {
        let mut beyond = RangeSet::new(ACK_RANGES_MAX);
        let mut next = frontier + 2;
        for (gap, len) in gaps {
            beyond.insert_range(next + gap, next + gap + len);
            next += gap + len + 2;
        }
        Ack { base, frontier, delay_micros, refused, beyond }
    }
}

prop_compose! {
    fn path()(member in member(), over in any::<u8>(), hears in any::<u16>(), numbers in any::<[u32; 3]>(),
        loss_permille in option::of(0u16..1001)) -> PathReport {
        PathReport {
            member,
            heard_over: NetworkSet::from_bits(over),
            hears: MemberSet::from_bits(hears),
            echo: numbers[0],
            delay_micros: numbers[1],
            sent: numbers[2],
            loss_permille,
        }
    }
}

prop_compose! {
    fn hello()(table in any::<u64>(), last_seq in seq(), paths in prop::collection::vec(path(), 0..16),
        heard in prop::collection::vec((member(), any::<u64>(), seq(), any::<u64>()), 0..32),
        build in option::of((any::<[u8; 3]>(), any::<u64>())), standing in option::of(standing()), joined in any::<bool>(),
        asks in prop::collection::vec((member(), any::<u64>(), seq(), seq()), 0..16)) -> Hello {
        let heard = heard.into_iter().map(|(member, incarnation, base, packet_number)| {
            Heard { member, incarnation, base, packet_number }
        });
        let asks = asks.into_iter().map(|(member, incarnation, base, from)| Ask { member, incarnation, base, from });
        let build = build.map(|([major, minor, patch], bits)| Build {
            version: Version { major, minor, patch },
            capabilities: Capabilities::from_bits(bits),
        });
        Hello { table, last_seq, build, heard: heard.collect(), modes: Vec::new(), paths, standing, joined, asks: asks.collect() }
    }
}

prop_compose! {
    fn standing()(state in 0usize..6, flags in any::<[bool; 2]>(), priority in any::<u8>(), fitness in any::<u8>(),
        problems in any::<u16>(), seconds in any::<u32>()) -> Standing {
        Standing {
            state: State::ALL[state],
            mode: if flags[0] { Mode::LoadSharing } else { Mode::HighAvailability },
            load: if flags[1] { Load::Starved } else { Load::Normal },
            priority,
            fitness: Fitness(fitness),
            problems,
            seconds,
        }
    }
}

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

    /// PROTOCOL.md 5.3
    #[test]
    fn an_acknowledgement_reads_back_as_it_was(ack in ack()) {
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        prop_assert_eq!(Ack::decode(&bytes), Ok(ack));
    }

    /// PROTOCOL.md 3.1
    #[test]
    fn a_hello_reads_back_as_it_was_with_what_it_does_not_know_skipped(hello in hello(), tag in 128u8..) {
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        for cut in 0..16 {
            prop_assert_eq!(Hello::decode(&bytes[..cut], &mut Skipped::default()), Err(DecodeError::Truncated));
        }
        bytes.extend_from_slice(&[tag, 3, 1, 2, 3]);
        let mut skipped = Skipped::default();
        prop_assert_eq!(Hello::decode(&bytes, &mut skipped), Ok(hello));
        prop_assert_eq!(skipped, Skipped { attributes: 1, records: 0 });
    }

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

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(records) = take_all(&bytes) {
            prop_assert!(records.len() <= bytes.len());
        }
        let _ = (Hello::decode(&bytes, &mut Skipped::default()), Ack::decode(&bytes), Header::decode(&bytes));
    }

    #[test]
    fn a_varint_reads_back_as_it_was(number in any::<u64>()) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, number);
        prop_assert_eq!(Reader::new(&bytes).varint(), Ok(number));
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

/// PROTOCOL.md 4.1
#[test]
fn numbers_out_of_range_are_refused() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, SEQ_MAX + 1);
    put_varint(&mut bytes, 0);
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Number));
    let mut bytes = Vec::new();
    for number in [1, SEQ_MAX, 0, 0, SEQ_MAX, SEQ_MAX] {
        put_varint(&mut bytes, number);
    }
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Number));
    assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(DecodeError::Number));
    assert_eq!(Reader::new(&[0xff; 8]).seq(), Err(DecodeError::Number));
}

#[test]
fn more_than_thirty_two_of_anything_is_refused() {
    let mut bytes = vec![1, 1, 0, 0];
    bytes.extend((0..=ACK_RANGES_MAX).flat_map(|_| [1, 0]));
    assert_eq!(Ack::decode(&bytes), Err(DecodeError::Record));
    let mut bytes = vec![0; 16];
    bytes.extend((0..33).flat_map(|_| {
        let mut heard = vec![1, 25, 1];
        heard.extend([0; 24]);
        heard
    }));
    assert_eq!(
        Hello::decode(&bytes, &mut Skipped::default()),
        Err(DecodeError::Record)
    );
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

fn expectation(nat: Option<(u8, Endpoint)>) -> Expectation {
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
