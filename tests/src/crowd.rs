//! Many flows at once, opened with real packets through the lab.
//!
//! Ports are chosen by the kernel; every flow has been answered when the function returns. The flows stay as long as the
//! crowd lives, as far as sockets matter to them.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::lab::{Family, Lab, Path};

/// How long one flow may take to be answered.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Open sockets.
#[derive(Debug, Default)]
pub struct Crowd {
    streams: Vec<(TcpStream, TcpStream)>,
    sockets: Vec<UdpSocket>,
    /// Connected sockets, with what is sent through them.
    pings: Vec<(Socket, SocketAddr)>,
    one_way: Vec<UdpSocket>,
    /// Takes what goes one way.
    sink: Option<UdpSocket>,
}

impl Crowd {
    /// Opens TCP connections, says a byte in each, and leaves them open.
    #[track_caller]
    pub fn tcp(&mut self, lab: &Lab, path: Path, family: Family, count: usize) {
        raise_file_limit();
        let listener = lab
            .server
            .inside(|| TcpListener::bind((path.listener(family), 0)));
        let listener = listener.expect("the server has the address");
        let port = listener
            .local_addr()
            .expect("a listener has an address")
            .port();
        let server = SocketAddr::new(path.server(family), port);
        let from = SocketAddr::new(path.client(family), 0);
        lab.client.inside(|| {
            for _ in 0..count {
                self.streams.push(connect(&listener, from, server));
            }
        });
    }

    /// Opens TCP connections and closes each, the client first, before it opens the next.
    #[track_caller]
    pub fn tcp_opened_and_closed(lab: &Lab, path: Path, family: Family, count: usize) {
        let mut crowd = Crowd::default();
        for _ in 0..count.div_ceil(CLOSED_TOGETHER) {
            crowd.tcp(lab, path, family, count.min(CLOSED_TOGETHER));
            crowd.close_tcp();
        }
    }

    /// Closes all TCP connections, the client first.
    #[track_caller]
    pub fn close_tcp(&mut self) {
        for (mut client, mut server) in self.streams.drain(..) {
            client.shutdown(Shutdown::Write).expect("it is connected");
            assert_eq!(server.read(&mut [0]).expect("the end arrives"), 0);
            server.shutdown(Shutdown::Write).expect("it is connected");
            assert_eq!(client.read(&mut [0]).expect("the end arrives"), 0);
        }
    }

    /// Opens UDP flows: a datagram there and one back.
    #[track_caller]
    pub fn udp(&mut self, lab: &Lab, path: Path, family: Family, count: usize) {
        raise_file_limit();
        let server = (lab.server).udp_socket((path.listener(family), 0), ANSWER_DEADLINE);
        let port = server.local_addr().expect("a socket has an address").port();
        lab.client.inside(|| {
            for _ in 0..count {
                let client = UdpSocket::bind((path.client(family), 0)).expect("a port is free");
                client
                    .set_read_timeout(Some(ANSWER_DEADLINE))
                    .expect("a timeout that is not zero");
                client
                    .connect((path.server(family), port))
                    .expect("there is a route");
                client.send(b"a").expect("there is a route");
                let (_, peer) = server.recv_from(&mut [0]).expect("the datagram arrives");
                server.send_to(b"b", peer).expect("there is a route");
                client.recv(&mut [0]).expect("the answer arrives");
                self.sockets.push(client);
            }
        });
    }

    /// Opens UDP flows that are never answered.
    #[track_caller]
    pub fn udp_one_way(&mut self, lab: &Lab, path: Path, family: Family, count: usize) {
        let sink = lab
            .server
            .inside(|| UdpSocket::bind((path.listener(family), 0)));
        let sink = sink.expect("the server has the address");
        let port = sink.local_addr().expect("a socket has an address").port();
        self.sink = Some(sink);
        lab.client.inside(|| {
            for _ in 0..count {
                let client = UdpSocket::bind((path.client(family), 0)).expect("a port is free");
                client
                    .connect((path.server(family), port))
                    .expect("there is a route");
                client.send(b"a").expect("there is a route");
                self.one_way.push(client);
            }
        });
    }

    /// Another datagram in each flow that goes one way, another ping in each that was pinged.
    #[track_caller]
    pub fn once_more(&mut self) {
        for client in &self.one_way {
            client.send(b"a").expect("there is a route");
        }
        for (socket, server) in &self.pings {
            ping(socket, *server);
        }
    }

    /// TCP connections that say nothing are kept alive by a packet this often.
    #[track_caller]
    pub fn keep_alive(&self, interval: Duration) {
        let probes = TcpKeepalive::new()
            .with_time(interval)
            .with_interval(interval);
        for (client, _) in &self.streams {
            SockRef::from(client)
                .set_tcp_keepalive(&probes)
                .expect("it is a TCP socket");
        }
    }

    /// From now on TCP connections are silent.
    #[track_caller]
    pub fn let_die(&self) {
        for (client, _) in &self.streams {
            SockRef::from(client)
                .set_keepalive(false)
                .expect("it is a TCP socket");
        }
    }

    /// Opens ICMP flows: a ping each, with an id of its own.
    #[track_caller]
    pub fn icmp(&mut self, lab: &Lab, path: Path, family: Family, count: usize) {
        raise_file_limit();
        lab.client.sysctl("ipv4.ping_group_range", "0 0");
        let (domain, protocol) = match family {
            Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        lab.client.inside(|| {
            for _ in 0..count {
                let socket =
                    Socket::new(domain, Type::DGRAM, Some(protocol)).expect("root may ping");
                socket
                    .set_read_timeout(Some(ANSWER_DEADLINE))
                    .expect("a timeout that is not zero");
                let from = SocketAddr::new(path.client(family), 0);
                socket
                    .bind(&from.into())
                    .expect("the client has the address");
                let server = SocketAddr::new(path.server(family), 0);
                ping(&socket, server);
                self.pings.push((socket, server));
            }
        });
    }
}

fn ping(mut socket: &Socket, server: SocketAddr) {
    let request = if server.is_ipv4() { 8 } else { 128 };
    // Type, code, checksum, id, sequence: the kernel fills in checksum and id.
    socket
        .send_to(&[request, 0, 0, 0, 0, 0, 0, 1], &server.into())
        .expect("there is a route");
    socket.read_exact(&mut [0; 8]).expect("the echo arrives");
}

/// A closed connection occupies two sockets until it is dropped: this many at a time.
const CLOSED_TOGETHER: usize = 100;

/// Connects, says a byte there and one back.
fn connect(listener: &TcpListener, from: SocketAddr, server: SocketAddr) -> (TcpStream, TcpStream) {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    );
    let socket = socket.expect("a socket can be made");
    socket
        .bind(&from.into())
        .expect("the client has the address");
    socket
        .connect_timeout(&server.into(), ANSWER_DEADLINE)
        .expect("the server answers");
    let mut client = TcpStream::from(socket);
    let (mut server, _) = listener.accept().expect("it is connected");
    for stream in [&client, &server] {
        stream
            .set_read_timeout(Some(ANSWER_DEADLINE))
            .expect("a timeout that is not zero");
    }
    client.write_all(b"a").expect("it is connected");
    server.read_exact(&mut [0]).expect("the byte arrives");
    server.write_all(b"b").expect("it is connected");
    client.read_exact(&mut [0]).expect("the byte arrives");
    (client, server)
}

/// Lets this process open as many files as it may at most.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("a limit may be raised to its maximum");
}
