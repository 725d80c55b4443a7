//! The stream of events: every change of the kernel's table, as it happens.
//!
//! The kernel sends one datagram an event, so an event costs one `recv`. Waking up for each costs more than that: sleep
//! on the socket when events are rare, on a timer when they are not ([`Pacer`] says which), then
//! [`drain`](EventSocket::drain). A reader too slow loses events; it is told so, in their place in the stream, by
//! [`Item::Overrun`], and must then compare with the table itself ([`Dump`](crate::dump::Dump)).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::consts::*;
use crate::decode::{self, DecodeError};
use crate::event::Event;
use crate::expect::{self, ExpectationEvent};
use crate::nfnl::{Message, Messages};
use crate::socket::{Received, Socket, SocketError};
use crate::sys;

pub use filter::{Own, Unwanted};
pub use pacer::{Pacer, Wait};

mod filter;
mod pacer;

/// Bytes of the largest event we expect; one is 150 to 400, and a security context can be long.
const EVENT_BYTES_MAX: usize = 8192;

/// How to open an [`EventSocket`].
#[derive(Clone, Debug)]
pub struct EventSocketOptions {
    /// Receive buffer, beyond `net.core.rmem_max` too. A small TCP event is charged 1,280 bytes of twice this value.
    pub receive_buffer_bytes: usize,
    /// Whose changes are not to be told.
    pub ignore: Option<Own>,
}

/// A subscription to NEW, UPDATE and DESTROY events of the network namespace it was opened in.
pub struct EventSocket {
    socket: Socket,
    buffer: Box<[u8]>,
    ignore: Option<Own>,
}

/// What [`EventSocket::drain`] finds in the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item {
    /// A change of the table.
    Event(Event),
    /// A flow is expected, or no longer.
    Expectation(ExpectationEvent),
    /// Events were lost here: the receive buffer was full.
    Overrun,
    /// A message that is not understood; the stream goes on.
    Malformed(DecodeError),
}

/// How far [`EventSocket::drain`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Items given to the sink.
    pub count: usize,
    /// It stopped because it was told to, not because there was nothing more.
    pub more: bool,
}

impl EventSocket {
    /// Subscribes. Events are queued from now on.
    pub fn open(options: &EventSocketOptions) -> Result<Self, SocketError> {
        let socket = Socket::new()?;
        set_socket_recv_buffer_size_force(&socket, options.receive_buffer_bytes)
            .map_err(|errno| SocketError::new("set the receive buffer of events", errno))?;
        let ignore = options.ignore;
        if ignore.is_some() {
            attach(&socket, ignore, &Unwanted::default())?;
        }
        let groups = [
            NFNLGRP_CONNTRACK_NEW,
            NFNLGRP_CONNTRACK_UPDATE,
            NFNLGRP_CONNTRACK_DESTROY,
            NFNLGRP_CONNTRACK_EXP_NEW,
            NFNLGRP_CONNTRACK_EXP_DESTROY,
        ];
        socket.bind(groups.iter().fold(0, |mask, group| mask | 1 << (group - 1)))?;
        // Only now: subscribing loads the module.
        check_events_on()?;
        Ok(Self {
            socket,
            buffer: vec![0; EVENT_BYTES_MAX].into(),
            ignore,
        })
    }

    /// Leaves out what is told of these flows while they live, in place of others that were left out before.
    pub fn leave_out(&mut self, unwanted: &Unwanted) -> Result<(), SocketError> {
        attach(&self.socket, self.ignore, unwanted)
    }

    /// Gives what is queued, but at most about `max` items, to `sink`; doesn't wait.
    pub fn drain(&mut self, max: usize, sink: &mut impl FnMut(Item)) -> Result<Drained, io::Error> {
        let mut count = 0;
        while count < max {
            match self.socket.recv(&mut self.buffer)? {
                Received::Datagram(len) => {
                    for message in Messages::new(&self.buffer[..len]) {
                        give(message, sink);
                        count += 1;
                    }
                }
                Received::Truncated => {
                    sink(Item::Malformed(DecodeError::Truncated));
                    count += 1;
                }
                Received::Overrun => {
                    sink(Item::Overrun);
                    count += 1;
                }
                Received::Nothing => return Ok(Drained { count, more: false }),
            }
        }
        Ok(Drained { count, more: true })
    }
}

fn attach(socket: &Socket, ignore: Option<Own>, unwanted: &Unwanted) -> Result<(), SocketError> {
    sys::attach_filter(socket.as_fd(), &filter::program(ignore, unwanted))
        .map_err(|error| SocketError::new("attach the filter of events", error))
}

/// Decodes a message straight into the item that is given to the sink.
#[inline]
fn give(message: Result<Message<'_>, DecodeError>, sink: &mut impl FnMut(Item)) {
    if let Ok(message) = &message
        && expect::is_expectation(message)
    {
        sink(expect::event(message).map_or_else(Item::Malformed, Item::Expectation));
        return;
    }
    let mut item = Item::Event(decode::BLANK_EVENT);
    if let Item::Event(event) = &mut item
        && let Err(error) = message.and_then(|message| decode::read_event(event, &message))
    {
        item = Item::Malformed(error);
    }
    sink(item);
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sees whether the kernel makes events in this network namespace: subscribing succeeds also when it doesn't.
fn check_events_on() -> Result<(), SocketError> {
    match fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_events") {
        Ok(value) if value.trim() == "0" => Err(SocketError::EventsOff),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SocketError::EventsMissing),
        Err(error) => Err(SocketError::new(
            "read net.netfilter.nf_conntrack_events",
            error,
        )),
    }
}
