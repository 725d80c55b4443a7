//! `ctsync policy dry-run` on a real kernel: what another policy would save, and what a failover would lose.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use tests::cluster::{Cluster, Settings, program};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::wait_equal;
use tests::traffic::{Connection, Kind};

const TRIAL: &str = "\
services:
  chat: { protocol: tcp, sync: delayed, delay: 1h }
  quiet: { protocol: udp, ports: 53, sync: never }
";

/// `NETLINK_NETFILTER`, in `/proc/net/netlink`.
const NETFILTER: &str = "12";

/// Opens a flow with one datagram.
fn send(lab: &Lab, port: u16) {
    lab.client.inside(|| {
        let socket = UdpSocket::bind("10.0.0.100:0").expect("the address is there");
        let to = ("203.0.113.100", port);
        socket.send_to(b"x", to).expect("there is a route");
    });
}

#[test]
fn a_dry_run_counts_what_another_policy_would_save_and_expose_and_changes_nothing() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "policy: { kernel: off }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    lab.activate(0);
    let file = cluster.members[0].config().with_extension("trial.yaml");
    std::fs::write(&file, TRIAL).expect("there is room");
    // It is older than the dry run, and has no delay left as far as anybody knows.
    let old = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);

    let begun = Instant::now();
    let mut command = lab.gateways[0].command(program());
    let dry_run = command
        .args(["policy", "dry-run", "--json", "--for", "10s", "--config"])
        .arg(cluster.members[0].config())
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is there");
    // The first socket of a process is called as the process is; that of events hears groups.
    let process = dry_run.id().to_string();
    wait_until("it listens", DEADLINE, || {
        let sockets = lab.gateways[0].run("cat /proc/net/netlink");
        sockets.lines().any(|line| {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            matches!(words[..], [_, NETFILTER, id, groups, ..] if id == process && groups != "00000000")
        })
    });
    send(&lab, 53);
    send(&lab, 53);
    send(&lab, 5353);
    let young = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    let opened = begun.elapsed();
    assert!(opened < Duration::from_secs(10), "{opened:?}: too late");
    let output = dry_run.wait_with_output().expect("it is a child");
    assert!(output.status.success());
    assert!(begun.elapsed() >= Duration::from_secs(10));

    let outcome: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let row = |name: Value| {
        let services = outcome["services"].as_array().expect("it is a list");
        let row = services.iter().find(|row| row["service"] == name);
        row.unwrap_or_else(|| panic!("{name}: {outcome}")).clone()
    };
    let figures = |row: &Value| {
        ["flows", "told", "late", "untold", "exposed"].map(|it| row[it].as_u64().expect(it))
    };
    let quiet = row("quiet".into());
    assert_eq!(figures(&quiet), [2, 0, 0, 2, 2], "{outcome}");
    assert!(quiet["saved"].as_u64() >= Some(2), "{outcome}");
    let chat = row("chat".into());
    assert_eq!(
        (chat["flows"].as_u64(), chat["exposed"].as_u64()),
        (Some(1), Some(1)),
        "{outcome}"
    );
    assert!(chat["saved"].as_u64() >= Some(2), "{outcome}");
    let other = row(Value::Null);
    assert_eq!(
        (other["flows"].as_u64(), other["saved"].as_u64()),
        (Some(1), Some(0)),
        "{outcome}"
    );

    // The policy in force is as it was.
    wait_equal(&lab.gateways, DEADLINE);
    assert_eq!(old.progress().failure, None);
    assert_eq!(young.progress().failure, None);
}
