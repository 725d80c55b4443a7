//! Records the captures that `captures.rs` decodes: real packets of every protocol, real messages of this kernel, and
//! beside each what the `conntrack` tool printed for it.
//!
//! `cargo test -p conntrack --test kernel -- --ignored record` writes `tests/data/events.txt` anew; look at the diff.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use conntrack::consts::*;
use conntrack::*;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::support::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events.txt");

/// The flow that stands at the begin and at the end of the recording.
const MARKER_PORT: u16 = 7777;

#[test]
#[ignore = "writes tests/data/events.txt"]
fn record() {
    in_netns(|| {
        prepare();
        let socket = open_raw_events();
        let mut tool = Command::new("conntrack")
            .args(["-E", "-o", "id,extended"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the conntrack tool is installed");
        let lines = lines_of(tool.stdout.take().expect("it is piped"));
        // The tool says nothing of having subscribed.
        while lines.recv_timeout(Duration::from_millis(20)).is_err() {
            mark();
        }
        mark();
        send_packets();
        inject_the_rest();
        expire_one();
        run("conntrack -F");
        mark();
        let lines = until_last_marker(&lines);
        tool.kill().expect("it runs");
        tool.wait().expect("it ran");
        let messages = drain(&socket);
        write(&messages, &lines);
    });
}

/// Addresses, routes, and rules that translate, mark and label.
pub fn prepare() {
    for address in [
        "10.1.0.1",
        "10.1.0.2",
        "192.0.2.80",
        "198.51.100.7",
        "10.9.0.80",
    ] {
        run(&format!("ip addr add {address}/32 dev lo"));
    }
    for address in [
        "fd01::1",
        "fd01::2",
        "2001:db8::80",
        "2001:db8:7::7",
        "fd09::80",
    ] {
        run(&format!("ip -6 addr add {address}/128 dev lo nodad"));
    }
    // The translated addresses are nobody's; the packets must still get as far as their translation.
    run("ip route add default dev lo");
    run("ip -6 route add default dev lo");
    nft("
        table inet t {
            chain marking {
                type filter hook output priority 0
                udp dport 99 ct mark set 0x1234
                ct label set 7
            }
            chain dnatting {
                type nat hook output priority -100
                ip daddr 203.0.113.80 dnat to 10.9.0.80
                ip6 daddr 2001:db8:3::80 dnat to fd09::80
            }
            chain snatting {
                type nat hook postrouting priority 100
                ip saddr 10.1.0.2 snat to 198.51.100.7
                ip6 saddr fd01::2 snat to 2001:db8:7::7
            }
        }
    ");
}

/// A subscription to events, for their bytes.
pub fn open_raw_events() -> OwnedFd {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        Some(NETFILTER),
    );
    let socket = socket.expect("a netlink socket");
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20).expect("a buffer");
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0b111)).expect("the groups");
    socket
}

fn lines_of(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Creates and deletes the marker.
fn mark() {
    let mut injector = Injector::open().expect("an injector");
    let flow = Flow {
        timeout: Some(9),
        ..Flow::new(ports(
            IPPROTO_UDP,
            ("10.1.0.1", 7),
            ("192.0.2.80", MARKER_PORT),
        ))
    };
    create(&mut injector, &flow);
    injector.delete(&flow);
    assert_eq!(commit(&mut injector), [Ok(())]);
}

/// The lines up to the end of the marker that stands after the flush.
fn until_last_marker(lines: &mpsc::Receiver<String>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut flushed = false;
    loop {
        let line = lines
            .recv_timeout(Duration::from_secs(10))
            .expect("the tool prints the last marker");
        let destroyed = line.contains("[DESTROY]");
        let marker = line.contains(&format!("dport={MARKER_PORT}"));
        flushed |= destroyed && line.contains("ESTABLISHED");
        seen.push(line);
        if flushed && destroyed && marker {
            return seen;
        }
    }
}

/// The datagrams that wait.
pub fn drain(socket: &OwnedFd) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _)) => messages.push(buffer[..len].to_vec()),
            Err(Errno::AGAIN) => return messages,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Pairs messages and lines from the end, as the tool came later, and leaves the markers out.
fn write(messages: &[Vec<u8>], lines: &[String]) {
    let mut pairs: Vec<_> = messages.iter().rev().zip(lines.iter().rev()).collect();
    pairs.reverse();
    let mut text = String::new();
    for (message, line) in pairs {
        if line.contains(&format!("dport={MARKER_PORT}")) {
            continue;
        }
        let line = line
            .split_whitespace()
            .filter(|word| !word.starts_with("progname="))
            .collect::<Vec<_>>()
            .join(" ");
        writeln!(text, "{line}").expect("a string");
        for byte in message {
            write!(text, "{byte:02x}").expect("a string");
        }
        text.push('\n');
    }
    std::fs::write(FILE, text).expect("the file is writable");
}

/// Packets of every protocol, translated and not, with answers where there is one.
pub fn send_packets() {
    for [client, server, behind_dnat, natted_client] in [
        ["10.1.0.1", "192.0.2.80", "203.0.113.80", "10.1.0.2"],
        ["fd01::1", "2001:db8::80", "2001:db8:3::80", "fd01::2"],
    ] {
        let inside = if client.contains(':') {
            "fd09::80"
        } else {
            "10.9.0.80"
        };
        tcp((client, 0), server, server);
        tcp((client, 0), behind_dnat, inside);
        tcp((natted_client, 0), server, server);
        udp(client, server, 53);
        udp(natted_client, server, 99);
        let echo = if client.contains(':') {
            [128, 0, 0, 0, 0x12, 0x34, 0, 1]
        } else {
            icmp_echo()
        };
        let icmp = if client.contains(':') {
            IPPROTO_ICMPV6
        } else {
            IPPROTO_ICMP
        };
        raw(icmp, client, server, &echo);
        raw(
            IPPROTO_UDPLITE,
            client,
            server,
            &[0x10, 0x00, 0x20, 0x00, 0, 0, 0xab, 0xcd],
        );
        raw(IPPROTO_SCTP, client, server, &sctp_init());
        raw(IPPROTO_DCCP, client, server, &[0; 16]);
        raw(IPPROTO_GRE, client, server, &[0, 0, 8, 0, 1, 2, 3, 4]);
        raw(IPPROTO_ESP, client, server, &[1; 16]);
    }
}

/// Opens a connection, sends a byte each way, closes it.
fn tcp(client: (&str, u16), to: &str, listen: &str) {
    let listener = TcpListener::bind((listen, 8080)).expect("the address is ours");
    let stream = connect_from(ip(client.0), SocketAddr::new(ip(to), 8080));
    let (mut accepted, _) = listener.accept().expect("it connected");
    let mut stream = TcpStream::from(stream);
    stream.write_all(b"x").expect("it is connected");
    accepted.read_exact(&mut [0]).expect("it was sent");
    accepted.write_all(b"y").expect("it is connected");
    stream.read_exact(&mut [0]).expect("it was sent");
    drop(stream);
    assert_eq!(accepted.read(&mut [0]).expect("it was closed"), 0);
}

fn connect_from(client: IpAddr, to: SocketAddr) -> OwnedFd {
    let family = if client.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("a TCP socket");
    rustix::net::bind(&socket, &SocketAddr::new(client, 0)).expect("the address is ours");
    rustix::net::connect(&socket, &to).expect("it listens");
    socket
}

/// A datagram, and one back.
fn udp(client: &str, server: &str, port: u16) {
    let server = UdpSocket::bind((server, port)).expect("the address is ours");
    let client = UdpSocket::bind((client, 0)).expect("the address is ours");
    client
        .send_to(b"x", server.local_addr().expect("it is bound"))
        .expect("it is sent");
    let (_, from) = server.recv_from(&mut [0]).expect("it was sent");
    server.send_to(b"y", from).expect("it is sent");
    client.recv_from(&mut [0]).expect("it was sent");
}

/// A packet of any protocol.
fn raw(proto: u8, client: &str, server: &str, payload: &[u8]) {
    let (client, server) = (
        SocketAddr::new(ip(client), 0),
        SocketAddr::new(ip(server), 0),
    );
    let family = if client.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let protocol = Protocol::from_raw(u32::from(proto).try_into().expect("not 0"));
    let socket =
        rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    rustix::net::bind(&socket, &client).expect("the address is ours");
    rustix::net::sendto(&socket, payload, SendFlags::empty(), &server).expect("it is sent");
}

fn icmp_echo() -> [u8; 8] {
    let checksum = !(0x0800u16 + 0x1234 + 1);
    let [c0, c1] = checksum.to_be_bytes();
    [8, 0, c0, c1, 0x12, 0x34, 0, 1]
}

/// Ports 4096 and 8192, tag 0; INIT with a tag of 0xabcdef01. Its checksum is not looked at on the way out.
fn sctp_init() -> [u8; 32] {
    let mut packet = [0; 32];
    packet[..4].copy_from_slice(&[0x10, 0x00, 0x20, 0x00]);
    packet[12..20].copy_from_slice(&[1, 0, 0, 20, 0xab, 0xcd, 0xef, 0x01]);
    packet[20..28].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 1]);
    packet
}

/// What packets alone don't bring: zones, helper, master, sequence adjustment, synproxy.
fn inject_the_rest() {
    let mut injector = Injector::open().expect("an injector");
    let udp = |port| {
        let flow = Flow::new(ports(IPPROTO_UDP, ("10.1.0.1", port), ("192.0.2.80", 5060)));
        Flow {
            timeout: Some(77),
            status: Some(IPS_SEEN_REPLY),
            mark: Some(0x55),
            ..flow
        }
    };
    create(&mut injector, &Flow { zone: 7, ..udp(1) });
    create(
        &mut injector,
        &Flow {
            orig: Tuple {
                zone: 8,
                ..udp(2).orig
            },
            ..udp(2)
        },
    );
    create(
        &mut injector,
        &Flow {
            reply: Tuple {
                zone: 9,
                ..udp(3).reply
            },
            ..udp(3)
        },
    );
    create(
        &mut injector,
        &Flow {
            labels: Some([1; 16]),
            ..udp(4)
        },
    );
    let master = ftp_flow();
    create(&mut injector, &master);
    create(&mut injector, &ftp_data_flow(&master));
    create(
        &mut injector,
        &Flow {
            synproxy: Some(SynProxy {
                isn: 1,
                its: 2,
                tsoff: 3,
            }),
            ..tcp_flow(9)
        },
    );
    injector.update(&Flow {
        mark: Some(0x66),
        timeout: Some(66),
        ..tcp_flow(9)
    });
    assert_eq!(commit(&mut injector), [Ok(())]);
}

/// A flow that ends by its timer: seen by who walks the table.
fn expire_one() {
    let mut injector = Injector::open().expect("an injector");
    let orig = ports(IPPROTO_UDP, ("10.1.0.1", 666), ("192.0.2.80", 666));
    create(
        &mut injector,
        &Flow {
            timeout: Some(1),
            ..Flow::new(orig)
        },
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while dump().iter().any(|flow| flow.orig == orig) {
        assert!(Instant::now() < deadline, "a timeout of 1 s ends");
    }
}
