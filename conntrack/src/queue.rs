//! Packets that wait for a verdict: NFQUEUE.
//!
//! A rule (`NFQUEUE` of iptables, `queue` of nftables; always with bypass, or packets stop when nobody reads) gives a
//! packet to a queue, where it waits until a verdict comes, in any order. Verdicts are appended, then
//! [committed](QueueSocket::commit): many in one send, each of which lets its packet go its way before the send is over.
//!
//! What the kernel does by itself:
//!
//! - **A queue that is full** ([`QueueOptions::length_max`]) doesn't wait: the packet passes or is dropped, as
//!   [`QueueOptions::when_full`] says. Nothing tells of those that pass.
//! - **A socket that is closed** drops what it still holds; give the verdicts first. With bypass, what comes later passes.
//! - **An interface that goes down** drops its packets: their verdicts fail, [`QueueItem::Gone`].
//! - **Of two packets whose entries clash**, neither being in the table yet, the first to be let go goes on, and the kernel
//!   may drop the other: a retransmission, which does no harm; or another flow that source NAT has given the same port, as
//!   it can't see entries that wait. That one goes on when it is sent again.
//!
//! The subtle thing: verdicts must come from the socket that the packets went to, so the kernel's complaints about them
//! stand among the packets. They repeat the verdict, and so name the packet; no list of sent ones is needed.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::consts::NLMSG_ERROR;
use crate::decode::DecodeError;
use crate::events::Drained;
use crate::nfnl::{Message, Messages};
use crate::socket::{Received, Socket, SocketError};

pub use held::{CtInfo, Held};
pub use target::{TableFamily, append_queue_rule};

mod held;
mod request;
mod target;

/// Bytes of a packet that are shown: IPv4 with options or IPv6 with some extension headers, and TCP with options.
const HEADER_BYTES: u32 = 256;

/// Bytes of the largest message: a packet's headers, its flow with all that a flow can have, and the rest.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What a packet is charged in the receive buffer, of which the kernel grants twice what it is asked for: up to 2,304
/// bytes for the message, half of it asked for.
const RECEIVE_BYTES_PER_PACKET: usize = 1152;

/// Verdicts in one send: more hardly cost less each.
const CHUNK: usize = 256;

/// How to open a [`QueueSocket`].
#[derive(Clone, Debug)]
pub struct QueueOptions {
    /// Numbers of the queues. One is enough: several cost the same as long as verdicts come about in the order of the
    /// packets, and less only where thousands of packets wait, verdicts come in any order, and the kernel looks for each
    /// packet from the oldest on (Linux 6.1; 6.18 hashes them).
    pub queues: RangeInclusive<u16>,
    /// Packets that each queue holds at most.
    pub length_max: u32,
    /// What happens to packets that come on top of them.
    pub when_full: Verdict,
}

/// What becomes of a held packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on, to the rules after the one that held it.
    Accept,
    /// It is dropped.
    Drop,
}

/// Which packet a verdict is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketId {
    /// The queue that it waits in.
    pub queue: u16,
    /// `packet_id` of its `NFQA_PACKET_HDR`: counted up in each queue since it was bound.
    pub number: u32,
}

/// What [`QueueSocket::drain`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack between decoder and sink; a box would allocate"
)]
pub enum QueueItem<'a> {
    /// A packet that waits.
    Held(Held<'a>),
    /// A verdict came too late: the packet is not there any more (ENOENT).
    Gone(PacketId),
    /// A verdict was refused for another reason; the packet may still be there.
    Refused {
        /// Whose verdict.
        packet: PacketId,
        /// Why.
        errno: Errno,
    },
    /// The receive buffer was full: packets did not wait, they passed or were dropped as when a queue is full; or what
    /// the kernel said of verdicts was lost.
    Overrun,
    /// A message that is not understood. Where the packet is known, it waits all the same.
    Malformed {
        /// Whose message.
        packet: Option<PacketId>,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// Queues of the network namespace it was opened in; each can have only one reader.
pub struct QueueSocket {
    socket: Socket,
    buffer: Box<[u8]>,
    /// Packets that came while queues were still being bound.
    early: Vec<u8>,
    /// Verdicts that wait to be committed, each of [`request::VERDICT_LEN`] bytes.
    verdicts: Vec<u8>,
    attaches_flows: bool,
}

impl QueueSocket {
    /// Binds the queues: from now on packets wait in them.
    pub fn open(options: &QueueOptions) -> Result<Self, SocketError> {
        let mut queue = Self {
            socket: Socket::repeating_requests()?,
            buffer: vec![0; MESSAGE_BYTES_MAX].into(),
            early: Vec::new(),
            verdicts: Vec::new(),
            attaches_flows: true,
        };
        let packets = options.length_max as usize * options.queues.len();
        let receive_bytes = packets.saturating_mul(RECEIVE_BYTES_PER_PACKET);
        set_socket_recv_buffer_size_force(&queue.socket, receive_bytes)
            .map_err(|errno| SocketError::new("set the receive buffer of a queue", errno))?;
        for number in options.queues.clone() {
            queue.bind(number, options)?;
        }
        Ok(queue)
    }

    /// Whether the kernel attaches the conntrack entry to a packet (CONFIG_NETFILTER_NETLINK_GLUE_CT). Where it doesn't,
    /// [`Held::flow`] is never there, and NAT of a flow that a held packet opens can't be known.
    pub fn attaches_flows(&self) -> bool {
        self.attaches_flows
    }

    /// Gives what is queued, but at most about `max` items, to `sink`; doesn't wait.
    pub fn drain(
        &mut self,
        max: usize,
        sink: &mut impl FnMut(QueueItem<'_>),
    ) -> Result<Drained, io::Error> {
        let mut count = 0;
        for message in Messages::new(&std::mem::take(&mut self.early)) {
            count += give(message, sink);
        }
        while count < max {
            match self.socket.recv(&mut self.buffer)? {
                Received::Datagram(len) => {
                    for message in Messages::new(&self.buffer[..len]) {
                        count += give(message, sink);
                    }
                }
                Received::Truncated => {
                    sink(QueueItem::Malformed {
                        packet: None,
                        error: DecodeError::Truncated,
                    });
                    count += 1;
                }
                Received::Overrun => {
                    sink(QueueItem::Overrun);
                    count += 1;
                }
                Received::Nothing => return Ok(Drained { count, more: false }),
            }
        }
        Ok(Drained { count, more: true })
    }

    /// Appends a verdict. In the order in which the packets came it costs the least: some kernels look for a packet from
    /// the oldest on.
    pub fn judge(&mut self, packet: PacketId, verdict: Verdict) {
        request::verdict(&mut self.verdicts, packet, verdict);
    }

    /// Sends the verdicts that were appended. Those that the kernel can't use are told by a later
    /// [`drain`](Self::drain).
    ///
    /// After an error the verdicts that were not sent go with the next commit.
    pub fn commit(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let result = self
            .verdicts
            .chunks(CHUNK * request::VERDICT_LEN)
            .try_for_each(|chunk| {
                self.socket.send(chunk)?;
                sent += chunk.len();
                Ok::<(), Errno>(())
            });
        self.verdicts.drain(..sent);
        Ok(result?)
    }

    /// Binds a queue, with the flows of packets attached if the kernel can do that.
    fn bind(&mut self, number: u16, options: &QueueOptions) -> Result<(), SocketError> {
        loop {
            let mut request = Vec::new();
            request::bind(&mut request, number, options, self.attaches_flows);
            match self.ask(&request, number) {
                // Nothing was bound: the flags are looked at first (`nfqnl_recv_config`).
                Err(Errno::OPNOTSUPP) if self.attaches_flows => self.attaches_flows = false,
                Ok(()) => return Ok(()),
                // Who may not ask at all found that out when the socket was opened.
                Err(Errno::PERM | Errno::BUSY) => {
                    return Err(SocketError::QueueTaken { queue: number });
                }
                // No such subsystem (`nfnetlink_rcv_msg`).
                Err(Errno::INVAL) => return Err(SocketError::QueueMissing),
                Err(errno) => return Err(SocketError::new("bind a queue", errno)),
            }
        }
    }

    /// Sends a request, and returns what the kernel says to it; packets that come before are kept.
    fn ask(&mut self, request: &[u8], number: u16) -> Result<(), Errno> {
        self.socket.send(request)?;
        loop {
            let len = match self.socket.recv(&mut self.buffer) {
                Ok(Received::Datagram(len)) => len,
                Ok(Received::Truncated) => continue,
                Ok(Received::Overrun | Received::Nothing) => return Err(Errno::NOBUFS),
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            };
            let datagram = &self.buffer[..len];
            let answer = Messages::new(datagram)
                .flatten()
                .find(|message| message.kind == NLMSG_ERROR && message.seq == u32::from(number));
            match answer {
                Some(answer) => return answer.outcome(),
                None => self.early.extend_from_slice(datagram),
            }
        }
    }
}

impl AsFd for QueueSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Decodes the first message of a datagram; `None` when it asks for nothing, as an acknowledgement.
///
/// [`QueueSocket`] does this by itself; this is for those who have the bytes: captures, fuzzing.
pub fn decode_item(datagram: &[u8]) -> Option<QueueItem<'_>> {
    item(Messages::new(datagram).next()?)
}

/// Gives the item that a message is to the sink; returns how many it was.
#[inline]
fn give(message: Result<Message<'_>, DecodeError>, sink: &mut impl FnMut(QueueItem<'_>)) -> usize {
    match item(message) {
        Some(item) => {
            sink(item);
            1
        }
        None => 0,
    }
}

#[inline]
fn item(message: Result<Message<'_>, DecodeError>) -> Option<QueueItem<'_>> {
    match message {
        Ok(message) if message.kind == NLMSG_ERROR => failed_verdict(&message),
        Ok(message) => Some(held::item(&message)),
        Err(error) => Some(QueueItem::Malformed {
            packet: None,
            error,
        }),
    }
}

/// The failure that an answer tells; `None` when it tells none.
fn failed_verdict(answer: &Message<'_>) -> Option<QueueItem<'static>> {
    let errno = answer.outcome().err()?;
    let judged = answer
        .request()
        .and_then(|request| request::judged(&request));
    Some(match (judged, errno) {
        (Some(packet), Errno::NOENT) => QueueItem::Gone(packet),
        (Some(packet), errno) => QueueItem::Refused { packet, errno },
        (None, _) => QueueItem::Malformed {
            packet: None,
            error: DecodeError::MessageKind { kind: NLMSG_ERROR },
        },
    })
}

#[cfg(test)]
mod tests;
