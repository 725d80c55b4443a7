//! What goes out: hellos, then acknowledgements, then resends, then deltas.

use super::{Audience, Node, Transmit};
use crate::membership::PeerState;
use crate::network::NetworkId;
use crate::record::MemberId;
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

    /// Acknowledgements first, as peers resend without them; then what was lost; then what is new.
    fn poll_body(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<(Opcode, Audience, Urgency)> {
        if let Some(member) = self.poll_ack(now, out) {
            return Some((Opcode::Ack, Audience::Member(member), Urgency::Normal));
        }
        let bytes_max = (self.config.datagram_bytes_max).saturating_sub(HEADER_BYTES + TAG_BYTES);
        if let Some(member) = self.sender.poll_resend(&self.table, bytes_max, out) {
            return Some((Opcode::Delta, Audience::Member(member), Urgency::Urgent));
        }
        let urgency = self.poll_flush(bytes_max, now, out)?;
        Some((Opcode::Delta, Audience::Live, urgency))
    }

    /// The acknowledgement that is due, and to whom.
    fn poll_ack(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<MemberId> {
        let live = (self.membership.peers()).filter(|peer| peer.state == PeerState::Live);
        for member in live.map(|peer| peer.member) {
            let incoming = self.incoming.get_mut(member.index());
            let Some(ack) = incoming.and_then(|incoming| incoming.poll_ack(now)) else {
                continue;
            };
            self.counters.acks_sent += 1;
            self.counters.acks_sent_with_gaps += u64::from(ack.names_gaps());
            self.counters.bulk_updates_asked += u64::from(ack.asks_anew());
            ack.encode(out);
            return Some(member);
        }
        None
    }

    /// The next delta of a flush: one that goes on, or that is due.
    fn poll_flush(&mut self, bytes_max: usize, now: Instant, out: &mut Vec<u8>) -> Option<Urgency> {
        if !self.flushing && !self.begin_flush(now) {
            return None;
        }
        if !self.sender.has_peers() {
            self.end_flush();
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
            self.ask_anew(member);
        }
        if made.is_none() {
            self.end_flush();
            self.handle_flushed();
            let tombstones = self.tombstones();
            self.sender.trim(&mut self.table, tombstones);
            return None;
        }
        Some(urgency)
    }

    /// True if something waits, and has waited for long enough.
    fn begin_flush(&mut self, now: Instant) -> bool {
        if !self.wants_to_flush() {
            self.flush_now = false;
            return false;
        }
        if self.flush_at() > now {
            return false;
        }
        self.flushing = true;
        self.flushed = Some(now);
        true
    }

    fn end_flush(&mut self) {
        self.flushing = false;
        self.flush_now = false;
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
