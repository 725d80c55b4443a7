//! The service policy on real kernels: what the peers are told of, and when.

use std::fs;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Settings, program};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, Namespace, wait_until};
use tests::table::{client_entries, wait_equal};
use tests::traffic::{Connection, Kind};

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
        client_entries(&lab.gateways[1], "tcp") == 1
    });
    assert_eq!(client_entries(&lab.gateways[0], "udp"), 1);
    assert_eq!(client_entries(&lab.gateways[1], "udp"), 0);
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
    assert_eq!(client_entries(&lab.gateways[1], "tcp"), 0);
    assert!(begun.elapsed() > Duration::from_secs(2) || records() == before);
    wait_until("the other gateway has it", DEADLINE, || {
        client_entries(&lab.gateways[1], "tcp") == 1
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
        client_entries(&lab.gateways[1], "tcp") == 1
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
        let answer = cluster.members[member].answer(&["services"]);
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

/// Starts a cluster whose second member keeps TCP to itself, whatever the first does.
#[track_caller]
fn start_with_another_policy(lab: &Lab, settings: Settings) -> Cluster {
    let mut cluster = Cluster::configure(lab, settings);
    let config = cluster.members[1].config().to_owned();
    let text = fs::read_to_string(&config).expect("it was written");
    fs::write(&config, text + "policy: { file: other.yaml }\n").expect("it is ours");
    let other = "services: { quiet: { protocol: tcp, sync: never } }\n";
    fs::write(config.with_file_name("other.yaml"), other).expect("it is ours");
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    cluster
}

/// Whose policy a flow is judged by is a matter of which gateway it passes, whatever the other would say.
#[test]
fn each_direction_is_as_the_policy_of_its_sender_says_and_the_difference_is_reported() {
    let lab = Lab::new(2);
    let settings = Settings {
        policy: "services: { quiet: { protocol: udp, sync: never } }\n",
        ..Settings::default()
    };
    let cluster = start_with_another_policy(&lab, settings);

    let at = |gateway: usize, through: usize| {
        let client = Path::Through(through).client(Family::Ipv4);
        let listed = lab.gateways[gateway].run(&format!("conntrack -L -s {client}"));
        ["tcp", "udp"].map(|proto| listed.lines().filter(|it| it.starts_with(proto)).count())
    };
    let kinds = [Kind::Interactive, Kind::Datagrams];
    let open =
        |through| kinds.map(|it| Connection::open(&lab, it, Path::Through(through), Family::Ipv4));
    let connections = [open(0), open(1)];
    wait_until("each tells what its policy says", DEADLINE, || {
        at(1, 0) == [1, 0] && at(0, 1) == [0, 1]
    });
    assert_eq!((at(0, 0), at(1, 1)), ([1, 1], [1, 1]));
    for member in &cluster.members {
        member.ask("audit --now");
    }
    // Neither withdraws what the other told, nor tells what it keeps to itself.
    assert_eq!((at(1, 0), at(0, 1)), ([1, 0], [0, 1]));
    for connection in connections.iter().flatten() {
        assert_eq!(connection.progress().failure, None);
    }
    wait_until("both say that their policies differ", DEADLINE, || {
        cluster.members.iter().all(|member| {
            let status = member.status().expect("the daemon answers");
            status["warnings"]
                .to_string()
                .contains("has another service policy than this member")
        })
    });
    let mut doctor = lab.gateways[0].command(program());
    let doctor = doctor
        .args(["doctor", "--config"])
        .arg(cluster.members[0].config());
    let found =
        String::from_utf8(doctor.output().expect("it is there").stdout).expect("it is text");
    assert!(
        found.contains("the service policy here is another than on gw-b"),
        "{found}"
    );

    // A file alone takes both to one policy again.
    let other = cluster.members[1].config().with_file_name("other.yaml");
    fs::write(other, settings.policy).expect("it is ours");
    cluster.members[1].ask("reload");
    wait_until("both follow it", DEADLINE, || {
        at(1, 0) == [1, 0] && at(0, 1) == [1, 0]
    });
    wait_until("nothing differs", DEADLINE, || {
        let status = cluster.members[0].status().expect("the daemon answers");
        !status["warnings"].to_string().contains("service policy")
    });
}

/// The rules of a gateway that keeps a service to itself let a peer's flow of it tell that it closes.
#[test]
fn a_flow_that_moves_to_where_it_would_not_be_told_of_ends_everywhere() {
    let lab = Lab::new(2);
    let _cluster = start_with_another_policy(&lab, Settings::default());
    lab.activate(0);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_equal(&lab.gateways, DEADLINE);
    lab.activate(1);
    let progress = connection.progress().count;
    wait_until("it goes on there", DEADLINE, || {
        connection.progress().count > progress
    });
    drop(connection);
    let closes = |gateway: &Namespace| {
        let listed = gateway.run("conntrack -L -p tcp -s 10.0.0.100");
        listed.contains("TIME_WAIT") || listed.contains("CLOSE")
    };
    wait_until("both see it close", DEADLINE, || {
        lab.gateways.iter().all(closes)
    });
    wait_equal(&lab.gateways, DEADLINE);
}
