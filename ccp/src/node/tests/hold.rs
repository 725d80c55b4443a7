//! Held packets: who waits for whom, for how long, and what the kernels have then (PROTOCOL.md 11).

use super::world::{Faults, World, key, member, patch};
use super::{Event, SECOND};
use crate::hold::Ended;
use crate::node::{End, HeldPacket, Local};
use crate::record::{Claim, FlowState, Packets, Patch, TcpOptions, Term};
use crate::table::Origin;
use crate::wire::flow;
use crate::wire::header::Opcode;
use core::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);

fn world(members: usize, seed: u64) -> World {
    let mut world = World::new(members, Faults::NONE, seed);
    world.run(SECOND);
    world
}

#[test]
fn a_packet_goes_on_when_every_peer_has_its_flow_in_its_kernel() {
    let mut world = world(3, 50);
    world.hold(0, 7, HeldPacket::First, key(1), &patch(1));
    world.run(Duration::from_micros(299));
    assert_eq!(world.verdicts(0), []);
    world.run(Duration::from_micros(1));
    assert_eq!(world.verdicts(0), [(7, Ended::Acked)]);
    assert!((1..3).all(|at| world.kernel(at).contains_key(&key(1))));
    assert_eq!(world.node(0).holds().latency.count(), 1);
}

#[test]
fn a_peer_whose_kernel_is_slow_is_waited_for() {
    let mut world = world(2, 51);
    world.hold_kernel(1);
    world.hold(0, 7, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND * 10);
    assert_eq!(world.verdicts(0), []);
    world.release_kernel(1);
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(7, Ended::Acked)]);
}

#[test]
fn what_the_kernel_tells_of_a_flow_whose_packet_was_held_is_sent_to_nobody() {
    let mut world = world(2, 52);
    world.hold(0, 7, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    let sent = world.node(0).counters().records_sent;
    world.open(0, key(1));
    world.run(SECOND * 5);
    assert_eq!(world.node(0).counters().records_sent, sent);
    assert_eq!(world.node(0).counters().held_withdrawn, 0);
    world.check();
}

#[test]
fn a_flow_whose_packet_was_dropped_after_it_went_on_is_withdrawn() {
    let mut world = world(2, 53);
    world.hold(0, 7, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    assert!(world.kernel(1).contains_key(&key(1)));
    world.run(SECOND * 2);
    assert!(world.kernel(1).is_empty());
    assert_eq!(world.node(0).counters().held_withdrawn, 1);
    world.run(SECOND * 5);
    world.check();
}

/// The picture of PROTOCOL.md 11: SYN by the first gateway, SYN/ACK by the second.
#[test]
fn an_answer_that_passes_another_gateway_waits_until_the_first_has_heard_of_it() {
    let mut world = world(3, 54);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    world.open(0, key(1));
    world.hold(1, 1, HeldPacket::Answer, key(1), &patch(2));
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(1), [(1, Ended::Acked)]);
    assert!(
        [0, 2]
            .iter()
            .all(|at| world.kernel(*at)[&key(1)].proto_state == 2)
    );
    let sent = world.node(1).counters().records_sent;
    let passed = Patch {
        packets: Some(Packets::Passed),
        ..patch(2)
    };
    world.local(1, &key(1), Local::Update(&passed));
    world.run(MILLISECOND * 10);
    assert_eq!(world.node(1).counters().records_sent, sent);
}

#[test]
fn a_packet_sent_again_waits_with_the_first_and_passes_at_once_later() {
    let mut world = world(2, 55);
    world.hold_kernel(1);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    world.hold(0, 2, HeldPacket::First, key(1), &patch(1));
    let sent = world.node(0).counters().records_sent;
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), []);
    world.release_kernel(1);
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(1, Ended::Acked), (2, Ended::Acked)]);
    world.hold(0, 3, HeldPacket::First, key(1), &patch(1));
    assert_eq!(world.verdicts(0), [(3, Ended::Acked)]);
    assert_eq!(world.node(0).counters().records_sent, sent);
}

#[test]
fn every_wait_ends_at_its_deadline_at_the_limit_without_peers_and_at_the_end() {
    let mut world = world(2, 56);
    world.hold(0, 1, HeldPacket::Answer, key(9), &patch(2));
    assert_eq!(world.verdicts(0), [(1, Ended::Unknown)]);
    world.hold_kernel(1);
    for n in 0..65 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
    }
    assert_eq!(world.verdicts(0), [(64, Ended::Limit)]);
    world.run(Duration::from_micros(19_999));
    assert_eq!(world.verdicts(0), []);
    world.run(Duration::from_micros(1));
    let ended = world.verdicts(0);
    let late = |it: &&(u32, Ended)| it.1 == Ended::Deadline;
    assert_eq!((ended.len(), ended.iter().filter(late).count()), (64, 3));
    world.hold(0, 1, HeldPacket::First, key(200), &patch(1));
    assert_eq!(world.verdicts(0), [(1, Ended::NoPeer)], "it was put aside");

    let mut world = World::new(3, Faults::NONE, 57);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    assert_eq!(world.verdicts(0), [(1, Ended::NoPeer)]);
    world.run(SECOND);
    world.hold(0, 2, HeldPacket::First, key(2), &patch(1));
    world.end_holds(0);
    assert_eq!(world.verdicts(0), [(2, Ended::Shutdown)]);
    world.run(SECOND);
    assert_eq!(world.verdicts(0), []);
}

#[test]
fn a_peer_that_hangs_delays_three_packets_and_is_waited_for_again_when_it_answers_in_time() {
    let mut world = world(3, 58);
    world.hold_kernel(2);
    for n in 0..200 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
        world.run(MILLISECOND * 2);
    }
    world.run(MILLISECOND * 30);
    let ended = world.verdicts(0);
    let late = ended.iter().filter(|it| it.1 == Ended::Deadline).count();
    assert_eq!((ended.len(), late), (200, 3));
    assert!(world.events(0).contains(&Event::PeerSlow(member(2))));
    assert!(world.node(0).holds().watch(member(2)).is_aside);
    world.release_kernel(2);
    world.run(MILLISECOND * 30);
    for n in 200..204 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
        world.run(MILLISECOND * 2);
    }
    assert!(world.events(0).contains(&Event::PeerInTime(member(2))));
    assert!(!world.node(0).holds().watch(member(2)).is_aside);
    assert!(world.verdicts(0).iter().all(|it| it.1 == Ended::Acked));
}

#[test]
fn a_peer_that_dies_is_waited_for_no_longer() {
    let mut world = world(2, 59);
    world.cut(0, 1);
    world.run(MILLISECOND * 490);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND * 19);
    assert_eq!(world.verdicts(0), [(1, Ended::NoPeer)]);
}

#[test]
fn a_lost_delta_of_a_held_packet_is_sent_again_long_before_the_deadline() {
    let mut world = world(2, 60);
    let mut late = 0;
    world.faults(Faults {
        loss: 10,
        duplicates: 0,
        late: 0,
    });
    for n in 0..500 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
        world.run(MILLISECOND * 30);
        late += world
            .verdicts(0)
            .iter()
            .filter(|it| it.1 != Ended::Acked)
            .count();
    }
    assert!(late <= 5, "{late} of 500, at a loss of a tenth");
}

#[test]
fn a_port_used_again_is_another_flow_whose_packet_is_held_as_any() {
    let mut world = world(2, 61);
    world.open(0, key(1));
    world.update(0, key(1), 7);
    world.run(SECOND);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    // The end of the one before comes late.
    world.local(0, &key(1), Local::Destroy(End::Over));
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(1, Ended::Acked)]);
    assert_eq!(world.kernel(1)[&key(1)].proto_state, 1);
    let slot = world.node(0).table().find(&key(1)).unwrap();
    assert_eq!(world.node(0).table().get(slot).unwrap().origin, Origin::Own);
}

/// PROTOCOL.md 11.5
#[test]
fn what_the_kernel_was_to_write_of_the_flow_before_makes_no_entry_in_the_way_of_the_packet() {
    let mut world = world(2, 66);
    let fin = |flags, proto_state| Patch {
        tcp: Some(TcpOptions { wscale: 0, flags }),
        ..patch(proto_state)
    };
    world.open(0, key(1));
    world.change(0, key(1), &patch(3));
    world.change(0, key(1), &fin(0x04, 4));
    world.run(SECOND);
    world.plant(0, |node| {
        // Both FINs have passed: that is written, but the connection that begins anew ends it first.
        node.handle_local(&key(1), Local::Update(&fin(0x40, 6)));
        node.handle_local(&key(1), Local::Destroy(End::Over));
        node.handle_hold(1, HeldPacket::First, &key(1), &patch(1), node.now);
        assert!(node.poll_apply().is_none());
    });
}

/// PROTOCOL.md 11.5
#[test]
fn what_a_peer_says_of_the_flow_before_makes_no_entry_in_the_way_of_the_packet() {
    let mut world = world(2, 67);
    world.open(0, key(1));
    world.change(0, key(1), &patch(3));
    world.run(SECOND);
    world.pass(1, key(1));
    world.run(SECOND);
    world.change(1, key(1), &patch(7));
    world.drop_entry(0, key(1), End::Over);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    assert!(!world.kernel(0).contains_key(&key(1)));
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(1, Ended::Acked)]);
    assert!(!world.kernel(0).contains_key(&key(1)));
}

/// PROTOCOL.md 11.5
#[test]
fn a_packet_is_not_taken_for_one_that_came_to_nothing_long_before_it() {
    let mut world = world(2, 69);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    world.open(0, key(1));
    world.update(0, key(1), 7);
    world.run(SECOND * 2 - MILLISECOND * 6);
    world.verdicts(0);
    world.drop_entry(0, key(1), End::Over);
    world.hold_kernel(1);
    world.hold(0, 2, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND * 15);
    assert_eq!(world.verdicts(0), []);
    world.release_kernel(1);
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(2, Ended::Acked)]);
}

/// PROTOCOL.md 6.3
#[test]
fn a_claim_on_the_flow_before_does_not_take_the_one_whose_packet_waits() {
    let mut world = world(2, 68);
    world.open(0, key(1));
    world.change(0, key(1), &patch(3));
    world.run(SECOND);
    // Nobody has heard yet that packets of it passed there, and that it is over.
    world.change(1, key(1), &patch(7));
    world.drop_entry(0, key(1), End::Over);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND * 10);
    assert_eq!(world.verdicts(0), [(1, Ended::Acked)]);
    let slot = world.node(0).table().find(&key(1)).unwrap();
    assert_eq!(world.node(0).table().get(slot).unwrap().origin, Origin::Own);
    assert!(!world.kernel(0).contains_key(&key(1)));
    assert_eq!(world.kernel(1)[&key(1)].proto_state, 1);
}

#[test]
fn in_a_cluster_of_two_a_peer_that_was_put_aside_is_waited_for_again() {
    let mut world = world(2, 62);
    world.hold_kernel(1);
    for n in 0..3 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
    }
    world.run(MILLISECOND * 20);
    assert!(world.node(0).holds().watch(member(1)).is_aside);
    world.release_kernel(1);
    world.run(MILLISECOND * 30);
    world.verdicts(0);
    for n in 3..6 {
        world.hold(0, n, HeldPacket::First, key(n), &patch(1));
        assert_eq!(world.verdicts(0), [(n, Ended::NoPeer)]);
        world.run(MILLISECOND * 2);
    }
    assert!(!world.node(0).holds().watch(member(1)).is_aside);
}

/// A SYN that the network sends twice, each time another way.
#[test]
fn packets_of_one_flow_that_wait_at_two_gateways_go_on_when_every_kernel_has_it() {
    for greater_first in [false, true] {
        let mut world = world(3, 63);
        let [first, second] = if greater_first { [1, 0] } else { [0, 1] };
        world.hold(first, 1, HeldPacket::First, key(1), &patch(1));
        world.run(Duration::from_micros(50));
        world.hold(second, 2, HeldPacket::First, key(1), &patch(1));
        let mut ended = 0;
        while ended < 2 {
            world.run(Duration::from_micros(10));
            for at in [first, second] {
                let verdicts = world.verdicts(at);
                ended += verdicts.len();
                if let [(_, verdict)] = verdicts.as_slice() {
                    assert_eq!(*verdict, Ended::Acked);
                    let peers = (0..3).filter(|peer| *peer != at);
                    assert!(
                        peers
                            .into_iter()
                            .all(|it| world.kernel(it).contains_key(&key(1)))
                    );
                }
            }
        }
    }
}

/// PROTOCOL.md 11.5: also where the other's packet did not wait, and was answered.
#[test]
fn a_claim_that_is_refused_while_a_packet_of_the_flow_waits_is_acknowledged_when_the_kernel_has_the_flow()
 {
    let mut world = world(2, 69);
    world.hold(1, 1, HeldPacket::First, key(1), &patch(1));
    let mut answered = FlowState::default();
    answered.apply(&patch(3));
    let mut delta = (world.node(0).last_seq() + 1).to_be_bytes().to_vec();
    flow::put_upsert(
        &mut delta,
        &key(1),
        &answered,
        Term::default(),
        Claim::Carried,
    );
    world.inject(0, 1, &(Opcode::Delta, delta));
    assert!(world.kernel(1).contains_key(&key(1)));
}

/// PROTOCOL.md 6.3, 11.5
#[test]
fn a_packet_that_came_to_nothing_takes_no_flow_from_a_gateway_that_packets_of_it_passed() {
    let mut world = world(3, 64);
    world.cut(0, 1);
    world.cut(0, 2);
    world.run(SECOND);
    world.open(0, key(1));
    world.hold(1, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND * 500);
    assert_eq!(world.verdicts(1), [(1, Ended::Acked)]);
    world.heal();
    world.run(SECOND * 10);
    assert!((0..3).all(|at| world.kernel(at).contains_key(&key(1))));
    world.check();
}

/// PROTOCOL.md 7.8
#[test]
fn where_the_ports_of_a_restless_flow_are_used_again_the_first_answer_hits_a_copy() {
    let mut world = world(2, 65);
    world.open(0, key(1));
    world.update(0, key(1), 3);
    world.run(MILLISECOND * 10);
    let mut passed = 0;
    while (0..2)
        .map(|at| world.pass(at, key(1)))
        .fold(false, |any, it| any | it)
    {
        world.run(MILLISECOND);
        passed += 1;
        assert!(passed < 20, "it is left without the bit");
    }
    world.update(0, key(1), 7);
    world.run(MILLISECOND * 10);
    world.hold(0, 1, HeldPacket::First, key(1), &patch(1));
    world.run(MILLISECOND);
    assert_eq!(world.verdicts(0), [(1, Ended::Acked)]);
    assert!(world.pass(1, key(1)), "it has the bit");
}
