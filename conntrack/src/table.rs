//! Which table of which kernel this is.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use crate::socket::Socket;
use crate::sys;

/// The identity of the conntrack table of this thread's network namespace: another after a reboot, and in another
/// namespace.
///
/// It is the 64-bit FNV-1a hash of `/proc/sys/kernel/random/boot_id` (as text, trimmed) followed by the cookie of the
/// network namespace (`SO_NETNS_COOKIE`, 8 bytes, little endian), which Linux 5.14 and later give.
pub fn table_id() -> io::Result<u64> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let socket = Socket::new().map_err(io::Error::other)?;
    let cookie = sys::netns_cookie(socket.as_fd())?;
    Ok(fnv1a(boot_id.trim().bytes().chain(cookie.to_le_bytes())))
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.fold(OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests;
