//! The core's side of the links between members: which there are, and the keys that go over them.

use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;
use ccp::wire::DecodeError;

use super::Core;
use super::keys::KeyMessage;
use super::seal::DatagramKey;
use crate::facts::FactsMessage;

/// Links between members, and the keys handed out over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Links that came up.
    pub links: u64,
    /// Refused: not the key of the member that it should be, or of none.
    pub strangers: u64,
    /// Refused: anything else that went wrong before it was known who it is.
    pub failures: u64,
    /// Said over links, and not understood.
    pub malformed: u64,
    /// Said over links, and skipped: it is of another version.
    pub unknown: u64,
    /// Keys that peers handed us.
    pub keys_received: u64,
    /// Times that another key of ours took the place of the one before.
    pub rolls: u64,
}

/// What is said over a link.
#[derive(Clone, Debug)]
pub enum LinkMessage {
    /// Of keys.
    Key(KeyMessage),
    /// A frame of the protocol itself, for full syncs, interfaces and audits: its kind and its body. A frame of a kind that
    /// this version does not know comes as one without a body.
    Protocol(u8, Vec<u8>),
    /// Of the machine: `crate::facts::FactsMessage`.
    Facts(Vec<u8>),
    /// Of what has passed: `crate::accounting::message::TotalsMessage`.
    Totals(Vec<u8>),
}

impl Core {
    /// There is a new link to a peer, and both ends have proven who they are.
    pub fn handle_link_up(&mut self, member: MemberId, now: Instant) {
        self.links.links += 1;
        self.keys.handle_link_up(member);
        self.facts.handle_link_up(member);
        self.accounting.handle_link_up(member);
        self.node.handle_link_up(member, now);
    }

    /// The link to a peer is gone.
    pub fn handle_link_down(&mut self, member: MemberId, now: Instant) {
        self.keys.handle_link_down(member);
        self.facts.handle_link_down(member);
        self.accounting.handle_link_down(member);
        self.node.handle_link_down(member, now);
    }

    /// Everything of the peers is fetched anew.
    pub fn resync(&mut self, now: Instant) {
        self.node.resync(now);
    }

    /// A peer said something over its link.
    pub fn handle_link_message(&mut self, from: MemberId, message: &LinkMessage, now: Instant) {
        match message {
            LinkMessage::Key(message) => self.handle_key_message(from, message, now),
            LinkMessage::Protocol(kind, body) => {
                match self.node.handle_link_message(from, *kind, body, now) {
                    Ok(()) => {}
                    Err(DecodeError::Opcode) => self.links.unknown += 1,
                    Err(_) => self.links.malformed += 1,
                }
            }
            LinkMessage::Facts(body) => match FactsMessage::decode(body) {
                Some(told) => self.facts.handle(from, told, self.clock_ms()),
                None => self.links.malformed += 1,
            },
            LinkMessage::Totals(body) => self.handle_told(from, body, now),
        }
    }

    /// The next thing to say to a peer over its link. Until the peer has taken it in no more than 64 others follow.
    pub fn poll_link_message(&mut self, to: MemberId) -> Option<LinkMessage> {
        if let Some(message) = self.poll_key_message(to) {
            return Some(LinkMessage::Key(message));
        }
        if let Some(told) = self.facts.poll(to, self.clock_ms()) {
            return Some(LinkMessage::Facts(told.encode()));
        }
        if let Some(told) = self.accounting.poll(to) {
            return Some(LinkMessage::Totals(told.encode()));
        }
        let mut body = Vec::new();
        let kind = self.node.poll_link_message(to, &mut body)?;
        Some(LinkMessage::Protocol(kind, body))
    }

    /// Somebody who should be a peer, or wanted to be taken for one, has the key of another.
    pub fn handle_stranger(&mut self) {
        self.links.strangers += 1;
    }

    /// A link did not come about, for another reason.
    pub fn handle_link_failure(&mut self) {
        self.links.failures += 1;
    }

    /// A peer said something about keys over its link.
    fn handle_key_message(&mut self, from: MemberId, message: &KeyMessage, now: Instant) {
        match message {
            KeyMessage::Offer(offer) => {
                self.links.keys_received += 1;
                if let Some(keys) = self.peer_keys.get_mut(from.index()) {
                    keys.handle_offer(offer);
                }
                self.keys.acknowledge(from, offer);
            }
            KeyMessage::Ack { incarnation, epoch } => {
                self.keys.handle_ack(from, *incarnation, *epoch);
                self.switch_key(now);
            }
        }
    }

    /// The next thing to tell a peer about keys.
    fn poll_key_message(&mut self, to: MemberId) -> Option<KeyMessage> {
        self.keys.poll_message(to, self.node.next_packet_number())
    }

    /// Peers that were heard, since the last call, under a key that we have not: their links are worth a look.
    pub fn poll_unheard(&mut self) -> MemberSet {
        std::mem::take(&mut self.unheard)
    }

    /// Another key is wanted; it is in use when [`Self::is_rolling`] says no more.
    pub fn ask_roll(&mut self) {
        self.keys.ask_roll();
    }

    /// True while a key that was asked for, or has been drawn, is not in use.
    pub fn is_rolling(&self) -> bool {
        self.keys.is_rolling()
    }

    /// True if the owner is to draw a key and hand it to [`Self::roll_key`].
    pub fn wants_key(&self, now: Instant) -> bool {
        self.keys.wants_key(self.node.next_packet_number(), now)
    }

    /// A key of our datagrams to come: handed to the peers, then used.
    pub fn roll_key(&mut self, key: DatagramKey, now: Instant) {
        self.keys.roll(key, now);
        self.switch_key(now);
    }

    /// Uses the key that was drawn, if it is time.
    pub(super) fn switch_key(&mut self, now: Instant) {
        let live = self.node.membership().live();
        if (self.keys).switch(live, self.node.next_packet_number(), now) {
            self.links.rolls += 1;
            self.node.set_epoch(self.keys.epoch());
        }
    }
}
