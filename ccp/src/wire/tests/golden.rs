//! Every message of the protocol, byte by byte as PROTOCOL.md draws it: whatever the machine, this is what goes out, and
//! what is understood.

use super::{put, take_all};
use crate::build::{Build, Capabilities, Version};
use crate::election::{Fitness, Load, Mode, Standing, State};
use crate::modes::{self, Generation, ModeReport, Stage};
use crate::network::{NetworkId, NetworkSet};
use crate::range::RangeSet;
use crate::record::{
    BulkUpdateEnd, Claim, Endpoint, Expectation, Extra, Family, FlowKey, FlowState, Helper,
    MemberId, MemberSet, Nat, Record, SeqAdj, Status, SynProxy, TcpOptions, Term, Translator,
    ZoneDirection,
};
use crate::snapshot::Parts;
use crate::wire::Skipped;
use crate::wire::control::{ACK_RANGES_MAX, Ack, Ask, Heard, Hello, PathReport};
use crate::wire::cursor::Reader;
use crate::wire::header::{Destination, Header, Opcode, Urgency};
use crate::wire::snapshot::{Carrier, Message, Request, Row, Start, take_row};
use alloc::boxed::Box;
use alloc::vec::Vec;
use std::vec;

/// Bytes written in hexadecimal, with blanks where a reader wants them.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|it| it.to_digit(16)).collect();
    let pairs = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8);
    pairs.collect()
}

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut all = [0; 16];
    all[..4].copy_from_slice(&address);
    all
}

fn v4_key(proto: u8) -> FlowKey {
    FlowKey {
        src: v4([10, 0, 0, 1]),
        dst: v4([203, 0, 113, 9]),
        l4: [0x1234, 443],
        zone: 0,
        proto,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

fn established() -> FlowState {
    FlowState {
        timeout_secs: 432_000,
        status: Status {
            seen_reply: true,
            assured: true,
        },
        proto_state: 3,
        tcp: TcpOptions {
            wscale: 0x7a,
            flags: 0x0b,
        },
        ..FlowState::default()
    }
}

#[track_caller]
fn is_record(hex: &str, record: &Record) {
    let mut out = Vec::new();
    put(&mut out, record);
    assert_eq!(out, bytes(hex));
    assert_eq!(take_all(&out), Ok(vec![record.clone()]));
}

#[test]
fn header() {
    let header = Header {
        cluster: 0x0102,
        opcode: Opcode::Delta,
        source: id(3),
        destination: Destination::All,
        interface: 1,
        urgency: Urgency::Urgent,
        incarnation: 0x1112_1314_1516_1718,
        epoch: 6,
        packet_number: 0x2122_2324_2526_2728,
    };
    let expected = bytes("c75c 01 02 0102 03 ff 01 01 0000 1112131415161718 06 2122232425262728");
    assert_eq!(header.encode()[..], expected);
    assert_eq!(Header::decode(&expected), Ok((header, &[][..])));
    let mut other = expected;
    other[3] = 0x7e;
    let opcode = Header::decode(&other).map(|(header, _)| header.opcode);
    assert_eq!(opcode, Ok(Opcode::Unknown(0x7e)));
}

#[test]
fn hello() {
    let hello = Hello {
        table: 0x0102_0304_0506_0708,
        last_seq: 0x1112_1314_1516_1718,
        build: Some(Build {
            version: Version {
                major: 1,
                minor: 2,
                patch: 3,
            },
            capabilities: Capabilities::from_bits(0x8000_0000_0000_0003),
        }),
        heard: vec![Heard {
            member: id(2),
            incarnation: 0x2122_2324_2526_2728,
            base: 0x3132_3334_3536_3738,
            packet_number: 0x4142_4344_4546_4748,
        }],
        paths: vec![PathReport {
            member: id(2),
            heard_over: NetworkSet::from_bits(0b11),
            hears: MemberSet::from_bits(0x0102),
            echo: 0x5152_5354,
            delay_micros: 0x6162_6364,
            sent: 0x7172_7374,
            loss_permille: Some(0x0123),
        }],
        modes: vec![ModeReport {
            network: NetworkId::new(1).unwrap(),
            mode: modes::Mode::Broadcast,
            stage: Stage::Tried,
            generation: Generation {
                number: 0x0102_0304,
                by: 4,
            },
            carried: MemberSet::from_bits(0x0506),
        }],
        standing: Some(Standing {
            state: State::Ready,
            mode: Mode::LoadSharing,
            load: Load::Starved,
            priority: 100,
            fitness: Fitness(254),
            problems: 0x0102,
            seconds: 0x0304_0506,
        }),
        joined: true,
        asks: vec![Ask {
            member: id(2),
            incarnation: 0x2122_2324_2526_2728,
            base: 0x0102_0304_0506_0708,
            from: 9,
        }],
    };
    let expected = bytes(
        "0102030405060708 1112131415161718
         02 0b 01 02 03 8000000000000003
         01 19 02 2122232425262728 3132333435363738 4142434445464748
         03 12 02 03 0102 51525354 61626364 71727374 0123
         0a 0a 01 02 01 04 01020304 0506
         05 0a 03 03 64 fe 0102 03040506
         04 1a 01 02 2122232425262728 0102030405060708 0000000000000009",
    );
    let mut out = Vec::new();
    hello.encode(&mut out);
    assert_eq!(out, expected);
    let mut skipped = Skipped::default();
    assert_eq!(Hello::decode(&expected, &mut skipped), Ok(hello));
    assert_eq!(skipped, Skipped::default());
}

#[test]
fn acknowledgement() {
    let mut beyond = RangeSet::new(ACK_RANGES_MAX);
    beyond.insert_range(303, 305);
    beyond.insert_range(600, 600);
    let ack = Ack {
        base: 1,
        frontier: 300,
        delay_micros: 5000,
        refused: 2,
        beyond,
    };
    // 1, 300, 5000, 2; 2 missing, 3 there; 294 missing, 1 there.
    let expected = bytes("01 ac02 8827 02 02 02 a602 00");
    let mut out = Vec::new();
    ack.encode(&mut out);
    assert_eq!(out, expected);
    assert_eq!(Ack::decode(&expected), Ok(ack));
}

#[test]
fn upsert_of_tcp_with_a_translation_a_mark_and_a_zone() {
    let nat = Nat {
        src: Some(Endpoint {
            address: v4([192, 0, 2, 1]),
            port: 0x4321,
        }),
        dst: None,
    };
    let state = FlowState {
        mark: 0x0102_0304,
        nat: Some(Box::new(nat)),
        ..established()
    };
    let key = FlowKey {
        zone: 7,
        zone_direction: ZoneDirection::Reply,
        ..v4_key(6)
    };
    let record = Record::Upsert {
        key,
        state,
        term: Term(0x0102),
        claim: Claim::Found,
    };
    is_record(
        "2c 00 0a000001 cb007109 1234 01bb 33 80af1a 7a 0b
         01 02 0102 02 00 06 03 0007 02 05 04 01020304 03 06 c0000201 4321",
        &record,
    );
}

#[test]
fn upsert_of_ipv6_with_everything_else() {
    let key = FlowKey {
        src: [0x11; 16],
        dst: [0x22; 16],
        family: Family::V6,
        ..v4_key(132)
    };
    let seq_adj = |first| {
        Some(SeqAdj {
            correction_pos: first,
            offset_before: 2,
            offset_after: 3,
        })
    };
    let extra = Extra {
        labels: Some([0x33; 16]),
        helper: Helper::new(b"sip"),
        master: Some(FlowKey {
            l4: [5060, 5060],
            proto: 17,
            ..key
        }),
        seq_adj: [seq_adj(0x0102_0304), seq_adj(0x0506_0708)],
        synproxy: Some(SynProxy {
            isn: 1,
            its: 2,
            tsoff: 3,
        }),
        sctp_vtag: Some([0x0102_0304, 0x0506_0708]),
        dccp: Some((1, 0x0102_0304_0506_0708)),
        expected: Vec::new(),
    };
    let state = FlowState {
        timeout_secs: 300,
        proto_state: 4,
        extra: Some(Box::new(extra)),
        ..FlowState::default()
    };
    let record = Record::Upsert {
        key,
        state,
        term: Term(0),
        claim: Claim::Carried,
    };
    is_record(
        "a5 24 11111111111111111111111111111111 22222222222222222222222222222222 1234 01bb 04 ac02
         07 10 33333333333333333333333333333333
         08 03 736970
         09 25 21 11111111111111111111111111111111 22222222222222222222222222222222 13c4 13c4
         0a 0c 01020304 00000002 00000003
         0b 0c 05060708 00000002 00000003
         0c 0c 00000001 00000002 00000003
         0d 08 01020304 05060708
         0e 09 01 0102030405060708",
        &record,
    );
}

#[test]
fn upsert_with_what_its_helper_expects() {
    let expected = Expectation {
        proto: 6,
        src: v4([203, 0, 113, 9]),
        dst: v4([10, 0, 0, 1]),
        l4: [0, 2021],
        src_mask: v4([255, 255, 255, 255]),
        src_port_mask: 0xffff,
        timeout_secs: 300,
        flags: 1,
        class: 2,
        nat: Some((
            1,
            Endpoint {
                address: v4([10, 0, 0, 7]),
                port: 5000,
            },
        )),
        translator: Some(Translator::FollowMaster),
    };
    let extra = Extra {
        expected: vec![expected],
        ..Extra::default()
    };
    let record = Record::Upsert {
        key: v4_key(6),
        state: FlowState {
            extra: Some(Box::new(extra)),
            ..established()
        },
        term: Term(0),
        claim: Claim::Carried,
    };
    is_record(
        "33 00 0a000001 cb007109 1234 01bb 33 80af1a 7a 0b
         0f 1e 07 01 02 06 cb007109 0a000001 ffffffff 0000 07e5 ffff 012c 0a000007 1388",
        &record,
    );
}

#[test]
fn other_records() {
    let protos = [
        (6, 0u8),
        (17, 1),
        (1, 2),
        (58, 3),
        (132, 4),
        (33, 5),
        (47, 6),
        (136, 7),
    ];
    for (proto, code) in protos {
        let delete = Record::Delete {
            key: v4_key(proto),
            term: Term(2),
            claim: Claim::Carried,
        };
        let kind = 0x40 | code;
        let hex = std::format!("11 {kind:02x} 0a000001 cb007109 1234 01bb 01 02 0002");
        is_record(&hex, &delete);
    }
    let other = Record::Delete {
        key: FlowKey {
            l4: [0; 2],
            ..v4_key(50)
        },
        term: Term(0),
        claim: Claim::Carried,
    };
    is_record("0a 5f 32 0a000001 cb007109", &other);
    let told = Record::Told(BulkUpdateEnd {
        member: id(16),
        base: 300,
        from: 0,
    });
    is_record("05 80 10 ac02 00", &told);
}

#[test]
fn frames_of_a_full_sync() {
    let request = Request {
        id: 1,
        asker: 0x0102_0304_0506_0708,
        server: 0x1112_1314_1516_1718,
        of: MemberSet::from_bits(0xfffe),
        parts: Parts::of_bits(0x0007_fffe),
    };
    let start = Start {
        id: 1,
        flows: 50_000,
        carriers: vec![Carrier {
            member: id(2),
            incarnation: 0x0102_0304_0506_0708,
            from: 9,
        }],
    };
    let rows = bytes("02 ac02 11 41 0a000001 cb007109 1234 01bb 01 02 0002");
    let frames = [
        (
            Message::Request(request),
            16,
            "0000000000000001 0102030405060708 1112131415161718 fffe 0007fffe",
        ),
        (
            Message::Start(start),
            17,
            "0000000000000001 000000000000c350 02 0102030405060708 0000000000000009",
        ),
        (
            Message::Rows(1, &rows),
            18,
            "0000000000000001 02 ac02 11 41 0a000001 cb007109 1234 01bb 01 02 0002",
        ),
        (Message::Part(1, 18), 19, "0000000000000001 12"),
        (Message::End(1), 20, "0000000000000001"),
        (
            Message::More(1, 64),
            21,
            "0000000000000001 0000000000000040",
        ),
        (Message::Refused(1), 22, "0000000000000001"),
    ];
    for (message, kind, hex) in frames {
        let (mut out, body) = (Vec::new(), bytes(hex));
        assert_eq!((message.encode(&mut out), &out), (kind, &body));
        assert_eq!(Message::decode(kind, &body), Ok(message));
    }
    let record = Record::Delete {
        key: v4_key(17),
        term: Term(2),
        claim: Claim::Carried,
    };
    let row = take_row(&mut Reader::new(&rows), &mut Skipped::default());
    let expected = Row {
        member: id(2),
        seq: 300,
        record,
    };
    assert_eq!(row, Ok(Some(expected)));
}
