//! What the kernel is made to do of the policy: fewer events, and never another outcome.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use agent::convert;
use agent::policy::{Policy, Sync};
use conntrack::{Flow, L4, Tuple};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use tests::cluster::{Cluster, Daemon, Settings};
use tests::lab::{Family, Lab, Path};
use tests::netns::{holds_within, wait_until};
use tests::sim::random::Random;
use tests::table::wait_equal;
use tests::traffic::{Connection, Kind};

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Who opens flows, and to whom.
const CLIENTS: [&str; 4] = ["10.0.0.100", "10.0.0.101", "fd00::100", "fd00::101"];
const SERVERS: [&str; 2] = ["203.0.113.100", "2001:db8::100"];
/// Ports that services and flows are of.
const PORTS: std::ops::Range<u64> = 2000..2012;

/// Protocol, source, destination.
type Opened = (u8, SocketAddr, SocketAddr);

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

/// Listens for TCP on every port that flows are of. Nobody takes the connections, so that they stay.
fn listen(lab: &Lab) -> Vec<TcpListener> {
    let port = |port| u16::try_from(port).expect("it is a port");
    lab.server.inside(|| {
        let listener = |at| TcpListener::bind(("::", port(at))).expect("the port is free");
        PORTS.map(listener).collect()
    })
}

/// Opens a flow, with one datagram or a connection, which lasts as long as the socket.
fn open(lab: &Lab, proto: u8, source: &str, port: u16) -> (Opened, Socket) {
    let server = SERVERS[usize::from(source.contains(':'))];
    let to = SocketAddr::new(server.parse().expect("it is an address"), port);
    let from = SocketAddr::new(source.parse().expect("it is an address"), 0);
    let kind = if proto == 6 {
        Type::STREAM
    } else {
        Type::DGRAM
    };
    let socket = lab.client.inside(|| {
        let socket = Socket::new(Domain::for_address(to), kind, None).expect("there are sockets");
        socket.bind(&from.into()).expect("the address is there");
        socket.connect(&to.into()).expect("it is answered");
        if proto == 17 {
            socket.send(b"x").expect("there is a route");
        }
        socket
    });
    let local = socket.local_addr().expect("it is bound");
    ((proto, local.as_socket().expect("it is of IP"), to), socket)
}

/// Whether the policy has the peers told.
fn is_told(policy: &Policy, (proto, from, to): &Opened) -> bool {
    let tuple = Tuple {
        src: from.ip(),
        dst: to.ip(),
        proto: *proto,
        l4: L4::Ports {
            src: from.port(),
            dst: to.port(),
        },
        zone: 0,
    };
    policy.decide(&convert::key(&Flow::new(tuple)), 0).sync == Sync::Always
}

/// The flows to [`PORTS`] that a daemon knows.
fn known(daemon: &Daemon) -> BTreeSet<Opened> {
    let listed = daemon.ask_json("flows");
    let rows = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a row is JSON"));
    let end = |row: &Value, address: &str, port: &str| {
        let ip = row["orig"][address].as_str()?.parse().ok()?;
        let port = u16::try_from(row["orig"][port].as_u64()?).ok()?;
        Some(SocketAddr::new(ip, port))
    };
    rows.filter_map(|row| {
        let proto = match row["proto"].as_str()? {
            "tcp" => 6,
            "udp" => 17,
            _ => return None,
        };
        Some((
            proto,
            end(&row, "src", "sport")?,
            end(&row, "dst", "dport")?,
        ))
    })
    .filter(|(.., to)| PORTS.contains(&to.port().into()))
    .collect()
}

/// Events that a daemon had of flows that pass its gateway.
fn events(daemon: &Daemon) -> u64 {
    daemon.counter("local_changes") + daemon.counter("policy_never")
}

/// A policy that looks random, and that is right.
fn draw_policy(random: &mut Random) -> String {
    loop {
        let mut text = "services:\n".to_owned();
        let count = 2 + random.within(0..4);
        for service in 0..count {
            let first = PORTS.start + random.within(0..12);
            let last = (first + random.within(0..6)).min(PORTS.end);
            let flows = match random.within(0..5) {
                0 => String::new(),
                1 => "protocol: tcp, ".to_owned(),
                2 => format!("protocol: [tcp, udp], ports: {first}-{last}, "),
                3 => format!("protocol: udp, ports: {first}-{last}, "),
                _ => format!("protocol: tcp, ports: [{first}, 9-11], "),
            };
            let sync = ["always", "never"][usize::from(random.percent(60))];
            text += &format!("  s{service}: {{ {flows}sync: {sync} }}\n");
        }
        text += "rules:\n";
        for _ in 0..1 + random.within(0..5) {
            let source = match random.within(0..5) {
                0 => "source: 10.0.0.100, ",
                1 => "source: [10.0.0.101, \"fd00::100\"], ",
                2 => "source: \"fd00::/64\", ",
                3 => "destination: [203.0.113.0/24], ",
                _ => "",
            };
            let mark = ["", "", "", "mark: 0x1/0x1, "][random.within(0..4) as usize];
            text += &format!(
                "  - {{ {source}{mark}service: s{} }}\n",
                random.within(0..count)
            );
        }
        if Policy::parse(&[("drawn".into(), text.clone())], 8116).is_ok() {
            return text;
        }
    }
}

#[test]
fn the_same_flows_are_replicated_with_the_push_down_and_without() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.sysctl("netfilter.nf_conntrack_udp_timeout", 300);
    }
    let _listeners = listen(&lab);
    let mut random = Random::new(4);
    for _ in 0..3 {
        let text: &'static str = draw_policy(&mut random).leak();
        let policy =
            Policy::parse(&[("drawn".into(), text.to_owned())], 8116).expect("it is right");
        let mut made = Vec::new();
        for kernel in ["on", "filter", "off"] {
            let more = format!("policy: {{ kernel: {kernel} }}").leak();
            let cluster = start(&lab, text, more);
            for gateway in &lab.gateways {
                gateway.run("conntrack -F");
            }
            let (mut told, mut sockets) = (BTreeSet::new(), Vec::new());
            for _ in 0..60 {
                let proto = if random.percent(50) { 6 } else { 17 };
                let client = CLIENTS[random.within(0..4) as usize];
                let port = u16::try_from(PORTS.start + random.within(0..12)).expect("it is a port");
                let (opened, socket) = open(&lab, proto, client, port);
                sockets.push(socket);
                if is_told(&policy, &opened) {
                    told.insert(opened);
                }
            }
            let mut seen = BTreeSet::new();
            let agree = holds_within(DEADLINE, || {
                seen = known(&cluster.members[1]);
                seen == told
            });
            let missing: Vec<_> = told.difference(&seen).collect();
            let more: Vec<_> = seen.difference(&told).collect();
            assert!(agree, "{text}\nmissing {missing:?}, too much {more:?}");
            made.push(events(&cluster.members[0]));
        }
        assert!(made[0] <= made[2], "{text}\n{made:?}");
    }
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
fn the_filter_of_the_socket_leaves_the_ruleset_alone_and_follows_the_policy() {
    let lab = Lab::new(2);
    let gateway = &lab.gateways[0];
    let rules = gateway.run("nft list ruleset");
    let quiet = "services: { quiet: { protocol: udp, ports: 2000-2005, sync: never } }\n";
    let more = "kernel: { copy_bit: none }\npolicy: { kernel: filter }\n";
    let cluster = start(&lab, quiet, more);
    assert_eq!(gateway.run("nft list ruleset"), rules);
    let member = &cluster.members[0];
    let received = || member.counter("events_received");
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

    let directory = member.config().parent().expect("it is in one");
    std::fs::write(directory.join("policy.yaml"), "").expect("it is ours");
    for member in &cluster.members {
        member.ask("reload");
    }
    at_peer(2);
    open(&lab, 17, "10.0.0.101", 2001);
    at_peer(3);
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
