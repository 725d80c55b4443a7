//! Entries updated and deleted, and the outcome of each request.

use conntrack::consts::*;
use conntrack::*;

use crate::readback::*;
use crate::support::*;

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
fn an_update_must_know_whether_the_flow_was_expected() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let master = ftp_flow();
        let data = ftp_data_flow(&master);
        create(&mut injector, &master);
        create(&mut injector, &data);
        let with = |flow: &Flow, bits| Flow {
            status: flow.status.map(|status| status & !IPS_EXPECTED | bits),
            ..*flow
        };
        for (flow, bits, outcome) in [
            (&master, 0, Ok(())),
            (&master, IPS_EXPECTED, Err(Errno::BUSY)),
            (&data, 0, Err(Errno::BUSY)),
            (&data, IPS_EXPECTED, Ok(())),
        ] {
            injector.update(&with(flow, bits));
            assert_eq!(commit(&mut injector), [outcome]);
        }
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
        let mut injector = Injector::open_with(InjectorOptions {
            mark_mask: 0xffff,
            ..InjectorOptions::default()
        })
        .expect("an injector");
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
fn sequence_adjustment_is_written_by_an_update_too() {
    in_netns(|| {
        let mut injector = Injector::open().expect("an injector");
        let created = Flow {
            status: Some(IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_SRC_NAT),
            seq_adj: [None; 2],
            ..ftp_flow()
        };
        create(&mut injector, &created);
        let updated = Flow {
            status: Some(IPS_CONFIRMED | IPS_SEEN_REPLY | IPS_SRC_NAT | IPS_SEQ_ADJUST),
            seq_adj: ftp_flow().seq_adj,
            ..created
        };
        injector.update(&updated);
        assert_eq!(commit(&mut injector), [Ok(())]);
        assert_in_table(&updated);
    });
}
