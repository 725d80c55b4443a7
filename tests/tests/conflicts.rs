//! Flows that a gateway's kernel has no place for: another has their reply tuple, or its table is full.

use std::fs;

use conntrack::{Flow, Injector, L4, Tuple};
use rustix::process::Signal;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::{table, wait_equal};

#[test]
fn of_two_flows_with_one_reply_tuple_each_gateway_keeps_its_own_and_both_are_named() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    for member in &mut cluster.members {
        member.process().signal(Signal::STOP);
    }
    for (gateway, client) in lab.gateways.iter().zip(["10.0.0.50", "10.0.0.51"]) {
        gateway.run(&format!(
            "conntrack -I -p udp -s {client} -d 203.0.113.50 --sport 1000 --dport 53 --src-nat 203.0.113.1:5000 -t 600"
        ));
    }
    for member in &mut cluster.members {
        member.process().signal(Signal::CONT);
    }
    for (member, gateway) in cluster.members.iter().zip(&lab.gateways) {
        wait_until("the conflict is counted", DEADLINE, || {
            member.counter("conflicts") == 1
        });
        assert_eq!(table(gateway).len(), 1, "its own stays");
        let log = member.log();
        let line = log
            .lines()
            .find(|line| line.contains("another flow here has its tuple"));
        let line = line.unwrap_or_else(|| panic!("no word of it: {log}"));
        assert!(
            line.contains("10.0.0.50") && line.contains("10.0.0.51"),
            "{line}"
        );
    }
    // It stays one, and nothing else differs.
    for _ in 0..2 {
        let report = cluster.members[0].ask("audit --repair");
        let conflict = report.lines().find(|it| it.starts_with("conflict "));
        assert!(conflict.is_some_and(|it| it.contains(" 1 ")), "{report}");
        assert!(report.contains("equal   0 s ago, "), "{report}");
        assert!(report.contains(", but for 1 conflict"), "{report}");
    }
    let explained = cluster.members[0].ask("explain udp 10.0.0.51:1000 203.0.113.50:53");
    assert!(
        explained.contains("udp 10.0.0.50:1000 203.0.113.50:53, replies")
            && explained.contains("a range of ports"),
        "{explained}"
    );
    // The other's flow goes in when there is room for it.
    lab.gateways[0].run("conntrack -D -s 10.0.0.50");
    cluster.members[1].ask("audit --now");
    cluster.members[0].ask("audit --now");
    wait_until("the other flow is on both", DEADLINE, || {
        lab.gateways
            .iter()
            .all(|it| table(it).iter().any(|row| row.contains("src=10.0.0.51")))
    });
}

/// As IKE, WireGuard and NTP have it: both sides speak first, from one port to the same. Where the ways of the directions
/// differ, each gateway takes another for the original one; the kernel finds either by the tuple of the other.
#[test]
fn of_two_flows_of_which_one_has_the_tuple_of_the_answers_of_the_other_each_gateway_keeps_its_own()
{
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    for member in &mut cluster.members {
        member.process().signal(Signal::STOP);
    }
    let hosts = ["10.0.0.50", "203.0.113.50"];
    let flow = |at: usize| format!("-s {} -d {}", hosts[at], hosts[1 - at]);
    for (at, timeout) in [(0, 600), (1, 900)] {
        lab.gateways[at].run(&format!(
            "conntrack -I -p udp {} --sport 500 --dport 500 -t {timeout}",
            flow(at)
        ));
    }
    for member in &mut cluster.members {
        member.process().signal(Signal::CONT);
    }
    let is_its_own = |at: usize| {
        let rows = lab.gateways[at].run("conntrack -L -p udp --dport 500");
        let row = rows.lines().find(|row| row.contains("dport=500"));
        row.is_some_and(|row| {
            let first = row.find("src=").map(|start| &row[start..]);
            first.is_some_and(|it| it.starts_with(&format!("src={} ", hosts[at])))
                && row.contains("mark=0 ")
        })
    };
    for (at, member) in cluster.members.iter().enumerate() {
        wait_until("the conflict is counted", DEADLINE, || {
            member.counter("conflicts") >= 1
        });
        // Another round, and whatever else follows.
        member.ask("audit --now");
        assert!(is_its_own(at), "{:?}", table(&lab.gateways[at]));
        let explained = member.ask(&format!(
            "explain udp {}:500 {}:500",
            hosts[1 - at],
            hosts[at]
        ));
        assert!(
            explained.contains(&format!(
                "udp {}:500 {}:500, replies",
                hosts[at],
                hosts[1 - at]
            )),
            "{explained}"
        );
    }
    // The end of one is not that of the other, which goes in where the first has been.
    lab.gateways[1].run(&format!("conntrack -D -p udp {}", flow(1)));
    wait_until("the other flow is on both", DEADLINE, || {
        cluster.members[1].ask("audit --now");
        let rows = table(&lab.gateways[1]);
        rows.len() == 1 && rows == table(&lab.gateways[0])
    });
    assert!(is_its_own(0), "{:?}", table(&lab.gateways[0]));
}

/// A copy has ended in its kernel, and a packet of the other direction has begun a flow there: its daemon, which has much else to read,
/// is told of the end by the carrier first.
#[test]
fn the_end_of_a_flow_is_not_that_of_the_one_which_its_answers_have_begun_since() {
    const MANY: u16 = 6000;
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let flow = |from: &str, to: &str| format!("-p udp -s {from} -d {to} --sport 500 --dport 500");
    let ended = flow("10.0.0.50", "203.0.113.50");
    let begun = flow("203.0.113.50", "10.0.0.50");
    lab.gateways[0].run(&format!("conntrack -I {ended} -t 600"));
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 1);

    cluster.members[1].process().signal(Signal::STOP);
    let told = cluster.members[0].counter("deltas_sent");
    lab.gateways[1].inside(|| {
        let mut injector = Injector::open().expect("root may");
        for port in 0..MANY {
            injector.create(&other(port));
        }
        let done = injector.commit(&mut |_, outcome| outcome.expect("there is room"));
        done.expect("the kernel answers");
    });
    lab.gateways[1].run(&format!("conntrack -D {ended}"));
    lab.gateways[1].run(&format!("conntrack -I {begun} -t 600"));
    lab.gateways[0].run(&format!("conntrack -D {ended}"));
    wait_until("the end is told", DEADLINE, || {
        cluster.members[0].counter("deltas_sent") > told
    });
    cluster.members[1].process().signal(Signal::CONT);
    wait_until("the other flow is on both", DEADLINE, || {
        let rows = table(&lab.gateways[1]);
        rows.len() == usize::from(MANY) + 1 && rows == table(&lab.gateways[0])
    });
}

fn other(port: u16) -> Flow {
    let orig = Tuple {
        src: [10, 0, 0, 60].into(),
        dst: [203, 0, 113, 60].into(),
        proto: 17,
        l4: L4::Ports { src: port, dst: 53 },
        zone: 0,
    };
    Flow {
        timeout: Some(600),
        ..Flow::new(orig)
    }
}

/// The limit is of the whole machine, though each namespace counts for itself: so one gateway has flows of its own to fill it.
#[test]
#[ignore = "lowers the limit of every table of the machine; tests/tests/debian.rs runs it"]
fn what_a_full_table_has_no_room_for_is_said_and_goes_in_when_there_is_room() {
    let limit = |entries: u32| {
        fs::write(
            "/proc/sys/net/netfilter/nf_conntrack_max",
            entries.to_string(),
        )
        .expect("root may set the limit");
    };
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        // What is not tracked needs no room.
        gateway.nft(
            "table inet sync {
                 chain in { type filter hook prerouting priority raw; iifname sync0 notrack; }
                 chain out { type filter hook output priority raw; oifname sync0 notrack; }
             }",
        );
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    for port in 1..=40 {
        lab.gateways[1].run(&format!(
            "conntrack -I -p tcp -s 192.0.2.77 -d 192.0.2.2 --sport {port} --dport 22 --state ESTABLISHED -u ASSURED,SEEN_REPLY -t 6000"
        ));
    }
    limit(50);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Plain, Family::Ipv4, 30);
    let peer = &cluster.members[1];
    wait_until("the kernel of the peer is full", DEADLINE, || {
        peer.counter("kernel_full") >= 15
    });
    wait_until("it is said", DEADLINE, || {
        peer.log().contains("table is full")
    });
    assert!(table(&lab.gateways[1]).len() < 15);
    limit(131_072);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE * 4).len(), 30);
}
