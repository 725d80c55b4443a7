//! The addresses of this machine, read from the kernel and followed: a flow from or to one of them is the machine's own.
//!
//! [`LocalAddresses`] does not apply notifications one by one. They only say that something changed; then everything
//! is read anew. So a lost notification (ENOBUFS) is no case of its own, and neither is one that comes while reading.
//!
//! Not known here: addresses that are local by a route alone (`ip route add local ...`).

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hashbrown::HashSet;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use rtnl::{AddressRow, Rtnl};

pub use rtnl::Link;
pub(crate) use rtnl::io_error;

mod rtnl;

/// `RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// The addresses of this network namespace, kept current.
#[derive(Debug)]
pub struct LocalAddresses {
    notifications: OwnedFd,
    rtnl: Rtnl,
    seen: Seen,
    /// Something has changed since it was read.
    is_stale: bool,
    /// [`Self::take_change`] has not been asked since.
    has_changed: bool,
}

/// What there was when it was read last.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    set: AddressSet,
    links: Vec<Link>,
    /// The broadcast addresses to send to, by the number of the interface.
    broadcast: Vec<(u32, Ipv4Addr)>,
}

/// The addresses that a machine had at some time.
///
/// Looked up several times per event. An unkeyed hash is safe here: only the operator chooses the contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    local: HashSet<IpAddr>,
    /// Those that no other machine takes over.
    lent: HashSet<IpAddr>,
    /// Those of interfaces that are switched off.
    off: HashSet<IpAddr>,
    broadcast: HashSet<Ipv4Addr>,
}

/// A network interface as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this network namespace.
    pub index: u32,
    /// The largest packet that it sends in one piece, IP header included.
    pub mtu_bytes: u32,
    /// The broadcast address of its first IPv4 network that has one.
    pub broadcast: Option<Ipv4Addr>,
}

/// The interface called `name`; an error of kind `NotFound` if there is none.
pub fn interface(name: &str) -> io::Result<Interface> {
    read(&mut Rtnl::open()?)?.interface(name)
}

/// Every interface of the calling thread's network namespace.
pub fn links() -> io::Result<Vec<Link>> {
    Rtnl::open()?.links()
}

impl LocalAddresses {
    /// Reads the addresses of the calling thread's network namespace, and follows them from here on.
    pub fn open() -> io::Result<Self> {
        // Subscribed before reading: what changes in between is read twice, not missed.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // `None` is protocol 0, NETLINK_ROUTE.
        let notifications = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&notifications, &SocketAddrNetlink::new(0, GROUPS))?;
        let mut rtnl = Rtnl::open()?;
        let seen = read(&mut rtnl)?;
        Ok(Self {
            notifications,
            rtnl,
            seen,
            is_stale: false,
            has_changed: false,
        })
    }

    /// Call when the descriptor is readable, and about once a second: true if addresses or interfaces are others now.
    ///
    /// After an error they are as they were, and the next call reads them again. Without a notification none does: the
    /// kernel would be asked for its lock (RTNL; before about 6.9 for dumps too), which others hold while interfaces change.
    pub fn read(&mut self) -> io::Result<bool> {
        self.is_stale |= self.take_notifications()?;
        if !self.is_stale {
            return Ok(false);
        }
        let seen = read(&mut self.rtnl)?;
        let changed = seen != self.seen;
        self.seen = seen;
        self.is_stale = false;
        self.has_changed |= changed;
        Ok(changed)
    }

    /// True if a call of [`Self::read`] since this was asked last said that something has changed.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The interfaces when last read.
    pub fn links(&self) -> &[Link] {
        &self.seen.links
    }

    /// The addresses when last read.
    pub fn set(&self) -> &AddressSet {
        &self.seen.set
    }

    /// The interface called `name`, as it was when last read; an error of kind `NotFound` if there was none.
    pub fn interface(&self, name: &str) -> io::Result<Interface> {
        self.seen.interface(name)
    }

    /// Empties the socket; true if there was anything in it.
    fn take_notifications(&self) -> io::Result<bool> {
        let mut any = false;
        loop {
            // One byte: what does not fit is dropped by the kernel, and nobody reads it here.
            match recv(&self.notifications, &mut [0; 1], RecvFlags::empty()) {
                Ok(_) | Err(Errno::NOBUFS) => any = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(any),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Readable when addresses may have changed; then call [`LocalAddresses::read`].
impl AsFd for LocalAddresses {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

impl Seen {
    fn interface(&self, name: &str) -> io::Result<Interface> {
        let link = self.links.iter().find(|link| link.name == name);
        let link = link
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such interface"))?;
        let mut broadcast = self.broadcast.iter();
        let broadcast = broadcast.find(|(index, _)| *index == link.index);
        Ok(Interface {
            index: link.index,
            mtu_bytes: link.mtu_bytes,
            broadcast: broadcast.map(|(_, address)| *address),
        })
    }
}

impl AddressSet {
    /// These addresses of the machine, and these broadcast addresses of its networks.
    pub fn new(
        local: impl IntoIterator<Item = IpAddr>,
        broadcast: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Self {
        Self {
            local: local.into_iter().collect(),
            broadcast: broadcast.into_iter().collect(),
            ..Self::default()
        }
    }

    /// The same, of which these were given to this machine alone.
    #[must_use]
    pub fn lend(self, lent: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            lent: lent.into_iter().collect(),
            ..self
        }
    }

    /// Those of this machine, without most of loopback.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.local.iter().copied()
    }

    /// True for an address that was given to this machine alone, for a time or with a point-to-point link.
    pub fn is_lent(&self, address: IpAddr) -> bool {
        self.lent.contains(&address)
    }

    /// True for an address of this machine whose interface is switched on.
    pub fn is_in_use(&self, address: IpAddr) -> bool {
        self.local.contains(&address) && !self.off.contains(&address)
    }

    /// True for an address of this machine, loopback included.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.local.contains(&address)
    }

    /// True for a broadcast address of a network that this machine is on, and for 255.255.255.255.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.is_broadcast() || self.broadcast.contains(&address),
            IpAddr::V6(_) => false,
        }
    }
}

fn read(rtnl: &mut Rtnl) -> io::Result<Seen> {
    let (rows, links) = (rtnl.addresses()?, rtnl.links()?);
    let broadcast = rows
        .iter()
        .flat_map(|row| [row.broadcast, last_of_prefix(row)])
        .flatten();
    let is_off = |row: &&AddressRow| {
        (links.iter()).any(|link| link.index == row.interface_index && !link.is_on)
    };
    let local = |row: &AddressRow| row.local;
    let set = AddressSet {
        off: rows.iter().filter(is_off).map(local).collect(),
        ..AddressSet::new(rows.iter().map(local), broadcast)
            .lend(rows.iter().filter(|row| row.is_lent).map(local))
    };
    let sent_to = |row: &AddressRow| Some((row.interface_index, broadcast_of(row)?));
    Ok(Seen {
        broadcast: rows.iter().filter_map(sent_to).collect(),
        set,
        links,
    })
}

/// The broadcast address to send to, on the network of this address.
fn broadcast_of(row: &AddressRow) -> Option<Ipv4Addr> {
    row.broadcast.or_else(|| last_of_prefix(row))
}

/// The last address of an IPv4 network is a broadcast address, assigned or not, unless the prefix leaves no room for
/// one (`fib_add_ifaddr` in the kernel).
fn last_of_prefix(row: &AddressRow) -> Option<Ipv4Addr> {
    match row.local {
        IpAddr::V4(local) if row.prefix_len < 31 => Some(Ipv4Addr::from_bits(
            local.to_bits() | (u32::MAX >> row.prefix_len),
        )),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests;
