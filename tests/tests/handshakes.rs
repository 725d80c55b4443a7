//! Connections whose directions pass different gateways, through rules that let pass only what the gateway knows: the SYN
//! and the SYN/ACK wait until the other gateway has heard of the connection.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::cluster::{Cluster, Daemon, Settings};
use tests::connects::{Connects, connect};
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;

/// A machine that is busy with other tests may be late, so the deadline is long: what is missed then was not held at all.
fn always() -> Settings {
    Settings {
        more: "hold: { mode: always, deadline: 500ms }",
        ..Settings::default()
    }
}

/// A SYN or SYN/ACK that was dropped is sent again after a second.
const SENT_AGAIN: Duration = Duration::from_millis(900);
const DEADLINE: Duration = Duration::from_secs(30);

/// Packets of the client pass the first gateway, those of the server the second.
fn lab(gateways: usize) -> Lab {
    let lab = Lab::new(gateways);
    lab.split(0, 1);
    lab
}

#[track_caller]
fn assert_none_sent_again(connects: &Connects, count: usize) {
    println!("{connects}");
    assert_eq!(
        (connects.count(), connects.failed),
        (count, 0),
        "{connects}"
    );
    assert_eq!(connects.at_least(SENT_AGAIN), 0, "{connects}");
}

#[test]
fn a_thousand_connections_open_at_once_although_their_directions_pass_different_gateways() {
    let lab = lab(2);
    let cluster = Cluster::start_with(&lab, always());
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_none_sent_again(&connect(&lab, Path::Plain, family, 1, 500), 500);
    }
    let [a, b] = [0, 1].map(|at| cluster.members[at].counter("held_acked"));
    assert!(a >= 900 && b >= 900, "{a} and {b} of 1000 were held");
}

#[test]
fn two_hundred_clients_at_a_time_open_theirs_through_three_gateways() {
    let lab = lab(3);
    let cluster = Cluster::start_with(&lab, always());
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 200, 1000);
    for member in &cluster.members {
        // For who has to find out why it failed.
        println!("{}", how_they_ended(member));
    }
    assert_none_sent_again(&connects, 1000);
}

/// As it is when nobody says otherwise.
#[test]
fn after_the_first_connection_others_to_its_destination_open_at_once() {
    let lab = lab(2);
    let settings = Settings {
        more: "hold: { deadline: 500ms }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    for family in [Family::Ipv4, Family::Ipv6] {
        let first = connect(&lab, Path::Plain, family, 1, 1);
        println!("{first}");
        assert_eq!((first.count(), first.failed), (1, 0));
        wait_until("a connection is held", DEADLINE, || {
            let before = cluster.members[0].counter("held_acked");
            connect(&lab, Path::Plain, family, 1, 1);
            cluster.members[0].counter("held_acked") > before
        });
        assert_none_sent_again(&connect(&lab, Path::Plain, family, 1, 100), 100);
    }
    let member = &cluster.members[0];
    let paths: Value = serde_json::from_str(&member.ask_json("paths")).unwrap();
    assert_eq!(paths["used"], true, "{paths:#}");
    let destinations = paths["destinations"].as_array().unwrap();
    for prefix in ["203.0.113.0/24", "2001:db8::/64"] {
        let learnt = destinations.iter().find(|it| it["destination"] == prefix);
        let learnt = learnt.unwrap_or_else(|| panic!("{prefix}: {paths:#}"));
        assert!(learnt["flows"].as_u64() > Some(1), "{learnt:#}");
        assert_eq!(learnt["proto"], "tcp");
    }
    println!("{}", member.ask("paths"));
    let status = member.status().unwrap();
    for latency in [
        &status["holds"]["latency"],
        &status["peers"][0]["hold"]["latency"],
    ] {
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|it| latency[it].as_u64());
        assert!(p50 > Some(0) && p50 <= p99 && p99 <= max, "{status:#}");
        assert!(latency["count"].as_u64() >= Some(200), "{status:#}");
    }
    println!("{}", member.ask("status"));
}

fn how_they_ended(member: &Daemon) -> String {
    let causes = ["acked", "deadline", "limit", "no_peer", "unknown"];
    causes
        .map(|it| format!("{it} {}", member.counter(&format!("held_{it}"))))
        .join(", ")
}

/// `auto` holds nothing yet, as nothing was learnt, but for the services of which the policy says it.
#[test]
fn packets_of_a_service_are_held_also_where_nothing_is_suspected() {
    let lab = lab(2);
    let settings = Settings {
        more: "hold: { deadline: 500ms }",
        policy: "services: { all-of-tcp: { protocol: tcp, hold: always }, questions: { protocol: udp, ports: 5000, hold: always } }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_none_sent_again(&connect(&lab, Path::Plain, family, 1, 20), 20);
    }
    let held = || cluster.members[0].counter("held_acked");
    // The first of each only: what comes after it passes a flow that is known.
    for (port, wanted) in [(5000, 1), (5001, 0)] {
        let before = held();
        if wanted == 0 {
            // An answer that is faster than the news of its question would be dropped.
            lab.activate(0);
        }
        let [client, server] = [&lab.client, &lab.server].map(|machine| {
            let (address, port) = match machine.label() {
                "client" => (Path::Plain.client(Family::Ipv4), 0),
                _ => (Path::Plain.server(Family::Ipv4), port),
            };
            let socket = machine.inside(|| UdpSocket::bind((address, port)));
            let socket = socket.expect("the machine has the address");
            socket
                .set_read_timeout(Some(DEADLINE))
                .expect("a timeout that is not zero");
            socket
        });
        let to = server.local_addr().expect("it is bound");
        for _ in 0..10 {
            client.send_to(b"question", to).expect("there is a route");
            let (_, from) = server.recv_from(&mut [0; 8]).expect("the question arrives");
            server.send_to(b"answer", from).expect("there is a route");
            client.recv_from(&mut [0; 8]).expect("the answer arrives");
        }
        assert_eq!(held() - before, wanted, "port {port}");
    }
}

/// On this kernel: where it attaches flows to held packets they are held, which `translated.rs` shows.
#[test]
fn where_the_kernel_does_not_say_how_a_flow_is_translated_its_first_packet_passes_and_is_counted() {
    let lab = Lab::new(2);
    let cluster = Cluster::start_with(&lab, always());
    let member = &cluster.members[0];
    let attaches = !member.log().contains("CONFIG_NETFILTER_NETLINK_GLUE_CT");
    let mut count = 0;
    for (path, family) in [
        (Path::Masqueraded, Family::Ipv4),
        (Path::Masqueraded, Family::Ipv6),
        (Path::Redirected, Family::Ipv4),
        (Path::Redirected, Family::Ipv6),
    ] {
        assert_none_sent_again(&connect(&lab, path, family, 1, 5), 5);
        count += 5;
        let [passed, held] = ["held_nat_unknown", "held_acked"].map(|it| member.counter(it));
        let wanted = match attaches {
            true => [0, count],
            false => [count, 0],
        };
        assert_eq!([passed, held], wanted, "{path:?} {family}");
    }
}

/// The control: without holding, the SYN/ACK is faster than what is told of the SYN.
#[test]
fn without_holding_they_wait_until_their_packets_are_sent_again() {
    let lab = lab(2);
    let settings = Settings {
        more: "hold: { mode: never }",
        ..Settings::default()
    };
    let _cluster = Cluster::start_with(&lab, settings);
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 10, 10);
    println!("{connects}");
    assert_eq!(connects.at_least(SENT_AGAIN), connects.count());
}

#[test]
fn a_stopped_peer_delays_a_few_connections_and_not_all() {
    let lab = lab(3);
    let mut cluster = Cluster::start_with(&lab, always());
    cluster.members[2].process().signal(Signal::STOP);
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 4, 300);
    cluster.members[2].process().signal(Signal::CONT);
    println!("{connects}");
    assert_eq!((connects.count(), connects.failed), (300, 0), "{connects}");
    let late = connects.at_least(Duration::from_millis(400));
    assert!(late <= 50, "{connects}");
    wait_until("the peer is waited for again", DEADLINE, || {
        connect(&lab, Path::Plain, Family::Ipv4, 1, 5);
        cluster.members[0]
            .log()
            .contains("packets are held for it again")
    });
}

#[test]
fn with_the_daemon_killed_packets_pass_and_the_next_start_takes_its_rules_over() {
    let lab = Lab::new(2);
    let gateway = &lab.gateways[0];
    let before = gateway.run("nft list ruleset");
    let mut cluster = Cluster::start_with(&lab, always());
    let with = gateway.run("nft list ruleset");
    assert_ne!(with, before);
    cluster.members[0].process().kill();
    assert_eq!(gateway.run("nft list ruleset").len(), with.len());
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 10, 100);
    assert_none_sent_again(&connects, 100);
    cluster.members[0].start(gateway);
    cluster.wait_in_step();
    assert_none_sent_again(&connect(&lab, Path::Plain, Family::Ipv4, 10, 100), 100);
    assert!(cluster.members[0].counter("held_acked") >= 90);
    cluster.members[0].process().signal(Signal::TERM);
    assert!(cluster.members[0].process().wait(DEADLINE).success());
    assert_eq!(gateway.run("nft list ruleset"), before);
}

#[test]
fn beyond_the_limit_packets_pass_and_are_counted() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "hold: { mode: always, deadline: 500ms, held_max: 1 }",
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    cluster.members[1].process().signal(Signal::STOP);
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 20, 20);
    cluster.members[1].process().signal(Signal::CONT);
    assert_none_sent_again(&connects, 20);
    let passed = cluster.members[0].counter("held_limit");
    assert!((1..20).contains(&passed), "{passed} of 20 passed");
}
