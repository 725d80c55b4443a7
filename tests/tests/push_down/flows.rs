//! Flows that are opened, and those that a daemon knows.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tests::cluster::Daemon;
use tests::lab::Lab;

/// Who opens flows.
pub const CLIENTS: [&str; 4] = ["10.0.0.100", "10.0.0.101", "fd00::100", "fd00::101"];
/// To whom.
const SERVERS: [&str; 2] = ["203.0.113.100", "2001:db8::100"];

/// Ports that services and flows are of.
pub const PORTS: std::ops::Range<u64> = 2000..2012;

/// Protocol, source, destination. Of ICMP the source has the identifier for a port, the destination type and code.
pub type Opened = (u8, SocketAddr, SocketAddr);

/// Listens for TCP on every port that flows are of. Nobody takes the connections, so that they stay.
pub fn listen(lab: &Lab) -> Vec<TcpListener> {
    let port = |port| u16::try_from(port).expect("it is a port");
    lab.server.inside(|| {
        let listener = |at| TcpListener::bind(("::", port(at))).expect("the port is free");
        PORTS.map(listener).collect()
    })
}

/// Opens a flow, with one datagram or a connection, which lasts as long as the socket.
pub fn open(lab: &Lab, proto: u8, source: &str, port: u16) -> (Opened, Socket) {
    let server = SERVERS[usize::from(source.contains(':'))];
    let to = SocketAddr::new(server.parse().expect("it is an address"), port);
    let from = SocketAddr::new(source.parse().expect("it is an address"), 0);
    let kind = if proto == 6 {
        Type::STREAM
    } else {
        Type::DGRAM
    };
    let socket = lab.client.inside(|| {
        let socket = Socket::new(Domain::for_address(to), kind, None).expect("there are sockets");
        socket.bind(&from.into()).expect("the address is there");
        socket.connect(&to.into()).expect("it is answered");
        if proto == 17 {
            socket.send(b"x").expect("there is a route");
        }
        socket
    });
    let local = socket.local_addr().expect("it is bound");
    ((proto, local.as_socket().expect("it is of IP"), to), socket)
}

/// Asks the server with ICMP: for an echo or, over IPv4, for the time.
pub fn ask(lab: &Lab, kind: u8, source: &str, id: u16) -> Opened {
    let is_v6 = source.contains(':');
    let address = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
    let server = SERVERS[usize::from(is_v6)];
    let mut message = [0; 20];
    message[0] = kind;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    // The ones' complement of the sum of its words; over IPv6 the kernel writes it.
    let sum = (u32::from(kind) << 8) + u32::from(id);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("it is folded");
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let proto = if is_v6 {
        Protocol::ICMPV6
    } else {
        Protocol::ICMPV4
    };
    lab.client.inside(|| {
        let to = address(server, 0);
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(proto))
            .expect("there are sockets");
        socket
            .bind(&address(source, 0).into())
            .expect("the address is there");
        socket
            .send_to(&message, &to.into())
            .expect("there is a route");
    });
    let proto = if is_v6 { 58 } else { 1 };
    let kind = u16::from(kind) << 8;
    (proto, address(source, id), address(server, kind))
}

/// The flows to [`PORTS`], and those of ICMP, that a daemon knows.
pub fn known(daemon: &Daemon) -> BTreeSet<Opened> {
    let rows = daemon.flows().into_iter();
    let end = |row: &Value, address: &str, port: &str| {
        let ip = row["orig"][address].as_str()?.parse().ok()?;
        let port = u16::try_from(row["orig"][port].as_u64()?).ok()?;
        Some(SocketAddr::new(ip, port))
    };
    rows.filter_map(|row| {
        let proto = match row["proto"].as_str()? {
            "tcp" => 6,
            "udp" => 17,
            "icmp" => 1,
            "icmpv6" => 58,
            _ => return None,
        };
        Some((
            proto,
            end(&row, "src", "sport")?,
            end(&row, "dst", "dport")?,
        ))
    })
    .filter(|(proto, _, to)| matches!(proto, 1 | 58) || PORTS.contains(&to.port().into()))
    .collect()
}
