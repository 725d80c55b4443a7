//! What is injected is what the table has, of every protocol and with all that a flow can have.

use conntrack::consts::*;
use conntrack::*;

use crate::readback::*;
use crate::support::*;
use crate::tool;

#[test]
fn every_protocol_comes_back_as_it_was_injected() {
    in_netns(|| {
        for [client, server, ..] in FAMILIES {
            for proto in [
                IPPROTO_TCP,
                IPPROTO_UDP,
                IPPROTO_UDPLITE,
                IPPROTO_SCTP,
                IPPROTO_GRE,
            ] {
                let tuple = ports(proto, (client, 40_000), (server, 443));
                assert_comes_back(&Flow {
                    protoinfo: protoinfo_of(proto),
                    ..plain(tuple)
                });
            }
            let esp = Tuple {
                l4: L4::None,
                ..ports(IPPROTO_ESP, (client, 40_000), (server, 443))
            };
            assert_comes_back(&plain(esp));
            let dccp = ports(IPPROTO_DCCP, (client, 40_000), (server, 443));
            if tracks_dccp() {
                assert_comes_back(&Flow {
                    protoinfo: protoinfo_of(IPPROTO_DCCP),
                    ..plain(dccp)
                });
            } else {
                assert_comes_back(&plain(Tuple {
                    l4: L4::None,
                    ..dccp
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
fn zones_come_back_and_tell_flows_apart() {
    in_netns(|| {
        let base = plain(ports(IPPROTO_UDP, ("10.1.0.1", 5000), ("192.0.2.80", 53)));
        let flows = [
            base,
            Flow { zone: 7, ..base },
            Flow {
                orig: Tuple {
                    zone: 8,
                    ..base.orig
                },
                ..base
            },
        ];
        let only_reply = plain(ports(IPPROTO_UDP, ("10.1.0.1", 5001), ("192.0.2.80", 53)));
        let only_reply = Flow {
            reply: Tuple {
                zone: 9,
                ..only_reply.reply
            },
            ..only_reply
        };
        let mut injector = Injector::open().expect("an injector");
        // A zone of the original direction alone leaves the reply in the default one, where there is one already.
        create(&mut injector, &flows[1]);
        create(&mut injector, &flows[2]);
        injector.create(&flows[0]);
        assert_eq!(commit(&mut injector), [Err(Errno::EXIST)]);
        create(&mut injector, &only_reply);
        for flow in [&flows[1], &flows[2], &only_reply] {
            assert_in_table(flow);
        }
        injector.delete(&flows[1]);
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_eq!(find(&flows[1]), None);
        assert_in_table(&flows[2]);
    });
}

#[test]
fn nat_helper_master_and_sequence_adjustment_come_back() {
    in_netns(|| {
        let master = ftp_flow();
        assert_comes_back(&master);
        assert_comes_back(&ftp_data_flow(&master));
    });
}

#[test]
fn synproxy_comes_back() {
    in_netns(|| {
        let synproxy = Some(SynProxy {
            isn: 0x0102_0304,
            its: 5,
            tsoff: 0xffff_fff0,
        });
        assert_comes_back(&Flow {
            synproxy,
            ..tcp_flow(1)
        });
    });
}

#[test]
fn labels_come_back_where_rules_use_labels() {
    in_netns(|| {
        let labels = Some([0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mut injector = Injector::open().expect("an injector");
        create(
            &mut injector,
            &Flow {
                labels,
                ..tcp_flow(1)
            },
        );
        assert_eq!(find(&tcp_flow(1)).expect("it was created").labels, None);
        injector.update(&Flow {
            labels,
            ..tcp_flow(1)
        });
        assert_eq!(commit(&mut injector), [Err(Errno::NOSPC)]);

        nft("
            table inet t {
                chain labelling {
                    type filter hook output priority 0
                    ct label set 7
                }
            }
        ");
        let flow = Flow {
            labels,
            ..tcp_flow(2)
        };
        assert_comes_back(&flow);
        let flow = Flow {
            labels: Some([0xaa; 16]),
            ..flow
        };
        injector.update(&flow);
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_in_table(&flow);
    });
}

#[test]
fn the_conntrack_tool_sees_what_was_injected() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let master = ftp_flow();
        let base = plain(ports(IPPROTO_UDP, ("fd01::1", 5000), ("2001:db8::80", 53)));
        for flow in [
            Flow {
                mark: Some(7),
                ..tcp_flow(1)
            },
            master,
            ftp_data_flow(&master),
            Flow { zone: 7, ..base },
            Flow {
                orig: Tuple {
                    zone: 8,
                    ..base.orig
                },
                ..base
            },
            plain(icmp("fd01::1", "2001:db8::80", IPPROTO_ICMPV6, 128)),
            plain(ports(IPPROTO_GRE, ("10.1.0.1", 5), ("192.0.2.80", 6))),
            Flow {
                protoinfo: protoinfo_of(IPPROTO_SCTP),
                ..plain(ports(IPPROTO_SCTP, ("10.1.0.1", 5), ("192.0.2.80", 6)))
            },
        ] {
            create(&mut injector, &flow);
        }
        let seconds_left = |line: &str| {
            line.split(' ')
                .nth(4)
                .expect("a timeout")
                .parse::<u32>()
                .expect("seconds")
        };
        for family in ["ipv4", "ipv6"] {
            let printed = run(&format!("conntrack -L -f {family} -o id,extended"));
            for line in printed.lines() {
                let words = line
                    .split_whitespace()
                    .filter(|word| !word.starts_with("use="));
                let line = words.collect::<Vec<_>>().join(" ");
                let ours = dump()
                    .iter()
                    .map(tool::flow_line)
                    .find(|ours| ours.ends_with(line.rsplit(' ').next().expect("an id")));
                let ours = ours.expect("the tool prints what is dumped");
                assert!(seconds_left(&line) - seconds_left(&ours) <= 5);
                let without_timeout =
                    |line: &str| line.replacen(&format!(" {} ", seconds_left(line)), " ", 1);
                assert_eq!(without_timeout(&ours), without_timeout(&line));
            }
            let expected = dump()
                .iter()
                .filter(|flow| flow.orig.src.is_ipv4() == (family == "ipv4"))
                .count();
            assert_eq!(printed.lines().count(), expected);
        }
        assert_eq!(dump().len(), 8);
    });
}

#[test]
fn without_privilege_the_error_says_what_to_do() {
    in_netns(|| {
        drop_net_admin();
        let error = Injector::open().err().expect("it is not allowed");
        assert!(matches!(error, SocketError::Privilege), "{error:?}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        let options = EventSocketOptions {
            receive_buffer_bytes: 1 << 16,
            ignore: None,
        };
        assert!(matches!(
            EventSocket::open(&options).err(),
            Some(SocketError::Privilege)
        ));
        let error = Dump::open().err().expect("it is not allowed");
        assert!(
            matches!(error, DumpError::Socket(SocketError::Privilege)),
            "{error:?}"
        );
    });
}
