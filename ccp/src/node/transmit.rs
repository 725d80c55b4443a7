//! What goes out: hellos, then acknowledgements, then resends, then deltas.

use super::{Audience, Node, Transmit};
use crate::membership::PeerState;
use crate::network::NetworkId;
use crate::sender::Flush;
use crate::table::{Life, Pending};
use crate::time::Instant;
use crate::wire::header::{Destination, HEADER_BYTES, Header, Opcode, SEVERAL, TAG_BYTES, Urgency};
use alloc::vec::Vec;

impl Node {
    /// The next datagram, its header and body appended to `out`.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Transmit> {
        self.now = now;
        self.step_join(now);
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        let Some((opcode, to, urgency)) = self
            .poll_greeting(now, out)
            .or_else(|| self.poll_body(now, out))
        else {
            out.truncate(start);
            return None;
        };
        self.packet_number += 1;
        let routes = self.routes(opcode, to, now);
        let header = Header {
            cluster: self.config.cluster,
            opcode,
            source: self.config.member,
            destination: match to {
                Audience::Member(member) => Destination::Member(member),
                Audience::Everyone | Audience::Live => Destination::All,
            },
            interface: routes.only().map_or(SEVERAL, NetworkId::get),
            urgency,
            incarnation: self.config.incarnation,
            epoch: self.epoch,
            packet_number: self.packet_number,
        };
        if let Some(place) = out.get_mut(start..start + HEADER_BYTES) {
            place.copy_from_slice(&header.encode());
        }
        Some(Transmit { to, routes, header })
    }

    /// The number that the next datagram will have.
    pub fn next_packet_number(&self) -> u64 {
        self.packet_number + 1
    }

    /// From the next datagram on, headers name this epoch of the owner's keys.
    pub fn set_epoch(&mut self, epoch: u8) {
        self.epoch = epoch;
    }

    fn poll_body(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(Opcode, Audience, Urgency)> {
        for peer in self
            .membership
            .peers()
            .filter(|peer| peer.state == PeerState::Live)
        {
            let member = peer.member;
            if let Some(ack) = self
                .incoming
                .get_mut(member.index())
                .and_then(|incoming| incoming.poll_ack(now))
            {
                let counters = &mut self.counters;
                counters.acks_sent += 1;
                counters.acks_sent_with_gaps += u64::from(ack.names_gaps());
                counters.tellings_asked += u64::from(ack.asks_anew());
                ack.encode(out);
                return Some((Opcode::Ack, Audience::Member(member), Urgency::Normal));
            }
        }
        let bytes_max = (self.config.datagram_bytes_max).saturating_sub(HEADER_BYTES + TAG_BYTES);
        if let Some(member) = self.sender.poll_resend(&self.table, bytes_max, out) {
            return Some((Opcode::Delta, Audience::Member(member), Urgency::Urgent));
        }
        if !self.flushing {
            if !self.wants_to_flush() {
                self.flush_now = false;
                return None;
            }
            if self.flush_at() > now {
                return None;
            }
            self.flushing = true;
            self.flushed = Some(now);
        }
        if !self.sender.has_peers() {
            self.flushing = false;
            self.flush_now = false;
            self.discard_pending();
            return None;
        }
        let urgency = if self.flush_now {
            Urgency::Urgent
        } else {
            Urgency::Normal
        };
        let flush = Flush {
            live: self.membership.live(),
            to_tell: self.to_tell(),
            urgency,
            bytes_max,
        };
        let made = self
            .sender
            .poll_delta(&mut self.table, &mut self.outbox, flush, now, out);
        for member in self.sender.take_adopted().iter() {
            self.incoming_mut(member).ask_anew();
        }
        if made.is_none() {
            self.flushing = false;
            self.flush_now = false;
            self.handle_flushed();
            let tombstones = self.tombstones();
            self.sender.trim(&mut self.table, tombstones);
            return None;
        }
        Some((Opcode::Delta, Audience::Live, urgency))
    }

    pub(super) fn wants_to_flush(&self) -> bool {
        !self.outbox.is_empty() || self.sender.wants_to_tell(self.to_tell())
    }

    /// At once when the last flush is long ago, else when the flush interval is over: rare changes don't wait, frequent
    /// ones are gathered. An eighth of the interval early will do: who wakes once an interval to read events flushes then,
    /// and need not wake twice.
    pub(super) fn flush_at(&self) -> Instant {
        self.flushed
            .filter(|_| !self.flush_now)
            .map_or(Instant::default(), |flushed| {
                flushed + self.config.flush * 7 / 8
            })
    }

    /// Nobody ever asked for deltas: nobody has to be told.
    fn discard_pending(&mut self) {
        while let Some((slot, entry)) = self.outbox.peek(&mut self.table) {
            entry.pending = Pending::Nothing;
            let dead = entry.life == Life::Dead;
            self.outbox.pop();
            if dead {
                self.table.remove(slot);
            }
        }
    }

    /// What is waiting goes out with the next [`Self::poll_transmit`], and is acknowledged as soon as it can be.
    pub fn flush(&mut self) {
        self.flush_now = true;
    }
}
