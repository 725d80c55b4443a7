use super::{SCTP_ORDER, TCP_ORDER, begins_anew, goes_on, merge};
use crate::wire::flow::{SCTP, TCP};
use alloc::vec::Vec;

const DCCP: u8 = 33;
/// Four bits on the wire.
const STATES: core::ops::Range<u8> = 0..16;

#[test]
fn of_two_states_the_further_counts_whoever_says_it() {
    for (proto, order) in [(TCP, TCP_ORDER), (SCTP, SCTP_ORDER)] {
        for (place, earlier) in order.into_iter().enumerate() {
            for later in order.into_iter().skip(place) {
                assert_eq!(merge(proto, earlier, later), later);
                assert_eq!(merge(proto, later, earlier), later);
            }
        }
    }
    assert_eq!(merge(DCCP, 7, 3), 3, "of DCCP none is further");
}

#[test]
fn states_come_together_alike_in_whatever_order_and_however_often_they_are_heard() {
    for proto in [TCP, SCTP] {
        for a in STATES {
            assert_eq!(merge(proto, a, a), a);
            for b in STATES {
                let joined = merge(proto, a, b);
                assert_eq!(merge(proto, b, a), joined);
                // Neither takes back what was seen.
                assert_eq!(merge(proto, joined, a), joined);
                assert_eq!(merge(proto, joined, b), joined);
                for c in STATES {
                    let left = merge(proto, joined, c);
                    assert_eq!(merge(proto, a, merge(proto, b, c)), left, "{a} {b} {c}");
                }
            }
        }
    }
}

#[test]
fn only_a_first_packet_over_what_is_as_good_as_finished_begins_anew() {
    let anew = |proto| -> Vec<(u8, u8)> {
        let pairs = STATES.flat_map(|ours| STATES.map(move |theirs| (ours, theirs)));
        pairs
            .filter(|(ours, theirs)| begins_anew(proto, *ours, *theirs))
            .collect()
    };
    assert_eq!(anew(TCP), [(6, 1), (7, 1), (8, 1)]);
    assert_eq!(anew(SCTP), [(1, 2), (7, 2)]);
    assert_eq!(anew(DCCP), []);
}

#[test]
fn only_what_is_open_on_both_sides_goes_on_for_any_time() {
    let states = |proto| -> Vec<u8> { (0..10).filter(|state| goes_on(proto, *state)).collect() };
    assert_eq!(states(TCP), [3, 4, 5]);
    assert_eq!(states(SCTP), [4, 8, 9]);
}
