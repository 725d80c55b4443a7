//! The stream of events: what comes, what is left out, and what happens when it is too much.

use std::fs;
use std::net::UdpSocket;

use conntrack::consts::*;
use conntrack::*;

use crate::support::*;

/// The events among the items; anything else fails.
fn events(items: &[Item]) -> Vec<Event> {
    items
        .iter()
        .map(|item| match item {
            Item::Event(event) => *event,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_flow_is_new_then_updated_then_destroyed() {
    in_netns(|| {
        let mut socket = open_events();
        let mut injector = Injector::open().expect("an injector");
        let flow = Flow {
            mark: Some(3),
            ..tcp_flow(1)
        };
        injector.create(&flow);
        injector.update(&Flow {
            mark: Some(4),
            ..Flow::new(flow.orig)
        });
        injector.delete(&flow);
        assert_eq!(commit(&mut injector), [Ok(()), Ok(()), Ok(())]);
        let events = events(&read_until(&mut socket, |items| items.len() == 3));
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        assert_eq!(
            kinds,
            [EventKind::New, EventKind::Update, EventKind::Destroy]
        );
        for event in &events {
            assert_eq!(
                (event.portid, event.flow.orig),
                (injector.port_id(), flow.orig)
            );
            assert_eq!(
                (event.flow.reply, event.flow.id),
                (flow.reply, events[0].flow.id)
            );
        }
        assert_eq!(
            (events[0].flow.mark, events[1].flow.mark),
            (Some(3), Some(4))
        );
    });
}

#[test]
fn what_packets_do_has_port_0() {
    in_netns(|| {
        nft("
            table inet t {
                chain tracking {
                    type filter hook output priority 0
                    ct state new accept
                }
            }
        ");
        let mut socket = open_events();
        let server = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        let client = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        client
            .send_to(b"x", server.local_addr().expect("it is bound"))
            .expect("it is sent");
        let events = events(&read_until(&mut socket, |items| !items.is_empty()));
        let orig = events[0].flow.orig;
        assert_eq!((events[0].kind, events[0].portid), (EventKind::New, 0));
        let ports = (
            client.local_addr().expect("it is bound").port(),
            server.local_addr().expect("it is bound").port(),
        );
        assert_eq!(
            orig.l4,
            L4::Ports {
                src: ports.0,
                dst: ports.1
            }
        );
        assert_eq!(
            events[0].flow.status.map(|status| status & IPS_SEEN_REPLY),
            Some(0)
        );
    });
}

#[test]
fn own_changes_are_left_out_and_foreign_ones_come() {
    in_netns(|| {
        let mut own = Injector::open().expect("an injector");
        let mut foreign = Injector::open().expect("an injector");
        let options = EventSocketOptions {
            receive_buffer_bytes: 1 << 20,
            ignore: Some(Own {
                portid: own.port_id(),
                with_ends: false,
            }),
        };
        let mut socket = EventSocket::open(&options).expect("events are to be had");
        create(&mut own, &tcp_flow(1));
        create(&mut foreign, &tcp_flow(2));
        own.update(&Flow {
            mark: Some(1),
            ..tcp_flow(2)
        });
        own.delete(&tcp_flow(1));
        assert_eq!(commit(&mut own), [Ok(()), Ok(())]);
        foreign.delete(&tcp_flow(2));
        assert_eq!(commit(&mut foreign), [Ok(())]);
        let events = events(&read_until(&mut socket, |items| items.len() >= 2));
        let seen: Vec<_> = events
            .iter()
            .map(|event| (event.kind, event.flow.orig, event.portid))
            .collect();
        let (orig, portid) = (tcp_flow(2).orig, foreign.port_id());
        assert_eq!(
            seen,
            [
                (EventKind::New, orig, portid),
                (EventKind::Destroy, orig, portid)
            ]
        );
    });
}

/// A flow of a protocol to a port, or with an ICMP type.
fn to(proto: u8, port: u16, is_ipv6: bool) -> Flow {
    let l4 = match proto {
        IPPROTO_ICMP | IPPROTO_ICMPV6 => L4::Icmp {
            kind: port.try_into().expect("a type has eight bits"),
            code: 0,
            id: 7,
        },
        IPPROTO_GRE => L4::Ports { src: 0, dst: 1 },
        _ => L4::Ports { src: 9, dst: port },
    };
    let (src, dst) = match is_ipv6 {
        true => ("fd00::1", "fd00::2"),
        false => ("10.0.0.1", "10.0.0.2"),
    };
    let orig = Tuple {
        src: src.parse().expect("it is an address"),
        dst: dst.parse().expect("it is an address"),
        proto,
        l4,
        zone: 0,
    };
    Flow {
        timeout: Some(100),
        ..Flow::new(orig)
    }
}

#[test]
fn of_unwanted_flows_only_the_end_is_told_and_of_all_others_everything() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let mut socket = open_events();
        let told = |socket: &mut EventSocket, injector: &mut Injector, flow: &Flow| {
            create(injector, flow);
            injector.update(&Flow {
                mark: Some(5),
                ..Flow::new(flow.orig)
            });
            injector.delete(flow);
            assert_eq!(commit(injector), [Ok(()), Ok(())]);
            let is_over = |items: &[Item]| matches!(items.last(), Some(Item::Event(event)) if event.kind == EventKind::Destroy);
            events(&read_until(socket, is_over)).len()
        };
        let ports = |protocol, ranges: &[(u16, u16)]| (protocol, ranges.to_vec());
        let some = Unwanted {
            protocols: vec![
                ports(IPPROTO_UDP, &[(53, 53), (1000, 2000), (65_535, 65_535)]),
                ports(IPPROTO_ICMP, &[(8, 8)]),
                ports(IPPROTO_ICMPV6, &[(128, 129)]),
                ports(IPPROTO_GRE, &[]),
            ],
            all_but: None,
        };
        let but_tcp = Unwanted {
            protocols: vec![ports(IPPROTO_TCP, &[(0, 79)])],
            all_but: Some(vec![IPPROTO_TCP, IPPROTO_UDP]),
        };
        for (unwanted, cases) in [
            (
                some,
                [
                    (IPPROTO_UDP, 52, 3),
                    (IPPROTO_UDP, 53, 1),
                    (IPPROTO_UDP, 54, 3),
                    (IPPROTO_UDP, 999, 3),
                    (IPPROTO_UDP, 1000, 1),
                    (IPPROTO_UDP, 2000, 1),
                    (IPPROTO_UDP, 2001, 3),
                    (IPPROTO_UDP, 65_535, 1),
                    (IPPROTO_SCTP, 53, 3),
                    (IPPROTO_ICMP, 8, 1),
                    (IPPROTO_ICMPV6, 128, 1),
                    (IPPROTO_GRE, 0, 1),
                ]
                .as_slice(),
            ),
            (
                but_tcp,
                &[
                    (IPPROTO_TCP, 79, 1),
                    (IPPROTO_TCP, 80, 3),
                    (IPPROTO_UDP, 53, 3),
                    (IPPROTO_SCTP, 53, 1),
                ],
            ),
            (Unwanted::default(), &[(IPPROTO_UDP, 53, 3)]),
        ] {
            socket.leave_out(&unwanted).expect("it is a program");
            for (proto, port, expected) in cases {
                for is_ipv6 in [false, true] {
                    if is_ipv6 && *proto == IPPROTO_ICMP || !is_ipv6 && *proto == IPPROTO_ICMPV6 {
                        continue;
                    }
                    let flow = match *proto {
                        IPPROTO_TCP => Flow {
                            orig: to(*proto, *port, is_ipv6).orig,
                            reply: to(*proto, *port, is_ipv6).orig.mirror(),
                            ..tcp_flow(1)
                        },
                        IPPROTO_SCTP => Flow {
                            protoinfo: Some(ProtoInfo::Sctp(SctpInfo {
                                state: 4,
                                vtag: [1, 2],
                            })),
                            ..to(*proto, *port, is_ipv6)
                        },
                        _ => to(*proto, *port, is_ipv6),
                    };
                    let told = told(&mut socket, &mut injector, &flow);
                    assert_eq!(told, *expected, "{proto} {port} {is_ipv6} {unwanted:?}");
                }
            }
        }
    });
}

#[test]
fn an_overrun_is_an_item_and_the_stream_goes_on() {
    in_netns(|| {
        let options = EventSocketOptions {
            receive_buffer_bytes: 8192,
            ignore: None,
        };
        let mut socket = EventSocket::open(&options).expect("events are to be had");
        let mut injector = Injector::open().expect("an injector");
        for number in 0..500 {
            injector.create(&tcp_flow(number));
        }
        assert!(commit(&mut injector).iter().all(Result::is_ok));
        let items = read_until(&mut socket, |items| !items.is_empty());
        assert_eq!(
            items.iter().filter(|item| **item == Item::Overrun).count(),
            1
        );
        assert!(items.len() > 2 && items.len() < 500, "{}", items.len());

        create(&mut injector, &tcp_flow(500));
        let events = events(&read_until(&mut socket, |items| !items.is_empty()));
        assert_eq!(events[0].flow.orig, tcp_flow(500).orig);
    });
}

#[test]
fn a_drain_stops_where_it_is_told_to() {
    in_netns(|| {
        let mut socket = open_events();
        let mut injector = Injector::open().expect("an injector");
        for number in 0..10 {
            injector.create(&tcp_flow(number));
        }
        assert!(commit(&mut injector).iter().all(Result::is_ok));
        let mut drain = |max| socket.drain(max, &mut |_| {}).expect("it is readable");
        assert_eq!(
            drain(4),
            Drained {
                count: 4,
                more: true
            }
        );
        assert_eq!(
            drain(6),
            Drained {
                count: 6,
                more: true
            }
        );
        assert_eq!(
            drain(6),
            Drained {
                count: 0,
                more: false
            }
        );
    });
}

#[test]
fn events_switched_off_are_an_error_that_says_so() {
    in_netns(|| {
        fs::write("/proc/sys/net/netfilter/nf_conntrack_events", "0")
            .expect("the sysctl is writable");
        let options = EventSocketOptions {
            receive_buffer_bytes: 1 << 16,
            ignore: None,
        };
        let error = EventSocket::open(&options).err().expect("there are none");
        assert!(matches!(error, SocketError::EventsOff), "{error:?}");
    });
}
