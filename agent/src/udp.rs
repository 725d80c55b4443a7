//! The UDP socket of a sync network: who is written to by which transport.

use crate::addresses::Interface;
use crate::config::{Config, Transport};
use ccp::node::Audience;
use ccp::record::{MemberId, MemberSet};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Datagrams that the kernel keeps for us while we are busy: some 10,000 full ones.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// The longest datagram that UDP can carry.
const DATAGRAM_BYTES_MAX: usize = 65_535;
const UDP_HEADER_BYTES: usize = 8;

/// The socket, and where the members are.
pub struct Udp {
    socket: UdpSocket,
    group: Option<Group>,
    peers: Vec<(MemberId, SocketAddr)>,
    buffer: Box<[u8]>,
}

/// Where one datagram reaches every peer, if the transport has that, and the socket that sends then.
struct Group {
    address: SocketAddr,
    sender: UdpSocket,
}

impl Udp {
    /// Opens the socket on `interface`, the one of the configured network.
    pub fn open(config: &Config, interface: &Interface) -> io::Result<Self> {
        let own = scoped(config.this.address, interface);
        let device = config.network.interface.as_str();
        let peers = (config.peers.iter())
            .map(|peer| (peer.id, scoped(peer.address, interface)))
            .collect();
        let group = match config.network.transport {
            Transport::Unicast => None,
            Transport::Multicast { group } => Some(group),
            Transport::Broadcast => Some(interface.broadcast.unwrap_or(Ipv4Addr::BROADCAST).into()),
        };
        let buffer = vec![0; DATAGRAM_BYTES_MAX].into();
        let Some(group) = group else {
            let socket = bind(own, device)?;
            return Ok(Self {
                socket: socket.into(),
                group: None,
                peers,
                buffer,
            });
        };
        // What was sent to a group does not come to a socket that is bound to an address of ours; and what is sent by one
        // that is not comes from whatever address the kernel chooses, a link-local one for IPv6.
        let socket = bind(SocketAddr::new(unspecified(own), own.port()), device)?;
        let sender = bind(SocketAddr::new(own.ip(), 0), device)?;
        match config.network.transport {
            Transport::Multicast { .. } => join(&socket, &sender, group, own, interface)?,
            Transport::Broadcast | Transport::Unicast => sender.set_broadcast(true)?,
        }
        let group = Group {
            address: scoped(SocketAddr::new(group, own.port()), interface),
            sender: sender.into(),
        };
        Ok(Self {
            socket: socket.into(),
            group: Some(group),
            peers,
            buffer,
        })
    }

    /// Greatest payload of a datagram that the interface takes in one piece.
    pub fn datagram_bytes_max(config: &Config, interface: &Interface) -> usize {
        let ip_header_bytes = if config.this.address.is_ipv4() {
            20
        } else {
            40
        };
        usize::try_from(interface.mtu_bytes)
            .unwrap_or(DATAGRAM_BYTES_MAX)
            .min(DATAGRAM_BYTES_MAX)
            .saturating_sub(ip_header_bytes + UDP_HEADER_BYTES)
    }

    /// Readable when there are datagrams.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next datagram; `None` when there is none.
    pub fn receive(&mut self) -> io::Result<Option<&mut [u8]>> {
        match self.socket.recv(&mut self.buffer) {
            Ok(len) => Ok(self.buffer.get_mut(..len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // An answer of the network to what we sent: the peer's daemon is down. Its silence says so too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a datagram to those it is for; returns how many copies the kernel would not send.
    pub fn send(&self, to: Audience, live: MemberSet, datagram: &[u8]) -> u64 {
        let sender = self
            .group
            .as_ref()
            .map_or(&self.socket, |group| &group.sender);
        let send_to = |address| u64::from(sender.send_to(datagram, address).is_err());
        match (to, &self.group) {
            (Audience::Everyone | Audience::Live, Some(group)) => return send_to(group.address),
            (Audience::Member(_), _) | (Audience::Everyone | Audience::Live, None) => {}
        }
        let is_for = |member| match to {
            Audience::Member(only) => only == member,
            Audience::Everyone => true,
            Audience::Live => live.contains(member),
        };
        self.peers
            .iter()
            .filter(|(member, _)| is_for(*member))
            .map(|(_, address)| send_to(*address))
            .sum()
    }
}

/// A socket on one interface alone.
fn bind(address: SocketAddr, device: &str) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn unspecified(address: SocketAddr) -> IpAddr {
    match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn join(
    socket: &Socket,
    sender: &Socket,
    group: IpAddr,
    own: SocketAddr,
    interface: &Interface,
) -> io::Result<()> {
    match (group, own.ip()) {
        (IpAddr::V4(group), IpAddr::V4(own)) => {
            socket.join_multicast_v4(&group, &own)?;
            sender.set_multicast_if_v4(&own)?;
            sender.set_multicast_loop_v4(false)
        }
        (IpAddr::V6(group), _) => {
            socket.join_multicast_v6(&group, interface.index)?;
            sender.set_multicast_if_v6(interface.index)?;
            sender.set_multicast_loop_v6(false)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) => Err(io::Error::other(
            "group and members are of different families",
        )),
    }
}

/// A link-local address means nothing without its interface.
pub(crate) fn scoped(address: SocketAddr, interface: &Interface) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() => {
            v6.set_scope_id(interface.index);
            SocketAddr::V6(v6)
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}
