//! The service policy on real kernels: what the peers are told of, and when.

use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Settings};
use tests::lab::{Family, Lab, Path};
use tests::netns::{Namespace, wait_until};
use tests::table::wait_equal;
use tests::traffic::{Connection, Kind};

/// How long what must happen may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// Entries of a protocol in a gateway's table, those of the sync network aside.
fn entries(gateway: &Namespace, proto: &str) -> usize {
    let listed = gateway.run(&format!("conntrack -L -p {proto} -s 10.0.0.100"));
    listed.lines().count()
}

fn start(lab: &Lab, policy: &'static str) -> Cluster {
    let settings = Settings {
        policy,
        ..Settings::default()
    };
    let cluster = Cluster::start_with(lab, settings);
    lab.activate(0);
    cluster
}

#[test]
fn a_service_that_is_never_synchronised_stays_where_it_is() {
    let lab = Lab::new(2);
    let cluster = start(
        &lab,
        "services: { quiet: { protocol: udp, sync: never } }\n",
    );
    let udp = Connection::open(&lab, Kind::Datagrams, Path::Plain, Family::Ipv4);
    let tcp = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_until("the other gateway has the TCP flow", DEADLINE, || {
        entries(&lab.gateways[1], "tcp") == 1
    });
    assert_eq!(entries(&lab.gateways[0], "udp"), 1);
    assert_eq!(entries(&lab.gateways[1], "udp"), 0);
    let flows = cluster.members[0].ask_json("flows");
    assert!(!flows.contains("\"udp\""), "{flows}");
    assert_eq!(udp.progress().failure, None);
    assert_eq!(tcp.progress().failure, None);
}

#[test]
fn a_delayed_flow_is_told_when_it_has_lived_past_its_delay_and_not_before() {
    let lab = Lab::new(2);
    let cluster = start(
        &lab,
        "services: { web: { protocol: tcp, sync: delayed, delay: 2s } }\n",
    );
    let records = || cluster.members[0].counter("records_sent");
    let before = records();
    let begun = Instant::now();
    let short = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv6);
    lab.gateways[0].run("conntrack -D -f ipv6 -p tcp");
    drop(short);
    wait_until("the first has ended", DEADLINE, || {
        cluster.members[0].counter("policy_delayed_ended") > 0
    });
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    let opened = Instant::now();
    let listed = lab.gateways[0].run("conntrack -L -p tcp -s 10.0.0.100");
    let explain = |at: usize| cluster.members[at].ask(&format!("explain {}", listed.trim()));
    let waiting = explain(0);
    assert!(waiting.contains("decided by  service web\n"), "{waiting}");
    assert!(
        opened.elapsed() > Duration::from_secs(1) || waiting.contains(" of its delay are left")
    );
    assert_eq!(entries(&lab.gateways[1], "tcp"), 0);
    assert!(begun.elapsed() > Duration::from_secs(2) || records() == before);
    wait_until("the other gateway has it", DEADLINE, || {
        entries(&lab.gateways[1], "tcp") == 1
    });
    assert!(
        opened.elapsed() > Duration::from_millis(1900),
        "{:?}",
        opened.elapsed()
    );
    wait_equal(&lab.gateways, DEADLINE);
    wait_until("both know where it is", DEADLINE, || {
        explain(0).contains("has it in its kernel") && explain(1).contains("gw-a: carries it")
    });
    lab.activate(1);
    let progress = connection.progress().count;
    wait_until("it goes on there", DEADLINE, || {
        connection.progress().count > progress
    });
    lab.gateways[1].run("conntrack -D -p tcp -s 10.0.0.100");
    wait_until("both remember that it ended, and when", DEADLINE, || {
        (0..2).all(|at| {
            let ended = explain(at);
            ended.contains("has ended ") && ended.contains(" s ago; member ")
        })
    });
}

#[test]
fn the_delay_counts_from_the_start_of_the_flow_also_when_the_daemon_starts_later() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.sysctl("netfilter.nf_conntrack_timestamp", 1);
    }
    let settings = Settings {
        policy: "services: { web: { protocol: tcp, sync: delayed, delay: 8s } }\n",
        ..Settings::default()
    };
    let mut cluster = Cluster::configure(&lab, settings);
    lab.activate(0);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    let opened = Instant::now();
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    if opened.elapsed() < Duration::from_secs(7) {
        assert_eq!(cluster.members[0].counter("policy_delayed"), 1);
    }
    wait_until("the other gateway has it", DEADLINE, || {
        entries(&lab.gateways[1], "tcp") == 1
    });
    let took = opened.elapsed();
    assert!(took > Duration::from_millis(7900), "{took:?}");
    assert_eq!(connection.progress().failure, None);
}

#[test]
fn what_each_service_costs_is_shown_by_both_members() {
    let lab = Lab::new(2);
    let cluster = start(
        &lab,
        "services: { chat: { protocol: tcp, sync: always }, quiet: { protocol: udp, sync: never } }\n",
    );
    let _connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_equal(&lab.gateways, DEADLINE);
    let _datagrams = Connection::open(&lab, Kind::Datagrams, Path::Plain, Family::Ipv4);
    let cost = |member: usize, service: &str, what: &str| {
        let answer = cluster.members[member].ask_json("services");
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("it is JSON");
        let services = answer["services"].as_array().expect("it is a list");
        let row = services.iter().find(|row| row["service"] == service);
        let row = row.unwrap_or_else(|| panic!("{service}: {answer}"));
        row[what].as_u64().expect("it is a number")
    };
    assert_eq!(cost(0, "chat", "flows"), 1);
    assert!(cost(0, "chat", "events") >= 2);
    let (messages, bytes) = (cost(0, "chat", "messages"), cost(0, "chat", "bytes"));
    assert!((1..=10).contains(&messages), "{messages}");
    assert!(
        (16 * messages..=100 * messages).contains(&bytes),
        "{bytes} of {messages}"
    );
    // The kernel makes no event of it, and nobody is told.
    for what in ["flows", "events", "messages", "bytes"] {
        assert_eq!(cost(0, "quiet", what), 0, "{what}");
    }
    assert_eq!(cost(1, "chat", "messages"), 0, "a copy costs its carrier");
    let page = cluster.members[0].ask("services");
    assert!(page.lines().all(|line| line.len() <= 100), "{page}");
}
