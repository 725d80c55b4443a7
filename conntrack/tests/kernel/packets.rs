//! Packets made byte by byte, and sent as they are.

use std::net::{IpAddr, SocketAddr};

use conntrack::consts::*;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType};

use crate::support::*;

/// An IPv4 packet with options, a multiple of 4 bytes, before its transport header.
pub fn ipv4(proto: u8, [src, dst]: [&str; 2], options: &[u8], transport: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let [len_high, len_low] = be16(header_len + transport.len());
    let words = u8::try_from(header_len / 4).expect("a header has 15 words at most");
    let mut packet = vec![
        0x40 | words,
        0,
        len_high,
        len_low,
        0,
        0,
        0,
        0,
        64,
        proto,
        0,
        0,
    ];
    packet.extend(octets(src));
    packet.extend(octets(dst));
    packet.extend(options);
    packet.extend(transport);
    packet
}

/// An IPv6 packet with extension headers, each without its first byte, before its transport header.
pub fn ipv6(
    proto: u8,
    [src, dst]: [&str; 2],
    extensions: &[(u8, &[u8])],
    transport: &[u8],
) -> Vec<u8> {
    let kinds: Vec<u8> = extensions
        .iter()
        .map(|(kind, _)| *kind)
        .chain([proto])
        .collect();
    let mut payload = Vec::new();
    for ((_, rest), next) in extensions.iter().zip(&kinds[1..]) {
        payload.push(*next);
        payload.extend(*rest);
    }
    payload.extend(transport);
    let [len_high, len_low] = be16(payload.len());
    let mut packet = vec![0x60, 0, 0, 0, len_high, len_low, kinds[0], 64];
    packet.extend(octets(src));
    packet.extend(octets(dst));
    packet.extend(payload);
    packet
}

/// A TCP header with options, a multiple of 4 bytes; `flags` as in its 14th byte.
pub fn tcp(src: u16, dst: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("a header has 15 words at most");
    let mut header = ports_of(src, dst);
    header.extend([
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        words << 4,
        flags,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    header.extend(options);
    header
}

/// A UDP or UDP-Lite datagram without data; the latter must have a checksum, which is not looked at on the way out.
pub fn udp(src: u16, dst: u16) -> Vec<u8> {
    let mut datagram = ports_of(src, dst);
    datagram.extend([0, 8, 1, 1]);
    datagram
}

/// A SCTP packet of one INIT chunk.
pub fn sctp_init(src: u16, dst: u16, init_tag: u32) -> Vec<u8> {
    let mut packet = ports_of(src, dst);
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(init_tag.to_be_bytes());
    packet.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
    packet
}

/// An ICMP or ICMPv6 message with an identifier.
pub fn echo(kind: u8, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![kind, 0, 0, 0, high, low, 0, 1]
}

/// Sends a packet from its IP header on.
pub fn send(packet: &[u8]) {
    const IPPROTO_RAW: u32 = 255;
    let (family, dst) = if packet[0] >> 4 == 4 {
        let octets: [u8; 4] = packet[16..20].try_into().expect("4 bytes");
        (AddressFamily::INET, IpAddr::from(octets))
    } else {
        let octets: [u8; 16] = packet[24..40].try_into().expect("16 bytes");
        (AddressFamily::INET6, IpAddr::from(octets))
    };
    let protocol = Protocol::from_raw(IPPROTO_RAW.try_into().expect("not 0"));
    let socket =
        rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
    let to = SocketAddr::new(dst, 0);
    rustix::net::sendto(&socket, packet, SendFlags::empty(), &to).expect("it is sent");
}

/// Every kind of packet that opens a flow whose tuple is in the packet: what it is, and its bytes.
pub fn openers() -> Vec<(String, Vec<u8>)> {
    const SYN: u8 = 0x02;
    const ECN: u8 = 0xc0;
    let syns: [(&str, Vec<u8>); 5] = [
        ("SYN", tcp(40_000, 443, SYN, &[])),
        (
            "SYN of Linux",
            tcp(
                40_001,
                443,
                SYN,
                // Segment size, SACK, timestamps, nothing, window scale 7.
                &[
                    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
                ],
            ),
        ),
        (
            "SYN with a window scale too large",
            tcp(40_002, 443, SYN | ECN, &[3, 3, 15, 1]),
        ),
        (
            "SYN whose options end early",
            tcp(40_003, 443, SYN, &[4, 2, 0, 0, 3, 3, 7, 0]),
        ),
        (
            "SYN with a broken option",
            tcp(40_004, 443, SYN, &[3, 3, 9, 4, 9, 0, 0, 0]),
        ),
    ];
    let mut transports: Vec<(u8, &str, Vec<u8>)> = syns
        .into_iter()
        .map(|(name, header)| (IPPROTO_TCP, name, header))
        .collect();
    transports.extend([
        (IPPROTO_UDP, "UDP", udp(40_000, 53)),
        (IPPROTO_UDPLITE, "UDP-Lite", udp(40_000, 53)),
        (IPPROTO_SCTP, "INIT", sctp_init(40_000, 53, 0xabcd_ef01)),
        (IPPROTO_GRE, "GRE", vec![0, 0, 8, 0, 1, 2, 3, 4]),
        (IPPROTO_ESP, "ESP", vec![1; 16]),
    ]);
    let mut packets = Vec::new();
    for (proto, name, bytes) in &transports {
        let v4 = ipv4(*proto, V4, &[], bytes);
        let v6 = ipv6(*proto, V6, &[], bytes);
        packets.push((format!("{name} over IPv4"), v4));
        packets.push((format!("{name} over IPv6"), v6));
    }
    for kind in [8, 13, 15, 17] {
        let bytes = ipv4(IPPROTO_ICMP, V4, &[], &echo(kind, 77));
        packets.push((format!("ICMP {kind}"), bytes));
    }
    for kind in [128, 139] {
        let bytes = ipv6(IPPROTO_ICMPV6, V6, &[], &echo(kind, 77));
        packets.push((format!("ICMPv6 {kind}"), bytes));
    }
    let syn = |port| tcp(port, 80, SYN, &[3, 3, 7, 1]);
    packets.push((
        "SYN behind IPv4 options".to_owned(),
        // Router alert.
        ipv4(IPPROTO_TCP, V4, &[148, 4, 0, 0], &syn(1)),
    ));
    for (name, port, extensions) in [
        ("destination options", 1, &[(DSTOPTS, PADDING)][..]),
        ("hop-by-hop options", 2, &[(HOPOPTS, PADDING)]),
        (
            "three extension headers",
            3,
            &[
                (HOPOPTS, PADDING),
                (DSTOPTS, PADDING),
                (DSTOPTS, LONG_PADDING),
            ],
        ),
        (
            "an authentication header",
            4,
            &[(AH, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
        ),
    ] {
        packets.push((
            format!("SYN behind {name}"),
            ipv6(IPPROTO_TCP, V6, extensions, &syn(port)),
        ));
    }
    packets
}

/// Addresses that [`openers`] go between.
pub const V4: [&str; 2] = ["10.1.0.1", "192.0.2.80"];
/// As [`V4`].
pub const V6: [&str; 2] = ["fd01::1", "2001:db8::80"];

const HOPOPTS: u8 = 0;
const AH: u8 = 51;
const DSTOPTS: u8 = 60;
/// The rest of an extension header of 8 bytes: length 0, and an option that fills it.
const PADDING: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
/// As [`PADDING`], 16 bytes.
const LONG_PADDING: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn ports_of(src: u16, dst: u16) -> Vec<u8> {
    [src.to_be_bytes(), dst.to_be_bytes()].concat()
}

fn be16(len: usize) -> [u8; 2] {
    u16::try_from(len)
        .expect("packets here are short")
        .to_be_bytes()
}

fn octets(address: &str) -> Vec<u8> {
    match ip(address) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
