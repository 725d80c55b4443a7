//! NAT comes back exactly, or not at all.

use conntrack::consts::*;
use conntrack::*;

use crate::readback::*;
use crate::support::*;

#[test]
fn nat_of_ports_comes_back_exactly() {
    in_netns(|| {
        for [client, server, shared, inside] in FAMILIES {
            for proto in [IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP] {
                for (port, from, to, nat) in [
                    (40_001, (server, 443), (shared, 40_001), IPS_SRC_NAT),
                    (40_002, (server, 443), (shared, 61_234), IPS_SRC_NAT),
                    (40_003, (inside, 8443), (client, 40_003), IPS_DST_NAT),
                    (40_004, (inside, 443), (shared, 1025), IPS_NAT_MASK),
                    (40_005, (server, 8080), (client, 40_005), IPS_DST_NAT),
                    (40_006, (server, 443), (client, 55_555), IPS_SRC_NAT),
                    (40_007, (inside, 80), (shared, 40_007), IPS_NAT_MASK),
                ] {
                    assert_comes_back(&Flow {
                        reply: ports(proto, from, to),
                        status: Some(IPS_SEEN_REPLY | IPS_CONFIRMED | nat),
                        protoinfo: protoinfo_of(proto),
                        ..plain(ports(proto, (client, port), (server, 443)))
                    });
                }
            }
        }
    });
}

#[test]
fn nat_without_ports_comes_back_exactly() {
    in_netns(|| {
        for [client, server, shared, inside] in FAMILIES {
            let (proto, kind) = if ip(client).is_ipv4() {
                (IPPROTO_ICMP, 8)
            } else {
                (IPPROTO_ICMPV6, 128)
            };
            let echo = |client, id| {
                let tuple = icmp(client, server, proto, kind);
                Tuple {
                    l4: L4::Icmp { kind, code: 0, id },
                    ..tuple
                }
            };
            let gre = |from, to| ports(IPPROTO_GRE, from, to);
            let esp = |from, to| Tuple {
                l4: L4::None,
                ..ports(IPPROTO_ESP, (from, 0), (to, 0))
            };
            for (orig, reply, nat) in [
                (echo(client, 1), echo(shared, 1).mirror(), IPS_SRC_NAT),
                (echo(client, 2), echo(shared, 99).mirror(), IPS_SRC_NAT),
                (
                    echo(client, 3),
                    Tuple {
                        src: ip(inside),
                        ..echo(client, 3).mirror()
                    },
                    IPS_DST_NAT,
                ),
                (
                    gre((client, 5), (server, 6)),
                    gre((server, 6), (shared, 5)),
                    IPS_SRC_NAT,
                ),
                (
                    gre((client, 7), (server, 8)),
                    gre((server, 8), (shared, 77)),
                    IPS_SRC_NAT,
                ),
                (esp(client, server), esp(server, shared), IPS_SRC_NAT),
                (esp(client, shared), esp(inside, client), IPS_DST_NAT),
            ] {
                let status = Some(IPS_SEEN_REPLY | IPS_CONFIRMED | nat);
                assert_comes_back(&Flow {
                    reply,
                    status,
                    ..plain(orig)
                });
            }
        }
    });
}

#[test]
fn nat_to_what_another_flow_has_is_refused_not_moved() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        for [client, server, shared, inside] in FAMILIES {
            let reply = ports(IPPROTO_UDP, (server, 443), (shared, 50_000));
            let udp = |port| plain(ports(IPPROTO_UDP, (client, port), (server, 443)));
            let esp = |from, to| Tuple {
                l4: L4::None,
                ..ports(IPPROTO_ESP, (from, 0), (to, 0))
            };
            create(&mut injector, &Flow { reply, ..udp(1000) });
            create(
                &mut injector,
                &Flow {
                    reply: esp(server, shared),
                    ..plain(esp(client, server))
                },
            );
            injector.create(&Flow { reply, ..udp(1001) });
            injector.create(&Flow {
                reply: esp(server, shared),
                ..plain(esp(inside, server))
            });
            assert_eq!(commit(&mut injector), [Err(Errno::EXIST); 2]);
        }
    });
}
