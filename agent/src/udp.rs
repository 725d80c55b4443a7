//! The sockets of one sync network: who is written to by which transport.
//!
//! Unicast, broadcast and multicast are always received; the mode only decides how datagrams for all peers are sent. So members
//! in different modes understand each other, and the mode can be switched at any time.
//!
//! Sockets belong to an interface by its number, and are opened anew when it was deleted and made again.

use crate::addresses::{Interface, LocalAddresses};
use crate::config::{Config, Transport, default_group};
use crate::control::answer::NetworkStatus;
use crate::units::micros;
use ccp::modes::Mode;
use ccp::network::NetworkId;
use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// Datagrams that the kernel keeps for us while we are busy: some 10,000 full ones.
const RECEIVE_BUFFER_BYTES: usize = 16 << 20;
/// The longest IP packet.
const PACKET_BYTES_MAX: usize = 65_535;
const UDP_HEADER_BYTES: usize = 8;

/// A network, its sockets while its interface is there, and where the members are.
pub struct Udp {
    /// Its name in the configuration.
    pub name: String,
    /// The name of the interface.
    pub device: String,
    /// How datagrams for all peers leave.
    pub mode: Mode,
    /// How they do by the configuration.
    configured: Transport,
    /// What went over it.
    pub traffic: Traffic,
    /// Bytes a second.
    pub rates: Rates,
    own: SocketAddr,
    peers: Vec<(MemberId, SocketAddr)>,
    sockets: Option<Sockets>,
}

/// Datagrams that went over a network, each copy counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Bytes of those, without the headers of UDP and IP.
    pub sent_bytes: u64,
    /// The kernel would not send.
    pub unsent: u64,
    /// Received, from whomever.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
}

/// Bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    last: Option<(Instant, Traffic)>,
    sent: u64,
    received: u64,
    peak: u64,
}

impl Rates {
    /// Takes the rates since the last call.
    pub fn take(&mut self, traffic: Traffic, now: Instant) {
        if let Some((at, before)) = self.last.replace((now, traffic)) {
            let micros = micros(now.since(at));
            let rate = |after: u64, before: u64| {
                ((after - before).saturating_mul(1_000_000))
                    .checked_div(micros)
                    .unwrap_or(0)
            };
            self.sent = rate(traffic.sent_bytes, before.sent_bytes);
            self.received = rate(traffic.received_bytes, before.received_bytes);
            self.peak = self.peak.max(self.sent + self.received);
        }
    }
}

struct Sockets {
    interface: Interface,
    /// Hears what comes to any address of the interface, so that groups and broadcast are heard too.
    receiver: UdpSocket,
    /// Sends from the member's own address: the other would send from whatever the kernel chooses.
    sender: UdpSocket,
}

impl Udp {
    /// The network with that number, not open yet.
    pub fn new(config: &Config, network: NetworkId) -> Option<Self> {
        let at = network.index();
        let of = config.networks.get(at)?;
        Some(Self {
            name: of.name.clone(),
            device: of.interface.to_string(),
            mode: Mode::Unicast,
            configured: of.transport,
            traffic: Traffic::default(),
            rates: Rates::default(),
            own: *config.this.addresses.get(at)?,
            peers: (config.peers.iter())
                .filter_map(|peer| Some((peer.id, *peer.addresses.get(at)?)))
                .collect(),
            sockets: None,
        })
    }

    /// Opens the sockets if they are not, or if the interface is another by the same name; true if it did.
    pub fn follow(&mut self, addresses: &LocalAddresses) -> io::Result<bool> {
        let interface = (addresses.interface(&self.device)).inspect_err(|_| self.sockets = None)?;
        let known = self.sockets.as_ref().map(|sockets| sockets.interface.index);
        if known == Some(interface.index) {
            return Ok(false);
        }
        self.sockets = None;
        self.sockets = Some(self.open(interface)?);
        Ok(true)
    }

    fn open(&self, interface: Interface) -> io::Result<Sockets> {
        let own = scoped(self.own, interface.index);
        let any = SocketAddr::new(unspecified(own), own.port());
        let receiver = bind(any, &self.device)?;
        let mut from = own;
        from.set_port(0);
        let sender = bind(from, &self.device)?;
        let sockets = Sockets {
            interface,
            receiver: receiver.into(),
            sender: sender.into(),
        };
        sockets.prepare(self.group(), own)?;
        Ok(sockets)
    }

    /// True while the interface is there, with our address.
    pub fn is_open(&self) -> bool {
        self.sockets.is_some()
    }

    /// For the operator.
    pub fn status(&self) -> NetworkStatus {
        NetworkStatus {
            name: self.name.clone(),
            interface: self.device.clone(),
            mode: crate::modes::name(self.mode).to_owned(),
            configured: self.configured.name().to_owned(),
            open: self.is_open(),
            // Reading it may wait for the driver of the interface: who asks for it waits, not the loop.
            speed_mbit: None,
            sent: self.traffic.sent,
            received: self.traffic.received,
            unsent: self.traffic.unsent,
            sent_bytes: self.traffic.sent_bytes,
            received_bytes: self.traffic.received_bytes,
            sent_per_second: self.rates.sent,
            received_per_second: self.rates.received,
            peak_per_second: self.rates.peak,
        }
    }

    /// Greatest payload of a datagram that the interface takes in one piece.
    pub fn datagram_bytes_max(&self) -> usize {
        let ip_header_bytes = if self.own.is_ipv4() { 20 } else { 40 };
        let mtu = (self.sockets.as_ref()).map(|sockets| sockets.interface.mtu_bytes);
        usize::try_from(mtu.unwrap_or(u32::MAX))
            .unwrap_or(PACKET_BYTES_MAX)
            .min(PACKET_BYTES_MAX)
            .saturating_sub(ip_header_bytes + UDP_HEADER_BYTES)
    }

    /// Readable when there are datagrams.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.as_ref().map(|it| it.receiver.as_fd())
    }

    /// The next datagram, put into `buffer`; `None` when there is none.
    pub fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<&'a mut [u8]>> {
        let Some(sockets) = &self.sockets else {
            return Ok(None);
        };
        match sockets.receiver.recv(buffer) {
            Ok(bytes) => {
                self.traffic.received += 1;
                self.traffic.received_bytes += bytes as u64;
                Ok(buffer.get_mut(..bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // An answer of the network to what we sent: the peer's daemon is down. Its silence says so too.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where multicast goes.
    fn group(&self) -> IpAddr {
        match self.configured {
            Transport::Multicast { group } => group,
            Transport::Unicast | Transport::Broadcast => default_group(self.own.ip()),
        }
    }

    /// Sends a datagram to `members` by a mode; returns how many copies the kernel would not send.
    pub fn send(&mut self, members: MemberSet, by: Mode, datagram: &[u8]) -> u64 {
        let Some(sockets) = &self.sockets else {
            return members.iter().count() as u64;
        };
        let group = match by {
            Mode::Unicast => None,
            Mode::Multicast => Some(self.group()),
            Mode::Broadcast => {
                let broadcast = sockets.interface.broadcast;
                Some(broadcast.unwrap_or(Ipv4Addr::BROADCAST).into())
            }
        };
        let traffic = &mut self.traffic;
        let before = traffic.unsent;
        let mut send_to = |address: SocketAddr| {
            let address = scoped(address, sockets.interface.index);
            match sockets.sender.send_to(datagram, address) {
                Ok(_) => {
                    traffic.sent += 1;
                    traffic.sent_bytes += datagram.len() as u64;
                }
                Err(_) => traffic.unsent += 1,
            }
        };
        match group {
            Some(group) => send_to(SocketAddr::new(group, self.own.port())),
            None => (self.peers.iter())
                .filter(|(member, _)| members.contains(*member))
                .for_each(|(_, address)| send_to(*address)),
        }
        self.traffic.unsent - before
    }
}

impl Sockets {
    /// What each mode needs before anything is sent by it, or heard.
    fn prepare(&self, group: IpAddr, own: SocketAddr) -> io::Result<()> {
        let [receiver, sender] = [&self.receiver, &self.sender].map(socket2::SockRef::from);
        match (group, own.ip()) {
            (IpAddr::V4(group), IpAddr::V4(own)) => {
                sender.set_broadcast(true)?;
                receiver.join_multicast_v4(&group, &own)?;
                sender.set_multicast_if_v4(&own)?;
                sender.set_multicast_loop_v4(false)
            }
            (IpAddr::V6(group), _) => {
                receiver.join_multicast_v6(&group, self.interface.index)?;
                sender.set_multicast_if_v6(self.interface.index)?;
                sender.set_multicast_loop_v6(false)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => Err(io::Error::other(
                "group and members are of different families",
            )),
        }
    }
}

/// Speed of an interface in Mbit/s, if it says.
pub fn speed_mbit(device: &str) -> Option<u64> {
    let speed = std::fs::read_to_string(format!("/sys/class/net/{device}/speed"));
    // Virtual interfaces refuse, or say -1.
    speed.ok()?.trim().parse().ok()
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

/// A link-local address means nothing without its interface.
pub(crate) fn scoped(address: SocketAddr, interface_index: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() => {
            v6.set_scope_id(interface_index);
            SocketAddr::V6(v6)
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}
