use super::{DatagramKey, KeyMessage, Limits, OwnKeys, PATIENCE, REST};
use ccp::record::{MemberId, MemberSet};
use ccp::time::Instant;
use std::time::Duration;

const RUN: u64 = 5;
const HOUR: Duration = Duration::from_secs(3600);
const LIMITS: Limits = Limits {
    max_age: HOUR,
    max_packets: 1000,
};

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn set(ids: &[u8]) -> MemberSet {
    let mut set = MemberSet::default();
    ids.iter().for_each(|id| set.insert(member(*id)));
    set
}

fn own() -> OwnKeys {
    OwnKeys::new(RUN, key(0), LIMITS, Instant::default())
}

fn key(byte: u8) -> DatagramKey {
    DatagramKey::new([byte; 32])
}

/// Epoch, first byte and floor of the keys that a peer is handed, and the epochs acknowledged.
fn told(keys: &mut OwnKeys, to: u8, next_packet: u64) -> (Vec<(u8, u8, u64)>, Vec<u8>) {
    let (mut offers, mut acks) = (Vec::new(), Vec::new());
    while let Some(message) = keys.poll_message(member(to), next_packet) {
        match message {
            KeyMessage::Offer(offer) => {
                offers.push((offer.epoch, offer.key.bytes()[0], offer.floor))
            }
            KeyMessage::Ack { epoch, .. } => acks.push(epoch),
        }
    }
    (offers, acks)
}

#[test]
fn a_peer_is_handed_the_key_when_its_link_comes_up_with_the_floor_of_then() {
    let mut keys = own();
    assert_eq!(told(&mut keys, 2, 17).0, []);
    keys.handle_link_up(member(2));
    assert_eq!(told(&mut keys, 2, 17).0, [(0, 0, 17)]);
    assert_eq!(told(&mut keys, 2, 18).0, [], "once");
    keys.handle_link_down(member(2));
    keys.handle_link_up(member(2));
    assert_eq!(
        told(&mut keys, 2, 40).0,
        [(0, 0, 40)],
        "again on a new link"
    );
}

#[test]
fn a_new_key_is_used_when_every_live_peer_has_it() {
    let mut keys = own();
    for id in [2, 3] {
        keys.handle_link_up(member(id));
        told(&mut keys, id, 1);
    }
    let now = Instant::default() + HOUR;
    keys.roll(key(1), now);
    assert_eq!(told(&mut keys, 2, 50).0, [(1, 1, 50)]);
    let live = set(&[2, 3]);
    keys.handle_ack(member(2), RUN, 1);
    assert!(!keys.switch(live, 60, now), "the third has not");
    keys.handle_ack(member(3), RUN + 1, 1);
    keys.handle_ack(member(3), RUN, 0);
    assert!(
        !keys.switch(live, 60, now),
        "it acknowledged something else"
    );
    keys.handle_ack(member(3), RUN, 1);
    assert!(keys.switch(live, 60, now) && keys.epoch() == 1);
    assert!(!keys.switch(live, 60, now), "once");
    assert_eq!(
        told(&mut keys, 3, 61).0,
        [(1, 1, 61)],
        "what it is owed still"
    );
}

#[test]
fn a_new_key_is_used_after_a_while_though_a_peer_has_it_not() {
    let mut keys = own();
    let now = Instant::default() + HOUR;
    keys.roll(key(1), now);
    assert_eq!(keys.poll_timeout(), now + PATIENCE);
    assert!(!keys.switch(set(&[2]), 9, now));
    assert!(keys.switch(set(&[2]), 9, now + PATIENCE));
    keys.roll(key(2), now + HOUR);
    assert!(keys.switch(set(&[]), 9, now + HOUR), "nobody to wait for");
}

#[test]
fn a_link_that_comes_up_during_a_roll_over_brings_both_keys() {
    let mut keys = own();
    keys.roll(key(1), Instant::default() + HOUR);
    keys.handle_link_up(member(2));
    assert_eq!(told(&mut keys, 2, 5).0, [(0, 0, 5), (1, 1, 5)]);
}

#[test]
fn keys_wear_out_by_age_and_by_packets() {
    let mut keys = own();
    let (start, soon) = (Instant::default(), Instant::default() + REST);
    assert!(!keys.wants_key(1000, soon));
    assert!(keys.wants_key(1001, soon), "1000 packets have it");
    assert!(!keys.wants_key(1001, start), "it rests first");
    assert_eq!(keys.poll_timeout(), start + HOUR);
    assert!(keys.wants_key(1, start + HOUR));
    keys.roll(key(1), start + HOUR);
    assert!(!keys.wants_key(5000, start + HOUR * 2), "one at a time");
    assert!(keys.switch(set(&[]), 5000, start + HOUR * 2));
    let soon = start + HOUR * 2 + REST;
    assert!(!keys.wants_key(5999, soon) && keys.wants_key(6000, soon));
}

#[test]
fn a_key_that_was_asked_for_comes_when_the_last_has_rested() {
    let mut keys = own();
    keys.ask_roll();
    assert!(keys.is_rolling());
    assert_eq!(keys.poll_timeout(), Instant::default() + REST);
    let now = Instant::default() + REST;
    assert!(keys.wants_key(1, now));
    keys.roll(key(1), now);
    keys.ask_roll();
    assert!(keys.switch(set(&[]), 1, now));
    assert!(!keys.is_rolling(), "the one under way was enough");
}

#[test]
fn epochs_wrap() {
    let mut keys = own();
    for round in 0..=256_u16 {
        assert_eq!(u16::from(keys.epoch()), round % 256);
        keys.roll(key(1), Instant::default());
        assert!(keys.switch(set(&[]), 1, Instant::default()));
    }
}

#[test]
fn the_last_key_of_a_peer_is_acknowledged() {
    let mut keys = own();
    keys.handle_link_up(member(2));
    for epoch in [4, 5] {
        let mut offer = own();
        offer.handle_link_up(member(1));
        let Some(KeyMessage::Offer(mut offer)) = offer.poll_message(member(1), 1) else {
            panic!("a link brings an offer")
        };
        offer.epoch = epoch;
        keys.acknowledge(member(2), &offer);
    }
    assert_eq!(told(&mut keys, 2, 1).1, [5]);
}
