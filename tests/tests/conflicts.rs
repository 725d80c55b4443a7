//! Two gateways translated to the same address and port before they heard of each other.

use std::time::Duration;

use rustix::process::Signal;

use tests::cluster::{Cluster, Transport};
use tests::lab::Lab;
use tests::netns::wait_until;
use tests::table::table;

/// How long members may take to find out.
const DEADLINE: Duration = Duration::from_secs(30);

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
            .find(|line| line.contains("reply tuple of another"));
        let line = line.unwrap_or_else(|| panic!("no word of it: {log}"));
        assert!(
            line.contains("10.0.0.50") && line.contains("10.0.0.51"),
            "{line}"
        );
    }
    let explained = cluster.members[0].ask("explain udp 10.0.0.51:1000 203.0.113.50:53");
    assert!(
        explained.contains("10.0.0.50 > 203.0.113.50") && explained.contains("a range of ports"),
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
