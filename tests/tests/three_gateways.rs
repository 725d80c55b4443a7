//! Three gateways that all carry flows, and sixteen: at the end each has all flows of all.

use std::thread;
use std::time::Duration;

use tests::cluster::{Cluster, Settings, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;
use tests::table::wait_equal;

/// How long sixteen daemons on a busy machine may take.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn each_has_all_flows_of_all_by_unicast() {
    each_has_all_flows_of_all(Transport::Unicast, Family::Ipv4);
}

#[test]
fn each_has_all_flows_of_all_by_multicast() {
    each_has_all_flows_of_all(Transport::Multicast, Family::Ipv4);
}

#[test]
fn each_has_all_flows_of_all_by_broadcast() {
    each_has_all_flows_of_all(Transport::Broadcast, Family::Ipv4);
}

#[test]
fn each_has_all_flows_of_all_by_unicast_over_ipv6() {
    each_has_all_flows_of_all(Transport::Unicast, Family::Ipv6);
}

#[test]
fn each_has_all_flows_of_all_by_multicast_over_ipv6() {
    each_has_all_flows_of_all(Transport::Multicast, Family::Ipv6);
}

#[track_caller]
fn each_has_all_flows_of_all(transport: Transport, family: Family) {
    let lab = Lab::new(3);
    let settings = Settings {
        transport,
        family,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    // All three at the same time, each through its gateway.
    let crowds: Vec<_> = thread::scope(|scope| {
        let gateways = 0..lab.gateways.len();
        let started: Vec<_> = gateways
            .map(|it| {
                scope.spawn({
                    let lab = &lab;
                    move || crowd(lab, it)
                })
            })
            .collect();
        started
            .into_iter()
            .map(|it| it.join().expect("a crowd opens"))
            .collect()
    });
    let table = wait_equal(&lab.gateways, Duration::from_secs(20));
    let opened: usize = crowds.iter().map(|(_, opened)| opened).sum();
    assert_eq!(table.len(), opened);
    drop(cluster);
}

/// Opens flows of every kind through one gateway; returns how many with those that hold them.
fn crowd(lab: &Lab, gateway: usize) -> (Crowd, usize) {
    let mut crowd = Crowd::default();
    let path = Path::Through(gateway);
    for family in [Family::Ipv4, Family::Ipv6] {
        crowd.tcp(lab, path, family, 300);
        crowd.udp(lab, path, family, 300);
        crowd.icmp(lab, path, family, 50);
        Crowd::tcp_opened_and_closed(lab, path, family, 200);
    }
    (crowd, 2 * 850)
}

#[test]
fn sixteen_members_have_all_flows_of_all_and_one_that_dies_is_dead_to_all() {
    let lab = Lab::new(16);
    let mut cluster = Cluster::start(&lab, Transport::Multicast);
    let mut crowd = Crowd::default();
    for gateway in 0..lab.gateways.len() {
        let path = Path::Through(gateway);
        crowd.tcp(&lab, path, Family::Ipv4, 20);
        crowd.udp(&lab, path, Family::Ipv6, 20);
    }
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 16 * 40);
    let (last, others) = cluster.members.split_last_mut().expect("there are sixteen");
    last.process().kill();
    wait_until("fifteen know of the death", DEADLINE, || {
        others.iter().all(|it| it.log().contains("peer is dead"))
    });
    // Nobody else is: each has lost one peer.
    let deaths = others
        .iter()
        .map(|it| it.log().matches("peer is dead").count());
    assert_eq!(deaths.max(), Some(1));
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 16 * 40);
}
