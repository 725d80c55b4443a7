//! What the kernel is made to do of the policy: fewer events, and never another outcome.

use tests::cluster::{Cluster, Daemon, Settings};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::wait_equal;
use tests::traffic::{Connection, Kind};

use flows::{known, listen, open};

mod drawn;
mod flows;
mod xtables;

fn start(lab: &Lab, policy: &'static str, more: &'static str) -> Cluster {
    let settings = Settings {
        policy,
        more,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(lab, settings);
    lab.activate(0);
    cluster
}

/// Events that a daemon had of flows that pass its gateway.
fn events(daemon: &Daemon) -> u64 {
    daemon.counter("local_changes") + daemon.counter("policy_never")
}

#[test]
fn a_flow_that_is_never_synchronised_makes_no_event_at_all() {
    let lab = Lab::new(2);
    let cluster = start(
        &lab,
        "services: { a: { protocol: udp, ports: 2000-2005, sync: never }, b: { sync: never } }\n\
         rules: [{ source: 10.0.0.101, service: b }, { service: a }]\n",
        "",
    );
    let _listeners = listen(&lab);
    let before = events(&cluster.members[0]);
    for port in [2000, 2005] {
        open(&lab, 17, "10.0.0.100", port);
        open(&lab, 17, "fd00::100", port);
    }
    let _connection = open(&lab, 6, "10.0.0.101", 2009);
    lab.gateways[0].run("conntrack -D -p udp --dport 2000");
    open(&lab, 17, "10.0.0.100", 2006);
    wait_until("the peer has the one that is told", DEADLINE, || {
        known(&cluster.members[1]).len() == 1
    });
    assert_eq!(events(&cluster.members[0]), before + 1);
}

#[test]
fn the_filter_of_the_socket_leaves_the_ruleset_alone_and_follows_the_policies_of_all() {
    let lab = Lab::new(2);
    let gateway = &lab.gateways[0];
    let rules = gateway.run("nft list ruleset");
    let quiet = "services: { quiet: { protocol: udp, ports: 2000-2005, sync: never } }\n";
    let more = "kernel: { copy_bit: none }\npolicy: { kernel: filter }\n";
    let cluster = start(&lab, quiet, more);
    assert_eq!(gateway.run("nft list ruleset"), rules);
    let member = &cluster.members[0];
    let said = |what: &str| member.log().matches(what).count();
    let (attached, detached) = ("what it never synchronises is left", "nothing is left out");
    let received = || member.counter("events_received");
    wait_until("the filter is attached", DEADLINE, || said(attached) == 1);
    // What is left out is not read at all; what comes after it is.
    let before = received();
    open(&lab, 17, "10.0.0.100", 2005);
    open(&lab, 17, "fd00::100", 2000);
    open(&lab, 17, "10.0.0.100", 2006);
    let at_peer = |count| {
        wait_until("the peer has those that are told", DEADLINE, || {
            known(&cluster.members[1]).len() == count
        });
    };
    at_peer(1);
    assert_eq!(received(), before + 1);
    // Ends pass.
    gateway.run("conntrack -D -p udp --dport 2005");
    wait_until("the end is read", DEADLINE, || received() == before + 2);

    member.write_policy("");
    // A peer with another policy may tell of what is never told here, and that may move here.
    cluster.members[1].ask("reload");
    wait_until("nothing is left out", DEADLINE, || said(detached) == 1);
    let before = received();
    open(&lab, 17, "10.0.0.100", 2004);
    wait_until("it is read", DEADLINE, || received() == before + 1);
    cluster.members[0].ask("reload");
    at_peer(3);
    open(&lab, 17, "10.0.0.101", 2001);
    at_peer(4);
}

#[test]
fn a_tcp_flow_makes_two_events_when_it_opens_and_is_told_when_it_closes() {
    let lab = Lab::new(2);
    let cluster = start(&lab, "", "");
    let before = events(&cluster.members[0]);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_equal(&lab.gateways, DEADLINE);
    let listed = lab.gateways[1].run("conntrack -L -p tcp -s 10.0.0.100");
    assert!(
        listed.contains("ESTABLISHED") && listed.contains("[ASSURED]"),
        "{listed}"
    );
    assert_eq!(events(&cluster.members[0]), before + 2);
    let shown = cluster.members[1].ask_json("flows");
    assert!(shown.contains("ESTABLISHED"), "{shown}");
    drop(connection);
    wait_until("the peer knows that it closes", DEADLINE, || {
        let listed = lab.gateways[1].run("conntrack -L -p tcp -s 10.0.0.100");
        !listed.contains("ESTABLISHED")
    });
    wait_equal(&lab.gateways, DEADLINE);
}

#[test]
fn the_table_of_ctsync_takes_every_condition() {
    let lab = Lab::new(2);
    let cluster = start(
        &lab,
        "services:\n  all: { sync: never }\n  ping: { protocol: [icmp, icmpv6], icmp_types: [8, 128-129], sync: never }\n  \
         web: { protocol: [tcp, udp, sctp], ports: [80, 90-95], sync: never }\n  keep: { protocol: [tcp, gre] }\n  \
         held: { protocol: [tcp, udp], ports: [53, 60-65], hold: always }\n  pings: { protocol: [icmp, icmpv6], icmp_types: 8, hold: always }\n\
         rules:\n  - { source: [10.1.0.0/16, 10.2.0.1, \"2001:db8:7::/48\"], destination: [10.3.0.0/16, \"fd01::/16\"], service: keep }\n  \
         - { source: [10.4.0.0/16, \"2001:db8:9::/48\"], zone: 7, mark: 3, service: held }\n  - { source: 10.4.0.0/16, service: pings }\n  \
         - { destination: \"2001:db8:8::/48\", service: web }\n  - { mark: 1, service: all }\n  - { source: 10.9.0.0/16, service: all }\n  \
         - { service: ping }\n  - { source: 10.8.0.0/16, service: all }\n",
        "",
    );
    let listed = || lab.gateways[0].run("nft list table inet ctsync");
    let with = listed();
    assert!(with.contains("chain never"), "{with}");
    // Where it stands depends on the kernel.
    let all = lab.gateways[0].run("nft list ruleset");
    assert!(all.contains("@held_ports_1"), "{all}");
    lab.gateways[0].nft(&cluster.members[0].ask("rules"));
    assert_eq!(listed(), with);
    // And packets still pass.
    let _listeners = listen(&lab);
    let _connection = open(&lab, 6, "10.0.0.100", 2009);
}
