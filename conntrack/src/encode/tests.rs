//! Requests as `netlink-bindings`, generated from the kernel's description of ctnetlink, reads them.

use netlink_bindings::conntrack::{ConntrackAttrs, IterableConntrackAttrs, IterableNatAttrs};
use proptest::prelude::*;

use super::*;
use crate::decode::decode_event;
use crate::flow::{DccpInfo, HelperName, SctpInfo, SynProxy};
use crate::nfnl::{Message, Messages};

/// Writes these bits of the mark.
fn of_mark(mark_mask: u32) -> InjectorOptions {
    InjectorOptions {
        mark_mask,
        ..InjectorOptions::default()
    }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut buffer = Vec::new();
    encode(&mut buffer);
    buffer
}

fn header(request: &[u8]) -> Message<'_> {
    Messages::new(request)
        .next()
        .expect("a message")
        .expect("it is whole")
}

fn attributes(request: &[u8]) -> IterableConntrackAttrs<'_> {
    ConntrackAttrs::new(&request[20..])
}

fn tcp(flags: [u8; 2]) -> ProtoInfo {
    ProtoInfo::Tcp(TcpInfo {
        state: TCP_CONNTRACK_ESTABLISHED,
        wscale: Some([7, 9]),
        flags: Some(flags),
    })
}

fn ports(proto: u8, src: (&str, u16), dst: (&str, u16)) -> Tuple {
    let l4 = L4::Ports {
        src: src.1,
        dst: dst.1,
    };
    let [src, dst] = [src.0, dst.0].map(|address| address.parse().expect("an address"));
    Tuple {
        src,
        dst,
        proto,
        l4,
        zone: 0,
    }
}

/// A flow that says everything.
fn full() -> Flow {
    Flow {
        reply: ports(6, ("10.9.0.80", 8443), ("198.51.100.7", 61_000)),
        zone: 7,
        id: Some(0x0102_0304),
        status: Some(u32::MAX),
        timeout: Some(600),
        mark: Some(0xdead_beef),
        protoinfo: Some(tcp([0xff, 0x21])),
        labels: Some([0x5a; 16]),
        helper: HelperName::new("ftp"),
        master: Some(Tuple {
            zone: 3,
            ..ports(6, ("10.1.0.1", 1), ("192.0.2.80", 21))
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
        ..Flow::new(ports(6, ("10.1.0.1", 40_000), ("192.0.2.80", 443)))
    }
}

#[test]
fn create_says_all_that_the_kernel_takes() {
    let request = encoded(|buffer| create(buffer, &full(), &of_mark(0xffff)));
    let (message, said) = (header(&request), attributes(&request));
    assert_eq!(
        (message.kind, message.flags),
        (0x100, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL)
    );
    assert_eq!(
        said.get_status(),
        Ok(IPS_SEEN_REPLY | IPS_ASSURED | IPS_FIXED_TIMEOUT | IPS_CONFIRMED)
    );
    assert_eq!(
        (said.get_timeout(), said.get_mark(), said.get_zone()),
        (Ok(600), Ok(0xbeef), Ok(7))
    );
    assert_eq!(said.get_labels(), Ok([0x5a; 16].as_slice()));
    assert_eq!(
        said.get_help().and_then(|help| help.get_help_name()),
        Ok(c"ftp")
    );
    assert!(said.get_mark_mask().is_err() && said.get_id().is_err());
    assert!(
        said.get_tuple_master()
            .expect("a master")
            .get_tuple_zone()
            .is_err()
    );
    let adj = said.get_seq_adj_orig().expect("of the original direction");
    assert_eq!(
        (
            adj.get_correction_pos(),
            adj.get_offset_before(),
            adj.get_offset_after()
        ),
        (Ok(1), Ok(2), Ok(3))
    );
    assert!(said.get_seq_adj_reply().is_err());
    let synproxy = said.get_synproxy().expect("a synproxy");
    assert_eq!(
        (synproxy.get_isn(), synproxy.get_its(), synproxy.get_tsoff()),
        (Ok(4), Ok(5), Ok(6))
    );
}

#[test]
fn nat_is_said_exactly_beside_the_plain_mirror() {
    let request = encoded(|buffer| create(buffer, &full(), &InjectorOptions::default()));
    let said = attributes(&request);
    let decoded = decode_event(&request).expect("it has both tuples").flow;
    assert_eq!(
        (decoded.orig, decoded.reply),
        (full().orig, full().orig.mirror())
    );
    // The description that netlink-bindings is generated from numbers CTA_NAT_PROTO 5; the kernel's header says 3.
    let port = |nat: &IterableNatAttrs<'_>| {
        let bytes = &nat.get_buf()[8..];
        assert_eq!(
            bytes[..8],
            [12u16, 0x8003, 6, 1].map(u16::to_ne_bytes).concat()
        );
        u16::from_be_bytes([bytes[8], bytes[9]])
    };
    let nat = |nat: IterableNatAttrs<'_>| (nat.get_nat_v4_minip().expect("an address"), port(&nat));
    assert_eq!(
        nat(said.get_nat_src().expect("a source")),
        (0xc633_6407, 61_000)
    );
    assert_eq!(
        nat(said.get_nat_dst().expect("a destination")),
        (0x0a09_0050, 8443)
    );
}

#[test]
fn a_flow_without_nat_says_none() {
    let request = encoded(|buffer| {
        create(
            buffer,
            &Flow {
                reply: full().orig.mirror(),
                ..full()
            },
            &InjectorOptions::default(),
        )
    });
    assert!(
        attributes(&request).get_nat_src().is_err() && attributes(&request).get_nat_dst().is_err()
    );
}

#[test]
fn tcp_is_liberal_and_flags_without_their_window_are_left_out() {
    let request = encoded(|buffer| create(buffer, &full(), &InjectorOptions::default()));
    let tcp = attributes(&request)
        .get_protoinfo()
        .and_then(|protoinfo| protoinfo.get_protoinfo_tcp())
        .expect("TCP");
    assert_eq!(tcp.get_tcp_state(), Ok(TCP_CONNTRACK_ESTABLISHED));
    assert_eq!(
        (tcp.get_tcp_wscale_original(), tcp.get_tcp_wscale_reply()),
        (Ok(7), Ok(9))
    );
    for (said, flags) in [
        (tcp.get_tcp_flags_original(), 0x8f),
        (tcp.get_tcp_flags_reply(), 0x09),
    ] {
        let said = said.expect("flags");
        assert_eq!((said.flags, said.mask), (flags, flags));
    }
}

#[test]
fn update_says_nothing_that_cannot_be_changed() {
    let request = encoded(|buffer| {
        update(
            buffer,
            &Flow {
                status: Some(!IPS_FIXED_TIMEOUT),
                ..full()
            },
            &of_mark(0xffff),
        )
    });
    let (message, said) = (header(&request), attributes(&request));
    assert_eq!((message.kind, message.flags), (0x100, NLM_F_REQUEST));
    assert!(said.get_nat_src().is_err() && said.get_nat_dst().is_err());
    assert!(
        said.get_help().is_err()
            && said.get_tuple_master().is_err()
            && said.get_tuple_reply().is_err()
    );
    assert_eq!(
        said.get_status(),
        Ok(IPS_EXPECTED | IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED)
    );
    assert_eq!(
        (said.get_mark(), said.get_mark_mask()),
        (Ok(0xbeef), Ok(0xffff))
    );
    let labels = (said.get_labels(), said.get_labels_mask());
    assert_eq!(
        labels,
        (Ok([0x5a; 16].as_slice()), Ok([0xff; 16].as_slice()))
    );
    assert_eq!((said.get_timeout(), said.get_zone()), (Ok(600), Ok(7)));
    let fixed = encoded(|buffer| update(buffer, &full(), &of_mark(0xffff)));
    assert!(attributes(&fixed).get_timeout().is_err());
}

#[test]
fn delete_names_the_flow_and_its_id() {
    let request = encoded(|buffer| delete(buffer, &full()));
    let (message, said) = (header(&request), attributes(&request));
    assert_eq!((message.kind, message.flags), (0x102, NLM_F_REQUEST));
    assert_eq!((said.get_id(), said.get_zone()), (Ok(0x0102_0304), Ok(7)));
    assert_eq!(
        said.get_tuple_orig()
            .and_then(|tuple| tuple.get_tuple_proto())
            .and_then(|p| p.get_proto_src_port()),
        Ok(40_000)
    );
    assert!(said.get_status().is_err() && said.get_tuple_reply().is_err());
}

prop_compose! {
    fn any_flow()(
        ipv4 in any::<bool>(),
        addresses in any::<[u128; 2]>(),
        proto_l4 in prop_oneof![
            (Just(6), any::<(u16, u16)>().prop_map(|(src, dst)| L4::Ports { src, dst })),
            (Just(IPPROTO_ICMP), any::<u16>().prop_map(|id| L4::Icmp { kind: 8, code: 0, id })),
            (Just(IPPROTO_ICMPV6), any::<u16>().prop_map(|id| L4::Icmp { kind: 128, code: 0, id })),
            (any::<u8>(), Just(L4::None)),
        ],
        numbers in any::<(Option<u32>, u16, u16, u16)>(),
        protoinfo in proptest::option::of(prop_oneof![
            any::<(u8, Option<[u8; 2]>)>().prop_map(|(state, wscale)| {
                ProtoInfo::Tcp(TcpInfo { state, wscale, flags: Some([IP_CT_TCP_FLAG_BE_LIBERAL; 2]) })
            }),
            any::<(u8, [u32; 2])>().prop_map(|(state, vtag)| ProtoInfo::Sctp(SctpInfo { state, vtag })),
            any::<(u8, u8, u64)>().prop_map(|(state, role, handshake_seq)| {
                ProtoInfo::Dccp(DccpInfo { state, role, handshake_seq })
            }),
        ]),
        labels in any::<Option<[u8; 16]>>(),
        helper in proptest::option::of("[a-z0-9-]{1,15}"),
        adj in any::<[Option<(u32, u32, u32)>; 2]>(),
        synproxy in any::<Option<(u32, u32, u32)>>(),
    ) -> Flow {
        let [src, dst] = addresses.map(|bits| {
            if ipv4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }
        });
        let (timeout, zone, orig_zone, reply_zone) = numbers;
        let orig = Tuple { src, dst, proto: proto_l4.0, l4: proto_l4.1, zone: orig_zone };
        let seq_adj = adj.map(|adj| adj.map(|(correction_pos, offset_before, offset_after)| {
            SeqAdj { correction_pos, offset_before, offset_after }
        }));
        Flow {
            reply: Tuple { zone: reply_zone, ..orig.mirror() },
            zone,
            status: timeout.map(|_| IPS_CONFIRMED | IPS_SEEN_REPLY),
            timeout,
            mark: timeout.filter(|&mark| mark != 0),
            protoinfo,
            labels,
            helper: helper.as_deref().and_then(HelperName::new),
            master: timeout.map(|_| Tuple { zone: 0, ..orig }),
            seq_adj,
            synproxy: synproxy
                .filter(|&numbers| numbers != (0, 0, 0))
                .map(|(isn, its, tsoff)| SynProxy { isn, its, tsoff }),
            ..Flow::new(orig)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What says nothing that the kernel refuses comes back whole; NAT, which only the kernel applies, apart.
    #[test]
    fn what_is_encoded_is_what_is_decoded(flow in any_flow()) {
        let request = encoded(|buffer| create(buffer, &flow, &InjectorOptions::default()));
        prop_assert_eq!(decode_event(&request).expect("it is whole").flow, flow);
    }
}
