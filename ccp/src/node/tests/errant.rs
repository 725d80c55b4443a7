//! What a peer that errs, or somebody who sends again what it has sent, can do to a node: little.

use super::super::{EVENTS_MAX, Event, Expected};
use super::SECOND;
use super::world::{self, Faults, World, key, member};
use crate::election::{Problems, State, StateChange, Why};
use crate::network::NetworkId;
use crate::record::{EXPECTED_MAX, Expectation};
use alloc::vec::Vec;

/// PROTOCOL.md 2.4: or loss would hide behind it.
#[test]
fn a_replayed_datagram_is_not_counted_as_one_that_arrived() {
    let mut world = World::new(2, Faults::NONE, 20);
    world.run(SECOND);
    let [told, _] = world::deltas_of_life_and_end(1, &key(1));
    let received = |world: &World| {
        let paths = &world.node(1).paths;
        paths.path(member(0), NetworkId::FIRST).unwrap().received
    };
    let before = received(&world);
    world.inject(0, 1, &told);
    assert_eq!(received(&world), before + 1);
    for _ in 0..3 {
        world.plant(0, |node| node.packet_number -= 1);
        world.inject(0, 1, &told);
    }
    assert_eq!(received(&world), before + 1);
    let counters = world.node(1).counters();
    assert_eq!(counters.datagrams_replayed_or_unproven, 3);
}

#[test]
fn a_record_that_brings_too_many_expected_flows_makes_no_list_that_grows() {
    let mut world = World::new(2, Faults::NONE, 21);
    world.run(SECOND);
    world.open(0, key(1));
    let expectation = |port| Expectation {
        proto: 6,
        src: [0; 16],
        dst: [1; 16],
        l4: [0, port],
        src_mask: [0; 16],
        src_port_mask: 0,
        timeout_secs: 300,
        flags: 0,
        class: 0,
        nat: None,
        translator: None,
    };
    world.plant(0, |node| {
        let slot = node.table.find(&key(1)).unwrap();
        let state = &mut node.table.get_mut(slot).unwrap().state;
        state.extra.get_or_insert_default().expected = (0..9).map(expectation).collect();
        for port in 9..20 {
            node.handle_expected(&key(1), Expected::New(expectation(port)));
        }
        let state = &node.table.get(slot).unwrap().state;
        let expected = &state.extra.as_ref().unwrap().expected;
        assert_eq!(expected.len(), EXPECTED_MAX);
        assert_eq!(expected.last().map(|it| it.l4[1]), Some(19));
    });
}

#[test]
fn what_a_member_has_become_is_told_however_much_else_there_is_to_tell() {
    let mut world = World::new(2, Faults::NONE, 22);
    world.run(SECOND);
    let change = |from, to| StateChange {
        from,
        to,
        why: Why::Leaving,
        problems: Problems::default(),
    };
    world.plant(0, |node| {
        (0..2 * EVENTS_MAX).for_each(|_| node.note(Event::OnTime));
        node.note(Event::Role(change(State::Standby, State::Ready)));
        node.note(Event::Role(change(State::Ready, State::Active)));
        let events: Vec<_> = core::iter::from_fn(|| node.poll_event()).collect();
        assert_eq!(events.len(), EVENTS_MAX + 1);
        let last = Event::Role(change(State::Standby, State::Active));
        assert_eq!(events.last(), Some(&last));
    });
}
