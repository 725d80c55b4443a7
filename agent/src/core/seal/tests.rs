use super::{Cipher, DatagramKey, OpenError, PeerKeys};
use crate::core::keys::KeyOffer;
use ccp::record::MemberId;
use ccp::wire::header::{Destination, Header, Opcode, Urgency};

const RUN: u64 = 3;

fn header(incarnation: u64, epoch: u8, packet_number: u64) -> Header {
    Header {
        cluster: 7,
        opcode: Opcode::Delta,
        source: MemberId::new(1).unwrap(),
        destination: Destination::All,
        interface: 0,
        urgency: Urgency::Normal,
        incarnation,
        epoch,
        packet_number,
    }
}

fn offer(incarnation: u64, epoch: u8, key: u8, floor: u64) -> KeyOffer {
    KeyOffer {
        incarnation,
        epoch,
        key: DatagramKey::new([key; 32]),
        floor,
    }
}

fn sealed(header: &Header, key: u8) -> Vec<u8> {
    let mut datagram = header.encode().to_vec();
    datagram.extend_from_slice(b"body");
    Cipher::new(&DatagramKey::new([key; 32])).seal(header.packet_number, &mut datagram);
    datagram
}

/// What becomes of a datagram that was made with `key`.
fn opened(keys: &PeerKeys, header: &Header, key: u8) -> Result<(), OpenError> {
    keys.open(header, &mut sealed(header, key))
        .map(|body| assert_eq!(body, b"body"))
}

#[test]
fn only_what_was_sealed_with_the_key_opens() {
    let mut keys = PeerKeys::default();
    let header = header(RUN, 0, 9);
    assert_eq!(opened(&keys, &header, 1), Err(OpenError::UnknownKey));
    keys.handle_offer(&offer(RUN, 0, 1, 1));
    assert_eq!(opened(&keys, &header, 1), Ok(()));
    assert_eq!(opened(&keys, &header, 2), Err(OpenError::Forged));
    let good = sealed(&header, 1);
    for at in 0..good.len() {
        let mut forged = good.clone();
        forged[at] ^= 1;
        assert_eq!(
            keys.open(&header, &mut forged),
            Err(OpenError::Forged),
            "byte {at}"
        );
    }
    for len in 0..good.len() {
        assert_eq!(
            keys.open(&header, &mut good.clone()[..len]),
            Err(OpenError::Forged),
            "cut at {len}"
        );
    }
}

#[test]
fn what_was_sealed_before_the_key_was_handed_out_is_refused() {
    let mut keys = PeerKeys::default();
    keys.handle_offer(&offer(RUN, 0, 1, 10));
    assert_eq!(
        opened(&keys, &header(RUN, 0, 9), 1),
        Err(OpenError::BelowFloor)
    );
    assert_eq!(opened(&keys, &header(RUN, 0, 9), 2), Err(OpenError::Forged));
    assert_eq!(opened(&keys, &header(RUN, 0, 10), 1), Ok(()));
}

#[test]
fn the_same_key_handed_out_again_does_not_refuse_what_is_on_its_way() {
    let mut keys = PeerKeys::default();
    keys.handle_offer(&offer(RUN, 0, 1, 10));
    keys.handle_offer(&offer(RUN, 0, 1, 50));
    assert_eq!(opened(&keys, &header(RUN, 0, 20), 1), Ok(()));
}

#[test]
fn two_keys_of_a_run_are_kept_and_one_run() {
    let mut keys = PeerKeys::default();
    for epoch in [254, 255, 0] {
        keys.handle_offer(&offer(RUN, epoch, epoch, 1));
    }
    assert_eq!(
        opened(&keys, &header(RUN, 254, 9), 254),
        Err(OpenError::UnknownKey)
    );
    assert_eq!(opened(&keys, &header(RUN, 255, 9), 255), Ok(()));
    assert_eq!(opened(&keys, &header(RUN, 0, 9), 0), Ok(()));
    keys.handle_offer(&offer(RUN + 1, 0, 7, 1));
    assert_eq!(
        opened(&keys, &header(RUN, 0, 9), 0),
        Err(OpenError::UnknownKey)
    );
    assert_eq!(opened(&keys, &header(RUN + 1, 0, 9), 7), Ok(()));
}

#[test]
fn keys_are_not_printed() {
    let offer = offer(RUN, 0, 0xab, 1);
    let printed = format!("{offer:?} {:?}", Cipher::new(&offer.key));
    assert!(
        printed.contains("DatagramKey(..)") && !printed.contains("171"),
        "{printed}"
    );
}

#[test]
fn two_random_keys_differ() {
    let keys = [0; 2].map(|_| DatagramKey::random().unwrap());
    assert_ne!(keys[0].bytes(), keys[1].bytes());
}
