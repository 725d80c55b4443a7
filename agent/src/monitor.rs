//! The sockets that probe monitored interfaces, and the question to other hosts where probes leave open what is wrong.
//!
//! Each interface has one socket, of both families: a probe goes to the group ff02::8116 from the interface's link-local
//! address, which it has without being given any, and to 255.255.255.255 for where there is no IPv6. Whichever arrives
//! counts. Interfaces of sync networks have none: hellos are the probes there.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ccp::network::NetworkId;
use ccp::probe::Watched;
use ccp::time::Instant;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tracing::warn;

use crate::addresses::Link;
use crate::config::Config;
use crate::config::roles::Monitored;
use crate::core::Core;
use crate::interfaces::{self, Found};
use crate::log::Faults;

mod neighbours;

const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x8116);
/// A probe has at most 80 bytes before it is sealed.
const PROBE_BYTES_MAX: usize = 512;
/// Probes read at a time, before others get their turn.
const PROBES_AT_A_TIME: usize = 32;

/// What monitoring needs of the machine.
pub struct Monitor {
    monitored: Vec<Monitored>,
    /// The interfaces of the sync networks, in their order.
    networks: Vec<String>,
    port: u16,
    found: Vec<Found>,
    sockets: Vec<Probed>,
    /// Readable when one of the sockets is.
    readable: OwnedFd,
    /// A socket's number is never used twice, so that what was readable is not taken for another.
    numbers: u64,
}

/// The socket of an interface.
struct Probed {
    name: String,
    number: u64,
    index: u32,
    socket: UdpSocket,
    /// IPv6 was there when it was opened, or since.
    has_group: bool,
}

impl Monitor {
    /// Nothing is opened yet.
    pub fn new(config: &Config) -> io::Result<Self> {
        let networks = config.networks.iter();
        Ok(Self {
            monitored: config.interfaces.monitored.clone(),
            networks: networks.map(|it| it.interface.to_string()).collect(),
            port: (config.this.addresses.first()).map_or(0, SocketAddr::port),
            found: Vec::new(),
            sockets: Vec::new(),
            readable: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            numbers: 0,
        })
    }

    /// Readable when there are probes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    /// Follows the interfaces that there are: tells the core, and opens what is to be probed.
    pub fn follow(&mut self, core: &mut Core, links: &[Link], faults: &mut Faults) {
        let found = interfaces::found(&self.monitored, links);
        if found.len() == ccp::probe::INTERFACES_MAX && found != self.found {
            warn!(
                event = "interfaces-too-many",
                most = found.len(),
                "more interfaces and VLANs are not monitored: choose fewer with `vlans`"
            );
        }
        self.found = found;
        let watched = (self.found.iter()).map(|it| Watched {
            name: it.name.clone(),
            link: it.link,
            network: self.network(it),
        });
        core.set_interfaces(watched.collect());
        let found = &self.found;
        self.sockets
            .retain(|it| (found.iter()).any(|found| found.is(&it.name, it.index)));
        for at in 0..self.found.len() {
            let result = self.open(at);
            faults.survive("open a socket to probe an interface", result);
        }
    }

    fn network(&self, found: &Found) -> Option<NetworkId> {
        let (_, device) = found.device.as_ref()?;
        let at = self.networks.iter().position(|it| it == device)?;
        NetworkId::new(u8::try_from(at).ok()?)
    }

    fn open(&mut self, at: usize) -> io::Result<()> {
        let Some(found) = self.found.get(at) else {
            return Ok(());
        };
        let Some((index, device)) = found
            .device
            .clone()
            .filter(|_| self.network(found).is_none())
        else {
            return Ok(());
        };
        if let Some(open) = self.sockets.iter_mut().find(|it| it.name == found.name) {
            open.has_group |= !open.has_group && join(&open.socket, index).is_ok();
            return Ok(());
        }
        let socket = bind(&device, self.port)?;
        self.numbers += 1;
        let data = epoll::EventData::new_u64(self.numbers);
        epoll::add(&self.readable, &socket, data, epoll::EventFlags::IN)?;
        self.sockets.push(Probed {
            name: found.name.clone(),
            number: self.numbers,
            index,
            has_group: join(&socket, index).is_ok(),
            socket,
        });
        Ok(())
    }

    /// Hands the core the probes that came.
    pub fn receive(&self, core: &mut Core, now: Instant) -> io::Result<()> {
        let mut ready = Vec::with_capacity(PROBES_AT_A_TIME);
        match epoll::wait(
            &self.readable,
            spare_capacity(&mut ready),
            Some(&Timespec::default()),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [0; PROBE_BYTES_MAX];
        for number in ready.iter().map(|it| it.data.u64()) {
            let Some(probed) = self.sockets.iter().find(|it| it.number == number) else {
                continue;
            };
            // What cannot be read is lost, as it could have been on its way.
            if let Ok(bytes) = probed.socket.recv(&mut buffer)
                && let Some(datagram) = buffer.get_mut(..bytes)
            {
                core.handle_probe(datagram, &probed.name, now);
            }
        }
        Ok(())
    }

    /// Sends the probes that are due, and asks hosts where it is open what is wrong.
    pub fn send(&self, core: &mut Core, now: Instant) -> io::Result<()> {
        while let Some((name, datagram)) = core.poll_probe(now) {
            let Some(probed) = self.sockets.iter().find(|it| it.name == name) else {
                continue;
            };
            let group = SocketAddrV6::new(GROUP, self.port, 0, probed.index);
            let all = SocketAddrV4::new(Ipv4Addr::BROADCAST, self.port);
            // One of the two need not be there; what is not sent is silence, and judged as that.
            let _ = probed.socket.send_to(datagram, group);
            let _ = probed
                .socket
                .send_to(datagram, by_family(&probed.socket, all));
        }
        for name in core.poll_doubtful(now) {
            let device = self.found.iter().find(|it| it.name == name);
            if let Some((index, _)) = device.and_then(|it| it.device.as_ref())
                && let Some(age) = neighbours::ask(*index)?
            {
                core.handle_answered(&name, age, now);
            }
        }
        Ok(())
    }
}

/// A socket on one interface alone, of both families if there are both.
fn bind(device: &str, port: u16) -> io::Result<UdpSocket> {
    let open = |domain| Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
    let (socket, any) = match open(Domain::IPV6) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            (socket, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        }
        // The kernel was started without IPv6.
        Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            (open(Domain::IPV4)?, any)
        }
        Err(error) => return Err(error),
    };
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.bind(&SockAddr::from(any))?;
    Ok(socket.into())
}

fn join(socket: &UdpSocket, index: u32) -> io::Result<()> {
    socket.join_multicast_v6(&GROUP, index)?;
    socket.set_multicast_loop_v6(false)
}

/// An IPv4 address as a socket of both families wants it.
fn by_family(socket: &UdpSocket, address: SocketAddrV4) -> SocketAddr {
    match socket.local_addr() {
        Ok(SocketAddr::V6(_)) => SocketAddr::from((address.ip().to_ipv6_mapped(), address.port())),
        Ok(SocketAddr::V4(_)) | Err(_) => address.into(),
    }
}
