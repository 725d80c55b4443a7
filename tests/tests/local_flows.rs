//! Flows of the gateway itself stay at home: only what passes through a gateway concerns its peers.

use std::net::UdpSocket;
use std::time::Duration;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::Namespace;
use tests::table::{table, wait_equal};

/// How long tables may take to agree.
const AGREE_DEADLINE: Duration = Duration::from_secs(10);

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
    assert_eq!(wait_equal(&lab.gateways, AGREE_DEADLINE).len(), 10);
    drop(cluster);
}

/// Opens a flow from an address of the gateway, which only its own table shows.
fn speak_to_server(gateway: &Namespace, address: &str) {
    let socket = gateway.inside(|| UdpSocket::bind((address, 0)));
    let socket = socket.expect("the gateway has the address");
    socket
        .send_to(b"local", ("203.0.113.100", 9))
        .expect("there is a route");
    assert!(
        table(gateway)
            .iter()
            .any(|it| it.contains(&format!("src={address} ")))
    );
}
