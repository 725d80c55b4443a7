use super::{Paths, Spread, Switch};
use crate::network::{NetworkId, NetworkSet};
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use crate::wire::control::PathReport;
use core::time::Duration;
use std::vec::Vec;

const DEAD_AFTER: Duration = Duration::from_secs(1);
const HELLO: u64 = 100;

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

fn network(number: u8) -> NetworkId {
    NetworkId::new(number).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

/// Member 1 and its one peer, and what came of hellos that the peer sent.
struct Two {
    paths: Paths,
    hellos: u64,
    switches: Vec<(u64, Switch)>,
}

impl Two {
    fn new(networks: usize, spread: Spread) -> Self {
        Self {
            paths: Paths::new(&[id(2)], networks, spread, DEAD_AFTER, at(0)),
            hellos: 0,
            switches: Vec::new(),
        }
    }

    /// The peer says each 100 ms, from one time to the other, over these networks, that it hears us over those.
    fn hellos(&mut self, millis: [u64; 2], over: &[u8], heard_over: &[u8], loss: Option<u16>) {
        let mut now = millis[0];
        while now < millis[1] {
            for each in over {
                self.hellos += 1;
                let over = network(*each);
                self.paths.handle_datagram(id(2), over, None);
                let report = PathReport {
                    member: id(1),
                    heard_over: heard_over.iter().map(|it| network(*it)).collect(),
                    hears: MemberSet::default(),
                    echo: 0,
                    delay_micros: 0,
                    sent: self.paths.path(id(2), over).unwrap().received,
                    loss_permille: loss,
                };
                let switch =
                    (self.paths).handle_hello(id(2), over, self.hellos, Some(&report), at(now));
                self.switches.extend(switch.map(|it| (now, it)));
            }
            now += HELLO;
        }
    }
}

#[test]
fn a_network_that_the_peer_does_not_hear_is_left_at_once_and_taken_again_when_it_settled() {
    let mut two = Two::new(2, Spread::One);
    two.hellos([0, 1000], &[0, 1], &[0, 1], None);
    assert_eq!(two.paths.used(id(2)), network(0));
    two.hellos([1000, 2000], &[0, 1], &[1], None);
    let switch = |from, to| Switch {
        member: id(2),
        from: network(from),
        to: network(to),
    };
    assert_eq!(two.switches, [(1000, switch(0, 1))]);
    two.hellos([2000, 6000], &[0, 1], &[0, 1], None);
    assert_eq!(
        two.switches[1..],
        [(4000, switch(1, 0))],
        "twice the dead interval"
    );
}

#[test]
fn a_network_that_loses_too_much_is_left_for_a_good_one_but_not_for_a_dead_one() {
    let mut two = Two::new(2, Spread::One);
    two.hellos([0, 3000], &[0, 1], &[0], Some(200));
    assert!(two.paths.path(id(2), network(0)).unwrap().is_degraded());
    assert_eq!(two.switches, [], "nothing else works");
    let mut two = Two::new(2, Spread::One);
    two.hellos([0, 3000], &[0, 1], &[0, 1], None);
    for millis in (3000..8000).step_by(100) {
        two.hellos([millis, millis + 1], &[0], &[0, 1], Some(60));
        two.hellos([millis, millis + 1], &[1], &[0, 1], Some(0));
    }
    assert_eq!(two.paths.used(id(2)), network(1));
}

#[test]
fn with_duplicates_everything_goes_over_all_networks_that_work() {
    let mut two = Two::new(3, Spread::All);
    two.hellos([0, 1000], &[0, 1, 2], &[0, 2], None);
    let routes = two.paths.to_one(id(2));
    let over: NetworkSet = routes.iter().map(|(network, _)| network).collect();
    assert_eq!(over, [network(0), network(2)].into_iter().collect());
    assert_eq!(routes.only(), None);
}

#[test]
fn a_copy_counts_once_on_each_network() {
    let mut two = Two::new(2, Spread::All);
    assert!(two.paths.handle_datagram(id(2), network(0), Some(7)));
    assert!(two.paths.handle_datagram(id(2), network(1), Some(7)));
    assert!(!two.paths.handle_datagram(id(2), network(1), Some(7)));
}

#[test]
fn loss_is_what_the_peer_sent_less_what_came() {
    let mut two = Two::new(1, Spread::One);
    let (mut sent, mut hellos) = (0, 0);
    for hello in 0..100u64 {
        for _ in 0..10 {
            sent += 1;
            if sent % 10 != 0 {
                two.paths.handle_datagram(id(2), network(0), None);
            }
        }
        hellos += 1;
        let report = PathReport {
            member: id(1),
            heard_over: [network(0)].into_iter().collect(),
            hears: MemberSet::default(),
            echo: 0,
            delay_micros: 0,
            sent,
            loss_permille: None,
        };
        (two.paths).handle_hello(id(2), network(0), hellos, Some(&report), at(hello * 101));
    }
    let path = two.paths.path(id(2), network(0)).unwrap();
    assert!((95..=105).contains(&path.loss_incoming().unwrap()));
    assert!(path.is_degraded());
}

#[test]
fn the_round_trip_is_that_of_a_hello_less_the_time_it_lay_there() {
    let mut two = Two::new(1, Spread::One);
    two.paths.note_hello(network(0), (7 << 32) + 5, at(1000));
    let report = PathReport {
        member: id(1),
        heard_over: [network(0)].into_iter().collect(),
        hears: MemberSet::default(),
        echo: 5,
        delay_micros: 70_000,
        sent: 1,
        loss_permille: None,
    };
    (two.paths).handle_hello(id(2), network(0), 1, Some(&report), at(1080));
    let path = two.paths.path(id(2), network(0)).unwrap();
    assert_eq!(path.rtt(), Some(Duration::from_millis(10)));
}
