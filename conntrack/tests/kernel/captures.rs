//! Messages of real kernels, decoded: against what the `conntrack` tool printed for them when they were recorded
//! (`record.rs`), or the event that came of them (`attached.rs`), against `netlink-bindings`, and damaged.

use std::sync::LazyLock;

use conntrack::consts::*;
use conntrack::decode::decode_event;
use conntrack::queue::decode_item;
use conntrack::{CtInfo, DccpInfo, EventKind, Flow, Held, ProtoInfo, QueueItem};
use netlink_bindings::conntrack::PushConntrackAttrs;
use proptest::prelude::*;

use crate::support::*;
use crate::{oracle, tool};

/// What the tool printed, and the message.
fn captures() -> Vec<(&'static str, Vec<u8>)> {
    static CAPTURES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
        let lines: Vec<_> = include_str!("../data/events.txt").lines().collect();
        lines
            .chunks_exact(2)
            .map(|pair| (pair[0], bytes(pair[1])))
            .collect()
    });
    CAPTURES.clone()
}

/// Messages of held packets that open flows, of a Debian kernel 6.1, and of the event that came of each
/// (`attached.rs`).
fn held_captures() -> Vec<[Vec<u8>; 2]> {
    let lines: Vec<_> = include_str!("../data/held.txt").lines().collect();
    lines
        .chunks_exact(2)
        .map(|pair| [bytes(pair[0]), bytes(pair[1])])
        .collect()
}

fn held(message: &[u8]) -> Held<'_> {
    match decode_item(message) {
        Some(QueueItem::Held(held)) => held,
        other => panic!("{other:?}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex
        .chars()
        .map(|digit| digit.to_digit(16).expect("a digit"))
        .collect();
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("8 bits"))
        .collect()
}

#[test]
fn captures_mean_what_the_conntrack_tool_prints() {
    for (line, message) in captures() {
        let event = decode_event(&message).expect(line);
        assert_eq!(tool::event_line(&event), line);
    }
}

#[test]
fn captures_mean_what_netlink_bindings_reads() {
    for (line, message) in captures() {
        let event = decode_event(&message).expect(line);
        assert_eq!(event.flow, oracle::flow(&message), "{line}");
    }
}

#[test]
fn captures_are_of_every_protocol_family_and_kind() {
    let events: Vec<_> = captures()
        .iter()
        .map(|(_, message)| decode_event(message).expect("a capture"))
        .collect();
    let protos = [
        IPPROTO_TCP,
        IPPROTO_UDP,
        IPPROTO_UDPLITE,
        IPPROTO_SCTP,
        IPPROTO_DCCP,
        IPPROTO_GRE,
        IPPROTO_ESP,
    ];
    let v4 = protos
        .map(|proto| (proto, true))
        .into_iter()
        .chain([(IPPROTO_ICMP, true)]);
    let v6 = protos
        .map(|proto| (proto, false))
        .into_iter()
        .chain([(IPPROTO_ICMPV6, false)]);
    for (proto, ipv4) in v4.chain(v6) {
        for kind in [EventKind::New, EventKind::Destroy] {
            let found = events.iter().any(|event| {
                let orig = event.flow.orig;
                event.kind == kind && orig.proto == proto && orig.src.is_ipv4() == ipv4
            });
            assert!(found, "{kind:?} of protocol {proto}, IPv4: {ipv4}");
        }
    }
    for nat in [IPS_SRC_NAT, IPS_DST_NAT] {
        let updated = |event: &&conntrack::Event| {
            event.kind == EventKind::Update
                && event.flow.status.is_some_and(|status| status & nat != 0)
        };
        assert!(events.iter().filter(updated).count() >= 2, "NAT {nat:#x}");
    }
    let flows: Vec<_> = events.iter().map(|event| event.flow).collect();
    assert!(flows.iter().any(|flow| flow.zone != 0));
    assert!(flows.iter().any(|flow| flow.orig.zone != 0));
    assert!(flows.iter().any(|flow| flow.reply.zone != 0));
    assert!(flows.iter().any(|flow| flow.helper.is_some()));
    assert!(flows.iter().any(|flow| flow.master.is_some()));
    assert!(flows.iter().any(|flow| flow.labels.is_some()));
    assert!(flows.iter().any(|flow| flow.synproxy.is_some()));
    assert!(
        flows
            .iter()
            .any(|flow| flow.seq_adj[0].is_some() && flow.seq_adj[1].is_some())
    );
}

/// The kernel here has no tracker of DCCP: the message is built by the oracle, of a captured one.
#[test]
fn dccp_state_is_decoded() {
    let (_, mut message) = captures().swap_remove(0);
    let captured = decode_event(&message).expect("a capture").flow;
    PushConntrackAttrs::new(&mut message)
        .nested_protoinfo()
        .nested_protoinfo_dccp()
        .push_dccp_state(4)
        .push_dccp_role(1)
        .push_dccp_handshake_seq(0x0102_0304_0506)
        .end_nested()
        .end_nested();
    set_length(&mut message);
    let dccp = DccpInfo {
        state: 4,
        role: 1,
        handshake_seq: 0x0102_0304_0506,
    };
    let flow = decode_event(&message).expect("a message").flow;
    assert_eq!(
        flow,
        Flow {
            protoinfo: Some(ProtoInfo::Dccp(dccp)),
            ..captured
        }
    );
}

#[test]
fn a_message_cut_at_any_byte_is_an_error_or_says_less() {
    for (line, message) in captures() {
        let whole = decode_event(&message).expect(line);
        for len in 0..message.len() {
            let mut cut = message[..len].to_vec();
            assert!(
                decode_event(&cut).is_err(),
                "{line}: its header says more than {len} bytes"
            );
            if len >= 16 {
                set_length(&mut cut);
                if let Ok(event) = decode_event(&cut) {
                    assert_eq!(
                        (event.kind, event.flow.orig),
                        (whole.kind, whole.flow.orig),
                        "{line}"
                    );
                    assert_ne!(event.flow, whole.flow, "{line}: cut at {len}");
                }
            }
        }
    }
}

#[test]
fn unknown_attributes_are_skipped() {
    for (line, message) in captures() {
        let whole = decode_event(&message).expect(line);
        let mut longer = message.clone();
        longer.extend_from_slice(&6u16.to_ne_bytes());
        longer.extend_from_slice(&0x3ffeu16.to_ne_bytes());
        longer.extend_from_slice(&[1, 2, 0, 0]);
        set_length(&mut longer);
        assert_eq!(decode_event(&longer), Ok(whole));
    }
}

#[test]
fn a_held_packet_tells_the_flow_of_the_event_that_comes_of_it() {
    let (mut translated, mut answered) = (0, 0);
    for [message, event] in held_captures() {
        let held = held(&message);
        let told = held.flow.expect("this kernel attaches it");
        let made = decode_event(&event).expect("an event").flow;
        // The entry is not in the table yet, so it is not confirmed; and a mark of 0 is said in one of the two only.
        let as_made = Flow {
            status: told.status.map(|status| status | IPS_CONFIRMED),
            timeout: made.timeout,
            mark: told.mark.filter(|&mark| mark != 0),
            ..told
        };
        assert_eq!(as_made, made);
        assert_eq!(held.ct_info, Some(CtInfo::New));
        assert_eq!(held.hook, NF_INET_POST_ROUTING);
        translated += usize::from(told.reply != told.orig.mirror());
        answered += usize::from(held.packet().is_ok());
    }
    assert!(translated >= 6 && answered >= 18, "{translated} {answered}");
}

#[test]
fn an_attached_flow_is_what_netlink_bindings_reads() {
    const NFQA_CT: u16 = 11;
    for [message, _] in held_captures() {
        let mut attributes = &message[20..];
        while !attributes.is_empty() {
            let [len, kind] =
                [0, 2].map(|at| u16::from_ne_bytes([attributes[at], attributes[at + 1]]));
            let value = &attributes[4..usize::from(len)];
            if kind & 0x3fff == NFQA_CT {
                // As if it were a message of its own.
                let nest = [&message[..20], value].concat();
                assert_eq!(held(&message).flow, Some(oracle::flow(&nest)));
            }
            attributes = &attributes[usize::from(len).next_multiple_of(4).min(attributes.len())..];
        }
    }
}

#[test]
fn a_held_packet_cut_at_any_byte_is_an_error_or_says_less() {
    for [message, _] in held_captures() {
        let whole = held(&message);
        for len in 20..message.len() {
            let mut cut = message[..len].to_vec();
            set_length(&mut cut);
            match decode_item(&cut) {
                Some(QueueItem::Held(cut)) => assert_ne!(cut, whole, "cut at {len}"),
                Some(QueueItem::Malformed { packet, .. }) => {
                    assert!(packet.is_none_or(|packet| packet == whole.id));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Writes the length of the message into its header.
fn set_length(message: &mut [u8]) {
    let len = u32::try_from(message.len())
        .expect("it is short")
        .to_ne_bytes();
    message[..4].copy_from_slice(&len);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn damage_is_an_error_or_another_event(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let captures = captures();
        let mut message = which.get(&captures).1.clone();
        for (at, value) in damage {
            let at = at.index(message.len());
            message[at] = value;
        }
        let _ = decode_event(&message);
    }

    #[test]
    fn damage_to_a_held_packet_is_survived(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let captures = held_captures();
        let mut message = which.get(&captures)[0].clone();
        for (at, value) in damage {
            let at = at.index(message.len());
            message[at] = value;
        }
        if let Some(QueueItem::Held(held)) = decode_item(&message) {
            let _ = held.packet();
        }
    }

    #[test]
    fn noise_is_an_error_or_an_event(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_event(&noise);
    }
}
