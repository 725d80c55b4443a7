//! A peer that is stopped for 10 s under load: it holds up nobody, and catches up when it runs again.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use tests::arrivals::Arrivals;
use tests::cluster::{Cluster, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;
use tests::table::wait_equal;

/// Between two flows of the load.
const INTERVAL: Duration = Duration::from_millis(2);

#[test]
fn a_stopped_peer_delays_nobody_and_catches_up() {
    let lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");

    let before = open_flows(&lab, Duration::from_secs(2));
    let delay_before = median_delay(&before, &arrivals);
    cluster.members[1].process().signal(Signal::STOP);
    let during = open_flows(&lab, Duration::from_secs(10));
    let delay_during = median_delay(&during, &arrivals);
    // Flows that end while it is stopped must not live on there.
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    let last = open_flows(&lab, Duration::from_secs(1));
    cluster.members[1].process().signal(Signal::CONT);

    // A peer that is waited for would cost at least the second after which it counts as dead.
    let tolerated = (delay_before * 3).max(Duration::from_millis(250));
    assert!(
        delay_during <= tolerated,
        "{delay_during:?}, before it was stopped {delay_before:?}"
    );
    let table = wait_equal(&lab.gateways, Duration::from_secs(20));
    assert_eq!(table.len(), last.len());
}

/// A UDP flow, which keeps its port as long as it lives.
struct Flow {
    socket: UdpSocket,
    sent: Instant,
}

/// Opens flows through the first gateway at a steady rate, each with a datagram there and one back.
fn open_flows(lab: &Lab, duration: Duration) -> Vec<Flow> {
    let server = lab
        .server
        .inside(|| UdpSocket::bind((Path::Plain.listener(Family::Ipv4), 0)));
    let server = server.expect("the server has the address");
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout that is not zero");
    let port = server.local_addr().expect("a socket has an address").port();
    lab.client.inside(|| {
        let start = Instant::now();
        let mut flows = Vec::new();
        while start.elapsed() < duration {
            let socket =
                UdpSocket::bind((Path::Plain.client(Family::Ipv4), 0)).expect("a port is free");
            let sent = Instant::now();
            socket
                .send_to(b"a", (Path::Plain.server(Family::Ipv4), port))
                .expect("there is a route");
            let (_, client) = server.recv_from(&mut [0]).expect("the datagram arrives");
            server.send_to(b"b", client).expect("there is a route");
            flows.push(Flow { socket, sent });
            thread::sleep(INTERVAL);
        }
        flows
    })
}

/// From a flow's first datagram to its entry in the listener's table.
#[track_caller]
fn median_delay(flows: &[Flow], arrivals: &Arrivals) -> Duration {
    let arrived = |flow: &Flow| {
        let port = flow
            .socket
            .local_addr()
            .expect("a socket has an address")
            .port();
        arrivals.of(port)
    };
    wait_until("every flow has arrived", Duration::from_secs(10), || {
        flows.iter().all(|it| arrived(it).is_some())
    });
    let delays = flows
        .iter()
        .filter_map(|it| Some(arrived(it)?.saturating_duration_since(it.sent)));
    let mut sorted: Vec<_> = delays.collect();
    sorted.sort();
    sorted[sorted.len() / 2]
}
