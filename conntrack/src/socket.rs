//! A netlink socket to netfilter, and why there is none.
//!
//! Nobody but the kernel, and processes with CAP_NET_ADMIN, can send to such a socket (`netlink_sendmsg`), so senders
//! are not checked. The kernel works a request off within `send`: what it answers is in the queue when `send` returns,
//! so no socket here ever waits in `recv`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, socket_with,
};

use crate::consts::NLMSG_ERROR;
use crate::nfnl::Messages;
use crate::{encode, sys};

/// Why a socket to conntrack can't be had. `Display` says what to do.
#[derive(Debug)]
pub enum SocketError {
    /// EPERM
    Privilege,
    /// The kernel has no `NETLINK_NETFILTER`.
    NetfilterMissing,
    /// Nothing answers to ctnetlink's messages.
    ConntrackMissing,
    /// The kernel was built without events of conntrack.
    EventsMissing,
    /// `net.netfilter.nf_conntrack_events` is 0.
    EventsOff,
    /// Nothing answers to messages about queues.
    QueueMissing,
    /// Another program reads this queue.
    QueueTaken {
        /// Its number.
        queue: u16,
    },
    /// Any other error of a system call.
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SocketError {
    pub(crate) fn new(what: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        match Errno::from_io_error(&source) {
            Some(Errno::PERM | Errno::ACCESS) => Self::Privilege,
            Some(Errno::PROTONOSUPPORT) => Self::NetfilterMissing,
            _ => Self::Io { what, source },
        }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privilege => {
                "CAP_NET_ADMIN is missing: start ctsync as root or with AmbientCapabilities=CAP_NET_ADMIN"
            }
            Self::NetfilterMissing => {
                "the kernel has no netfilter netlink: load the module nfnetlink (CONFIG_NETFILTER_NETLINK)"
            }
            Self::ConntrackMissing => {
                "the kernel has no conntrack netlink: load the module nf_conntrack_netlink (CONFIG_NF_CT_NETLINK)"
            }
            Self::EventsMissing => {
                "the kernel makes no conntrack events: take one built with CONFIG_NF_CONNTRACK_EVENTS"
            }
            Self::EventsOff => {
                "conntrack events are switched off: run `sysctl -w net.netfilter.nf_conntrack_events=2`"
            }
            Self::QueueMissing => {
                "the kernel has no netfilter queues: load the module nfnetlink_queue (CONFIG_NETFILTER_NETLINK_QUEUE)"
            }
            Self::QueueTaken { queue } => {
                return write!(
                    f,
                    "netfilter queue {queue} is in use by another program: stop that or give it another queue, or set `hold: {{ mode: never }}`"
                );
            }
            Self::Io { what, source } => return write!(f, "cannot {what}: {source}"),
        })
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Privilege
            | Self::NetfilterMissing
            | Self::ConntrackMissing
            | Self::EventsMissing
            | Self::EventsOff
            | Self::QueueMissing
            | Self::QueueTaken { .. } => None,
        }
    }
}

/// What [`Socket::recv`] found.
pub(crate) enum Received {
    /// A datagram of so many bytes.
    Datagram(usize),
    /// A datagram that the buffer was too small for.
    Truncated,
    /// The queue is empty.
    Nothing,
    /// The kernel dropped something that did not fit into the queue (ENOBUFS).
    Overrun,
}

/// A netlink socket to netfilter that never blocks.
pub(crate) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// A socket without an address: it gets a port by [`bind`](Self::bind), or by the first send.
    pub(crate) fn new() -> Result<Self, SocketError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(NETFILTER),
        )
        .map_err(|errno| SocketError::new("open a netlink socket", errno))?;
        Ok(Self { fd })
    }

    /// A socket for requests, after one that showed that the kernel takes them. Errors don't repeat the request.
    pub(crate) fn for_requests() -> Result<Self, SocketError> {
        let socket = Self::repeating_requests()?;
        sys::set_cap_ack(socket.fd.as_fd())
            .map_err(|error| SocketError::new("set NETLINK_CAP_ACK", error))?;
        Ok(socket)
    }

    /// As [`for_requests`](Self::for_requests), but an error repeats the request that it answers.
    pub(crate) fn repeating_requests() -> Result<Self, SocketError> {
        let socket = Self::new()?;
        socket.bind(0)?;
        socket.probe()?;
        Ok(socket)
    }

    /// Gives the socket a port, and the multicast groups of the mask.
    pub(crate) fn bind(&self, groups: u32) -> Result<(), SocketError> {
        bind(&self.fd, &SocketAddrNetlink::new(0, groups))
            .map_err(|errno| SocketError::new("bind a netlink socket", errno))
    }

    /// The port that the kernel gave the socket.
    pub(crate) fn port_id(&self) -> io::Result<u32> {
        Ok(SocketAddrNetlink::try_from(getsockname(&self.fd)?)?.pid())
    }

    /// Sends requests; when it returns, the kernel has done them and queued its answers.
    pub(crate) fn send(&self, requests: &[u8]) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, requests, SendFlags::empty()))
            .map(|_| ())
    }

    /// Takes a datagram out of the queue.
    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC)
        }) {
            Ok((filled, len)) if filled == len => Ok(Received::Datagram(len)),
            Ok(_) => Ok(Received::Truncated),
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(Errno::NOBUFS) => Ok(Received::Overrun),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Asks for the number of entries, to see whether requests are taken at all.
    fn probe(&self) -> Result<(), SocketError> {
        const WHAT: &str = "ask conntrack for its number of entries";
        let mut request = Vec::new();
        encode::probe(&mut request);
        self.send(&request)
            .map_err(|errno| SocketError::new(WHAT, errno))?;
        let mut buffer = [0; 512];
        loop {
            let Received::Datagram(len) = self
                .recv(&mut buffer)
                .map_err(|error| SocketError::new(WHAT, error))?
            else {
                return Err(SocketError::ConntrackMissing);
            };
            for message in Messages::new(&buffer[..len]).flatten() {
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                return match message.outcome() {
                    Ok(()) => Ok(()),
                    // No such subsystem (`nfnetlink_rcv_msg`).
                    Err(Errno::INVAL) => Err(SocketError::ConntrackMissing),
                    Err(errno) => Err(SocketError::new(WHAT, errno)),
                };
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
