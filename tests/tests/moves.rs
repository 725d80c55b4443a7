//! Who carries a flow: the first packet that passes through a copy makes it the gateway's own, and all know.

use std::net::IpAddr;
use std::time::Duration;

use tests::cluster::{Cluster, Daemon, Settings, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::{COPY_BIT, table, wait_equal};
use tests::traffic::{Connection, Kind};

#[test]
fn flows_that_move_belong_to_the_gateway_that_their_packets_pass() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    lab.activate(0);
    let mut connections = Vec::new();
    // When the address moves away, the kernel drops what it masqueraded with it, which ends no flow.
    for path in [Path::Plain, Path::Masqueraded, Path::Redirected] {
        for kind in [Kind::Interactive, Kind::Datagrams] {
            for family in [Family::Ipv4, Family::Ipv6] {
                connections.push(Connection::open(&lab, kind, path, family));
            }
        }
    }
    wait_equal(&lab.gateways, DEADLINE);
    for (active, carrier) in [(0, 1), (1, 2), (0, 1)] {
        lab.activate(active);
        wait_until("every flow has moved, and both know", DEADLINE, || {
            let [here, there] = [active, 1 - active].map(|at| origins(&cluster.members[at]));
            here.len() == connections.len()
                && here.iter().all(|it| *it == ("own".to_owned(), carrier))
                && there.len() == connections.len()
                && there.iter().all(|it| *it == ("copy".to_owned(), carrier))
        });
    }
    for connection in connections {
        let before = connection.progress().count;
        wait_until("the connection goes on", DEADLINE, || {
            connection.progress().count > before
        });
        assert_eq!(connection.progress().failure, None);
    }
}

/// PROTOCOL.md 6.6: what the kernel drops so that it is translated anew is not put back as it was.
#[test]
fn a_masqueraded_flow_has_the_address_of_the_uplink_that_its_packets_leave_by() {
    let lab = Lab::new(2);
    let a = &lab.gateways[0];
    a.cable("wan2", &lab.server, "wan2");
    // Both uplinks lead to one server. The address of the second one is lent, as by DHCP.
    a.ip("addr add 198.51.100.1/24 dev wan2 valid_lft 9999 preferred_lft 9999");
    lab.server.ip("addr add 198.51.100.100/24 dev wan2
         addr add 198.18.7.100/24 dev wan2");
    a.nft(
        "table inet second { chain postrouting {
             type nat hook postrouting priority srcnat;
             oifname wan2 masquerade;
         }; }",
    );
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let patience = Duration::from_millis(100);
    let server = lab.server.udp_socket("203.0.113.100:4000", patience);
    let client = lab.client.udp_socket("10.0.0.101:4000", patience);
    let comes_from = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        wait_until("packets have the address", DEADLINE, || {
            client.send_to(b"on", "203.0.113.100:4000").unwrap();
            let arrived = server.recv_from(&mut [0; 8]);
            // An answer, so that the flow has been seen both ways.
            arrived.is_ok_and(|(_, from)| {
                server.send_to(b"back", from).unwrap();
                from.ip() == address
            })
        });
        // What both gateways have is the flow as it is now.
        wait_until("both know", DEADLINE, || {
            lab.gateways.iter().all(|it| {
                let rows = table(it);
                rows.len() == 1
                    && rows
                        .iter()
                        .all(|row| row.contains(&format!("dst={address} ")))
            })
        });
    };
    comes_from("203.0.113.1");
    a.ip("route add 203.0.113.100/32 dev wan2");
    comes_from("198.51.100.1");
    a.ip(
        "addr add 198.18.7.1/24 dev wan2 valid_lft 9999 preferred_lft 9999
         addr del 198.51.100.1/24 dev wan2",
    );
    comes_from("198.18.7.1");
    assert_eq!(cluster.members[0].counter("cut_put_back"), 0);
}

#[test]
fn the_operators_marks_stay_as_they_are_on_both_sides() {
    marks_stay("", COPY_BIT);
    marks_stay("kernel: { copy_bit: 5 }", 1 << 5);
}

fn marks_stay(more: &'static str, copy_bit: u32) {
    let lab = Lab::new(2);
    let settings = Settings {
        more,
        ..Settings::default()
    };
    let _cluster = Cluster::start_with(&lab, settings);
    lab.activate(0);
    let connection = Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    wait_until("the copy is there", DEADLINE, || {
        table(&lab.gateways[1]).len() == 1
    });
    lab.gateways[0].nft(
        "table inet operator { chain forward { type filter hook forward priority 0; ct mark set ct mark | 23; }; }",
    );
    let mark = |at: usize| mark(&lab.gateways[at].run("conntrack -L -p tcp -s 10.0.0.100"));
    wait_until("the copy has the mark and the copy bit", DEADLINE, || {
        mark(1) == 23 | copy_bit
    });
    assert_eq!(mark(0), 23);
    lab.activate(1);
    wait_until("the flow has moved and kept its mark", DEADLINE, || {
        mark(1) == 23 && mark(0) == 23 | copy_bit
    });
    assert_eq!(connection.progress().failure, None);
}

#[test]
fn the_table_of_ctsync_comes_and_goes_with_it_and_no_other_is_touched() {
    let lab = Lab::new(2);
    let gateway = &lab.gateways[0];
    let before = gateway.run("nft list ruleset");
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let table = || gateway.run("nft list table inet ctsync");
    let with = table();
    assert_eq!(with.matches("table inet ctsync {").count(), 1);
    gateway.nft(&cluster.members[0].ask("rules"));
    assert_eq!(table(), with, "it is what `ctsync rules` prints");
    cluster.members[0].process().kill();
    assert_eq!(table(), with, "a crash leaves it");
    cluster.members[0].start(gateway);
    cluster.wait_in_step();
    assert_eq!(
        gateway
            .run("nft list tables")
            .matches("inet ctsync")
            .count(),
        1,
        "the next start takes it over"
    );
    cluster.members[0]
        .process()
        .signal(rustix::process::Signal::TERM);
    assert!(cluster.members[0].process().wait(DEADLINE).success());
    assert_eq!(gateway.run("nft list ruleset"), before);
}

/// Origin and member of each flow that a daemon knows.
fn origins(daemon: &Daemon) -> Vec<(String, u64)> {
    let rows = daemon.flows().into_iter();
    rows.map(|row| {
        let origin = row["origin"].as_str().expect("a row has an origin");
        (
            origin.to_owned(),
            row["member"].as_u64().expect("a row has a member"),
        )
    })
    .collect()
}

/// The mark of the one entry listed.
fn mark(listed: &str) -> u32 {
    let word = listed
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("mark="));
    word.expect("an entry has a mark")
        .parse()
        .expect("a mark is a number")
}
