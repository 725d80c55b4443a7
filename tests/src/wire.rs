//! The sync network as an attacker on it sees it: reads every datagram, sends any, under a member's own address.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Family, Lab, sync_address};

/// Where members listen.
pub const CCP_PORT: u16 = 8116;

/// `ETH_P_IP` of linux/if_ether.h, in network order, as a packet socket wants it.
const ETH_P_IP: i32 = 0x0800_u16.to_be() as i32;
/// `IPPROTO_TCP` and `IPPROTO_UDP` of linux/in.h.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The header of an IPv4 packet without options.
const IPV4_HEADER_BYTES: usize = 20;
/// `IPPROTO_RAW` of linux/in.h: what is sent begins with its IP header.
const IPPROTO_RAW: i32 = 255;
/// Room for what is heard between two calls: some 20,000 packets.
const BUFFER_BYTES: usize = 16 << 20;
const UDP_HEADER_BYTES: usize = 8;

/// Hears what a gateway receives.
#[derive(Debug)]
pub struct Tap(Socket);

impl Tap {
    /// Listens from now on.
    #[track_caller]
    pub fn open(lab: &Lab, gateway: usize) -> Tap {
        for gateway in &lab.gateways {
            // What is heard is what a cable would carry, and can be sent again.
            gateway.ip("link set sync0 gso_max_segs 1");
        }
        let socket = lab.gateways[gateway]
            .inside(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_IP))));
        let socket = socket.expect("root may listen to an interface");
        socket.set_nonblocking(true).expect("a socket is open");
        set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).expect("root may ask for more");
        Tap(socket)
    }

    /// The contents of the CCP datagrams heard since the last call.
    #[track_caller]
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let packets = self.packets();
        packets.iter().filter_map(|it| ccp_datagram(it)).collect()
    }

    /// The IP packets heard since the last call that members sent to each other, whether datagrams or of links.
    #[track_caller]
    pub fn packets(&self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let mut packet = vec![0; 65536];
        loop {
            match (&self.0).read(&mut packet) {
                Ok(length) if is_of_members(&packet[..length]) => {
                    heard.push(packet[..length].to_vec())
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) => panic!("cannot hear: {error}"),
            }
        }
    }
}

/// Sends datagrams with the address and port of a member, to another.
#[derive(Debug)]
pub struct Forger {
    socket: Socket,
    to: SocketAddr,
}

impl Forger {
    /// Forges datagrams of one gateway's member to another's.
    #[track_caller]
    pub fn new(lab: &Lab, from: usize, to: usize) -> Forger {
        let socket = lab.gateways[from]
            .inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)))
            .expect("root may send raw packets");
        let from = SocketAddr::new(sync_address(from, Family::Ipv4), 0);
        socket
            .bind(&from.into())
            .expect("the gateway has the address");
        Forger {
            socket,
            to: SocketAddr::new(sync_address(to, Family::Ipv4), 0),
        }
    }

    /// Sends one.
    #[track_caller]
    pub fn send(&self, datagram: &[u8]) {
        let length = u16::try_from(UDP_HEADER_BYTES + datagram.len())
            .expect("a datagram has less than 64 KiB");
        let mut packet = Vec::with_capacity(length.into());
        // A checksum of 0 means none.
        for field in [CCP_PORT, CCP_PORT, length, 0] {
            packet.extend(field.to_be_bytes());
        }
        packet.extend(datagram);
        self.socket
            .send_to(&packet, &self.to.into())
            .expect("the cable is there");
    }
}

/// Sends whole IP packets once more, as they were but for their checksums, which cables of namespaces leave out.
#[derive(Debug)]
pub struct Replayer(Socket);

impl Replayer {
    /// Sends them from where a gateway is.
    #[track_caller]
    pub fn new(lab: &Lab, from: usize) -> Replayer {
        let socket = lab.gateways[from]
            .inside(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))));
        Replayer(socket.expect("root may send raw packets"))
    }

    /// Sends one.
    #[track_caller]
    pub fn send(&self, packet: &[u8]) {
        let to: [u8; 4] = packet[16..20].try_into().expect("they are four");
        let mut packet = packet.to_vec();
        let at = IPV4_HEADER_BYTES + if packet[9] == UDP { 6 } else { 16 };
        packet[at..at + 2].fill(0);
        let checksum = checksum(&packet);
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        self.0
            .send_to(&packet, &SocketAddr::from((to, 0)).into())
            .expect("the cable is there");
    }
}

/// The checksum of a UDP or TCP packet over IPv4 (RFC 9293 section 3.1), whose own field is 0.
fn checksum(packet: &[u8]) -> u16 {
    let content = &packet[IPV4_HEADER_BYTES..];
    let words = packet[12..20].chunks(2).chain(content.chunks(2));
    let word =
        |bytes: &[u8]| (u32::from(bytes[0]) << 8) + bytes.get(1).map_or(0, |it| (*it).into());
    let length = u32::try_from(content.len()).expect("a packet has less than 64 KiB");
    let mut sum = words.map(word).sum::<u32>() + u32::from(packet[9]) + length;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match 0xffff - sum {
        // It would mean that there is none.
        0 => 0xffff,
        sum => u16::try_from(sum).expect("it was folded"),
    }
}

/// Whether an IPv4 packet carries a datagram, and is no part of a link.
pub fn is_datagram(packet: &[u8]) -> bool {
    ccp_datagram(packet).is_some()
}

/// Whether an IPv4 packet is from or to the port of members.
fn is_of_members(packet: &[u8]) -> bool {
    let ports = packet.get(IPV4_HEADER_BYTES..IPV4_HEADER_BYTES + 4);
    let is_theirs = |ports: &[u8]| ports.chunks(2).any(|it| it == CCP_PORT.to_be_bytes());
    packet[0] == 0x45 && matches!(packet[9], TCP | UDP) && ports.is_some_and(is_theirs)
}

/// The content of an IPv4 packet that is a CCP datagram.
fn ccp_datagram(packet: &[u8]) -> Option<Vec<u8>> {
    let header = packet.get(..IPV4_HEADER_BYTES)?;
    let udp = packet.get(IPV4_HEADER_BYTES..)?;
    let port = udp.get(2..4)?;
    let is_ccp = header[0] == 0x45 && header[9] == UDP && port == CCP_PORT.to_be_bytes();
    is_ccp.then(|| udp.get(UDP_HEADER_BYTES..).map(<[u8]>::to_vec))?
}
