//! The sync network as an attacker on it sees it: reads every datagram, sends any, under a member's own address.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Family, Lab, sync_address};

/// Where members listen.
pub const CCP_PORT: u16 = 8116;

/// `ETH_P_IP` of linux/if_ether.h, in network order, as a packet socket wants it.
const ETH_P_IP: i32 = 0x0800_u16.to_be() as i32;
/// The header of an IPv4 packet without options.
const IPV4_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;

/// Hears what a gateway receives.
#[derive(Debug)]
pub struct Tap(Socket);

impl Tap {
    /// Listens from now on.
    #[track_caller]
    pub fn open(lab: &Lab, gateway: usize) -> Tap {
        let socket = lab.gateways[gateway]
            .inside(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ETH_P_IP))));
        let socket = socket.expect("root may listen to an interface");
        socket.set_nonblocking(true).expect("a socket is open");
        Tap(socket)
    }

    /// The contents of the CCP datagrams heard since the last call.
    #[track_caller]
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        let mut packet = vec![0; 65536];
        loop {
            match (&self.0).read(&mut packet) {
                Ok(length) => heard.extend(ccp_datagram(&packet[..length])),
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

/// The content of an IPv4 packet that is a CCP datagram.
fn ccp_datagram(packet: &[u8]) -> Option<Vec<u8>> {
    let header = packet.get(..IPV4_HEADER_BYTES)?;
    let udp = packet.get(IPV4_HEADER_BYTES..)?;
    let port = udp.get(2..4)?;
    let is_ccp = header[0] == 0x45 && header[9] == 17 && port == CCP_PORT.to_be_bytes();
    is_ccp.then(|| udp.get(UDP_HEADER_BYTES..).map(<[u8]>::to_vec))?
}
