//! Changes to the kernel's table: requests in pipelined batches, with an outcome for each.
//!
//! Requests are appended to a buffer, then committed in chunks: one `send` for many, of which only the last asks for an
//! acknowledgement. The kernel answers a failed request by its sequence number whether asked or not, and goes on after
//! it; so when the last is answered, those that were not are done.
//!
//! The kernel finishes the whole chunk inside `send`, so an answer not queued by then is lost (the queue was full, or the
//! kernel had no memory). Each request of unknown fate is resent alone, in order. The table ends up right; at worst the
//! outcome reported is that of the second try.

use std::io;

use rustix::io::Errno;

use crate::consts::{NLM_F_ACK, NLMSG_ERROR};
use crate::encode;
use crate::expect::{self, Expectation};
use crate::flow::{Flow, Labels};
use crate::nfnl::{self, Messages};
use crate::socket::{Received, Socket, SocketError};

/// Requests of a chunk: larger ones hardly cost less a request, and the answers of this many, 768 bytes each, fit into
/// the smallest usual receive buffer four times.
const CHUNK: usize = 64;

/// Bytes of an answer: an acknowledgement or error without the request, that is 36, and what a later kernel may add.
const ANSWER_BYTES_MAX: usize = 512;

/// How to open an [`Injector`].
#[derive(Clone, Copy, Debug)]
pub struct InjectorOptions {
    /// Bits of the mark that are written; the others are 0 in a created entry and stay as they are in an updated one.
    pub mark_mask: u32,
    /// Labels that are written, in the same way.
    pub label_mask: Labels,
}

impl Default for InjectorOptions {
    fn default() -> Self {
        Self {
            mark_mask: u32::MAX,
            label_mask: [u8::MAX; 16],
        }
    }
}

/// Changes entries of the table of the network namespace it was opened in.
pub struct Injector {
    socket: Socket,
    port_id: u32,
    options: InjectorOptions,
    next_seq: u32,
    /// The requests, each with the sequence number 0 until it is sent.
    requests: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// What the kernel made of a request.
pub type Outcome = Result<(), Errno>;

impl Injector {
    /// Opens an injector that writes all bits of the mark, and all labels.
    pub fn open() -> Result<Self, SocketError> {
        Self::open_with(InjectorOptions::default())
    }

    /// Opens an injector.
    pub fn open_with(options: InjectorOptions) -> Result<Self, SocketError> {
        let socket = Socket::for_requests()?;
        let port_id = socket
            .port_id()
            .map_err(|error| SocketError::new("read a netlink port", error))?;
        Ok(Self {
            socket,
            port_id,
            options,
            next_seq: 1,
            requests: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Its netlink port: the `portid` of the events that its changes cause.
    pub fn port_id(&self) -> u32 {
        self.port_id
    }

    /// How many requests wait to be committed.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a request to create the entry; its index in the batch is returned.
    ///
    /// `timeout` must be there (else EINVAL). NAT is made of the difference between `reply` and the mirror of `orig`.
    /// EEXIST: there is one with the original or the reply tuple; ENOENT: the master is not there; EOPNOTSUPP: no
    /// such helper; ENOMEM: the table is full. Labels are kept only if a rule of the namespace uses labels.
    pub fn create(&mut self, flow: &Flow) -> usize {
        encode::create(&mut self.requests, flow, &self.options);
        self.appended()
    }

    /// Appends a request to write what the flow says into the entry of its original tuple and zone.
    ///
    /// `None` stays as it is; so do NAT, helper and master, which the kernel takes only at creation. TCP flags and
    /// status bits are only added.
    ///
    /// ENOENT: there is no such entry. EBUSY: `status` lacks [`IPS_SEEN_REPLY`](crate::consts::IPS_SEEN_REPLY) or
    /// [`IPS_ASSURED`](crate::consts::IPS_ASSURED) which the entry has, or differs from it in
    /// [`IPS_EXPECTED`](crate::consts::IPS_EXPECTED); then the timeout is written and the rest is not. ENOSPC:
    /// labels, where no rule uses them. EPERM: timeout, of an entry whose timeout is fixed.
    pub fn update(&mut self, flow: &Flow) -> usize {
        encode::update(&mut self.requests, flow, &self.options);
        self.appended()
    }

    /// Appends a request to delete the entry of the flow's original tuple, zone and, if there, id.
    ///
    /// ENOENT: there is none. The kernel compares the tuple with both directions of its entries: give the id to be sure
    /// which one goes.
    pub fn delete(&mut self, flow: &Flow) -> usize {
        encode::delete(&mut self.requests, flow);
        self.appended()
    }

    /// Appends a request to expect a flow.
    ///
    /// ENOENT: the master is not there; EOPNOTSUPP: it has no helper; EBUSY: another flow is expected there.
    pub fn expect(&mut self, expectation: &Expectation) -> usize {
        expect::create(&mut self.requests, expectation);
        self.appended()
    }

    /// Sends what was appended; `outcome` is called once for each request, in order of their indices.
    ///
    /// When the kernel's answers are lost, which takes a kernel without memory, requests are done twice: a create may
    /// have EEXIST, a delete ENOENT as its outcome though it was done. An error is returned when a socket call failed;
    /// requests not done by then have its number as their outcome.
    pub fn commit(&mut self, outcome: &mut impl FnMut(usize, Outcome)) -> io::Result<()> {
        let mut requests = std::mem::take(&mut self.requests);
        let ends = std::mem::take(&mut self.ends);
        let result = self.commit_chunks(&mut requests, &ends, outcome);
        requests.clear();
        self.requests = requests;
        self.ends = ends;
        self.ends.clear();
        result
    }

    fn appended(&mut self) -> usize {
        self.ends.push(self.requests.len());
        self.ends.len() - 1
    }

    fn commit_chunks(
        &mut self,
        requests: &mut [u8],
        ends: &[usize],
        outcome: &mut impl FnMut(usize, Outcome),
    ) -> io::Result<()> {
        let mut failed = Ok(());
        let mut start = 0;
        for (number, chunk) in ends.chunks(CHUNK).enumerate() {
            let mut fates = [None; CHUNK];
            let fates = &mut fates[..chunk.len()];
            if failed.is_ok() {
                failed = self.commit_chunk(requests, start, chunk, fates);
            }
            let missing = failed.err().unwrap_or(Errno::NOBUFS);
            for (index, fate) in fates.iter().enumerate() {
                outcome(number * CHUNK + index, fate.unwrap_or(Err(missing)));
            }
            start = chunk[chunk.len() - 1];
        }
        failed.map_err(io::Error::from)
    }

    /// Sends the requests from `start` to the `ends`, and finds out the fate of each; `None` where it stays unknown.
    fn commit_chunk(
        &mut self,
        requests: &mut [u8],
        start: usize,
        ends: &[usize],
        fates: &mut [Option<Outcome>],
    ) -> Result<(), Errno> {
        self.exchange(requests, start, ends, fates)?;
        if fates.iter().all(Option::is_some) {
            return Ok(());
        }
        let mut start = start;
        for (end, fate) in ends.iter().zip(fates) {
            if fate.is_none() {
                self.exchange(requests, start, &[*end], std::slice::from_mut(fate))?;
            }
            start = *end;
        }
        Ok(())
    }

    /// Sends requests in one datagram and reads the answers.
    fn exchange(
        &mut self,
        requests: &mut [u8],
        start: usize,
        ends: &[usize],
        fates: &mut [Option<Outcome>],
    ) -> Result<(), Errno> {
        let first_seq = self.next_seq;
        let mut at = start;
        for (index, &end) in ends.iter().enumerate() {
            let flags = if index + 1 == ends.len() {
                NLM_F_ACK
            } else {
                0
            };
            nfnl::stamp(&mut requests[at..end], self.next_seq, flags);
            self.next_seq = self.next_seq.wrapping_add(1);
            at = end;
        }
        self.socket.send(&requests[start..at])?;
        if self.read_answers(first_seq, fates)? == Answers::Complete {
            for fate in fates {
                fate.get_or_insert(Ok(()));
            }
        }
        Ok(())
    }

    /// Reads the answers to the requests from `first_seq` on, as many as there are fates.
    fn read_answers(
        &self,
        first_seq: u32,
        fates: &mut [Option<Outcome>],
    ) -> Result<Answers, Errno> {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let mut answers = Answers::Complete;
        loop {
            let len = match self.socket.recv(&mut buffer).map_err(errno)? {
                Received::Datagram(len) => len,
                Received::Overrun | Received::Truncated => {
                    answers = Answers::Lost;
                    continue;
                }
                Received::Nothing => return Ok(Answers::Lost),
            };
            for message in Messages::new(&buffer[..len])
                .flatten()
                .filter(|message| message.kind == NLMSG_ERROR)
            {
                let index = message.seq.wrapping_sub(first_seq) as usize;
                let Some(fate) = fates.get_mut(index) else {
                    continue;
                };
                *fate = Some(message.outcome());
                if index + 1 == fates.len() {
                    return Ok(answers);
                }
            }
        }
    }
}

/// Whether all that the kernel answered was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Who has no answer was successful.
    Complete,
    /// Who has no answer may have been successful or not.
    Lost,
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
