//! Several sync networks: one after the other fails under traffic, and no change is lost, nor any member.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use tests::arrivals::{Arrivals, Flow, open_flows};
use tests::cluster::{Cluster, Settings, Transport};
use tests::lab::Lab;
use tests::netns::{DEADLINE, wait_until};
use tests::table::{table, wait_equal};

/// With two networks.
fn two() -> Settings {
    Settings {
        networks: 2,
        ..Settings::default()
    }
}

#[test]
fn networks_fail_one_after_the_other_and_the_next_takes_over_within_a_second() {
    fail_one_after_the_other(Transport::Unicast);
}

#[test]
fn networks_of_groups_take_over_as_well() {
    fail_one_after_the_other(Transport::Multicast);
}

#[track_caller]
fn fail_one_after_the_other(transport: Transport) {
    let lab = Lab::with_networks(3, 2);
    let cluster = Cluster::start_with(&lab, Settings { transport, ..two() });
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");
    let flows = thread::scope(|scope| {
        let flows = scope.spawn(|| open_flows(&lab, Duration::from_secs(9)));
        wait_until("flows arrive", DEADLINE, || arrivals.count() > 0);
        // The switch dies; every interface stays up.
        lab.switch.ip("link set sync down");
        let used = |network| cluster.members.iter().all(|it| used(&it.status(), network));
        wait_until("the second network is used", DEADLINE, || used(1));
        lab.switch.ip("link set sync up");
        wait_until("the first network is used again", DEADLINE, || used(0));
        lab.switch.ip("link set sync1 down");
        flows.join().expect("flows can be opened")
    });
    let worst = worst_delay(&lab, &flows, &arrivals);
    assert!(worst < Duration::from_secs(1), "{worst:?}");
    wait_equal(&lab.gateways, DEADLINE);
    for member in &cluster.members {
        let log = member.log();
        assert!(!log.contains("peer is dead"), "{log}");
        assert!(member.counter("network_switches") >= 4, "there and back");
    }
}

#[test]
fn with_duplicates_a_network_that_fails_is_not_even_noticed() {
    let lab = Lab::with_networks(3, 2);
    let settings = Settings {
        more: "sync: { duplicate: true }",
        ..two()
    };
    let cluster = Cluster::start_with(&lab, settings);
    // Some were, before the members had met.
    let replayed = cluster.members[2].counter("datagrams_replayed_or_unproven");
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");
    let flows = thread::scope(|scope| {
        let flows = scope.spawn(|| open_flows(&lab, Duration::from_secs(3)));
        wait_until("flows arrive", DEADLINE, || arrivals.count() > 0);
        lab.switch.ip("link set sync down");
        flows.join().expect("flows can be opened")
    });
    worst_delay(&lab, &flows, &arrivals);
    let late = |flow: &&Flow| {
        let arrived = arrivals.of(flow.port());
        arrived.is_some_and(|it| it > flow.sent + Duration::from_millis(250))
    };
    let late = flows.iter().filter(late).count();
    assert!(late * 20 < flows.len(), "{late} of {}", flows.len());
    wait_equal(&lab.gateways, DEADLINE);
    let third = &cluster.members[2];
    assert!(third.counter("datagrams_duplicate") > 0);
    assert_eq!(third.counter("datagrams_replayed_or_unproven"), replayed);
}

#[test]
fn sockets_and_links_follow_an_interface_that_was_deleted_and_made_anew() {
    let lab = Lab::with_networks(2, 2);
    let cluster = Cluster::start_with(&lab, two());
    lab.gateways[1].ip("link del sync1");
    wait_until("the port of the switch is gone too", DEADLINE, || {
        !lab.switch.run("ip -brief link").contains("sync1-gw-b@")
    });
    let gone = || !cluster.members[1].log().contains("is gone");
    wait_until("the daemon has noticed", DEADLINE, || !gone());
    lab.plug_sync(1, 1);
    let heard = || cluster.members.iter().all(|it| hears_over(&it.status(), 1));
    wait_until("the new interface is used", DEADLINE, heard);
    lab.switch.ip("link set sync down");
    wait_until("the links are over the second network", DEADLINE, || {
        let mut members = cluster.members.iter();
        members.all(|it| {
            let status = it.status();
            used(&status, 1) && peers(&status).iter().all(|peer| peer["linked"] == true)
        })
    });
    cluster.members[0].ask("keys roll");
    open_flows(&lab, Duration::from_secs(1));
    wait_equal(&lab.gateways, DEADLINE);
}

#[test]
fn a_member_starts_with_one_network_of_two() {
    let lab = Lab::with_networks(2, 2);
    lab.gateways[0].ip("link set sync0 name spare");
    let mut cluster = Cluster::configure(&lab, two());
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    let begin = Instant::now();
    lab.gateways[0].ip("link set spare down\nlink set spare name sync0\nlink set sync0 up");
    let heard = || cluster.members.iter().all(|it| hears_over(&it.status(), 0));
    wait_until("the first network is there", DEADLINE, heard);
    println!("heard over it after {:?}", begin.elapsed());
}

#[test]
fn a_member_that_is_cut_off_one_way_is_known_as_such_on_both_sides() {
    let lab = Lab::new(3);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    lab.gateways[1].nft(
        "table inet cut { chain in { type filter hook input priority raw;
         iifname sync0 ip saddr 192.0.2.1 drop; }; }",
    );
    let warns = |member: usize, text: &str| {
        let status = cluster.members[member].status().unwrap_or_default();
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().any(|warning| warning == text)
    };
    wait_until("the one that is not heard knows it", DEADLINE, || {
        warns(0, "one-way: gw-b is heard, but does not hear this member")
    });
    wait_until("the one that does not hear knows it", DEADLINE, || {
        warns(1, "one-way: gw-a hears this member, but is not heard")
    });
    let state = |member: usize, peer: usize| {
        let status = cluster.members[member].status();
        peers(&status)[peer]["state"].clone()
    };
    assert_eq!([state(0, 0), state(1, 0)], ["dead", "dead"]);
    assert_eq!([state(0, 1), state(1, 1)], ["live", "live"]);
    // The third is none the worse.
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");
    let flows = open_flows(&lab, Duration::from_secs(1));
    worst_delay(&lab, &flows, &arrivals);
    lab.gateways[1].run("nft delete table inet cut");
    cluster.wait_in_step();
    wait_equal(&lab.gateways, DEADLINE);
    assert!(!warns(
        0,
        "one-way: gw-b is heard, but does not hear this member"
    ));
}

fn peers(status: &Option<Value>) -> Vec<Value> {
    let peers = status.as_ref().and_then(|it| it["peers"].as_array());
    peers.cloned().unwrap_or_default()
}

/// Whether this network, counted from 0, is used to every peer.
fn used(status: &Option<Value>, network: usize) -> bool {
    let peers = peers(status);
    !peers.is_empty()
        && (peers.iter()).all(|peer| peer["network"] == tests::cluster::network_name(network))
}

/// Whether every peer is heard over this network, and hears us over it.
fn hears_over(status: &Option<Value>, network: usize) -> bool {
    let name = tests::cluster::network_name(network);
    let peers = peers(status);
    let over = |peer: &Value| {
        let paths = peer["networks"].as_array();
        paths.is_some_and(|paths| {
            (paths.iter()).any(|path| path["name"] == name && path["state"] == "up")
        })
    };
    !peers.is_empty() && peers.iter().all(over)
}

/// The longest from a flow's first datagram to its entry in the listener's table.
#[track_caller]
fn worst_delay(lab: &Lab, flows: &[Flow], arrivals: &Arrivals) -> Duration {
    let arrived = |flow: &Flow| arrivals.of(flow.port());
    wait_until("every flow has arrived", DEADLINE, || {
        let unseen: Vec<_> = flows.iter().filter(|it| arrived(it).is_none()).collect();
        // Of a burst the tool that listens misses some now and then: these are in the table all the same.
        unseen.is_empty()
            || unseen.len() * 20 < flows.len() && {
                let table = table(&lab.gateways[2]);
                let is_there = |it: &&Flow| {
                    let port = format!("sport={} ", it.port());
                    table.iter().any(|line| line.contains(&port))
                };
                unseen.iter().all(is_there)
            }
    });
    let delays =
        (flows.iter()).filter_map(|it| Some(arrived(it)?.saturating_duration_since(it.sent)));
    delays.max().expect("there are flows")
}
