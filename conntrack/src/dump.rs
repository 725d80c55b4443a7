//! The kernel's table as an iterator, and one entry of it.
//!
//! The kernel fills a datagram of about 32 KB each time one is taken, and the table goes on changing between them. An
//! entry that is there from begin to end of a dump is told at least once; one that comes or goes meanwhile may be told
//! or not; and after a collision with a change the kernel may tell some of a hash bucket twice. When it says that the
//! dump is inconsistent (`NLM_F_DUMP_INTR`) the dump begins anew, up to [`RESTARTS_MAX`] times.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::consts::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use crate::decode::{self, DecodeError};
use crate::encode;
use crate::flow::{Flow, Tuple};
use crate::nfnl::{Message, Messages};
use crate::socket::{Received, Socket, SocketError};

/// How often an interrupted dump begins anew.
pub const RESTARTS_MAX: u32 = 3;

/// Bytes of the largest datagram that the kernel makes for a dump (`netlink_recvmsg`), and of a lookup's answer.
const DATAGRAM_BYTES_MAX: usize = 32 * 1024;

/// What a [`Dump`] yields.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives on the stack of who iterates; a box would allocate"
)]
pub enum DumpItem {
    /// An entry.
    Flow(Flow),
    /// The dump was interrupted and begins anew: forget what was seen.
    Restarted,
    /// The dump was interrupted once too often: entries may be missing. It is the last item.
    Interrupted,
}

/// Why a dump or a lookup failed.
#[derive(Debug)]
pub enum DumpError {
    /// No socket.
    Socket(SocketError),
    /// The kernel, or a call to it, failed; a dump ends here.
    Io(io::Error),
    /// An entry that is not understood; a dump goes on.
    Malformed(DecodeError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Io(error) => write!(f, "read the conntrack table: {error}"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket(error) => Some(error),
            Self::Io(error) => Some(error),
            Self::Malformed(error) => Some(error),
        }
    }
}

/// All entries of the table of the network namespace it was opened in, both families.
///
/// It takes a datagram from the kernel only when the last one is used up, so a big table can be read in slices.
pub struct Dump {
    socket: Socket,
    buffer: Box<[u8]>,
    /// What of the buffer is not yielded yet.
    unread: std::ops::Range<usize>,
    progress: Progress,
    ended: bool,
}

impl Dump {
    /// Asks for the table.
    pub fn open() -> Result<Self, DumpError> {
        let socket = Socket::for_requests().map_err(DumpError::Socket)?;
        let progress = Progress {
            seq: 1,
            restarts: 0,
            interrupted: false,
        };
        request(&socket, progress.seq).map_err(DumpError::Io)?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            unread: 0..0,
            progress,
            ended: false,
        })
    }

    /// What the next message means; `None` when the datagram is used up.
    fn step(&mut self) -> Option<Step> {
        let mut messages = Messages::new(&self.buffer[self.unread.clone()]);
        let message = messages.next()?;
        self.unread.start = self.unread.end - messages.remaining();
        Some(match message {
            Ok(message) => self.progress.handle_message(&message),
            Err(error) => Step::Yield(Err(DumpError::Malformed(error))),
        })
    }

    fn receive(&mut self) -> io::Result<()> {
        match self.socket.recv(&mut self.buffer)? {
            Received::Datagram(len) => self.unread = 0..len,
            Received::Truncated => {
                return Err(io::Error::other(
                    "a part of the dump is longer than any should be",
                ));
            }
            Received::Overrun => return Err(Errno::NOBUFS.into()),
            Received::Nothing => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }
}

impl Iterator for Dump {
    type Item = Result<DumpItem, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.step() {
                None => {
                    if let Err(error) = self.receive() {
                        self.ended = true;
                        return Some(Err(DumpError::Io(error)));
                    }
                }
                Some(Step::Skip) => {}
                Some(Step::Yield(item)) => return Some(item),
                Some(Step::Restart) => {
                    if let Err(error) = request(&self.socket, self.progress.seq) {
                        self.ended = true;
                        return Some(Err(DumpError::Io(error)));
                    }
                    return Some(Ok(DumpItem::Restarted));
                }
                Some(Step::End(last)) => {
                    self.ended = true;
                    return last;
                }
            }
        }
        None
    }
}

/// The entry of an original tuple, in a zone; `None` when there is none.
///
/// The kernel compares the tuple with both directions of its entries: look at `orig` of what is found.
pub fn lookup(orig: &Tuple, zone: u16) -> Result<Option<Flow>, DumpError> {
    let mut lookup = Lookup::open().map_err(DumpError::Socket)?;
    lookup.get(orig, zone)
}

/// Looks up one entry after another.
pub struct Lookup {
    socket: Socket,
    request: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Lookup {
    /// Opens a socket for it.
    pub fn open() -> Result<Self, SocketError> {
        Ok(Self {
            socket: Socket::for_requests()?,
            request: Vec::new(),
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
        })
    }

    /// As [`lookup`].
    pub fn get(&mut self, orig: &Tuple, zone: u16) -> Result<Option<Flow>, DumpError> {
        self.request.clear();
        encode::lookup(&mut self.request, orig, zone);
        (self.socket.send(&self.request)).map_err(|errno| DumpError::Io(errno.into()))?;
        let Received::Datagram(len) =
            (self.socket.recv(&mut self.buffer)).map_err(DumpError::Io)?
        else {
            return Err(DumpError::Io(Errno::NOBUFS.into()));
        };
        let message = Messages::new(&self.buffer[..len])
            .next()
            .unwrap_or(Err(DecodeError::MessageLength));
        let message = message.map_err(DumpError::Malformed)?;
        if message.kind == NLMSG_ERROR {
            return match message.outcome() {
                Ok(()) | Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(DumpError::Io(errno.into())),
            };
        }
        decode::table_flow(&message)
            .map(Some)
            .map_err(DumpError::Malformed)
    }
}

fn request(socket: &Socket, seq: u32) -> io::Result<()> {
    let mut request = Vec::new();
    encode::dump(&mut request, seq);
    Ok(socket.send(&request)?)
}

/// Where a dump is; knows no socket.
struct Progress {
    seq: u32,
    restarts: u32,
    /// The dump that goes on now is inconsistent.
    interrupted: bool,
}

/// What a message of a dump means for it.
enum Step {
    Skip,
    Yield(Result<DumpItem, DumpError>),
    /// A new request is to be sent, with the new sequence number.
    Restart,
    End(Option<Result<DumpItem, DumpError>>),
}

impl Progress {
    fn handle_message(&mut self, message: &Message<'_>) -> Step {
        if message.seq != self.seq {
            return Step::Skip;
        }
        self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        let may_restart = self.restarts < RESTARTS_MAX;
        match message.kind {
            NLMSG_DONE | NLMSG_ERROR => match message.outcome() {
                Err(errno) => Step::End(Some(Err(DumpError::Io(errno.into())))),
                Ok(()) if self.interrupted && may_restart => {
                    *self = Self {
                        seq: self.seq.wrapping_add(1),
                        restarts: self.restarts + 1,
                        interrupted: false,
                    };
                    Step::Restart
                }
                Ok(()) if self.interrupted => Step::End(Some(Ok(DumpItem::Interrupted))),
                Ok(()) => Step::End(None),
            },
            // The rest of a dump that is going to begin anew is of no use.
            _ if self.interrupted && may_restart => Step::Skip,
            _ => Step::Yield(
                decode::table_flow(message)
                    .map(DumpItem::Flow)
                    .map_err(DumpError::Malformed),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
