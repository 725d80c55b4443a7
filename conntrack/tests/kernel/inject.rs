//! What is injected is what the table has.

use conntrack::consts::*;
use conntrack::*;

use crate::support::*;

const IPS_NAT_MASK: u32 = IPS_SRC_NAT | IPS_DST_NAT;

/// Creates the flow, and sees that the table has it so, by lookup and in the dump.
fn assert_comes_back(flow: &Flow) {
    let mut injector = Injector::open().expect("an injector");
    create(&mut injector, flow);
    assert_in_table(flow);
}

/// Sees that the table has the flow as it was said, by lookup and in the dump.
fn assert_in_table(flow: &Flow) {
    let looked_up = find(flow).expect("it is in the table");
    assert_eq!(as_said(&looked_up, flow), liberal(flow));
    let dumped = dump()
        .into_iter()
        .find(|dumped| dumped.id == looked_up.id)
        .expect("it is in the table");
    assert_eq!(as_said(&dumped, flow), liberal(flow));
}

/// A flow of the table without what the kernel adds to what was said: its id, bits of the status, a mark of 0, a few
/// seconds that passed.
fn as_said(found: &Flow, said: &Flow) -> Flow {
    const OURS: u32 =
        IPS_EXPECTED | IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED | IPS_NAT_MASK | IPS_SEQ_ADJUST;
    let (left, full) = (
        found.timeout.expect("entries have a timeout"),
        said.timeout.expect("it was said"),
    );
    assert!(
        full - 30 <= left && left <= full,
        "{full} s became {left} s"
    );
    Flow {
        id: None,
        status: found.status.map(|status| status & OURS),
        timeout: said.timeout,
        mark: found.mark.filter(|&mark| mark != 0),
        ..*found
    }
}

/// The flow with the TCP flags that the kernel is told instead of those said.
fn liberal(flow: &Flow) -> Flow {
    let protoinfo = flow.protoinfo.map(|protoinfo| match protoinfo {
        ProtoInfo::Tcp(tcp) => ProtoInfo::Tcp(TcpInfo {
            flags: tcp
                .flags
                .map(|flags| flags.map(|flags| flags | IP_CT_TCP_FLAG_BE_LIBERAL)),
            ..tcp
        }),
        other => other,
    });
    Flow { protoinfo, ..*flow }
}

fn plain(orig: Tuple) -> Flow {
    Flow {
        status: Some(IPS_SEEN_REPLY | IPS_CONFIRMED),
        timeout: Some(300),
        ..Flow::new(orig)
    }
}

fn icmp(src: &str, dst: &str, proto: u8, kind: u8) -> Tuple {
    Tuple {
        src: ip(src),
        dst: ip(dst),
        proto,
        l4: L4::Icmp {
            kind,
            code: 0,
            id: 0x1234,
        },
        zone: 0,
    }
}

const FAMILIES: [[&str; 4]; 2] = [
    ["10.1.0.1", "192.0.2.80", "198.51.100.7", "10.9.0.80"],
    ["fd01::1", "2001:db8::80", "2001:db8:7::7", "fd09::80"],
];

#[test]
fn every_protocol_comes_back_as_it_was_injected() {
    in_netns(|| {
        for [client, server, ..] in FAMILIES {
            let tuple = |proto| ports(proto, (client, 40_000), (server, 443));
            let sctp = ProtoInfo::Sctp(SctpInfo {
                state: 4,
                vtag: [0x1111_2222, 0x3333_4444],
            });
            assert_comes_back(&Flow {
                orig: tuple(IPPROTO_TCP),
                reply: tuple(IPPROTO_TCP).mirror(),
                ..tcp_flow(0)
            });
            assert_comes_back(&plain(tuple(IPPROTO_UDP)));
            assert_comes_back(&plain(tuple(IPPROTO_UDPLITE)));
            assert_comes_back(&Flow {
                protoinfo: Some(sctp),
                ..plain(tuple(IPPROTO_SCTP))
            });
            assert_comes_back(&plain(tuple(IPPROTO_GRE)));
            for proto in [IPPROTO_ESP, IPPROTO_DCCP] {
                assert_comes_back(&plain(Tuple {
                    l4: L4::None,
                    ..tuple(proto)
                }));
            }
        }
        for kind in [8, 13, 15, 17] {
            assert_comes_back(&plain(icmp("10.1.0.1", "192.0.2.80", IPPROTO_ICMP, kind)));
        }
        for kind in [128, 139] {
            assert_comes_back(&plain(icmp(
                "fd01::1",
                "2001:db8::80",
                IPPROTO_ICMPV6,
                kind,
            )));
        }
    });
}

#[test]
fn nat_comes_back_exactly_in_both_families() {
    in_netns(|| {
        for [client, server, shared, inside] in FAMILIES {
            for proto in [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP] {
                let orig = ports(proto, (client, 40_000), (server, 443));
                let from = |src: (&str, u16), dst: (&str, u16)| ports(proto, src, dst);
                let status = |nat| Some(IPS_SEEN_REPLY | IPS_CONFIRMED | nat);
                for (port, reply, nat) in [
                    (40_001, from((server, 443), (shared, 40_001)), IPS_SRC_NAT),
                    (40_002, from((server, 443), (shared, 61_234)), IPS_SRC_NAT),
                    (40_003, from((inside, 8443), (client, 40_003)), IPS_DST_NAT),
                    (
                        40_004,
                        from((inside, 443), (shared, 1025)),
                        IPS_SRC_NAT | IPS_DST_NAT,
                    ),
                    (40_005, from((server, 8080), (client, 40_005)), IPS_DST_NAT),
                    (40_006, from((server, 443), (client, 55_555)), IPS_SRC_NAT),
                ] {
                    let l4 = L4::Ports {
                        src: port,
                        dst: 443,
                    };
                    let flow = plain(Tuple { l4, ..orig });
                    let protoinfo = (proto == IPPROTO_TCP)
                        .then(|| tcp_flow(0).protoinfo)
                        .flatten();
                    assert_comes_back(&Flow {
                        reply,
                        protoinfo,
                        status: status(nat),
                        ..flow
                    });
                }
            }
        }
    });
}
