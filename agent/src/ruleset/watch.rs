//! Tells when a table of nftables was deleted. `nft flush ruleset`, with which most rulesets begin, takes ours along.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// `NFNLGRP_NFTABLES`, as a bit of the groups that a socket hears.
const GROUP: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`, `NFT_MSG_DELTABLE`.
const DELETE_TABLE: u16 = 10 << 8 | 2;
/// `struct nlmsghdr`: length, type, and what is of no interest here.
const HEADER_BYTES: usize = 16;
/// The kernel gathers what one transaction changed, up to a page.
const BUFFER_BYTES: usize = 32 * 1024;

/// A socket that hears what changes in the ruleset of this network namespace.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// An error if the kernel has no nf_tables.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(NETFILTER),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        Ok(Self(socket))
    }

    /// True if a table was deleted since the last time, or may have been.
    pub fn heard_of_deletion(&self) -> bool {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut heard = false;
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => heard |= tells_of_deletion(&buffer[..length]),
                Err(Errno::INTR) => {}
                // More has changed than the socket holds.
                Err(Errno::NOBUFS) => heard = true,
                Err(_) => return heard,
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether one of these messages does.
fn tells_of_deletion(mut messages: &[u8]) -> bool {
    while let Some((length, kind)) = header(messages) {
        if kind == DELETE_TABLE {
            return true;
        }
        let next = length.max(HEADER_BYTES).next_multiple_of(4);
        messages = messages.get(next..).unwrap_or_default();
    }
    false
}

/// Length and type of the first message.
fn header(messages: &[u8]) -> Option<(usize, u16)> {
    let (length, rest) = messages.split_first_chunk()?;
    let (kind, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    Some((length, u16::from_ne_bytes(*kind)))
}

#[cfg(test)]
mod tests {
    use super::{DELETE_TABLE, tells_of_deletion};

    fn message(kind: u16, more_bytes: usize) -> Vec<u8> {
        let length = u32::try_from(16 + more_bytes).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize((16 + more_bytes).next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_deletion_is_found_among_other_messages_and_garbage_ends() {
        let other = message(DELETE_TABLE + 1, 5);
        let deletion = message(DELETE_TABLE, 8);
        assert!(!tells_of_deletion(&other));
        assert!(tells_of_deletion(
            &[other.clone(), deletion.clone()].concat()
        ));
        assert!(!tells_of_deletion(&deletion[..5]));
        assert!(!tells_of_deletion(&[0; 64]), "no length");
        assert!(!tells_of_deletion(&[0xff; 64]), "a length past the end");
    }
}
