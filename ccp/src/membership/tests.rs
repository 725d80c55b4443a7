use super::{HelloEffect, Membership, PeerState};
use crate::election::Load;
use crate::record::MemberId;
use crate::time::Instant;
use crate::wire::control::{Heard, Hello};
use core::time::Duration;
use std::vec;

const US: u64 = 77;
const PEER: u64 = 500;

fn id(n: u8) -> MemberId {
    MemberId::new(n).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn membership() -> Membership {
    let intervals = [Duration::from_millis(100), Duration::from_millis(500)];
    Membership::new(id(1), &[id(2), id(3)], US, 10, intervals, at(0))
}

/// A hello that names our incarnation and that packet of ours.
fn echo(packet_number: u64) -> Hello {
    naming(US, packet_number)
}

fn naming(incarnation: u64, packet_number: u64) -> Hello {
    let heard = Heard {
        member: id(1),
        incarnation,
        base: 0,
        packet_number,
    };
    Hello {
        paths: vec![],
        modes: vec![],
        table: 20,
        heard: vec![heard],
        ..Hello::default()
    }
}

fn deaf() -> Hello {
    Hello {
        paths: vec![],
        modes: vec![],
        table: 20,
        ..Hello::default()
    }
}

/// PROTOCOL.md 3.2
#[test]
fn nothing_of_a_peer_counts_before_it_has_named_our_incarnation() {
    let mut members = membership();
    assert!(!members.accept(id(2), PEER, 1, at(1)));
    assert_eq!(
        members.handle_hello(id(2), [PEER, 2], &deaf(), 1, at(1)),
        HelloEffect::Nothing
    );
    assert_eq!(
        members.handle_hello(id(2), [PEER, 3], &naming(US - 1, 9), 1, at(1)),
        HelloEffect::Nothing
    );
    assert!(!members.accept(id(2), PEER, 4, at(1)));
    assert_eq!(members.peer(id(2)).unwrap().state, PeerState::NeverSeen);
    assert_eq!(
        members.handle_hello(id(2), [PEER, 5], &echo(1), 1, at(1)),
        HelloEffect::NewRun
    );
    assert!(
        !members.accept(id(2), PEER, 4, at(1)),
        "from before the proof"
    );
    assert!(members.accept(id(2), PEER, 6, at(1)));
}

/// PROTOCOL.md 3.3
#[test]
fn an_unproven_hello_is_answered_at_once_but_not_without_end() {
    let mut members = membership();
    assert!(members.poll_hello(at(0), 0, |_| 0).is_some());
    members.handle_hello(id(2), [PEER, 1], &deaf(), 1, at(10));
    let hello = members.poll_hello(at(10), 0, |_| 0).expect("an answer");
    let heard = hello.heard[0];
    assert_eq!(
        (heard.incarnation, heard.packet_number, heard.base),
        (PEER, 1, 0)
    );
    members.handle_hello(id(2), [PEER, 2], &deaf(), 1, at(11));
    assert!(members.poll_hello(at(11), 0, |_| 0).is_none());
    assert_eq!(members.poll_timeout(), at(15));
}

/// PROTOCOL.md 3.2: a replaced run, or one that was never heard in its time, can't be played back.
#[test]
fn a_run_cannot_come_back_by_echoing_what_we_sent_before_the_present_one() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(1));
    assert_eq!(
        members.handle_hello(id(2), [PEER + 1, 1], &echo(5), 7, at(2)),
        HelloEffect::NewRun
    );
    for (incarnation, echoed) in [(PEER, 1), (PEER, 7), (PEER + 9, 6)] {
        let change = members.handle_hello(id(2), [incarnation, 50], &echo(echoed), 8, at(3));
        assert_eq!(change, HelloEffect::Nothing, "{incarnation} {echoed}");
    }
    assert!(members.peer(id(2)).unwrap().is_run(PEER + 1));
    assert_eq!(
        members.handle_hello(id(2), [PEER + 2, 1], &echo(8), 8, at(4)),
        HelloEffect::NewRun
    );
}

#[test]
fn what_was_recorded_in_an_earlier_life_of_ours_proves_nothing() {
    let mut members = membership();
    let recorded = naming(US + 1, 1_000_000);
    let change = members.handle_hello(id(2), [PEER, 9], &recorded, 1, at(1));
    assert_eq!(change, HelloEffect::Nothing);
    assert!(members.live().is_empty());
}

/// PROTOCOL.md 3.4
#[test]
fn a_packet_number_counts_once() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(1));
    assert!(members.accept(id(2), PEER, 2, at(1)));
    assert!(!members.accept(id(2), PEER, 2, at(1)));
    assert_eq!(
        members.handle_hello(id(2), [PEER, 2], &echo(1), 1, at(1)),
        HelloEffect::Refused
    );
}

/// PROTOCOL.md 3.5
#[test]
fn a_silent_peer_dies_when_that_was_announced_and_is_back_with_its_next_hello() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(0));
    while members.poll_hello(at(0), 0, |_| 0).is_some() {}
    for now in (100..500).step_by(100) {
        assert_eq!(members.poll_dead(at(now)), None);
        assert!(members.poll_hello(at(now), 0, |_| 0).is_some());
    }
    assert_eq!(members.poll_timeout(), at(500));
    assert_eq!(members.poll_dead(at(499)), None);
    assert_eq!(members.poll_dead(at(500)), Some(id(2)));
    assert_eq!(members.poll_dead(at(500)), None);
    assert_eq!(
        members.handle_hello(id(2), [PEER, 2], &echo(1), 9, at(600)),
        HelloEffect::Back
    );
}

/// PROTOCOL.md 3.5
#[test]
fn a_peer_that_does_not_hear_us_is_dead_and_only_its_newest_hello_says_so() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(0));
    members.handle_hello(id(2), [PEER, 3], &echo(2), 2, at(1));
    members.handle_hello(id(2), [PEER, 2], &deaf(), 2, at(2));
    assert_eq!(members.poll_dead(at(2)), None, "overtaken");
    members.handle_hello(id(2), [PEER, 4], &deaf(), 2, at(3));
    assert_eq!(members.poll_timeout(), Instant::default());
    assert_eq!(members.poll_dead(at(3)), Some(id(2)));
    members.handle_hello(id(2), [PEER, 5], &deaf(), 2, at(4));
    assert!(members.live().is_empty());
}

/// PROTOCOL.md 3.6
#[test]
fn a_restart_within_the_dead_interval_is_a_new_run_and_no_death() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(0));
    members.handle_hello(id(2), [PEER + 1, 1], &echo(2), 2, at(50));
    assert_eq!(members.poll_dead(at(60)), None);
    let peer = members.peer(id(2)).unwrap();
    assert_eq!(peer.run, 2);
    assert!(peer.runs_of_table().contains(1));
    let rebooted = Hello {
        table: 77,
        ..echo(3)
    };
    members.handle_hello(id(2), [PEER + 2, 1], &rebooted, 3, at(60));
    let restarted = Hello {
        table: 77,
        ..echo(4)
    };
    members.handle_hello(id(2), [PEER + 3, 1], &restarted, 4, at(70));
    let runs = members.peer(id(2)).unwrap().runs_of_table();
    let contained = [1, 2, 3, 4].map(|run| runs.contains(run));
    assert_eq!(contained, [false, false, true, true]);
}

#[test]
fn a_stranger_is_refused() {
    let mut members = membership();
    assert_eq!(
        members.handle_hello(id(9), [PEER, 1], &echo(1), 1, at(0)),
        HelloEffect::Refused
    );
    assert!(!members.accept(id(9), PEER, 2, at(0)));
}

/// PROTOCOL.md 12.7
#[test]
fn what_a_late_loop_has_not_read_is_not_silence_of_its_peers() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(0));
    while members.poll_hello(at(0), 0, |_| 0).is_some() {}
    assert_eq!(members.handle_turn(at(100)), None);
    assert_eq!(
        members.handle_turn(at(2_100)),
        Some(Duration::from_millis(1_900))
    );
    assert_eq!(members.poll_dead(at(2_100)), None);
    assert_eq!(members.poll_dead(at(2_399)), None);
    assert_eq!(members.poll_dead(at(2_400)), Some(id(2)));
}

/// PROTOCOL.md 12.7
#[test]
fn a_peer_that_says_it_is_starved_may_be_silent_three_times_as_long() {
    let mut members = membership();
    members.handle_hello(id(2), [PEER, 1], &echo(1), 1, at(0));
    members.set_load(id(2), Load::Starved);
    while members.poll_hello(at(0), 0, |_| 0).is_some() {}
    assert_eq!(members.poll_dead(at(1_499)), None);
    let hello = members.poll_hello(at(1_499), 0, |_| 0).unwrap();
    assert_eq!(hello.heard.len(), 1, "it is told that it is heard");
    assert_eq!(members.poll_dead(at(1_500)), Some(id(2)));
}
