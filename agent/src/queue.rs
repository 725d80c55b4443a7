//! The queue that held packets wait in, as the driver works it.

use crate::config::{Hold, Otherwise};
use crate::core::Core;
use crate::ruleset::hold::{QUEUE, QUEUE_UNTOLD};
use ccp::time::Instant;
use conntrack::{PacketId, QueueItem, QueueOptions, QueueSocket, SocketError, Verdict};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Packets handed to the core at a time, before datagrams and timers get their turn.
const PACKETS_AT_A_TIME: usize = 256;

/// The queue, and the verdicts on their way to it.
pub struct Queue {
    socket: QueueSocket,
    /// Packets that go on at once: how they are translated is not known. As many as are drained at a time.
    untold: Vec<PacketId>,
}

impl Queue {
    /// Binds the queue: from now on what the rules steer to it waits.
    pub fn open(hold: &Hold) -> Result<Self, SocketError> {
        let when_full = match hold.on_limit {
            Otherwise::Release => Verdict::Accept,
            Otherwise::Drop => Verdict::Drop,
        };
        let socket = QueueSocket::open(&QueueOptions {
            queues: QUEUE..=QUEUE_UNTOLD,
            // More than is held: beyond the limit it is the daemon that decides, and counts, which the kernel does not.
            length_max: hold.held_max.saturating_mul(2),
            when_full,
        })?;
        Ok(Self {
            socket,
            untold: Vec::new(),
        })
    }

    /// Whether the kernel says how the flow of a packet is translated.
    pub fn translation_is_known(&self) -> bool {
        self.socket.attaches_flows()
    }

    /// Readable when there are packets.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands the packets that came to the core.
    pub fn drain(&mut self, core: &mut Core, now: Instant) -> io::Result<()> {
        let untold = &mut self.untold;
        self.socket
            .drain(PACKETS_AT_A_TIME, &mut |item| match item {
                QueueItem::Held(held) if held.id.queue == QUEUE_UNTOLD => untold.push(held.id),
                QueueItem::Held(held) => core.handle_held(&held, now),
                // Its interface went down: nobody misses it.
                QueueItem::Gone(_) => {}
                QueueItem::Refused { .. } | QueueItem::Overrun => core.handle_queue_fault(None),
                QueueItem::Malformed { packet, .. } => {
                    core.handle_queue_fault(packet.map(|packet| packet.number));
                }
            })
            .map(drop)
    }

    /// Lets go of the packets that wait no longer.
    pub fn judge(&mut self, core: &mut Core) -> io::Result<()> {
        let mut any = !self.untold.is_empty();
        core.count_untold(self.untold.len());
        for packet in self.untold.drain(..) {
            self.socket.judge(packet, Verdict::Accept);
        }
        while let Some((number, verdict)) = core.poll_verdict() {
            let queue = QUEUE;
            self.socket.judge(PacketId { queue, number }, verdict);
            any = true;
        }
        if any { self.socket.commit() } else { Ok(()) }
    }
}
