use super::{DCCP, SCTP, Shared, TCP, flow, key, patch};
use crate::ruleset::CopyBit;
use ccp::record::{
    Endpoint, Extra, Family, FlowKey, FlowState, Helper, Nat, Packets, SeqAdj, Status, SynProxy,
    TcpOptions, ZoneDirection,
};
use conntrack::consts::{IPPROTO_GRE, IPPROTO_ICMP, IPPROTO_ICMPV6};
use conntrack::{Flow, L4, Tuple};

const ALL: Shared = Shared {
    mark_mask: u32::MAX,
    copy_bit: None,
    label_mask: [u8::MAX; 16],
};
const UDP: u8 = 17;
const OSPF: u8 = 89;

fn keys() -> Vec<FlowKey> {
    let v4 = |last| [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let v6 = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let mut keys = Vec::new();
    for (family, src, dst) in [(Family::V4, v4(1), v4(2)), (Family::V6, v6(1), v6(2))] {
        let echo = if family == Family::V4 {
            (IPPROTO_ICMP, 0x0800)
        } else {
            (IPPROTO_ICMPV6, 0x8000)
        };
        for (proto, l4) in [
            (TCP, [1000, 80]),
            (UDP, [1000, 53]),
            (SCTP, [1000, 36412]),
            (DCCP, [1000, 5004]),
            (IPPROTO_GRE, [7, 9]),
            (136, [1000, 53]),
            (echo.0, [77, echo.1]),
            (OSPF, [0, 0]),
        ] {
            for (zone, zone_direction) in [
                (0, ZoneDirection::Both),
                (5, ZoneDirection::Both),
                (5, ZoneDirection::Original),
                (5, ZoneDirection::Reply),
            ] {
                keys.push(FlowKey {
                    src,
                    dst,
                    l4,
                    zone,
                    proto,
                    family,
                    zone_direction,
                });
            }
        }
    }
    keys
}

#[test]
fn of_a_mark_that_a_peer_tells_only_bits_that_are_replicated_here_are_written() {
    let copy_bit = CopyBit::new(31);
    let state = FlowState {
        mark: 0x8765_4321,
        ..FlowState::default()
    };
    for (copy_bit, mark) in [(None, 0x4321), (copy_bit, 0x8000_4321)] {
        let shared = Shared {
            mark_mask: 0xffff,
            copy_bit,
            ..ALL
        };
        assert_eq!(flow(&keys()[0], &state, shared).mark, Some(mark));
    }
}

fn state(key: &FlowKey, translated: bool) -> FlowState {
    let has_port = key.proto != OSPF;
    let is_icmp = matches!(key.proto, IPPROTO_ICMP | IPPROTO_ICMPV6);
    let endpoint = |port: u16| {
        let mut address = key.src;
        address[3] = 200;
        Endpoint {
            address,
            port: if has_port { port } else { 0 },
        }
    };
    let nat = Nat {
        src: Some(endpoint(40_000)),
        dst: Some(endpoint(if is_icmp { 0 } else { 8080 })),
    };
    let extra = Extra {
        labels: Some([3; 16]),
        helper: Helper::new(b"ftp"),
        master: Some(FlowKey {
            zone: 0,
            zone_direction: ZoneDirection::Both,
            ..*key
        }),
        seq_adj: [
            Some(SeqAdj {
                correction_pos: 1,
                offset_before: 2,
                offset_after: 3,
            }),
            None,
        ],
        synproxy: Some(SynProxy {
            isn: 4,
            its: 5,
            tsoff: 6,
        }),
        sctp_vtag: (key.proto == SCTP).then_some([7, 8]),
        dccp: (key.proto == DCCP).then_some((1, 9)),
        expected: Vec::new(),
    };
    FlowState {
        timeout_secs: 300,
        mark: 0xdead_beef,
        status: Status {
            seen_reply: true,
            assured: true,
        },
        proto_state: if matches!(key.proto, TCP | SCTP | DCCP) {
            3
        } else {
            0
        },
        tcp: if key.proto == TCP {
            TcpOptions {
                wscale: 0x7a,
                flags: 0x33,
            }
        } else {
            TcpOptions::default()
        },
        nat: translated.then(|| Box::new(nat)),
        extra: Some(Box::new(extra)),
    }
}

#[test]
fn what_goes_to_the_kernel_comes_back_the_same() {
    for key_before in keys() {
        for translated in [false, true] {
            let before = state(&key_before, translated);
            let told = flow(&key_before, &before, ALL);
            assert_eq!(key(&told), key_before);
            let mut after = FlowState::default();
            after.apply(&patch(&told, ALL));
            assert_eq!(after, before, "{key_before:?}");
        }
    }
}

#[test]
fn an_update_that_says_little_changes_little() {
    let key_before = keys()[0];
    let before = state(&key_before, true);
    let told = flow(&key_before, &before, ALL);
    let update = Flow {
        timeout: Some(10),
        ..Flow {
            reply: told.reply,
            ..Flow::new(told.orig)
        }
    };
    let mut after = before.clone();
    assert!(
        !after.apply(&patch(&update, ALL)),
        "a timeout alone is no change"
    );
    assert_eq!(
        after,
        FlowState {
            timeout_secs: 10,
            ..before
        }
    );
}

#[test]
fn mark_and_labels_are_told_as_far_as_they_are_shared() {
    let key_before = keys()[0];
    let told = flow(&key_before, &state(&key_before, false), ALL);
    let patch = patch(
        &told,
        Shared {
            mark_mask: 0xffff,
            copy_bit: None,
            label_mask: conntrack::labels(1 << 127 | 2),
        },
    );
    assert_eq!(patch.mark, Some(0xbeef));
    // All bytes of it are 3.
    assert_eq!(patch.extra.unwrap().labels, Some(conntrack::labels(2)));
}

#[test]
fn translation_is_read_off_the_difference_to_the_mirror() {
    let tuple = |src: [u8; 4], dst: [u8; 4], ports: [u16; 2]| Tuple {
        src: src.into(),
        dst: dst.into(),
        proto: TCP,
        l4: L4::Ports {
            src: ports[0],
            dst: ports[1],
        },
        zone: 0,
    };
    let orig = tuple([10, 0, 0, 1], [203, 0, 113, 1], [1000, 80]);
    let masqueraded = Flow {
        reply: tuple([203, 0, 113, 1], [198, 51, 100, 1], [80, 1000]),
        ..Flow::new(orig)
    };
    let nat = patch(&masqueraded, ALL).nat;
    assert_eq!(
        nat.src.map(|src| (src.address[..4].to_vec(), src.port)),
        Some((vec![198, 51, 100, 1], 1000))
    );
    assert_eq!(nat.dst, None);
    let redirected = Flow {
        reply: tuple([10, 9, 9, 9], [10, 0, 0, 1], [8080, 1000]),
        ..Flow::new(orig)
    };
    let nat = patch(&redirected, ALL).nat;
    assert_eq!(nat.src, None);
    assert_eq!(
        nat.dst.map(|dst| (dst.address[..4].to_vec(), dst.port)),
        Some((vec![10, 9, 9, 9], 8080))
    );
}

#[test]
fn a_copy_is_marked_and_the_first_packet_that_clears_the_mark_is_seen() {
    let shared = Shared {
        mark_mask: 0xff,
        copy_bit: CopyBit::new(31),
        label_mask: [0; 16],
    };
    let key = keys()[0];
    let copy = flow(
        &key,
        &FlowState {
            mark: 7,
            ..FlowState::default()
        },
        shared,
    );
    assert_eq!(copy.mark, Some(0x8000_0007));
    let told = |mark| patch(&Flow { mark, ..copy }, shared);
    assert_eq!(
        (told(copy.mark).mark, told(copy.mark).packets),
        (Some(7), Some(Packets::None))
    );
    assert_eq!(told(Some(7)).packets, Some(Packets::Passed));
    assert_eq!(
        told(None).packets,
        Some(Packets::Passed),
        "a mark of 0 is not told"
    );
    assert_eq!(patch(&copy, ALL).packets, None);
}
