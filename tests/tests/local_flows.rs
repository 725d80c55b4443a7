//! Flows of the gateway itself stay at home: only what passes through a gateway concerns its peers.

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, Namespace, wait_until};
use tests::table::{table, wait_equal};

#[test]
fn flows_of_the_gateway_itself_are_not_replicated_nor_are_those_of_a_new_address() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let a = &lab.gateways[0];
    speak_to_server(a, "203.0.113.11");
    a.ip("addr add 203.0.113.77/32 dev wan");
    speak_to_server(a, "203.0.113.77");
    // Events come in order: when what passes through is there, what does not has been judged.
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 10);
    a.run("conntrack -D -s 203.0.113.11");
    a.run("conntrack -D -s 203.0.113.77");
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 10);
    drop(cluster);
}

/// As the shared address does with the role: the machine that had it still has flows of its daemons in its table.
#[test]
fn flows_of_an_address_that_moves_are_told_by_neither_and_put_into_no_kernel_that_has_it() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let [a, b] = [&lab.gateways[0], &lab.gateways[1]];
    a.ip("addr add 203.0.113.77/32 dev wan");
    speak_to_server(a, "203.0.113.77");
    a.ip("addr del 203.0.113.77/32 dev wan");
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 10);
    cluster.members[0].ask("audit --now");
    a.run("conntrack -U -p udp -s 203.0.113.77 -t 500");
    b.ip("addr add 203.0.113.78/32 dev wan");
    // Whoever routes it, to its peer this is a flow from a host to another.
    a.run("conntrack -I -p udp -s 10.0.0.50 -d 203.0.113.78 --sport 1000 --dport 53 -t 600");
    wait_until("it is kept out", DEADLINE, || {
        cluster.members[1].counter("kept_out") >= 1
    });
    cluster.members[1].ask("audit --now");
    let rows = table(b);
    let own = ["203.0.113.77 ", "203.0.113.78 "].map(|it| rows.iter().any(|row| row.contains(it)));
    assert_eq!(own, [false, false], "{rows:?}");
}

/// Opens a flow from an address of the gateway, which only its own table shows.
fn speak_to_server(gateway: &Namespace, address: &str) {
    let socket = gateway.udp_socket((address, 0), DEADLINE);
    socket
        .send_to(b"local", ("203.0.113.100", 9))
        .expect("there is a route");
    assert!(
        table(gateway)
            .iter()
            .any(|it| it.contains(&format!("src={address} ")))
    );
}
