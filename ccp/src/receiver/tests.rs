use super::{ACK_EVERY, Arrival, Incoming, RANGES_MAX, Said, Via, WINDOW, is_news};
use crate::record::{BulkUpdateEnd, Claim, Family, FlowKey, MemberId, Term, ZoneDirection};
use crate::table::{Entry, Life, Origin};
use crate::time::Instant;
use crate::wire::SEQ_MAX;
use crate::wire::header::Urgency;
use proptest::prelude::*;
use std::vec::Vec;

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn incoming(base: u64) -> Incoming {
    let mut incoming = Incoming::default();
    incoming.handle_base(base, at(0));
    incoming.poll_ack(at(0)).expect("a base is acknowledged");
    incoming
}

fn arrive(incoming: &mut Incoming, seq: u64, now: u64) -> Arrival {
    let arrival = incoming.handle_delta(seq, Urgency::Normal, at(now));
    if arrival == Arrival::New {
        incoming.expect_applied(seq, 0, at(now));
    }
    arrival
}

/// PROTOCOL.md 5.1
#[test]
fn nothing_is_taken_before_the_base_is_known_nor_below_it() {
    let mut fresh = Incoming::default();
    assert_eq!(arrive(&mut fresh, 1, 0), Arrival::OutOfWindow);
    let mut incoming = incoming(10);
    assert_eq!(arrive(&mut incoming, 9, 0), Arrival::OutOfWindow);
    assert_eq!(arrive(&mut incoming, 10, 0), Arrival::New);
    assert_eq!(incoming.frontier(), 10);
}

/// PROTOCOL.md 5.1
#[test]
fn what_came_of_a_bulk_update_before_its_base_was_known_counts() {
    let mut incoming = incoming(1);
    arrive(&mut incoming, 5, 0);
    arrive(&mut incoming, 7, 0);
    let told = BulkUpdateEnd {
        member: MemberId::new(1).unwrap(),
        base: 5,
        from: 0,
    };
    incoming.handle_told(7, told);
    assert_eq!(incoming.poll_told(), None);
    incoming.handle_base(5, at(1));
    assert_eq!(incoming.frontier(), 5);
    assert_eq!(arrive(&mut incoming, 6, 2), Arrival::New);
    assert_eq!(incoming.frontier(), 7);
    assert_eq!(incoming.poll_told(), Some(told));
    assert!(incoming.synced && incoming.poll_told().is_none());
}

/// PROTOCOL.md 5.2
#[test]
fn the_window_and_the_gaps_are_bounded_and_the_greatest_numbers_do_no_harm() {
    let mut one = incoming(1);
    assert_eq!(arrive(&mut one, WINDOW, 0), Arrival::New);
    assert_eq!(arrive(&mut one, WINDOW + 1, 0), Arrival::OutOfWindow);
    let mut two = incoming(1);
    for gap in 0..RANGES_MAX as u64 {
        assert_eq!(arrive(&mut two, 2 + 2 * gap, 0), Arrival::New);
    }
    assert_eq!(
        arrive(&mut two, 4 + 2 * RANGES_MAX as u64, 0),
        Arrival::OutOfWindow
    );
    let mut three = incoming(SEQ_MAX);
    assert_eq!(arrive(&mut three, SEQ_MAX, 0), Arrival::New);
    assert_eq!(three.frontier(), SEQ_MAX);
}

/// PROTOCOL.md 5.3
#[test]
fn acknowledgements_come_in_time_and_not_too_often() {
    let mut incoming = incoming(1);
    arrive(&mut incoming, 1, 100);
    assert_eq!(incoming.poll_timeout(), Some(at(5_100)));
    assert!(incoming.poll_ack(at(5_099)).is_none());
    let ack = incoming.poll_ack(at(5_100)).unwrap();
    assert_eq!((ack.frontier, ack.delay_micros), (1, 5_000));
    assert_eq!(incoming.poll_timeout(), None);

    for seq in 2..1 + u64::from(ACK_EVERY) {
        arrive(&mut incoming, seq, 6_000);
        assert!(incoming.poll_ack(at(6_000)).is_none(), "{seq}");
    }
    arrive(&mut incoming, 1 + u64::from(ACK_EVERY), 6_000);
    assert!(incoming.poll_ack(at(6_000)).is_some());

    arrive(&mut incoming, 40, 7_000);
    let ack = incoming.poll_ack(at(7_000)).expect("a gap is told at once");
    assert_eq!(ack.beyond.iter().cloned().collect::<Vec<_>>(), [40..=40]);

    incoming.handle_delta(34, Urgency::Urgent, at(8_000));
    incoming.expect_applied(34, 0, at(8_000));
    assert_eq!(incoming.poll_ack(at(8_000)).expect("urgent").frontier, 34);

    assert_eq!(arrive(&mut incoming, 34, 9_000), Arrival::Duplicate);
    assert!(
        incoming.poll_ack(at(14_000)).is_some(),
        "its first acknowledgement was lost"
    );
}

/// PROTOCOL.md 5.3
#[test]
fn a_delta_is_acknowledged_when_the_last_of_its_changes_is_in_the_kernel() {
    let mut incoming = incoming(1);
    assert_eq!(
        incoming.handle_delta(1, Urgency::Urgent, at(0)),
        Arrival::New
    );
    incoming.expect_applied(1, 2, at(0));
    assert_eq!(incoming.poll_ack(at(0)).unwrap().frontier, 0);
    incoming.handle_applied(1, at(1));
    assert_eq!(incoming.poll_timeout(), None);
    incoming.handle_applied(1, at(2));
    assert_eq!(incoming.poll_ack(at(2)).unwrap().frontier, 1);
    incoming.handle_applied(1, at(3));
    assert_eq!(incoming.frontier(), 1, "an answer too many changes nothing");
}

/// PROTOCOL.md 5.4
#[test]
fn who_lost_its_place_asks_after_every_hello_until_it_is_told_anew() {
    let mut incoming = incoming(8);
    incoming.ask_anew();
    for now in 1..3 {
        incoming.handle_base(8, at(now));
        let ack = incoming.poll_ack(at(now)).unwrap();
        assert_eq!((ack.base, ack.frontier), (0, 8));
    }
    incoming.handle_base(20, at(4));
    assert_eq!(incoming.poll_ack(at(4)).unwrap().base, 20);
}

proptest! {
    #[test]
    fn in_whatever_order_deltas_come_the_frontier_ends_at_the_last(
        mut order in Just((1u64..200).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(1u64..200, 0..100),
    ) {
        let mut incoming = incoming(1);
        let count = order.len();
        order.extend(again);
        for (n, seq) in order.into_iter().enumerate() {
            prop_assert_eq!(arrive(&mut incoming, seq, 0) == Arrival::New, n < count);
        }
        prop_assert_eq!((incoming.frontier(), incoming.missing()), (199, 0));
    }
}

const ME: u8 = 5;

fn id(n: u8) -> MemberId {
    MemberId::new(n).unwrap()
}

fn known(origin: Origin, claim: Claim, term: u16, life: Life) -> Entry {
    let key = FlowKey {
        src: [0; 16],
        dst: [0; 16],
        l4: [0; 2],
        zone: 0,
        proto: 17,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    };
    let mut entry = Entry::new(key, origin);
    (entry.claim, entry.term, entry.life, entry.seq) = (claim, Term(term), life, 100);
    entry
}

/// Every row and column of the table in PROTOCOL.md 6.2, for members below and above, and terms around what is known.
#[test]
fn the_table_of_what_is_news_is_what_is_written() {
    let copy = Origin::Copy {
        member: id(5),
        run: 1,
    };
    for life in [Life::Live, Life::Dead] {
        for (member, term) in (1..=9)
            .filter(|n| *n != 5)
            .flat_map(|n| [(n, 3), (n, 4), (n, 5)])
        {
            let said = |claim| Said {
                member: id(member),
                run: 1,
                seq: 1,
                term: Term(term),
                claim,
                via: Via::Delta,
            };
            let outweighs = (term, member) > (4, 5);
            let rows = [
                (Origin::Own, Claim::Carried, outweighs),
                (Origin::Found, Claim::Carried, true),
                (copy, Claim::Carried, outweighs),
                (copy, Claim::Found, true),
            ];
            for (origin, claim, carried_is_news) in rows {
                let entry = known(origin, claim, 4, life);
                let news = |claim| is_news(&entry, id(ME), &said(claim));
                assert!(!news(Claim::Found), "{entry:?}");
                assert_eq!(
                    news(Claim::Carried),
                    carried_is_news,
                    "{entry:?} {member} {term}"
                );
            }
        }
    }
    // Its own grace over, a tombstone gives way.
    let entry = known(Origin::Own, Claim::Found, 4, Life::Dead);
    let said = Said {
        member: id(1),
        run: 1,
        seq: 1,
        term: Term(0),
        claim: Claim::Carried,
        via: Via::Delta,
    };
    assert!(is_news(&entry, id(ME), &said));
}

#[test]
fn claims_of_one_member_are_ordered_by_run_then_sequence_whatever_their_term() {
    let copy = Origin::Copy {
        member: id(2),
        run: 7,
    };
    for claim in [Claim::Carried, Claim::Found] {
        for (run, seq, news) in [
            (7, 99, false),
            (7, 100, false),
            (7, 101, true),
            (8, 1, true),
        ] {
            let said = Said {
                member: id(2),
                run,
                seq,
                term: Term(0),
                claim,
                via: Via::Delta,
            };
            let entry = known(copy, Claim::Carried, 4, Life::Live);
            assert_eq!(is_news(&entry, id(ME), &said), news, "{run} {seq}");
        }
    }
}
