//! What is in the kernels is compared all the time: what somebody changed behind the daemons' back is found, rightly named,
//! and set right.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use conntrack::{Dump, DumpItem, Flow, Injector};

use tests::cluster::{Cluster, Daemon, Settings};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, Namespace, wait_until};
use tests::shorts::Shorts;
use tests::table::{table, wait_equal};

/// Differences of each class.
const EACH: usize = 500;
/// Connections a second, each of which makes about five changes.
const RATE: u32 = 1200;

#[test]
fn what_is_planted_in_a_kernel_behind_its_daemon_is_found_by_class_and_set_right_in_one_round() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "audit: { interval: 1h }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    // Entries made from now on make no events there.
    lab.gateways[1].sysctl("netfilter.nf_conntrack_events", 0);
    let mut crowd = Crowd::default();
    for path in [Path::Plain, Path::Masqueraded, Path::Redirected] {
        crowd.udp(&lab, path, Family::Ipv4, EACH);
    }
    let before = wait_equal(&lab.gateways, DEADLINE);
    assert_eq!(before.len(), 3 * EACH);
    let daemon = &cluster.members[1];
    assert_eq!(round(daemon), [0, 0, 0, 0, 0]);
    let shorts = Shorts::begin(&lab, RATE);

    let gateway = &lab.gateways[1];
    gateway.run("conntrack -D -p udp -d 203.0.113.100 -s 10.0.0.100");
    mark_redirected(gateway, 0x8000_0007);
    let mut lines = String::new();
    for [from, to] in ports(gateway, "10.0.0.101") {
        let flow = format!("-p udp -s 10.0.0.101 -d 203.0.113.100 --sport {from} --dport {to}");
        let nat = format!("--src-nat 203.0.113.99:{from}");
        let _ = writeln!(lines, "-I {flow} {nat} -t 100 -m 0x80000000");
    }
    for port in 0..EACH {
        let _ = writeln!(
            lines,
            "-I -p udp -s 10.0.0.77 -d 203.0.113.77 --sport {} --dport 53 -t 100 -m 0x80000000",
            10_000 + port
        );
    }
    gateway.run("conntrack -D -p udp -s 10.0.0.101");
    load(gateway, &lines);

    let each = EACH as u64;
    assert_eq!(real(round(daemon)), [each; 4]);
    let stays_equal = "and none is invented while flows change";
    let changes = cluster.members[0].counter("local_changes");
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(real(round(daemon)), [0; 4], "{stays_equal}");
        assert_eq!(real(round(&cluster.members[0])), [0; 4], "{stays_equal}");
    }
    let changes = cluster.members[0].counter("local_changes") - changes;
    let rate = changes * 1000 / u64::try_from(began.elapsed().as_millis()).expect("it is short");
    println!("{rate} changes a second meanwhile");
    assert_eq!(shorts.end(&lab).lost, Vec::<String>::new());
    let after = wait_equal(&lab.gateways, DEADLINE);
    assert!(before.is_subset(&after));
    let report = daemon.ask("audit --repair");
    assert!(
        report.contains("attribute                  0              500"),
        "{report}"
    );
    assert_eq!(
        cluster.members[0].counter("remote_changes"),
        0,
        "nobody else was bothered"
    );
}

/// The daemon of a copy hears of it and believes it: only its carrier knows better.
#[test]
fn what_somebody_wrote_into_copies_is_set_right_by_what_their_carrier_has() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "audit: { interval: 1h }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, EACH);
    crowd.udp(&lab, Path::Redirected, Family::Ipv4, EACH);
    let before = wait_equal(&lab.gateways, DEADLINE);
    let daemon = &cluster.members[1];
    let shorts = Shorts::begin(&lab, RATE);
    mark_redirected(&lab.gateways[1], 0x8000_0007);
    assert_eq!(real(round(daemon)), [0, 0, 0, EACH as u64]);
    assert_eq!(real(round(daemon)), [0; 4]);
    let report = daemon.ask("audit");
    assert!(report.contains("with 1 (gw-a) 0 s ago, "), "{report}");
    assert_eq!(shorts.end(&lab).lost, Vec::<String>::new());
    assert!(before.is_subset(&wait_equal(&lab.gateways, DEADLINE)));
}

/// What a carrier's kernel has and did not tell, its peers' kernels lack.
#[test]
fn what_is_planted_in_a_carriers_kernel_behind_its_daemon_is_found_by_class_and_told_in_one_round()
{
    let lab = Lab::new(2);
    let settings = Settings {
        more: "audit: { interval: 1h }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let (gateway, daemon) = (&lab.gateways[0], &cluster.members[0]);
    // Entries that are made meanwhile make no events, and none of them runs out.
    gateway.sysctl("netfilter.nf_conntrack_events", 0);
    gateway.sysctl("netfilter.nf_conntrack_udp_timeout", 600);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, EACH);
    crowd.udp(&lab, Path::Redirected, Family::Ipv4, EACH);
    crowd.udp(&lab, Path::Masqueraded, Family::Ipv4, EACH);
    let each = EACH as u64;
    assert_eq!(round(daemon), [3 * each, 0, 0, 0, 0]);
    wait_equal(&lab.gateways, DEADLINE);

    mark_redirected(gateway, 7);
    let mut lines = String::new();
    for [from, to] in ports(gateway, "10.0.0.101") {
        let flow = format!("-p udp -s 10.0.0.101 -d 203.0.113.100 --sport {from} --dport {to}");
        let nat = format!("--src-nat 203.0.113.99:{from}");
        let _ = writeln!(lines, "-I {flow} {nat} -t 100");
    }
    for port in 0..EACH {
        let _ = writeln!(
            lines,
            "-I -p udp -s 10.0.0.77 -d 203.0.113.77 --sport {} --dport 53 -t 100",
            10_000 + port
        );
    }
    gateway.run("conntrack -D -p udp -d 203.0.113.100 -s 10.0.0.100");
    gateway.run("conntrack -D -p udp -s 10.0.0.101");
    load(gateway, &lines);
    gateway.sysctl("netfilter.nf_conntrack_events", 1);
    let shorts = Shorts::begin(&lab, RATE);
    wait_until("connections come and go", DEADLINE, || shorts.done() > 1000);

    assert_eq!(real(round(daemon)), [each; 4]);
    assert_eq!(real(round(daemon)), [0; 4]);
    assert_eq!(shorts.end(&lab).lost, Vec::<String>::new());
    let table = wait_equal(&lab.gateways, DEADLINE);
    let changed = table.iter().filter(|it| it.contains("mark=7")).count();
    assert_eq!(changed, EACH);
}

#[test]
fn a_flow_that_a_carrier_lost_or_got_without_an_event_is_told_by_the_next_round() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "audit: { interval: 1s }",
        ..Settings::default()
    };
    let _cluster = Cluster::start_with(&lab, settings);
    // Entries made from now on make no events there.
    lab.gateways[0].sysctl("netfilter.nf_conntrack_events", 0);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 100);
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 100);
    wait_until("the other has them all", DEADLINE, || {
        table(&lab.gateways[1]).len() == 200
    });
    lab.gateways[0].run("conntrack -D -p udp");
    wait_until("the other has lost what the carrier lost", DEADLINE, || {
        table(&lab.gateways[1]).len() == 100
    });
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 100);
}

/// What was different, and not only late.
fn real([missing, ghost, nat, attribute, _]: [u64; 5]) -> [u64; 4] {
    [missing, ghost, nat, attribute]
}

/// What a round that begins now finds: missing, ghosts, translations, attributes, lag.
fn round(daemon: &Daemon) -> [u64; 5] {
    let report = daemon.answer(&["audit", "--now"]);
    let found = &report["last"]["differences"];
    ["missing", "ghost", "nat", "attribute", "lag"].map(|class| {
        found[class]
            .as_u64()
            .unwrap_or_else(|| panic!("no {class} in {report:#}"))
    })
}

/// Source and destination port of each flow from an address.
fn ports(gateway: &Namespace, source: &str) -> Vec<[String; 2]> {
    let listed = gateway.run(&format!("conntrack -L -p udp -s {source}"));
    let port = |line: &str, name: &str| {
        let mut words = line.split_ascii_whitespace();
        let port = words
            .find_map(|word| word.strip_prefix(name))
            .map(str::to_owned);
        port.expect("a flow has ports")
    };
    let lines = listed.lines().filter(|line| line.contains("sport="));
    lines
        .map(|line| [port(line, "sport="), port(line, "dport=")])
        .collect()
}

/// Writes the mark of the redirected flows. (The tool's own update loses its place when there are hundreds.)
fn mark_redirected(gateway: &Namespace, mark: u32) {
    gateway.inside(|| {
        let rows: Vec<_> = Dump::open().expect("root may").collect();
        let mut injector = Injector::open().expect("root may");
        for row in rows {
            if let DumpItem::Flow(flow) = row.expect("a row is understood")
                && flow.orig.dst == Path::Redirected.server(Family::Ipv4)
            {
                injector.update(&Flow {
                    reply: flow.reply,
                    mark: Some(mark),
                    ..Flow::new(flow.orig)
                });
            }
        }
        let done = injector.commit(&mut |_, outcome| outcome.expect("the entry is there"));
        done.expect("the kernel answers");
    });
}

/// Does what the tool `conntrack` can do, one command a line.
fn load(gateway: &Namespace, lines: &str) {
    let mut tool = gateway
        .command("conntrack")
        .args(["-R", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("conntrack can be started");
    let mut stdin = tool.stdin.take().expect("it was asked for");
    stdin.write_all(lines.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(tool.wait().expect("it ends").success());
}
