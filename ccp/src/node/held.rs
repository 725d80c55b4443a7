//! Packets held until the peers have their flow (PROTOCOL.md 11): the first one of a flow, which the kernel has not put into
//! its table yet, or the first answer, which passes here while the flow began at another gateway.
//!
//! What a packet will make of its flow is told before it passes. What the kernel then tells of it says nothing new. A
//! packet that a later rule drops makes no entry: its flow is withdrawn when the kernel has told nothing of it for a while.

use super::{Event, Node};
use crate::hold::{self, Ended, Holds, PacketNumber, Turn};
use crate::outbox::Change;
use crate::progress;
use crate::record::{FlowKey, FlowState, Patch, TcpOptions};
use crate::table::{Entry, Life, Origin, Pending, Slot};
use crate::time::Instant;

/// Split flows that wait to be told to the owner; there will be others of the same path.
const SPLIT_MAX: usize = 64;

/// Which packet of a flow is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldPacket {
    /// One that opens it.
    First,
    /// An answer.
    Answer,
}

impl Node {
    /// A packet waits that will make of its flow what `patch` says. Its wait ends with [`Self::poll_verdict`].
    pub fn handle_hold(
        &mut self,
        packet: PacketNumber,
        kind: HeldPacket,
        key: &FlowKey,
        patch: &Patch,
        now: Instant,
    ) {
        self.now = now;
        self.counters.held += 1;
        if !self.holds.has_room(packet) {
            return;
        }
        let slot = match kind {
            HeldPacket::First => match self.open_held(key, patch) {
                Some(slot) => slot,
                None => return self.holds.end(packet, Ended::Limit),
            },
            HeldPacket::Answer => match self.answer_held(key, patch) {
                Some(slot) => slot,
                None => return self.holds.end(packet, Ended::Unknown),
            },
        };
        let told = self.table.get(slot).and_then(hold::told_in);
        self.flush_now |= told.is_none();
        self.holds
            .push(packet, slot, told, self.membership.live(), now);
        if kind == HeldPacket::First {
            self.unconfirmed.push(slot, now);
        }
        let sender = &self.sender;
        let acked = |member, seq| sender.peer(member).is_some_and(|peer| peer.has(seq));
        let live = self.membership.live();
        self.holds.settle_last(&self.table, live, acked, now);
    }

    /// The owner ends: nobody waits any longer, and no packet may be held from now on.
    pub fn end_holds(&mut self) {
        self.holds.end_all();
    }

    /// The next packet that waits no longer, and why.
    pub fn poll_verdict(&mut self) -> Option<(PacketNumber, Ended)> {
        let (packet, ended) = self.holds.poll_verdict()?;
        *match ended {
            Ended::Acked => &mut self.counters.held_acked,
            Ended::Deadline => &mut self.counters.held_deadline,
            Ended::Limit => &mut self.counters.held_limit,
            Ended::NoPeer => &mut self.counters.held_no_peer,
            Ended::Unknown => &mut self.counters.held_unknown,
            Ended::Shutdown => &mut self.counters.held_shutdown,
        } += 1;
        Some((packet, ended))
    }

    /// The next flow whose directions were seen to pass two gateways.
    pub fn poll_split(&mut self) -> Option<FlowKey> {
        self.split.pop_front()
    }

    /// The first answer of a flow that began at one gateway passed another: it did not move meanwhile, it is split.
    pub(super) fn note_split(&mut self, key: &FlowKey) {
        if self.split.len() < SPLIT_MAX {
            self.split.push_back(*key);
        }
    }

    /// The packets that wait, and what was seen of the peers.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    pub(super) fn handle_flushed(&mut self) {
        self.holds
            .handle_flushed(&self.table, self.membership.live());
        self.settle_holds();
    }

    /// Ends the waits that are over.
    pub(super) fn settle_holds(&mut self) {
        let live = self.membership.live();
        let sender = &self.sender;
        let rtt = (live.iter())
            .filter(|member| !self.holds.watch(*member).is_aside)
            .filter_map(|member| sender.peer(member)?.rtt())
            .max();
        let acked = |member, seq| sender.peer(member).is_some_and(|peer| peer.has(seq));
        self.holds.settle(&self.table, live, acked, rtt, self.now);
        while let Some(turn) = self.holds.poll_turn() {
            self.note(match turn {
                Turn::Aside(member) => Event::PeerSlow(member),
                Turn::Back(member) => Event::PeerInTime(member),
            });
        }
    }

    /// What the flow is that the packet opens. The kernel has no entry of it yet, unless the packet is sent again.
    fn open_held(&mut self, key: &FlowKey, patch: &Patch) -> Option<Slot> {
        let known = self.table.find(key);
        let goes_on = known
            .and_then(|slot| self.table.get(slot))
            .is_some_and(|entry| {
                let [ours, theirs] = states(entry, patch);
                entry.life == Life::Live && !progress::begins_anew(key.proto, ours, theirs)
            });
        let slot = match known {
            Some(slot) if goes_on => return self.advance_held(slot, patch),
            Some(slot) => slot,
            None => self.insert(Entry::new(*key, Origin::Own))?,
        };
        self.take_over(slot);
        let pass = self.pass.number;
        let entry = self.table.get_mut(slot)?;
        entry.state = FlowState::default();
        entry.state.apply(patch);
        entry.in_kernel = false;
        entry.pass = pass;
        self.outbox.push(&mut self.table, slot, Change::Upsert);
        Some(slot)
    }

    /// What the flow is that the packet answers; nothing if none is known.
    fn answer_held(&mut self, key: &FlowKey, patch: &Patch) -> Option<Slot> {
        let slot = self.table.find(key)?;
        self.table
            .get(slot)
            .filter(|entry| entry.life == Life::Live)?;
        self.advance_held(slot, patch)
    }

    /// A packet of a flow that is known: it passes here, and may bring the flow further.
    fn advance_held(&mut self, slot: Slot, patch: &Patch) -> Option<Slot> {
        let entry = self.table.get_mut(slot)?;
        let [ours, theirs] = states(entry, patch);
        if progress::merge(entry.key.proto, ours, theirs) != theirs {
            // It was sent again, and is known to have arrived: nothing of the flow is another but where it passes.
            if entry.origin != Origin::Own {
                self.take_over(slot);
                self.outbox.push(&mut self.table, slot, Change::Upsert);
            }
            return Some(slot);
        }
        let patch = Patch {
            // An entry's translation never changes, and not every packet shows it.
            nat: entry.state.nat(),
            // It shows the options of one direction only.
            tcp: patch.tcp.map(|tcp| TcpOptions {
                wscale: tcp.wscale | entry.state.tcp.wscale,
                flags: tcp.flags | entry.state.tcp.flags,
            }),
            ..patch.clone()
        };
        let (key, had_reply) = (entry.key, entry.state.status.seen_reply);
        let is_split = matches!(entry.origin, Origin::Copy { .. })
            && patch
                .status
                .is_some_and(|status| status.seen_reply && !had_reply);
        let was_told = entry.seq > 0 || entry.pending != Pending::Nothing;
        let changed = entry.state.apply(&patch);
        if changed || entry.origin != Origin::Own || !was_told {
            self.take_over(slot);
            self.outbox.push(&mut self.table, slot, Change::Upsert);
        }
        if is_split {
            self.note_split(&key);
        }
        Some(slot)
    }

    /// Flows whose packet passed long ago, and of which the kernel has told nothing: it was dropped on its way. Nothing is
    /// concluded while the kernel's word may be missing, until its table was read.
    pub(super) fn withdraw_unconfirmed(&mut self, now: Instant) {
        for slot in self.unconfirmed.take_ripe(now) {
            let is_unconfirmed = self.table.get(slot).is_some_and(Entry::is_held);
            if is_unconfirmed && self.pass.is_on() {
                self.unconfirmed.push(slot, now);
            } else if is_unconfirmed {
                self.counters.held_withdrawn += 1;
                if let Some(entry) = self.table.get_mut(slot) {
                    // Where packets of it have passed it goes on: this is the end of what nobody was seen to carry.
                    entry.origin = Origin::Found;
                }
                self.outbox.push(&mut self.table, slot, Change::Delete);
                self.graves.push(slot, now);
            }
        }
    }
}

/// The state that a flow has, and the one that the packet brings it into.
fn states(entry: &Entry, patch: &Patch) -> [u8; 2] {
    let ours = entry.state.proto_state;
    [ours, patch.proto_state.unwrap_or(ours)]
}
