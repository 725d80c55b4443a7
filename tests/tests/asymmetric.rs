//! Flows whose directions pass different gateways: both carry them, and either one's word ends them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use tests::cluster::{Cluster, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, holds_within, wait_until};
use tests::table::{table, wait_equal};

#[test]
fn a_flow_that_passes_two_gateways_is_rarely_claimed_and_ends_on_both_by_what_either_saw() {
    let lab = Lab::new(2);
    // The last ACK may overtake the news of the FIN that it answers: then the state before has to time out.
    for gateway in &lab.gateways {
        for state in ["fin_wait", "close_wait", "last_ack", "time_wait", "close"] {
            gateway.sysctl(&format!("netfilter.nf_conntrack_tcp_timeout_{state}"), 2);
        }
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    // What the server sends takes the other gateway.
    lab.server.ip("route replace 10.0.0.0/24 via 203.0.113.12");
    let listener = lab
        .server
        .inside(|| TcpListener::bind((Path::Plain.listener(Family::Ipv4), 0)))
        .expect("the server has the address");

    let (mut client, mut server) = connect(&lab, &listener);
    let claims = || -> u64 {
        cluster
            .members
            .iter()
            .map(|it| it.counter("takeovers"))
            .sum()
    };
    let before = claims();
    let begin = Instant::now();
    let mut exchanges = 0;
    while begin.elapsed() < Duration::from_secs(5) {
        exchange(&mut client, &mut server);
        exchanges += 1;
    }
    let claims = claims() - before;
    assert!(exchanges > 100, "{exchanges}");
    assert!(claims <= 12, "{claims} claims in {exchanges} exchanges");
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 1);

    // The client's FIN passes one gateway, the server's the other.
    client.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(server.read(&mut [0]).expect("the end arrives"), 0);
    // As over any distance, the answer comes when the other gateway knows.
    wait_until("the other gateway knows of the FIN", DEADLINE, || {
        table(&lab.gateways[1])
            .iter()
            .all(|it| !it.contains("ESTABLISHED"))
    });
    drop(server);
    assert_eq!(client.read(&mut [0]).expect("the end arrives"), 0);
    wait_gone(&lab);

    // A reset passes one of them alone.
    for from_client in [true, false] {
        let (mut client, mut server) = connect(&lab, &listener);
        for _ in 0..20 {
            exchange(&mut client, &mut server);
        }
        let (reset, other) = if from_client {
            (client, server)
        } else {
            (server, client)
        };
        SockRef::from(&reset)
            .set_linger(Some(Duration::ZERO))
            .expect("a TCP socket lingers");
        drop(reset);
        wait_gone(&lab);
        drop(other);
    }
}

#[track_caller]
fn wait_gone(lab: &Lab) {
    let tables = || -> Vec<_> { lab.gateways.iter().map(table).collect() };
    let gone = holds_within(DEADLINE, || tables().iter().all(BTreeSet::is_empty));
    assert!(gone, "the flow has not ended on both: {:#?}", tables());
}

fn exchange(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"a").expect("it is connected");
    server.read_exact(&mut [0]).expect("the byte arrives");
    server.write_all(b"b").expect("it is connected");
    client.read_exact(&mut [0]).expect("the byte arrives");
}

fn connect(lab: &Lab, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let server = listener.local_addr().expect("a listener has an address");
    let from = SocketAddr::new(Path::Plain.client(Family::Ipv4), 0);
    let client = lab.client.connect(from, server, DEADLINE);
    let (server, _) = listener.accept().expect("it is connected");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP socket");
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout that is not zero");
    }
    (client, server)
}
