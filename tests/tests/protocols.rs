//! Every protocol that the kernel tracks is replicated: flows opened by real packets through one gateway go on through
//! another, which lets in nothing that it has no flow for.
//!
//! TCP and UDP have tests of their own (`failover`). Here most packets are made by hand and sent through raw sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use tests::cluster::{Cluster, Transport};
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, Namespace, wait_until};
use tests::table::{Table, table, wait_equal};
use tests::traffic::{Connection, Kind};

/// The same in the virtual machine.
const SLOW: Duration = Duration::from_secs(60);

const IPPROTO_DCCP: u8 = 33;
const IPPROTO_GRE: u8 = 47;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_UDPLITE: u8 = 136;
/// For experiments, RFC 3692: the kernel tracks it as it does every protocol that it knows nothing of.
const IPPROTO_EXPERIMENT: u8 = 253;

/// The lab's gateways let in what the other tests use; these open flows too.
const ACCEPT: &str = "nft insert rule inet filter forward iifname lan meta l4proto { 33, 47, 132, 136, 253 } ct state new accept";

/// Both directions of what passes are in zone 5.
const ZONE: &str = "
table inet zone {
    chain prerouting {
        type filter hook prerouting priority raw;
        iifname { lan, wan } ct zone set 5
    }
}
";

#[test]
fn sctp_goes_on_with_its_state_and_tags() {
    let (client_tag, server_tag) = (0x0c0c_0c0c, 0x0505_0505);
    let opening = [
        (Side::Client, sctp(Side::Client, 0, INIT, client_tag)),
        (
            Side::Server,
            sctp(Side::Server, client_tag, INIT_ACK, server_tag),
        ),
        (Side::Client, sctp(Side::Client, server_tag, COOKIE_ECHO, 1)),
        (Side::Server, sctp(Side::Server, client_tag, COOKIE_ACK, 2)),
    ];
    for family in [Family::Ipv4, Family::Ipv6] {
        let table = goes_on(
            IPPROTO_SCTP,
            family,
            &opening,
            &sctp(Side::Server, client_tag, DATA, 3),
        );
        assert!(
            table.iter().all(|it| it.contains(" ESTABLISHED ")),
            "{table:#?}"
        );
    }
}

#[test]
fn udplite_goes_on() {
    // Ports, coverage (0: all), checksum, data.
    let there = [15, 160, 19, 136, 0, 0, 255, 255, 1, 1, 1, 1];
    let back = [19, 136, 15, 160, 0, 0, 255, 255, 2, 2, 2, 2];
    both_families(IPPROTO_UDPLITE, &there, &back);
}

#[test]
fn gre_goes_on() {
    // Version 0 with a key (RFC 2890), which the kernel does not look at, carrying IPv4.
    both_families(
        IPPROTO_GRE,
        &[0x20, 0, 8, 0, 0, 0, 0, 7, 1, 1, 1, 1],
        &[0x20, 0, 8, 0, 0, 0, 0, 7, 2, 2, 2, 2],
    );
}

#[test]
fn protocols_that_the_kernel_does_not_know_go_on() {
    both_families(IPPROTO_DCCP, b"request.", b"response");
    both_families(IPPROTO_EXPERIMENT, b"there", b"back");
}

#[test]
fn pings_go_on() {
    for (family, protocol, request, reply) in
        [(Family::Ipv4, 1, 8, 0), (Family::Ipv6, 58, 128, 129)]
    {
        // Type, code, checksum, id, sequence.
        let echo = |kind, sequence| vec![kind, 0, 0, 0, 0, 7, 0, sequence];
        let opening = [
            (Side::Client, echo(request, 1)),
            (Side::Server, echo(reply, 1)),
        ];
        goes_on(protocol, family, &opening, &echo(reply, 2));
    }
}

#[test]
fn flows_of_a_zone_go_on() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.nft(ZONE);
    }
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let connections = [Family::Ipv4, Family::Ipv6]
        .map(|family| Connection::open(&lab, Kind::Interactive, Path::Plain, family));
    let table = wait_equal(&lab.gateways, DEADLINE);
    assert!(
        table.len() == 2 && table.iter().all(|it| it.contains(" zone=5")),
        "{table:#?}"
    );
    cluster.members[0].process().kill();
    lab.cut(0);
    lab.activate(1);
    for connection in &connections {
        let before = connection.progress().count;
        wait_until("the connection goes on", DEADLINE, || {
            connection.progress().count > before + 2
        });
    }
}

/// Both ends are the kernel's own SCTP.
#[test]
#[ignore = "needs a kernel with SCTP; tests/tests/debian.rs runs it"]
fn associations_go_on() {
    for (path, family) in [
        (Path::Plain, Family::Ipv4),
        (Path::Plain, Family::Ipv6),
        (Path::Masqueraded, Family::Ipv4),
    ] {
        let lab = Lab::new(2);
        for gateway in &lab.gateways {
            gateway.run(ACCEPT);
        }
        let mut cluster = Cluster::start(&lab, Transport::Unicast);
        let open = |machine: &Namespace, address: IpAddr, port| {
            machine.inside(|| {
                let address = SocketAddr::new(address, port);
                let socket = Socket::new(
                    Domain::for_address(address),
                    Type::STREAM,
                    Some(i32::from(IPPROTO_SCTP).into()),
                )?;
                socket.bind(&address.into())?;
                socket.set_read_timeout(Some(SLOW))?;
                Ok::<Socket, std::io::Error>(socket)
            })
        };
        let listener = open(&lab.server, path.listener(family), 5000).expect("it has SCTP");
        listener.listen(1).expect("it is bound");
        let mut client = open(&lab.client, path.client(family), 0).expect("it has SCTP");
        let server = SocketAddr::new(path.server(family), 5000);
        client.connect(&server.into()).expect("the server answers");
        let (mut server, _) = listener.accept().expect("it has connected");
        talk(&mut client, &mut server);
        let table = wait_equal(&lab.gateways, SLOW);
        assert_eq!(table.len(), 1, "{table:#?}");
        assert!(
            table.iter().all(|it| it.contains(" ESTABLISHED ")),
            "{table:#?}"
        );
        cluster.members[0].process().kill();
        lab.cut(0);
        lab.activate(1);
        for _ in 0..3 {
            talk(&mut client, &mut server);
        }
        drop(client);
        assert_eq!(server.read(&mut [0; 8]).expect("the end arrives"), 0);
    }
}

/// A word there and one back.
fn talk(client: &mut Socket, server: &mut Socket) {
    let mut word = [0; 8];
    for (from, to) in [(&*client, &*server), (&*server, &*client)] {
        let (mut from, mut to) = (from, to);
        from.write_all(b"word").expect("it is connected");
        assert_eq!(to.read(&mut word).expect("it arrives"), 4);
    }
}

/// What the kernel forwards past conntrack has no timeout there, and lives on at the peer as long as it does.
#[test]
#[ignore = "needs a kernel with flowtables; tests/tests/debian.rs runs it"]
fn offloaded_flows_are_no_less_alive_at_the_peer_and_go_on_there() {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.nft(
            "table inet past {
                 flowtable fast { hook ingress priority 0; devices = { lan, wan }; }
                 chain forward {
                     type filter hook forward priority 10;
                     meta l4proto { tcp, udp } flow add @fast
                 }
             }",
        );
        for timeout in [
            "tcp_timeout_established",
            "udp_timeout",
            "udp_timeout_stream",
        ] {
            gateway.sysctl(&format!("netfilter.nf_conntrack_{timeout}"), 5);
        }
    }
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let connections = [
        (Kind::Interactive, Path::Plain, Family::Ipv4),
        (Kind::Interactive, Path::Masqueraded, Family::Ipv6),
        (Kind::Datagrams, Path::Plain, Family::Ipv6),
    ]
    .map(|(kind, path, family)| Connection::open(&lab, kind, path, family));
    let list = |gateway: &Namespace| {
        ["ipv4", "ipv6"]
            .map(|it| gateway.run(&format!("conntrack -L -f {it}")))
            .concat()
    };
    wait_until("they are offloaded", SLOW, || {
        list(&lab.gateways[0]).matches("[OFFLOAD]").count() == 3
    });
    let begin = std::time::Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        let table = table(&lab.gateways[1]);
        assert_eq!(table.len(), 3, "after {:?}: {table:#?}", begin.elapsed());
        let copies = list(&lab.gateways[1]);
        assert!(!copies.contains("OFFLOAD"), "{copies}");
    }
    assert_eq!(list(&lab.gateways[0]).matches("[OFFLOAD]").count(), 3);
    cluster.members[0].process().kill();
    lab.cut(0);
    lab.activate(1);
    for connection in &connections {
        let before = connection.progress().count;
        wait_until("the connection goes on", SLOW, || {
            connection.progress().count > before + 2
        });
    }
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

fn both_families(protocol: u8, there: &[u8], back: &[u8]) {
    for family in [Family::Ipv4, Family::Ipv6] {
        let opening = [
            (Side::Client, there.to_vec()),
            (Side::Server, back.to_vec()),
        ];
        goes_on(protocol, family, &opening, back);
    }
}

/// Opens a flow through the first gateway, packet by packet; moves it to the second, where the server's next packet has to
/// reach the client. Returns the table that the gateways agreed on.
#[track_caller]
fn goes_on(protocol: u8, family: Family, opening: &[(Side, Vec<u8>)], after: &[u8]) -> Table {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.run(ACCEPT);
        // Not what is tested here.
        gateway.sysctl("netfilter.nf_conntrack_checksum", 0);
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let client = Raw::open(&lab.client, protocol, Path::Plain.client(family));
    let server = Raw::open(&lab.server, protocol, Path::Plain.server(family));
    for (side, packet) in opening {
        match side {
            Side::Client => client.send(packet, &server),
            Side::Server => server.send(packet, &client),
        }
    }
    let table = wait_equal(&lab.gateways, DEADLINE);
    assert_eq!(table.len(), 1, "{table:#?}");
    assert!(
        !table.iter().any(|it| it.contains("UNREPLIED")),
        "{table:#?}"
    );
    lab.activate(1);
    server.send(after, &client);
    drop(cluster);
    table
}

/// A raw socket: sends and receives what follows the IP header.
struct Raw {
    socket: Socket,
    address: IpAddr,
}

impl Raw {
    #[track_caller]
    fn open(machine: &Namespace, protocol: u8, address: IpAddr) -> Raw {
        let socket = machine.inside(|| {
            let domain = Domain::for_address(SocketAddr::new(address, 0));
            let socket = Socket::new(domain, Type::RAW, Some(i32::from(protocol).into()))?;
            socket.bind(&SocketAddr::new(address, 0).into())?;
            socket.set_read_timeout(Some(DEADLINE))?;
            Ok::<Socket, std::io::Error>(socket)
        });
        Raw {
            socket: socket.expect("root may open raw sockets"),
            address,
        }
    }

    /// Sends a packet, and waits until the other end has it.
    #[track_caller]
    fn send(&self, packet: &[u8], to: &Raw) {
        let address = SocketAddr::new(to.address, 0);
        self.socket
            .send_to(packet, &address.into())
            .expect("there is a route");
        // The kernel puts a header before it, and the checksum into ICMPv6: the last bytes stay as they are.
        let mark = &packet[packet.len() - 4..];
        let mut bytes = [0; 2048];
        loop {
            match (&to.socket).read(&mut bytes) {
                Ok(length) if bytes[..length].ends_with(mark) => return,
                Ok(_) => {}
                Err(error) => panic!("{packet:02x?} does not arrive: {error}"),
            }
        }
    }
}

/// Chunk types of SCTP, RFC 9260 section 3.2.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

/// A packet of one chunk, whose first field is what tells it from the others: the initiate tag, if it has one.
fn sctp(from: Side, verification_tag: u32, chunk: u8, first: u32) -> Vec<u8> {
    let ports: [u16; 2] = match from {
        Side::Client => [4000, 5000],
        Side::Server => [5000, 4000],
    };
    let mut packet: Vec<u8> = ports.iter().flat_map(|it| it.to_be_bytes()).collect();
    packet.extend(verification_tag.to_be_bytes());
    packet.extend([0; 4]);
    // INIT and INIT ACK have window, streams and first number, all others need no more than their first field.
    let rest: &[u8] = match chunk {
        INIT | INIT_ACK => &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        _ => &[],
    };
    let length = u8::try_from(8 + rest.len()).expect("a chunk is short");
    packet.extend([chunk, 0, 0, length]);
    packet.extend(first.to_be_bytes());
    packet.extend(rest);
    packet
}
