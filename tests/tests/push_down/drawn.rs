//! Policies and flows that look random: whatever the policy is pushed down with, the same flows are replicated.

use std::collections::BTreeSet;

use agent::convert;
use agent::policy::{Policy, Sync};
use conntrack::{Flow, L4, Tuple};
use socket2::Socket;
use tests::cluster::{Cluster, Daemon};
use tests::lab::Lab;
use tests::netns::{DEADLINE, holds_within, wait_until};
use tests::sim::random::Random;

use crate::flows::{CLIENTS, Opened, PORTS, ask, known, listen, open};
use crate::xtables::rules_of_xtables;
use crate::{events, start};

/// Ports whose flows are in this zone, and the one whose flows have this mark: rules of the operator see to that.
const ZONE: u16 = 7;
const ZONED: std::ops::RangeInclusive<u16> = 2003..=2004;
const MARKED: u16 = 2005;

/// With what the policy is pushed down.
const MEANS: [&str; 4] = ["nftables", "xtables", "filter", "off"];

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
            // Whatever the flows before have made was read when it is over.
            cluster.members[0].ask("audit --now");
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

/// Policy and means of all members, from now on.
fn reload(cluster: &Cluster, base: &[String], policy: &str, means: &str) {
    let filtering = |member: &Daemon| {
        let lines = member.log();
        lines.matches("what it never synchronises is left").count()
    };
    let before: Vec<_> = cluster.members.iter().map(filtering).collect();
    for (member, base) in cluster.members.iter().zip(base) {
        member.write_policy(policy);
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
