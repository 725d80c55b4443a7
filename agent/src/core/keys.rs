//! The keys of our own datagrams: which is in use, who has it, when the next takes its place.
//!
//! A key is handed to every peer over its link (TLS) when the link comes up and when a new one was drawn, with the
//! number of the next datagram: what is numbered lower is none of that key's receivers' business. A new key is used
//! when every live peer has acknowledged it, or after two seconds; the old one is forgotten then. So no peer is ever
//! sent what it cannot open, unless its link is down (PROTOCOL.md 2.6).
//!
//! The subtle thing: a key stays in use for at least a second. Receivers keep two, so a third may be handed out only when
//! nothing sealed with the first can still arrive.

use std::time::Duration;

use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;

use super::seal::{Cipher, DatagramKey};

/// How long a peer may take to acknowledge a new key before it is used all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a key is in use at least: far longer than a datagram may wait anywhere.
const REST: Duration = Duration::from_secs(1);

/// How long a key is used at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// This time.
    pub max_age: Duration,
    /// This many datagrams.
    pub max_packets: u64,
}

/// What members say to each other about keys, over TLS.
#[derive(Clone, Debug)]
pub enum KeyMessage {
    /// This key will open datagrams of mine.
    Offer(KeyOffer),
    /// I have your key.
    Ack {
        /// Of this run of yours.
        incarnation: u64,
        /// Of this epoch, and those before.
        epoch: u8,
    },
}

/// A sender's key, for a receiver.
#[derive(Clone, Debug)]
pub struct KeyOffer {
    /// The run of the sender that seals with it.
    pub incarnation: u64,
    /// Its number among the keys of that run; it counts from 0 and wraps.
    pub epoch: u8,
    /// The key.
    pub key: DatagramKey,
    /// Number of the sender's next datagram: lower ones are not for this receiver.
    pub floor: u64,
}

/// Our keys, and what is to be said to whom.
#[derive(Debug)]
pub struct OwnKeys {
    incarnation: u64,
    limits: Limits,
    current: Key,
    /// Drawn, but not used yet.
    next: Option<Next>,
    asked: bool,
    links: [Link; MemberId::MAX],
}

#[derive(Debug)]
struct Key {
    epoch: u8,
    bytes: DatagramKey,
    cipher: Cipher,
    /// Since when it is in use, and from which datagram on.
    since: Instant,
    first_packet: u64,
}

#[derive(Debug)]
struct Next {
    key: Key,
    acknowledged: MemberSet,
    use_at: Instant,
}

/// What a peer is owed. Bounded: each kind of message at most once.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_up: bool,
    owes_current: bool,
    owes_next: bool,
    owes_ack: Option<(u64, u8)>,
}

impl OwnKeys {
    /// The first key is in use from `now` on.
    pub fn new(incarnation: u64, key: DatagramKey, limits: Limits, now: Instant) -> Self {
        Self {
            incarnation,
            limits,
            current: Key::new(0, key, now, 1),
            next: None,
            asked: false,
            links: [Link::default(); MemberId::MAX],
        }
    }

    /// Which key is in use.
    pub fn epoch(&self) -> u8 {
        self.current.epoch
    }

    /// How long it is in use.
    pub fn age(&self, now: Instant) -> Duration {
        now.since(self.current.since)
    }

    /// True from the wish for another key until it is in use.
    pub fn is_rolling(&self) -> bool {
        self.asked || self.next.is_some()
    }

    /// True if there is a link to the peer.
    pub fn is_linked(&self, member: MemberId) -> bool {
        self.link(member).is_some_and(|link| link.is_up)
    }

    /// The cipher in use.
    pub fn cipher(&self) -> &Cipher {
        &self.current.cipher
    }

    /// Somebody wants another key. One that is about to be used fulfils the wish.
    pub fn ask_roll(&mut self) {
        self.asked = self.next.is_none();
    }

    /// True if the owner is to draw a key and call [`Self::roll`].
    pub fn wants_key(&self, next_packet: u64, now: Instant) -> bool {
        let packets = next_packet.saturating_sub(self.current.first_packet);
        let worn_out = packets >= self.limits.max_packets || self.age(now) >= self.limits.max_age;
        self.next.is_none() && self.age(now) >= REST && (self.asked || worn_out)
    }

    /// A key that takes the place of the one in use, as soon as it can.
    pub fn roll(&mut self, key: DatagramKey, now: Instant) {
        self.asked = false;
        self.next = Some(Next {
            // Since when, and from which datagram on, it is in use is known when it is.
            key: Key::new(self.current.epoch.wrapping_add(1), key, now, 0),
            acknowledged: MemberSet::default(),
            use_at: now + PATIENCE,
        });
        for link in &mut self.links {
            link.owes_next = link.is_up;
        }
    }

    /// Uses the new key if it is time; true if it is used from now on.
    pub fn switch(&mut self, live: MemberSet, next_packet: u64, now: Instant) -> bool {
        let is_due = |next: &mut Next| {
            now >= next.use_at || live.iter().all(|it| next.acknowledged.contains(it))
        };
        let Some(next) = self.next.take_if(is_due) else {
            return false;
        };
        self.current = Key {
            since: now,
            first_packet: next_packet,
            ..next.key
        };
        for link in &mut self.links {
            link.owes_current |= std::mem::take(&mut link.owes_next);
        }
        true
    }

    /// When [`Self::wants_key`] or [`Self::switch`] have to be asked again, if nothing happens before.
    pub fn poll_timeout(&self) -> Instant {
        match &self.next {
            Some(next) => next.use_at,
            None if self.asked => self.current.since + REST,
            None => self.current.since + self.limits.max_age.max(REST),
        }
    }

    /// There is a new link to a peer: it is told what it has to know.
    pub fn handle_link_up(&mut self, member: MemberId) {
        let owes_next = self.next.is_some();
        if let Some(link) = self.links.get_mut(member.index()) {
            *link = Link {
                is_up: true,
                owes_current: true,
                owes_next,
                owes_ack: None,
            };
        }
    }

    /// The link to a peer is gone.
    pub fn handle_link_down(&mut self, member: MemberId) {
        if let Some(link) = self.links.get_mut(member.index()) {
            *link = Link::default();
        }
    }

    /// We have a peer's key: it wants to know.
    pub fn acknowledge(&mut self, member: MemberId, offer: &KeyOffer) {
        if let Some(link) = self.links.get_mut(member.index()) {
            link.owes_ack = link.is_up.then_some((offer.incarnation, offer.epoch));
        }
    }

    /// A peer has our key.
    pub fn handle_ack(&mut self, member: MemberId, incarnation: u64, epoch: u8) {
        if let Some(next) = &mut self.next
            && (incarnation, epoch) == (self.incarnation, next.key.epoch)
        {
            next.acknowledged.insert(member);
        }
    }

    /// The next thing to tell a peer over its link.
    pub fn poll_message(&mut self, member: MemberId, next_packet: u64) -> Option<KeyMessage> {
        let link = self.links.get_mut(member.index())?;
        if let Some((incarnation, epoch)) = link.owes_ack.take() {
            return Some(KeyMessage::Ack { incarnation, epoch });
        }
        let key = if std::mem::take(&mut link.owes_current) {
            &self.current
        } else if std::mem::take(&mut link.owes_next) {
            &self.next.as_ref()?.key
        } else {
            return None;
        };
        Some(KeyMessage::Offer(KeyOffer {
            incarnation: self.incarnation,
            epoch: key.epoch,
            key: key.bytes.clone(),
            floor: next_packet,
        }))
    }

    fn link(&self, member: MemberId) -> Option<&Link> {
        self.links.get(member.index())
    }
}

impl Key {
    fn new(epoch: u8, bytes: DatagramKey, since: Instant, first_packet: u64) -> Self {
        Self {
            epoch,
            cipher: Cipher::new(&bytes),
            bytes,
            since,
            first_packet,
        }
    }
}

#[cfg(test)]
mod tests;
