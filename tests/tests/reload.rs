//! Another policy in a running cluster: all of it or nothing, and the flows that are there follow.

use std::fs;
use std::process::Output;

use rustix::process::Signal;

use tests::cluster::{Cluster, Settings, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, Namespace, wait_until};
use tests::table::{client_entries, wait_equal};
use tests::traffic::{Connection, Kind};

/// Flows of UDP stay where they are.
const NO_UDP: &str = "services: { quiet: { protocol: udp, sync: never } }\n";
/// Flows of TCP do.
const NO_TCP: &str = "services: { quiet: { protocol: tcp, sync: never } }\n";

/// TCP and UDP flows through a gateway that it has entries of.
fn entries(gateway: &Namespace) -> [usize; 2] {
    ["tcp", "udp"].map(|proto| client_entries(gateway, proto))
}

#[test]
fn flows_that_are_there_follow_another_policy() {
    let lab = Lab::new(2);
    let settings = Settings {
        policy: NO_UDP,
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    lab.activate(0);
    let connections = [Kind::Interactive, Kind::Datagrams]
        .map(|kind| Connection::open(&lab, kind, Path::Plain, Family::Ipv4));
    let peer = &lab.gateways[1];
    wait_until("only TCP is there", DEADLINE, || entries(peer) == [1, 0]);

    cluster.members[0].write_policy(NO_TCP);
    for member in &cluster.members {
        let Output { status, stderr, .. } = member.outcome(&["reload"]);
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }
    wait_until("only UDP is there", DEADLINE, || entries(peer) == [0, 1]);
    assert_eq!(
        entries(&lab.gateways[0]),
        [1, 1],
        "the flows themselves stay"
    );
    assert_eq!(cluster.members[0].counter("policy_withdrawn"), 1);

    cluster.members[0].write_policy("");
    for member in &mut cluster.members {
        member.process().signal(Signal::HUP);
    }
    wait_until("both are there", DEADLINE, || entries(peer) == [1, 1]);
    wait_equal(&lab.gateways, DEADLINE);

    // What the kernel makes no events of any longer makes them again.
    lab.activate(1);
    let before = connections.each_ref().map(|it| it.progress().count);
    wait_until("both go on through the other gateway", DEADLINE, || {
        let counts = connections.each_ref().map(|it| it.progress().count);
        counts
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before + 5)
    });
    for connection in connections {
        assert_eq!(connection.progress().failure, None);
    }
}

/// What was begun without events makes none later either; its end is found where the table is read.
#[test]
fn a_flow_that_made_no_events_before_a_reload_ends_at_the_peer_too() {
    let lab = Lab::new(2);
    let settings = Settings {
        policy: NO_UDP,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    lab.activate(0);
    let udp = Connection::open(&lab, Kind::Datagrams, Path::Plain, Family::Ipv4);
    cluster.members[0].write_policy("");
    for member in &cluster.members {
        assert!(member.outcome(&["reload"]).status.success());
    }
    wait_until("the peer has it", DEADLINE, || {
        entries(&lab.gateways[1]) == [0, 1]
    });
    drop(udp);
    let ended = cluster.members[0].counter("local_changes");
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    assert_eq!(
        cluster.members[0].counter("local_changes"),
        ended,
        "nobody is told"
    );
    cluster.members[0].ask("audit --now");
    wait_until("the peer has it no longer", DEADLINE, || {
        entries(&lab.gateways[1]) == [0, 0]
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let lab = Lab::new(2);
    let settings = Settings {
        policy: NO_UDP,
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    let rules = lab.gateways[0].run("nft list ruleset");
    cluster.members[0].write_policy("services: { quiet: { protocol: udp, ports: 0 } }\n");
    let Output { status, stderr, .. } = cluster.members[0].outcome(&["reload"]);
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("policy.yaml:1:44: `0` is not a port"),
        "{said}"
    );
    cluster.members[0].process().signal(Signal::HUP);
    wait_until("it says so in the log", DEADLINE, || {
        cluster.members[0]
            .log()
            .matches("`0` is not a port")
            .count()
            == 2
    });
    assert_eq!(lab.gateways[0].run("nft list ruleset"), rules);
    lab.activate(0);
    let _udp = Connection::open(&lab, Kind::Datagrams, Path::Plain, Family::Ipv4);
    let _tcp = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_until("the old policy is in force", DEADLINE, || {
        entries(&lab.gateways[1]) == [1, 0]
    });
}

#[test]
fn what_takes_a_restart_is_named() {
    let lab = Lab::new(2);
    let cluster = Cluster::start_with(&lab, Settings::default());
    let config = cluster.members[0].config();
    let text = fs::read_to_string(config).expect("it was written");
    fs::write(config, text + "liveness: { hello: 90ms }\n").expect("it is ours");
    let Output { status, stdout, .. } = cluster.members[0].outcome(&["reload"]);
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success());
    assert!(
        said.contains("under liveness takes effect at the next restart"),
        "{said}"
    );
}

#[test]
fn another_level_of_the_log_takes_no_restart() {
    let lab = Lab::new(2);
    let cluster = Cluster::start_with(&lab, Settings::default());
    let config = cluster.members[0].config();
    let text = fs::read_to_string(config).expect("it was written");
    let quiet = format!("{text}log: {{ level: error }}\n");
    fs::write(config, &quiet).expect("it is ours");
    let Output { status, stdout, .. } = cluster.members[0].outcome(&["reload"]);
    let said = String::from_utf8_lossy(&stdout);
    assert!(status.success() && !said.contains("restart"), "{said}");
    let lines = cluster.members[0].log().lines().count();
    cluster.members[0].outcome(&["reload"]);
    assert_eq!(cluster.members[0].log().lines().count(), lines);
    fs::write(config, text).expect("it is ours");
    cluster.members[0].outcome(&["reload"]);
    wait_until("it logs again", DEADLINE, || {
        cluster.members[0].log().lines().count() > lines
    });
}

#[test]
fn rules_that_a_crash_leaves_behind_go_with_the_next_run_even_if_it_wants_none() {
    let lab = Lab::new(2);
    let gateway = &lab.gateways[0];
    let before = gateway.run("nft list ruleset");
    let settings = Settings {
        policy: NO_UDP,
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    cluster.members[0].process().kill();
    assert!(gateway.run("nft list ruleset").contains("chain never"));
    let config = cluster.members[0].config().to_owned();
    let text = fs::read_to_string(&config).expect("it was written");
    let none = "kernel: { copy_bit: none }\npolicy: { kernel: off }\n";
    fs::write(&config, text + none).expect("it is ours");
    cluster.members[0].start(gateway);
    cluster.wait_in_step();
    assert_eq!(gateway.run("nft list ruleset"), before);
}

#[test]
fn a_table_that_a_flushed_ruleset_takes_along_is_put_back() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let gateway = &lab.gateways[0];
    let ours = || {
        let text = gateway.run("nft list ruleset");
        let tables = text.split_inclusive("\n}\n");
        tables
            .filter(|it| it.contains(" ctsync {"))
            .collect::<String>()
    };
    let before = ours();
    assert!(before.contains("chain moved"), "{before}");
    for round in 1..=2 {
        gateway.run("nft flush ruleset");
        wait_until("the table is back", DEADLINE, || ours() == before);
        let said = cluster.members[0]
            .log()
            .matches("they were put back")
            .count();
        assert_eq!(said, 1, "once a minute, also in round {round}");
    }
}
