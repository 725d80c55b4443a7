//! The system calls that rustix has no safe function for. Every `unsafe` of the crate is here.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attaches a classic BPF program that decides on each message before it is queued (`SO_ATTACH_FILTER`).
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel only reads the instructions; the type has no const pointer.
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Has errors answered without a copy of the request (`NETLINK_CAP_ACK`).
pub(crate) fn set_cap_ack(fd: BorrowedFd<'_>) -> io::Result<()> {
    const ON: c_int = 1;
    set(fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &ON)
}

/// The cookie of the network namespace that the socket is in (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn netns_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    const LEN: libc::socklen_t = size_of::<u64>() as libc::socklen_t;
    let mut cookie = 0u64;
    let mut len = LEN;
    // SAFETY: the value points to `len` writable bytes that any bit pattern is valid for, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    match result {
        0 if len == LEN => Ok(cookie),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `setsockopt`; `value` must be of the type that the option takes, pointers in it valid for the call.
fn set<T>(fd: BorrowedFd<'_>, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("options are of a few bytes");
    // SAFETY: `value` is `len` readable bytes, which the kernel copies; the callers above pass what the option takes.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const *value).cast(),
            len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
