//! Connections whose directions pass different gateways, through rules that let pass only what the gateway knows: the SYN
//! and the SYN/ACK wait until the other gateway has heard of the connection.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::cluster::{Cluster, Daemon, Settings};
use tests::connects::{Connects, connect, connect_within};
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{DEADLINE, Namespace, Process, wait_until};
use tests::table::table;

/// A machine that is busy with other tests may be late, so the deadline is long: what is missed then was not held at all.
fn always() -> Settings {
    Settings {
        more: "hold: { mode: always, deadline: 500ms }",
        ..Settings::default()
    }
}

/// A SYN or SYN/ACK that was dropped is sent again after a second.
const SENT_AGAIN: Duration = Duration::from_millis(900);

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
        let connects = connect(&lab, Path::Plain, family, 1, 500);
        for member in &cluster.members {
            println!("{}", how_they_ended(member));
        }
        assert_none_sent_again(&connects, 500);
    }
    let [a, b] = [0, 1].map(|at| cluster.members[at].counter("held_acked"));
    assert!(a >= 990 && b >= 990, "{a} and {b} of 1000 were held");
}

#[test]
fn two_hundred_clients_at_a_time_open_theirs_through_three_gateways() {
    let lab = lab(3);
    let cluster = Cluster::start_with(&lab, always());
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 200, 1000);
    assert_only_what_missed_is_late(&connects, 1000, &cluster);
}

/// 20 ms. What misses them goes on, and may have to be sent again: that can happen on a busy machine, and is counted.
#[test]
fn with_the_default_deadline_only_what_missed_it_is_sent_again() {
    let lab = lab(2);
    let settings = Settings {
        more: "hold: { mode: always }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let mut connects = Connects::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        connects.extend(connect(&lab, Path::Plain, family, 1, 500));
    }
    assert_only_what_missed_is_late(&connects, 1000, &cluster);
}

#[track_caller]
fn assert_only_what_missed_is_late(connects: &Connects, count: usize, cluster: &Cluster) {
    println!("{connects}");
    for member in &cluster.members {
        println!("{}", how_they_ended(member));
    }
    let missed: u64 = (cluster.members.iter())
        .flat_map(|it| ["held_deadline", "held_no_peer"].map(|cause| it.counter(cause)))
        .sum();
    assert_eq!(
        (connects.count(), connects.failed),
        (count, 0),
        "{connects}"
    );
    let late = connects.at_least(SENT_AGAIN) as u64;
    assert!(late <= missed, "{missed} missed their deadline: {connects}");
}

#[test]
fn a_sync_network_that_loses_one_in_a_hundred_makes_none_late() {
    let lab = lab(2);
    let cluster = Cluster::start_with(&lab, always());
    let lose = "table inet loss { chain input { type filter hook input priority raw; \
                iifname sync0 udp dport 8116 numgen random mod 100 < 1 counter drop; }; }";
    lab.gateways.iter().for_each(|it| it.nft(lose));
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_none_sent_again(&connect(&lab, Path::Plain, family, 4, 300), 300);
    }
    for (member, gateway) in cluster.members.iter().zip(&lab.gateways) {
        println!("{}", how_they_ended(member));
        let loss = gateway.run("nft list table inet loss");
        assert!(!loss.contains("packets 0 "), "nothing was lost: {loss}");
    }
}

/// Each connection's way is drawn by its ports, and its directions pass different gateways of the three.
#[test]
fn curl_fetches_megabytes_over_routes_drawn_at_random() {
    const FETCHES: usize = 60;
    let lab = Lab::new(3);
    for (machine, side, net, via) in [
        (&lab.client, ["saddr", "sport"], "default", "10.0.0.1"),
        (
            &lab.server,
            ["daddr", "dport"],
            "10.0.0.0/24",
            "203.0.113.1",
        ),
    ] {
        let [address, port] = side;
        machine.nft(&format!(
            "table ip routes {{ chain out {{ type route hook output priority mangle; \
             meta l4proto tcp meta mark set jhash ip {address} . tcp {port} mod 3 seed 0x5eed offset 1; }}; }}"
        ));
        for drawn in 1..=3 {
            let gateway = match address {
                "saddr" => drawn,
                _ => drawn % 3 + 1,
            };
            machine.ip(&format!(
                "rule add fwmark {drawn} lookup {drawn}\nroute add {net} via {via}{gateway} table {drawn}"
            ));
        }
    }
    let cluster = Cluster::start_with(&lab, always());
    let directory = Directory::new("curl");
    std::fs::write(directory.path().join("object"), vec![7; 1 << 20]).expect("it is ours");
    let address = Path::Plain.server(Family::Ipv4).to_string();
    let mut command = lab.server.command("python3");
    command
        .args(["-m", "http.server", "--bind", &address, "8080"])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _server = Process::spawn("http.server", &mut command);
    let curl = |url: &str| {
        let mut command = lab.client.command("curl");
        command
            .args(["--silent", "--show-error", "--fail", "--parallel"])
            .args(["--interface", "10.0.0.100", "--output", "/dev/null"])
            .args([
                "--write-out",
                "%{http_code} %{size_download} %{time_connect}\\n",
            ])
            .arg(format!("http://{address}:8080/{url}"));
        command.output().expect("curl is installed")
    };
    wait_until("the server answers", DEADLINE, || curl("").status.success());
    let output = curl(&format!("object?[1-{FETCHES}]"));
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{said}");
    assert_eq!(said.lines().count(), FETCHES, "{said}");
    for line in said.lines() {
        let (fetched, opened) = line.rsplit_once(' ').expect("three words");
        assert_eq!(fetched, "200 1048576");
        let opened: f64 = opened.parse().expect("seconds");
        assert!(opened < SENT_AGAIN.as_secs_f64(), "{said}");
    }
    for member in &cluster.members {
        println!("{}", how_they_ended(member));
        assert!(member.counter("held_acked") > 0, "it was on nobody's way");
    }
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
    let paths: Value = member.answer(&["paths"]);
    assert_eq!(paths["used"], true, "{paths:#}");
    let destinations = paths["destinations"].as_array().unwrap();
    for prefix in ["203.0.113.0/24", "2001:db8::/64"] {
        let learnt = destinations.iter().find(|it| it["destination"] == prefix);
        let learnt = learnt.unwrap_or_else(|| panic!("{prefix}: {paths:#}"));
        assert!(learnt["flows"].as_u64() > Some(1), "{learnt:#}");
        assert_eq!(learnt["proto"], "tcp");
        assert_eq!(learnt["interfaces"], serde_json::json!(["wan"]));
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
    let causes = [
        "acked",
        "deadline",
        "limit",
        "no_peer",
        "unknown",
        "out_of_scope",
        "not_understood",
        "nat_unknown",
    ];
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
        let [client, server] = [socket(&lab.client, 0), socket(&lab.server, port)];
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

/// A socket of the client or the server, on this port; on any for 0.
fn socket(machine: &Namespace, port: u16) -> UdpSocket {
    let address = match machine.label() {
        "client" => Path::Plain.client(Family::Ipv4),
        _ => Path::Plain.server(Family::Ipv4),
    };
    machine.udp_socket((address, port), DEADLINE)
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

#[test]
fn what_misses_its_deadline_or_finds_no_peer_is_dropped_where_that_is_configured() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "hold: { mode: always, on_deadline: drop, on_no_peer: drop, on_unread: drop }",
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    let patience = Duration::from_millis(500);
    let is_open = || connect_within(&lab, Path::Plain, Family::Ipv4, 1, 1, patience).count() == 1;
    cluster.members[1].process().signal(Signal::STOP);
    for cause in ["held_deadline", "held_no_peer"] {
        // Until it is dead it is waited for.
        wait_until(cause, DEADLINE, || {
            assert!(!is_open(), "its packets are dropped");
            cluster.members[0].counter(cause) > 0
        });
    }
    cluster.members[1].process().signal(Signal::CONT);
    wait_until("a connection opens", DEADLINE, is_open);

    // Its rules stay, and nobody reads the queue.
    cluster.members[0].process().kill();
    assert!(!is_open(), "its packets are dropped");
    cluster.members[0].start(&lab.gateways[0]);
    wait_until("a connection opens again", DEADLINE, is_open);
}

#[test]
fn a_flow_that_was_held_is_told_once_and_withdrawn_if_a_later_rule_drops_its_packet() {
    let lab = Lab::new(2);
    let cluster = Cluster::start_with(&lab, Settings::default());
    let counter = |name| cluster.members[0].counter(name);
    let ask = |port: u16| {
        let [client, server] = [socket(&lab.client, 0), socket(&lab.server, port)];
        let to = server.local_addr().expect("it is bound");
        client.send_to(b"question", to).expect("there is a route");
        server
    };
    let receive = |server: &UdpSocket| server.recv_from(&mut [0; 8]).expect("it arrives");
    let has = |port: u16| {
        let port = format!("dport={port} ");
        table(&lab.gateways[1]).iter().any(|it| it.contains(&port))
    };
    receive(&ask(5000));
    wait_until("it is told", DEADLINE, || has(5000));
    assert_eq!(counter("held"), 0);

    // A reload is enough.
    let text = "services: { questions: { protocol: udp, ports: 5001-5002, hold: always } }";
    cluster.members[0].write_policy(text);
    for member in &cluster.members {
        member.ask("reload");
    }
    let told = counter("records_sent");
    receive(&ask(5001));
    assert_eq!(counter("held_acked"), 1);
    assert!(has(5001));

    lab.gateways[0].nft(
        "table inet later { chain last { type filter hook postrouting priority 250; \
         udp dport 5002 counter drop; }; }",
    );
    let _server = ask(5002);
    wait_until("its packet was dropped", DEADLINE, || {
        !(lab.gateways[0].run("nft list table inet later")).contains("packets 0 ")
    });
    assert_eq!(counter("held_acked"), 2);
    wait_until("it is withdrawn", DEADLINE, || {
        counter("held_withdrawn") == 1 && !has(5002)
    });
    // The other is older: by now the kernel has told of it, and that was no news.
    assert!(has(5001));
    assert_eq!(counter("records_sent"), told + 3);
}
