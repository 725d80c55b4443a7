//! How long flows live, and who ends them (PROTOCOL.md 6, 7.8).

use super::world::{Faults, TABLE_OLD, World, key, member, patch};
use crate::node::{Action, End, Outcome};
use crate::progress;
use crate::record::{Endpoint, FlowKey, Nat, Packets, Patch};
use crate::table::Origin;
use alloc::vec::Vec;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn short_lived(timeout_secs: u32, proto_state: u8) -> Patch {
    Patch {
        timeout_secs: Some(timeout_secs),
        ..patch(proto_state)
    }
}

fn masqueraded(proto_state: u8) -> Patch {
    let mut address = [0; 16];
    address[0] = 3;
    let outside = Endpoint {
        address,
        port: 1024,
    };
    Patch {
        nat: Nat {
            src: Some(outside),
            dst: None,
        },
        ..patch(proto_state)
    }
}

/// PROTOCOL.md 6.5
#[test]
fn a_copy_is_written_its_timeout_anew_before_it_is_over_as_long_as_its_carrier_lives() {
    let mut world = World::new(2, Faults::NONE, 30);
    world.run(SECOND);
    world.open(0, key(1));
    world.change(0, key(1), &short_lived(4, 3));
    world.run(SECOND * 60);
    let refreshed = world.node(1).counters().copies_refreshed;
    assert!((17..=21).contains(&refreshed), "{refreshed}");
    assert_eq!(
        world.node(0).counters().copies_refreshed,
        0,
        "its own it leaves alone"
    );
    world.stop(0);
    world.run(SECOND * 2);
    let refreshed = world.node(1).counters().copies_refreshed;
    world.run(SECOND * 60);
    assert_eq!(world.node(1).counters().copies_refreshed, refreshed);
}

/// PROTOCOL.md 7.4, 7.13
#[test]
fn what_ended_unheard_is_given_up_a_part_at_a_time_but_not_what_begins_anew_meanwhile() {
    let mut world = World::new(2, Faults::NONE, 61);
    world.run(SECOND);
    for n in 0..3000 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    assert_eq!(world.kernel(1).len(), 3000);
    for n in 0..3000 {
        world.close_unseen(0, key(n));
    }
    let mut left = Vec::new();
    world.read_table_while(0, |world| {
        if left.len() == 1 {
            world.open(0, key(2999));
        }
        world.run(Duration::from_millis(50));
        left.push(world.kernel(1).len());
    });
    assert_eq!(left, [3000, 3000 - 1024, 3000 - 2048]);
    world.run(SECOND);
    world.check();
    assert_eq!(world.kernel(1).len(), 1);
}

/// PROTOCOL.md 8: the end of one of two flows was heard by nobody, as both daemons had been killed.
#[test]
fn what_both_members_missed_is_there_until_its_timeout_and_no_longer() {
    for holder_dies in [false, true] {
        let mut world = World::new(2, Faults::NONE, 37);
        world.run(SECOND);
        for n in 1..=2 {
            world.open(0, key(n));
            world.change(0, key(n), &short_lived(40, 3));
        }
        world.run(SECOND);
        world.stop(0);
        world.stop(1);
        world.close_unseen(0, key(1));
        world.start(0, TABLE_OLD);
        world.start(1, TABLE_OLD);
        world.run(SECOND * 2);
        assert_eq!(world.kernel(0), world.kernel(1));
        assert_eq!(world.kernel(0).len(), 2, "nothing that never was");
        let slot = world.node(1).table().find(&key(1)).unwrap();
        let origin = world.node(1).table().get(slot).unwrap().origin;
        assert_eq!(origin, Origin::Found);
        if holder_dies {
            world.stop(1);
            world.run(SECOND);
        }
        let refreshed = |world: &World, at| world.node(at).counters().copies_refreshed;
        let before = refreshed(&world, 0);
        world.run(SECOND * 60);
        if holder_dies {
            assert_eq!(refreshed(&world, 0), before, "it has what is left");
            world.drop_entry(0, key(1), End::Over);
            world.run(SECOND * 60);
        } else {
            assert!(refreshed(&world, 0) > before);
            assert_eq!(
                refreshed(&world, 1),
                0,
                "what it has itself it leaves alone"
            );
            world.drop_entry(1, key(1), End::Over);
            world.run(SECOND);
        }
        assert!(!world.kernel(0).contains_key(&key(1)));
    }
}

#[test]
fn connections_that_are_being_closed_are_not_kept_from_running_out() {
    let mut world = World::new(2, Faults::NONE, 31);
    world.run(SECOND);
    for (n, proto_state) in (0..).zip([1, 2, 6, 7, 8, 9]) {
        world.open(0, key(n));
        world.change(0, key(n), &short_lived(2, proto_state));
    }
    world.run(SECOND * 20);
    assert_eq!(world.node(1).counters().copies_refreshed, 0);
}

#[test]
fn many_copies_that_are_due_at_once_are_refreshed_a_few_at_a_time() {
    let mut world = World::new(2, Faults::NONE, 32);
    world.run(SECOND);
    for n in 0..3000 {
        world.open(0, key(n));
        world.change(0, key(n), &short_lived(2, 3));
    }
    world.run(Duration::from_millis(1900));
    let refreshed = world.node(1).counters().copies_refreshed;
    assert!(refreshed >= 3000, "{refreshed}");
    world.check();
}

#[test]
fn an_end_by_hand_at_any_member_ends_the_flow_everywhere() {
    for at in 0..3 {
        let mut world = World::new(3, Faults::NONE, 33);
        world.run(SECOND);
        world.open(0, key(1));
        world.update(0, key(1), 3);
        world.run(SECOND);
        world.drop_entry(at, key(1), End::ByHand);
        world.forget(key(1));
        world.run(SECOND * 5);
        world.check();
    }
}

/// Found flows age each for itself, but what the operator says counts.
#[test]
fn an_end_by_hand_of_a_flow_that_a_dead_member_left_ends_it_everywhere() {
    let mut world = World::new(3, Faults::NONE, 34);
    world.run(SECOND);
    world.open(0, key(1));
    world.update(0, key(1), 3);
    world.run(SECOND);
    world.restart(0, false);
    world.run(SECOND * 3);
    world.check();
    world.drop_entry(2, key(1), End::ByHand);
    world.forget(key(1));
    world.run(SECOND * 5);
    world.check();
}

/// PROTOCOL.md 6.6
#[test]
fn an_entry_that_the_kernel_drops_with_its_interface_is_put_back_and_belongs_to_whoever_goes_on_with_it()
 {
    let mut world = World::new(2, Faults::NONE, 35);
    world.run(SECOND);
    world.open(0, key(1));
    world.change(0, key(1), &masqueraded(3));
    world.run(SECOND);
    world.drop_entry(0, key(1), End::Cut { timeout_secs: 77 });
    world.run(SECOND);
    world.check();
    assert_eq!(world.kernel(0)[&key(1)].timeout_secs, 77);
    let found = world.node(0).table().find(&key(1)).unwrap();
    assert_eq!(
        world.node(0).table().get(found).unwrap().origin,
        Origin::Found
    );
    assert!(world.pass(1, key(1)), "a packet passes the other");
    world.run(SECOND);
    let copy = world.node(0).table().get(found).unwrap();
    assert!(matches!(copy.origin, Origin::Copy { member: it, .. } if it == member(1)));
}

#[test]
fn a_connection_that_a_packet_ends_while_time_is_left_has_ended() {
    for proto_state in [1, 7] {
        let mut world = World::new(2, Faults::NONE, 36);
        world.run(SECOND);
        world.open(0, key(1));
        world.change(0, key(1), &masqueraded(proto_state));
        world.run(SECOND);
        world.drop_entry(0, key(1), End::Cut { timeout_secs: 77 });
        world.forget(key(1));
        world.run(SECOND * 5);
        world.check();
    }
}

/// PROTOCOL.md 7.8: a request goes one way and its answer the other, a thousand times a second.
#[test]
fn a_flow_whose_packets_pass_two_gateways_is_claimed_rarely_and_ends_with_the_last_of_them() {
    let mut world = World::new(2, Faults::NONE, 37);
    world.run(SECOND);
    world.open(0, key(1));
    world.change(0, key(1), &short_lived(80, 3));
    world.run(SECOND);
    let mut claims = 0;
    for _ in 0..60_000 {
        claims += u32::from(world.pass(0, key(1)));
        claims += u32::from(world.pass(1, key(1)));
        world.run(Duration::from_millis(1));
    }
    assert!((6..=16).contains(&claims), "{claims} claims in a minute");
    // The way of one direction moves: from now on all packets pass the second gateway.
    for _ in 0..30_000 {
        world.pass(1, key(1));
        world.run(Duration::from_millis(1));
    }
    let slot = world.node(1).table().find(&key(1)).unwrap();
    assert_eq!(world.node(1).table().get(slot).unwrap().origin, Origin::Own);
    world.drop_entry(1, key(1), End::Over);
    world.forget(key(1));
    world.run(SECOND * 5);
    world.check();
}

#[test]
fn a_refreshed_copy_whose_place_was_used_before_is_the_same_flow() {
    let mut world = World::new(2, Faults::NONE, 38);
    world.run(SECOND);
    for n in 0..50 {
        world.open(0, key(n));
        world.change(0, key(n), &short_lived(3, 3));
    }
    world.run(SECOND);
    for n in 0..50 {
        world.close(0, key(n));
    }
    for n in 100..150 {
        world.open(1, key(n));
        world.change(1, key(n), &short_lived(3, 3));
    }
    world.run(SECOND * 10);
    world.check();
    assert_eq!(world.node(1).counters().copies_refreshed, 0);
}

/// A reset passes one gateway while the other claims the flow by the packet before.
#[test]
fn a_state_that_wins_over_a_claim_that_crosses_it_keeps_its_timeout() {
    let mut world = World::new(2, Faults::NONE, 39);
    world.run(SECOND);
    world.open(0, key(1));
    world.change(0, key(1), &short_lived(432_000, 3));
    world.run(SECOND);
    world.change(0, key(1), &short_lived(10, 8));
    assert!(world.pass(1, key(1)), "before it hears of the reset");
    world.run(SECOND);
    world.check();
    for at in 0..2 {
        let state = &world.kernel(at)[&key(1)];
        assert_eq!(
            (state.proto_state, state.timeout_secs),
            (8, 10),
            "gateway {at}"
        );
    }
}

/// PROTOCOL.md 6.9: packets pass both gateways at once, and what each makes of the flow crosses the other's word of it.
#[test]
fn claims_that_cross_leave_the_further_state_on_both_gateways() {
    const TCP: u8 = 6;
    const SCTP: u8 = 132;
    let mut world = World::new(2, Faults::NONE, 40);
    world.run(SECOND);
    let mut flows = Vec::new();
    for (proto, states) in [(TCP, 1..10), (SCTP, 2..9)] {
        for here in states.clone() {
            for there in states.clone().skip(1) {
                for first in 0..2 {
                    let number = u32::try_from(flows.len()).expect("they are few");
                    let key = FlowKey {
                        proto,
                        ..key(number)
                    };
                    flows.push((key, [here, there], first));
                }
            }
        }
    }
    for (key, _, first) in &flows {
        world.open(*first, *key);
        world.change(
            *first,
            *key,
            &in_state(if key.proto == TCP { 1 } else { 2 }),
        );
    }
    world.run(SECOND);
    for (key, [here, there], first) in &flows {
        world.change(*first, *key, &in_state(*here));
        world.change(1 - first, *key, &in_state(*there));
    }
    world.run(SECOND * 5);
    world.check();
    for (key, [here, there], first) in flows {
        let further = progress::merge(key.proto, here, there);
        let state = world.kernel(0)[&key].proto_state;
        assert_eq!(state, further, "{here} at {first}, {there} at the other");
    }
}

/// What the kernel tells when a packet that passes brings a flow into a state.
fn in_state(proto_state: u8) -> Patch {
    Patch {
        packets: Some(Packets::Passed),
        ..patch(proto_state)
    }
}

/// PROTOCOL.md 7.10: a change of an entry that could not be made would change the one that is in its place.
#[test]
fn a_flow_is_changed_when_the_kernel_has_answered_that_it_is_there() {
    let mut world = World::new(2, Faults::NONE, 58);
    world.run(SECOND);
    world.answer_with(1, Outcome::Conflict);
    world.hold_kernel(1);
    world.open(0, key(1));
    world.run(SECOND);
    world.change(0, key(1), &patch(3));
    world.run(SECOND);
    assert_eq!(world.asked(1), [Action::Create]);
    world.release_kernel(1);
    world.hold_kernel(1);
    world.drop_entry(0, key(1), End::Over);
    world.forget(key(1));
    world.run(SECOND);
    assert_eq!(world.asked(1), [], "what is there is another");
}

#[test]
fn reading_its_table_asks_a_full_kernel_for_a_few_of_what_it_refused() {
    let mut world = World::new(2, Faults::NONE, 59);
    world.run(SECOND);
    world.answer_with(1, Outcome::Full);
    for n in 0..2_000 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.hold_kernel(1);
    world.read_table(1);
    world.run(Duration::from_millis(1));
    assert_eq!(world.asked(1), [Action::Create; 512]);
    world.release_kernel(1);
}

/// PROTOCOL.md 7.9
#[test]
fn what_a_full_kernel_refuses_is_tried_again_ever_more_rarely_and_goes_in_when_there_is_room() {
    const FLOWS: u32 = 2_000;
    let mut world = World::new(2, Faults::NONE, 41);
    world.run(SECOND);
    world.answer_with(1, Outcome::Full);
    for n in 0..FLOWS {
        world.open(0, key(n));
    }
    world.run(SECOND);
    let refused = |world: &World| world.node(1).counters().kernel_full;
    assert_eq!(refused(&world), u64::from(FLOWS));
    world.run(SECOND * 125);
    // After 1, 3, 7, 15, 31, 63 and 123 seconds, 512 at a time.
    let tried = refused(&world) - u64::from(FLOWS);
    assert!((6 * 512..=8 * 512).contains(&tried), "{tried}");
    world.answer_with(1, Outcome::Done);
    world.run(SECOND * 62);
    world.check();
}
