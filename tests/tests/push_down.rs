//! What the kernel is made to do of the policy: fewer events, and never another outcome.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use agent::convert;
use agent::policy::{Policy, Sync};
use conntrack::{Flow, L4, Tuple};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use tests::cluster::{Cluster, Daemon, Settings, program};
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{Namespace, holds_within, run, wait_until};
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

/// Ports whose flows are in this zone, and the one whose flows have this mark: rules of the operator see to that.
const ZONE: u16 = 7;
const ZONED: std::ops::RangeInclusive<u16> = 2003..=2004;
const MARKED: u16 = 2005;
/// With what the policy is pushed down.
const MEANS: [&str; 4] = ["nftables", "xtables", "filter", "off"];

/// Protocol, source, destination. Of ICMP the source has the identifier for a port, the destination type and code.
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

/// Asks the server with ICMP: for an echo or, over IPv4, for the time.
fn ask(lab: &Lab, kind: u8, source: &str, id: u16) -> Opened {
    let is_v6 = source.contains(':');
    let address = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
    let server = SERVERS[usize::from(is_v6)];
    let mut message = [0; 20];
    message[0] = kind;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    // The ones' complement of the sum of its words; over IPv6 the kernel writes it.
    let sum = (u32::from(kind) << 8) + u32::from(id);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("it is folded");
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let proto = if is_v6 {
        Protocol::ICMPV6
    } else {
        Protocol::ICMPV4
    };
    lab.client.inside(|| {
        let to = address(server, 0);
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(proto))
            .expect("there are sockets");
        socket
            .bind(&address(source, 0).into())
            .expect("the address is there");
        socket
            .send_to(&message, &to.into())
            .expect("there is a route");
    });
    let proto = if is_v6 { 58 } else { 1 };
    let kind = u16::from(kind) << 8;
    (proto, address(source, id), address(server, kind))
}

/// A flow that looks random.
fn draw_flow(lab: &Lab, random: &mut Random, number: u16) -> (Opened, Option<Socket>) {
    let client = random.choose(&CLIENTS);
    let port = u16::try_from(PORTS.start + random.within(0..12)).expect("it is a port");
    match random.within(0..5) {
        0 | 1 => {
            let (opened, socket) = open(lab, 6, client, port);
            (opened, Some(socket))
        }
        2 | 3 => (open(lab, 17, client, port).0, None),
        _ if client.contains(':') => (ask(lab, 128, client, number), None),
        _ => (ask(lab, random.choose(&[8, 13]), client, number), None),
    }
}

/// Whether the policy has the peers told of a flow that lasts.
fn is_told(policy: &Policy, (proto, from, to): &Opened) -> bool {
    let l4 = match (*proto, to.port().to_be_bytes()) {
        (1 | 58, [kind, code]) => L4::Icmp {
            kind,
            code,
            id: from.port(),
        },
        _ => L4::Ports {
            src: from.port(),
            dst: to.port(),
        },
    };
    let mut flow = Flow::new(Tuple {
        src: from.ip(),
        dst: to.ip(),
        proto: *proto,
        l4,
        zone: 0,
    });
    if ZONED.contains(&to.port()) {
        flow.zone = ZONE;
    }
    let mark = u32::from(to.port() == MARKED);
    match policy.decide(&convert::key(&flow), mark).sync {
        Sync::Always => true,
        Sync::Never => false,
        Sync::Delayed(delay) => delay < DEADLINE,
    }
}

/// The flows to [`PORTS`], and those of ICMP, that a daemon knows.
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
            "icmp" => 1,
            "icmpv6" => 58,
            _ => return None,
        };
        Some((
            proto,
            end(&row, "src", "sport")?,
            end(&row, "dst", "dport")?,
        ))
    })
    .filter(|(proto, _, to)| matches!(proto, 1 | 58) || PORTS.contains(&to.port().into()))
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
        let count = 3 + random.within(0..4);
        for service in 0..count {
            let first = PORTS.start + random.within(0..12);
            let last = (first + random.within(0..6)).min(PORTS.end);
            let flows = match random.within(0..7) {
                0 => String::new(),
                1 => "protocol: tcp, ".to_owned(),
                2 => format!("protocol: [tcp, udp], ports: {first}-{last}, "),
                3 => format!("protocol: udp, ports: {first}-{last}, "),
                4 => "protocol: [icmp, icmpv6], icmp_types: [8-12, 128], ".to_owned(),
                5 => "protocol: [icmp, udp], ".to_owned(),
                _ => format!("protocol: tcp, ports: [{first}, 9-11], "),
            };
            let sync = random.choose(&[
                "always",
                "never",
                "never",
                "never",
                "delayed, delay: 1s",
                "delayed, delay: 1h",
            ]);
            text += &format!("  s{service}: {{ {flows}sync: {sync} }}\n");
        }
        text += "rules:\n";
        for _ in 0..2 + random.within(0..5) {
            let source = random.choose(&[
                "",
                "source: 10.0.0.100, ",
                "source: [10.0.0.101, \"fd00::100\"], ",
                "source: [10.0.0.0/24], ",
                "source: \"fd00::/64\", ",
            ]);
            let destination = random.choose(&[
                "",
                "",
                "destination: 203.0.113.0/24, ",
                "destination: [203.0.113.100, \"2001:db8::/32\"], ",
            ]);
            let rest = random.choose(&["", "", "", "mark: 0x1/0x1, ", "zone: 7, "]);
            let service = random.within(0..count);
            text += &format!("  - {{ {source}{destination}{rest}service: s{service} }}\n");
        }
        if Policy::parse(&[("drawn".into(), text.clone())], 8116).is_ok() {
            return text;
        }
    }
}

/// Policy and means of all members, from now on.
fn reload(cluster: &Cluster, base: &[String], policy: &str, means: &str) {
    let filtering = |member: &Daemon| {
        let lines = member.log();
        lines.matches("what it never synchronises is left").count()
    };
    let before: Vec<_> = cluster.members.iter().map(filtering).collect();
    for (member, base) in cluster.members.iter().zip(base) {
        let directory = member.config().parent().expect("it is in one");
        std::fs::write(directory.join("policy.yaml"), policy).expect("it is ours");
        let text = format!("{base}policy: {{ kernel: {means} }}\n");
        std::fs::write(member.config(), text).expect("it is ours");
    }
    for member in &cluster.members {
        member.ask("reload");
    }
    if means == "filter" {
        wait_until("the filter is attached", DEADLINE, || {
            let now = cluster.members.iter().map(filtering);
            now.zip(&before).all(|(now, before)| now > *before)
        });
    }
}

/// More: `CTSYNC_SEEDS=1000..1100`.
#[test]
fn the_same_flows_are_replicated_whatever_the_policy_is_pushed_down_with() {
    let seeds = std::env::var("CTSYNC_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        for timeout in ["udp_timeout", "icmp_timeout", "icmpv6_timeout"] {
            gateway.sysctl(&format!("netfilter.nf_conntrack_{timeout}"), 300);
        }
        gateway.nft(&format!(
            "table inet operator {{ chain marks {{ type filter hook prerouting priority -140; \
             meta l4proto {{ tcp, udp }} th dport {MARKED} ct state new ct mark set ct mark & 0x80000000 | 1; }}; }}"
        ));
        // Not with nftables: of two that choose for a packet before it is tracked, the later one does nothing.
        for program in ["iptables", "ip6tables"] {
            for (proto, side) in [("tcp", "d"), ("tcp", "s"), ("udp", "d"), ("udp", "s")] {
                let ports = format!("{}:{}", ZONED.start(), ZONED.end());
                gateway.run(&format!(
                    "{program} -t raw -A PREROUTING -p {proto} --{side}port {ports} -j CT --zone {ZONE}"
                ));
            }
        }
    }
    let rules = || {
        lab.gateways
            .iter()
            .map(rules_of_xtables)
            .collect::<Vec<_>>()
    };
    let before = rules();
    let _listeners = listen(&lab);
    let cluster = start(&lab, "", "");
    let base: Vec<_> = (cluster.members.iter())
        .map(|member| std::fs::read_to_string(member.config()).expect("it was written"))
        .collect();
    let mut number = 0;
    for seed in seeds.unwrap_or(4..6) {
        let text = draw_policy(&mut Random::new(seed));
        let policy = Policy::parse(&[("drawn".into(), text.clone())], 8116).expect("it is right");
        let mut made = Vec::new();
        for means in MEANS {
            reload(&cluster, &base, &text, means);
            for gateway in &lab.gateways {
                gateway.run("conntrack -F");
            }
            let events_before = events(&cluster.members[0]);
            let (mut told, mut sockets) = (BTreeSet::new(), Vec::new());
            // The same flows each time, but for their client ports.
            let mut random = Random::new(seed);
            for _ in 0..60 {
                number += 1;
                let (opened, socket) = draw_flow(&lab, &mut random, number);
                sockets.push(socket);
                if is_told(&policy, &opened) {
                    told.insert(opened);
                }
            }
            let demand = |told: &BTreeSet<Opened>, when: &str| {
                let mut seen = BTreeSet::new();
                let agree = holds_within(DEADLINE, || {
                    seen = known(&cluster.members[1]);
                    seen == *told
                });
                let missing: Vec<_> = told.difference(&seen).collect();
                let more: Vec<_> = seen.difference(told).collect();
                assert!(
                    agree,
                    "seed {seed}, {means}, {when}:\n{text}\nmissing {missing:?}, too much {more:?}"
                );
            };
            demand(&told, "once they are open");
            cluster.members[0].ask("audit --now");
            demand(&told, "after an audit");
            made.push(events(&cluster.members[0]) - events_before);
            for family in ["ipv4", "ipv6"] {
                lab.gateways[0].run(&format!("conntrack -D -f {family} -p udp"));
            }
            told.retain(|(proto, ..)| *proto != 17);
            demand(&told, "after the ends of some");
        }
        assert!(
            made[..2].iter().all(|it| *it <= made[3]),
            "{text}\n{made:?}"
        );
    }
    assert_eq!(rules(), before, "the operator's rules are as they were");
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

    let directory = member.config().parent().expect("it is in one");
    std::fs::write(directory.join("policy.yaml"), "").expect("it is ours");
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

/// A directory with nothing but these programs.
fn programs(names: &[&str]) -> Directory {
    let directory = Directory::new("programs");
    for name in names {
        let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(|it| format!("{it}/{name}"));
        let found = found.iter().find(|it| std::fs::exists(it).unwrap_or(false));
        let found = found.unwrap_or_else(|| panic!("{name} is installed"));
        std::os::unix::fs::symlink(found, directory.path().join(name)).expect("there is room");
    }
    directory
}

#[test]
fn without_nft_chains_of_xtables_do_it_and_go_with_the_daemon_and_without_them_the_filter() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
        gateway.run("ip6tables -t mangle -A POSTROUTING -p udp --dport 9 -j MARK --set-mark 9");
    }
    let before: Vec<_> = lab.gateways.iter().map(rules_of_xtables).collect();
    let quiet = "services: { quiet: { protocol: udp, ports: 2000-2005, sync: never } }\n";
    let settings = Settings {
        policy: quiet,
        ..Settings::default()
    };
    let mut cluster = Cluster::configure(&lab, settings);
    let xtables = programs(&[
        "ip",
        "iptables",
        "ip6tables",
        "iptables-restore",
        "ip6tables-restore",
    ]);
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start_with_programs_of(gateway, xtables.path());
    }
    cluster.wait_in_step();
    let log = cluster.members[0].log();
    assert!(log.contains("are kept back by rules of xtables"), "{log}");
    assert!(log.contains("run nft: No such file"), "{log}");
    assert!(log.contains("nftables are not to be had"), "{log}");
    assert_eq!(
        lab.gateways[0]
            .run("nft list tables inet")
            .matches("ctsync")
            .count(),
        0
    );

    // Of what is never told there is no event; what is told moves with its first packet.
    lab.activate(0);
    let events_before = events(&cluster.members[0]);
    open(&lab, 17, "10.0.0.100", 2000);
    open(&lab, 17, "fd00::100", 2005);
    lab.gateways[0].run("conntrack -D -p udp --dport 2000");
    open(&lab, 17, "10.0.0.100", 2006);
    wait_until("the peer has the one that is told", DEADLINE, || {
        known(&cluster.members[1]).len() == 1
    });
    assert_eq!(events(&cluster.members[0]), events_before + 1);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv6);
    wait_until("the peer has it", DEADLINE, || {
        let listed = lab.gateways[1].run("conntrack -L -f ipv6 -p tcp");
        listed.contains("ASSURED")
    });
    lab.activate(1);
    wait_until("it is known to have moved", DEADLINE, || {
        let shown = cluster.members[0].ask("flows");
        let moved = |line: &str| line.contains("tcp") && line.contains("copy");
        shown.lines().any(moved)
    });
    assert_eq!(connection.progress().failure, None);

    // A reload puts them in their place again.
    let gateway = &lab.gateways[0];
    gateway.run("iptables -t raw -F PREROUTING");
    gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
    cluster.members[0].ask("reload");
    assert!(rules_of_xtables(gateway).contains("-A PREROUTING -j ctsync-events"));

    // So does the daemon by itself when they are gone.
    gateway.run("iptables -t raw -F");
    gateway.run("iptables -t raw -X");
    gateway.run("iptables -t raw -A PREROUTING -p udp --dport 9 -j CT --zone 9");
    wait_until("they are there again", DEADLINE, || {
        let rules = rules_of_xtables(gateway);
        rules.matches("-A PREROUTING -j ctsync-events").count() == 2
    });
    let log = cluster.members[0].log();
    assert!(log.contains("they were put back"), "{log}");

    // They go with the daemon; after a crash, with the next one's start.
    cluster.members[1].process().signal(Signal::TERM);
    cluster.members[1].process().wait(DEADLINE);
    assert_eq!(rules_of_xtables(&lab.gateways[1]), before[1]);
    cluster.members[0].process().kill();
    assert!(rules_of_xtables(&lab.gateways[0]).contains("ctsync-events"));
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    for (gateway, before) in lab.gateways.iter().zip(&before) {
        assert_eq!(rules_of_xtables(gateway), *before);
        assert!(
            gateway
                .run("nft list table inet ctsync")
                .contains("chain never")
        );
    }

    // Neither is there.
    cluster.members[0].process().signal(Signal::TERM);
    cluster.members[0].process().wait(DEADLINE);
    let config = cluster.members[0].config().to_owned();
    let text = std::fs::read_to_string(&config).expect("it was written");
    std::fs::write(&config, text + "kernel: { copy_bit: none }\n").expect("it is ours");
    let nothing = programs(&["ip"]);
    cluster.members[0].start_with_programs_of(&lab.gateways[0], nothing.path());
    cluster.wait_in_step();
    let said = "kept back by a filter on the socket of events";
    let log = cluster.members[0].log();
    assert!(log.contains(said), "{log}");
    let mut command = lab.gateways[0].command(program());
    let command = command.args(["rules", "--config"]).arg(&config);
    let rules = run(command.env("PATH", nothing.path()));
    assert!(
        rules.contains(said) && rules.contains("run iptables-restore: No such file"),
        "{rules}"
    );
    assert!(
        rules.contains("# the filter leaves out udp 520-521"),
        "{rules}"
    );
}

/// The rules of xtables, and whatever is ours there.
fn rules_of_xtables(gateway: &Namespace) -> String {
    let text = gateway.run("iptables-save") + &gateway.run("ip6tables-save");
    let is_rule = |line: &&str| line.starts_with("-A") || line.contains("ctsync");
    text.lines().filter(is_rule).collect::<Vec<_>>().join("\n")
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
