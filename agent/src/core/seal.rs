//! Seals what we send and opens what comes: AES-256-GCM under a key for each member's incarnation (PROTOCOL.md 2.3).

use aes::{Context, Opened};
use ccp::record::MemberId;
use ccp::wire::header::{HEADER_BYTES, Header};

/// The keys of the cluster.
#[derive(Debug)]
pub struct Seal {
    context: Context,
    own: aes::Key,
    /// For each member the keys of the incarnations that were opened last.
    others: [Vec<(u64, aes::Key)>; MemberId::MAX],
}

/// Keys kept for a member: of its incarnation, and of the one that is about to take its place.
const KEYS_MAX: usize = 2;

impl Seal {
    /// `secret` is shared by all members of `cluster`.
    pub fn new(secret: &[u8; 32], cluster: u16, me: MemberId, incarnation: u64) -> Self {
        let context = Context::new(secret, cluster);
        let own = context.key(me, incarnation);
        Self {
            context,
            own,
            others: [const { Vec::new() }; MemberId::MAX],
        }
    }

    /// Seals the body that follows the header in `datagram` and appends the tag.
    pub fn seal(&self, packet_number: u64, datagram: &mut Vec<u8>) {
        self.own.seal(packet_number, datagram);
    }

    /// Opens a datagram in place and returns its body; `None` if it was not made by the member that it names.
    pub fn open<'d>(&mut self, header: &Header, datagram: &'d mut [u8]) -> Option<&'d [u8]> {
        let keys = self.others.get_mut(header.source.index())?;
        if let Some((_, key)) = keys
            .iter()
            .find(|(incarnation, _)| *incarnation == header.incarnation)
        {
            return key.open(header.packet_number, datagram).map(Opened::body);
        }
        let key = self.context.key(header.source, header.incarnation);
        let opened = key.open(header.packet_number, datagram)?;
        // Only an incarnation that has the secret takes a place.
        if keys.len() == KEYS_MAX {
            keys.remove(0);
        }
        keys.push((header.incarnation, key));
        Some(opened.body())
    }
}

/// The cipher itself, as `ring` has it.
mod aes {
    use super::HEADER_BYTES;
    use ccp::record::MemberId;
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use ring::hkdf::{HKDF_SHA256, Prk, Salt};

    const SALT: &[u8] = b"ctsync ccp 1";

    pub struct Context {
        secret: Prk,
        cluster: u16,
    }

    impl std::fmt::Debug for Context {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Context")
                .field("cluster", &self.cluster)
                .finish_non_exhaustive()
        }
    }

    #[derive(Debug)]
    pub struct Key(LessSafeKey);

    pub struct Opened<'d>(&'d [u8]);

    impl<'d> Opened<'d> {
        pub fn body(self) -> &'d [u8] {
            self.0
        }
    }

    impl Context {
        pub fn new(secret: &[u8; 32], cluster: u16) -> Self {
            Self {
                secret: Salt::new(HKDF_SHA256, SALT).extract(secret),
                cluster,
            }
        }

        /// The key of one member's incarnation.
        pub fn key(&self, member: MemberId, incarnation: u64) -> Key {
            let info: [&[u8]; 3] = [
                &self.cluster.to_be_bytes(),
                &[member.get()],
                &incarnation.to_be_bytes(),
            ];
            let key = self
                .secret
                .expand(&info, &AES_256_GCM)
                .expect("32 bytes are less than HKDF's limit");
            Key(LessSafeKey::new(UnboundKey::from(key)))
        }
    }

    fn nonce(packet_number: u64) -> Nonce {
        let [a, b, c, d, e, f, g, h] = packet_number.to_be_bytes();
        Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }

    impl Key {
        pub fn seal(&self, packet_number: u64, datagram: &mut Vec<u8>) {
            let (header, body) = datagram.split_at_mut(HEADER_BYTES);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce(packet_number), Aad::from(&*header), body)
                .expect("a datagram is shorter than AES-GCM's limit");
            datagram.extend_from_slice(tag.as_ref());
        }

        pub fn open<'d>(&self, packet_number: u64, datagram: &'d mut [u8]) -> Option<Opened<'d>> {
            let (header, sealed) = datagram.split_at_mut_checked(HEADER_BYTES)?;
            let body = self
                .0
                .open_in_place(nonce(packet_number), Aad::from(&*header), sealed)
                .ok()?;
            Some(Opened(body))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Seal;
    use ccp::record::MemberId;
    use ccp::wire::header::{Destination, Header, Opcode, Urgency};

    fn header(incarnation: u64) -> Header {
        Header {
            cluster: 7,
            opcode: Opcode::Delta,
            source: MemberId::new(1).unwrap(),
            destination: Destination::All,
            interface: 0,
            urgency: Urgency::Normal,
            policy: 0,
            incarnation,
            packet_number: 9,
        }
    }

    fn sealed(secret: &[u8; 32], cluster: u16, incarnation: u64) -> Vec<u8> {
        let mut datagram = header(incarnation).encode().to_vec();
        datagram.extend_from_slice(b"body");
        Seal::new(secret, cluster, MemberId::new(1).unwrap(), incarnation).seal(9, &mut datagram);
        datagram
    }

    #[test]
    fn opens_what_a_member_sealed_and_nothing_else() {
        let mut seal = Seal::new(&[1; 32], 7, MemberId::new(2).unwrap(), 50);
        for incarnation in [3, 4, 5, 3] {
            let mut datagram = sealed(&[1; 32], 7, incarnation);
            assert_eq!(
                seal.open(&header(incarnation), &mut datagram),
                Some(&b"body"[..])
            );
        }
        let good = sealed(&[1; 32], 7, 3);
        for at in 0..good.len() {
            let mut forged = good.clone();
            forged[at] ^= 1;
            assert_eq!(seal.open(&header(3), &mut forged), None, "byte {at}");
        }
        assert_eq!(
            seal.open(&header(4), &mut good.clone()),
            None,
            "another incarnation"
        );
        assert_eq!(
            seal.open(&header(3), &mut sealed(&[2; 32], 7, 3)),
            None,
            "another secret"
        );
        assert_eq!(
            seal.open(&header(3), &mut sealed(&[1; 32], 8, 3)),
            None,
            "another cluster"
        );
        for len in 0..good.len() {
            assert_eq!(
                seal.open(&header(3), &mut good.clone()[..len]),
                None,
                "cut at {len}"
            );
        }
    }
}
