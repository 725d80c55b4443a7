//! Seals what we send and opens what comes: AES-256-GCM, with the packet number as nonce and the header as associated
//! data.
//!
//! Each [`DatagramKey`] is drawn anew for one run of a daemon or less, so that counting packets makes nonces unique.
//! Of a peer at most two keys are kept, both of one run: the one in use, and the one that takes or took its place.

use std::fmt;
use std::hint::black_box;

use ccp::wire::header::{HEADER_BYTES, Header};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::keys::KeyOffer;

const KEY_BYTES: usize = 32;
/// Keys kept of a peer.
const KEYS_MAX: usize = 2;

/// What seals a member's datagrams for a while. It is wiped when dropped, and never printed.
#[derive(Clone)]
pub struct DatagramKey(Zeroizing<[u8; KEY_BYTES]>);

/// A key, ready for use.
pub struct Cipher(Box<LessSafeKey>);

/// The keys that a peer handed us.
#[derive(Debug, Default)]
pub struct PeerKeys {
    incarnation: u64,
    /// By age; not more than [`KEYS_MAX`].
    keys: Vec<PeerKey>,
}

#[derive(Debug)]
struct PeerKey {
    epoch: u8,
    floor: u64,
    cipher: Cipher,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The peer handed us no key for this incarnation and epoch.
    UnknownKey,
    /// It was not made with the key that it names.
    Forged,
    /// It was made before its key was handed to us: only who recorded it sends it now.
    BelowFloor,
}

impl DatagramKey {
    /// These bytes; who draws them answers for their being random and used for nothing else.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key that nobody can guess. It fails only where the kernel gives no random numbers.
    pub fn random() -> Result<Self, Unspecified> {
        let mut key = Self::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *key.0)?;
        Ok(key)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatagramKey(..)")
    }
}

impl Cipher {
    /// The cipher under `key`.
    pub fn new(key: &DatagramKey) -> Self {
        let key =
            UnboundKey::new(&AES_256_GCM, key.bytes()).expect("the key is as long as it has to be");
        Self(Box::new(LessSafeKey::new(key)))
    }

    /// Seals the body that follows the header in `datagram` and appends the tag.
    pub fn seal(&self, packet_number: u64, datagram: &mut Vec<u8>) {
        let (header, body) = datagram.split_at_mut(HEADER_BYTES);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(packet_number), Aad::from(&*header), body)
            .expect("a datagram is shorter than AES-GCM's limit");
        datagram.extend_from_slice(tag.as_ref());
    }

    fn open<'d>(&self, packet_number: u64, datagram: &'d mut [u8]) -> Option<&'d [u8]> {
        let (header, sealed) = datagram.split_at_mut_checked(HEADER_BYTES)?;
        let body = self
            .0
            .open_in_place(nonce(packet_number), Aad::from(&*header), sealed)
            .ok()?;
        Some(body)
    }
}

/// `ring` does not wipe its keys: ours is overwritten by one that everybody knows.
impl Drop for Cipher {
    fn drop(&mut self) {
        let known = UnboundKey::new(&AES_256_GCM, &[0; KEY_BYTES]);
        *self.0 = LessSafeKey::new(known.expect("the key is as long as it has to be"));
        // As if someone looked: without it the compiler could leave the writing out.
        black_box(&*self.0);
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

fn nonce(packet_number: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = packet_number.to_be_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}

impl PeerKeys {
    /// The peer handed us a key: one of another run than before replaces all.
    pub fn handle_offer(&mut self, offer: &KeyOffer) {
        if offer.incarnation != self.incarnation {
            self.incarnation = offer.incarnation;
            self.keys.clear();
        }
        // A re-established link repeats keys we have. The first floor is the lower one; the replay window covers what came
        // since.
        if self.keys.iter().any(|key| key.epoch == offer.epoch) {
            return;
        }
        if self.keys.len() == KEYS_MAX {
            self.keys.remove(0);
        }
        self.keys.push(PeerKey {
            epoch: offer.epoch,
            floor: offer.floor,
            cipher: Cipher::new(&offer.key),
        });
    }

    /// Opens a datagram in place and returns its body.
    pub fn open<'d>(&self, header: &Header, datagram: &'d mut [u8]) -> Result<&'d [u8], OpenError> {
        let key = (self.keys.iter())
            .find(|key| self.incarnation == header.incarnation && key.epoch == header.epoch)
            .ok_or(OpenError::UnknownKey)?;
        let body = key
            .cipher
            .open(header.packet_number, datagram)
            .ok_or(OpenError::Forged)?;
        // After opening, so that each is counted as what it is.
        if header.packet_number < key.floor {
            return Err(OpenError::BelowFloor);
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
