//! What is injected is what the table has.

use conntrack::consts::*;
use conntrack::*;

use crate::support::*;
use crate::tool;

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

/// What the kernel's tracker of the protocol would know.
fn protoinfo_of(proto: u8) -> Option<ProtoInfo> {
    match proto {
        IPPROTO_TCP => tcp_flow(0).protoinfo,
        IPPROTO_SCTP => Some(ProtoInfo::Sctp(SctpInfo {
            state: 4,
            vtag: [0x1111_2222, 0x3333_4444],
        })),
        _ => None,
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
            for proto in [IPPROTO_ESP, IPPROTO_DCCP] {
                let tuple = ports(proto, (client, 40_000), (server, 443));
                assert_comes_back(&plain(Tuple {
                    l4: L4::None,
                    ..tuple
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
fn an_update_writes_what_it_says_and_nothing_else() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let tcp = |state| {
            Some(ProtoInfo::Tcp(TcpInfo {
                state,
                wscale: Some([7, 8]),
                flags: Some([3, 3]),
            }))
        };
        let created = Flow {
            status: Some(IPS_CONFIRMED | IPS_SRC_NAT),
            protoinfo: tcp(TCP_CONNTRACK_SYN_SENT),
            mark: Some(5),
            seq_adj: [None; 2],
            ..ftp_flow()
        };
        create(&mut injector, &created);

        injector.update(&Flow {
            timeout: Some(432_000),
            ..Flow::new(created.orig)
        });
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_in_table(&Flow {
            timeout: Some(432_000),
            ..created
        });

        let status = Some(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED | IPS_SRC_NAT);
        let updated = Flow {
            status,
            protoinfo: tcp(TCP_CONNTRACK_ESTABLISHED),
            mark: Some(6),
            ..created
        };
        injector.update(&updated);
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_in_table(&updated);
    });
}

#[test]
fn a_status_bit_that_is_set_is_never_cleared() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        create(&mut injector, &tcp_flow(1));
        injector.update(&Flow {
            status: Some(IPS_SEEN_REPLY),
            timeout: None,
            ..tcp_flow(1)
        });
        assert_eq!(commit(&mut injector), [Err(Errno::BUSY)]);
        assert_in_table(&tcp_flow(1));
        injector.update(&Flow {
            status: None,
            ..tcp_flow(1)
        });
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_in_table(&tcp_flow(1));
    });
}

#[test]
fn a_fixed_timeout_is_created_and_left_alone() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let status = Some(IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED | IPS_FIXED_TIMEOUT);
        let flow = Flow {
            status,
            timeout: Some(77),
            ..tcp_flow(1)
        };
        create(&mut injector, &flow);
        injector.update(&Flow {
            timeout: Some(600),
            mark: Some(1),
            ..flow
        });
        injector.update(&Flow {
            timeout: Some(600),
            status: None,
            ..flow
        });
        assert_eq!(commit(&mut injector), [Ok(()), Err(Errno::PERM)]);
        let found = find(&flow).expect("it was created");
        assert_eq!((found.mark, found.status), (Some(1), status));
        assert!(found.timeout <= Some(77));
    });
}

#[test]
fn only_the_masked_bits_of_the_mark_are_written() {
    in_netns(|| {
        let mut owner = Injector::open().expect("an injector");
        let mut injector =
            Injector::open_with(InjectorOptions { mark_mask: 0xffff }).expect("an injector");
        create(
            &mut injector,
            &Flow {
                mark: Some(0x1234_5678),
                ..tcp_flow(1)
            },
        );
        assert_eq!(
            find(&tcp_flow(1)).expect("it was created").mark,
            Some(0x5678)
        );
        owner.update(&Flow {
            mark: Some(0xabcd_0000),
            ..tcp_flow(1)
        });
        assert_eq!(commit(&mut owner), [Ok(())]);
        injector.update(&Flow {
            mark: Some(0x1111_2222),
            ..tcp_flow(1)
        });
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_eq!(
            find(&tcp_flow(1)).expect("it was created").mark,
            Some(0xabcd_2222)
        );
    });
}

#[test]
fn a_delete_with_another_id_deletes_nothing() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        create(&mut injector, &tcp_flow(1));
        let found = find(&tcp_flow(1)).expect("it was created");
        injector.delete(&Flow {
            id: found.id.map(|id| id ^ 1),
            ..found
        });
        injector.delete(&found);
        injector.delete(&found);
        assert_eq!(
            commit(&mut injector),
            [Err(Errno::NOENT), Ok(()), Err(Errno::NOENT)]
        );
        assert_eq!(find(&tcp_flow(1)), None);
    });
}

#[test]
fn outcomes_of_a_large_batch_are_of_their_requests() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        for number in (0..700).filter(|number| number % 7 == 3) {
            injector.create(&tcp_flow(number));
        }
        assert!(commit(&mut injector).iter().all(Result::is_ok));
        let mut expected = Vec::new();
        for number in 0..700 {
            let (outcome, index) = match number % 7 {
                0 => (Err(Errno::NOENT), injector.delete(&tcp_flow(number))),
                1 => (Err(Errno::NOENT), injector.update(&tcp_flow(number))),
                2 => (
                    Err(Errno::INVAL),
                    injector.create(&Flow {
                        timeout: None,
                        ..tcp_flow(number)
                    }),
                ),
                3 => (Err(Errno::EXIST), injector.create(&tcp_flow(number))),
                4 => (Err(Errno::OPNOTSUPP), {
                    injector.create(&Flow {
                        helper: HelperName::new("no-such"),
                        ..tcp_flow(number)
                    })
                }),
                _ => (Ok(()), injector.create(&tcp_flow(number))),
            };
            assert_eq!(index, expected.len());
            expected.push(outcome);
        }
        assert_eq!(injector.len(), 700);
        assert_eq!(commit(&mut injector), expected);
        assert!(injector.is_empty());
        assert_eq!(dump().len(), 300);
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
            ignore_portid: None,
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
