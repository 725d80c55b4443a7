//! What passes is counted by service, written, and known to the others when its gateway dies.

use std::net::UdpSocket;

use serde_json::Value;

use tests::cluster::{Cluster, Daemon, Settings};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};

/// Of a datagram: 500 of payload, 8 of UDP, 20 of IPv4.
const BYTES: u64 = 528;

#[test]
fn a_failover_loses_at_most_an_interval_of_what_was_counted() {
    let mut lab = Lab::new(3);
    for gateway in &lab.gateways {
        gateway.sysctl("netfilter.nf_conntrack_acct", 1);
    }
    let settings = Settings {
        more: "accounting: { target: PLACE, interval: 1s }",
        policy: "services:\n  \
                 known: { protocol: udp, ports: 7001 }\n  \
                 unsynchronised: { protocol: udp, ports: 7002, sync: never }\n",
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    let [known, untold, other] = [7001, 7002, 7003].map(|port| Talk::open(&lab, port));
    known.say(100);
    untold.say(40);
    other.say(7);
    for daemon in &cluster.members {
        wait_until("all know what passed the first gateway", DEADLINE, || {
            let of_first = |service| passed(daemon, 1, service);
            of_first("known") == [100, 100]
                && of_first("unsynchronised") == [40, 40]
                && of_first("") == [7, 7]
        });
    }
    // It ends between two readings of the table, and no member is told of it.
    untold.say(5);
    lab.gateways[0].run("conntrack -D -p udp --orig-port-dst 7002");
    wait_until("the end told the rest", DEADLINE, || {
        passed(&cluster.members[1], 1, "unsynchronised") == [45, 45]
    });

    // Nobody has read the last of it when the power fails.
    known.say(30);
    cluster.members[0].process().kill();
    lab.cut(0);
    lab.activate(1);
    known.say(25);
    let [first, second, _] = &mut cluster.members[..] else {
        panic!("there are three")
    };
    wait_until("the second has counted the rest", DEADLINE, || {
        passed(second, 2, "known") == [25, 25]
    });
    let [there, back] = passed(second, 1, "known");
    assert!((100..=130).contains(&there) && (100..=130).contains(&back));
    wait_until("it is written", DEADLINE, || {
        let lines = lines(second);
        let last = |member: u64| lines.iter().rfind(|it| it["member"] == member).cloned();
        last(1).is_some_and(|it| it["packets"] == there + 52)
            && last(2).is_some_and(|it| it["packets"] == 25 && it["bytes"] == 25 * BYTES)
    });

    // Back again, it learns what it had told.
    lab.reboot(0);
    lab.gateways[0].sysctl("netfilter.nf_conntrack_acct", 1);
    first.start(&lab.gateways[0]);
    cluster.wait_in_step();
    let first = &cluster.members[0];
    wait_until("the first knows what it had told", DEADLINE, || {
        passed(first, 1, "known") == [there, back] && passed(first, 2, "known") == [25, 25]
    });
    let page = first.ask("accounting");
    assert!(page.contains("unsynchronised"), "{page}");
}

/// A flow of datagrams, each of which is answered.
struct Talk {
    client: UdpSocket,
    server: UdpSocket,
}

impl Talk {
    fn open(lab: &Lab, port: u16) -> Talk {
        let (path, family) = (Path::Plain, Family::Ipv4);
        let server = (lab.server).udp_socket((path.listener(family), port), DEADLINE);
        let client = lab.client.udp_socket((path.client(family), 0), DEADLINE);
        let connected = client.connect((path.server(family), port));
        connected.expect("there is a route");
        Talk { client, server }
    }

    fn say(&self, times: usize) {
        let mut datagram = [0; 500];
        for _ in 0..times {
            self.client.send(&datagram).expect("there is a route");
            let (_, from) = (self.server.recv_from(&mut datagram)).expect("it arrives");
            (self.server.send_to(&datagram, from)).expect("there is a route");
            self.client.recv(&mut datagram).expect("the answer arrives");
        }
    }
}

/// Packets of a service, there and back, that passed a member, as `daemon` knows it. Their bytes are right, too.
fn passed(daemon: &Daemon, member: u64, service: &str) -> [u64; 2] {
    let answer = daemon.answer(&["accounting"]);
    let all = answer["members"].as_array().cloned().unwrap_or_default();
    let Some(it) = all.iter().find(|it| it["member"] == member) else {
        return [0; 2];
    };
    let services = it["services"].as_array().expect("a member has services");
    let is_it = |it: &&Value| it["service"].as_str().unwrap_or_default() == service;
    let Some(it) = services.iter().find(is_it) else {
        return [0; 2];
    };
    [("packets", "bytes"), ("reply_packets", "reply_bytes")].map(|(packets, bytes)| {
        let packets = it[packets].as_u64().expect("a number");
        assert_eq!(it[bytes], packets * BYTES, "{answer:#}");
        packets
    })
}

/// What the daemon wrote.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let text = std::fs::read_to_string(daemon.place()).unwrap_or_default();
    let line = |line: &str| serde_json::from_str(line).expect("each line is JSON");
    text.lines().map(line).collect()
}
