//! What the audit finds, and how it calls it (PROTOCOL.md 13).

use super::world::{Faults, TABLE_OLD, World, key, member, patch};
use crate::audit::Class;
use crate::node::{End, Node, Outcome};
use crate::outbox::Change;
use crate::record::{Endpoint, FlowKey, Nat, Patch};
use crate::table::{Entry, Origin};
use alloc::boxed::Box;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Missing, ghosts, translations, attributes, conflicts, lag: since this was asked last.
fn found(world: &mut World, at: usize) -> [u64; Class::ALL.len()] {
    world.differences(at)
}

#[test]
fn what_a_carriers_kernel_did_not_tell_is_what_the_peers_kernels_lack() {
    let mut world = World::new(2, Faults::NONE, 50);
    world.run(SECOND);
    for n in 0..6 {
        world.open(0, key(n));
        world.change(0, key(n), &patch(3));
    }
    world.run(SECOND);
    world.read_table(0);
    assert_eq!(found(&mut world, 0), [0; 6]);
    world.close_unseen(0, key(0));
    world.change_unseen(0, key(1), 7);
    world.open_unseen(0, key(100));
    world.read_table(0);
    world.run(SECOND);
    assert_eq!(found(&mut world, 0), [1, 1, 0, 1, 0, 0]);
    world.check();
    world.read_table(0);
    assert_eq!(found(&mut world, 0), [0; 6]);
}

#[test]
fn bits_of_the_mark_that_are_not_replicated_here_are_no_difference() {
    let mut world = World::new(2, Faults::NONE, 57);
    world.run(SECOND);
    world.open(0, key(1));
    let marked = Patch {
        mark: Some(0x8000_0000),
        ..patch(3)
    };
    world.change(0, key(1), &marked);
    world.run(SECOND);
    world.read_table(1);
    assert_eq!(found(&mut world, 1), [0; 6]);
}

#[test]
fn what_an_event_tells_before_the_pass_is_over_is_lag() {
    let mut world = World::new(2, Faults::NONE, 51);
    world.run(SECOND);
    for n in 0..4 {
        world.open(0, key(n));
        world.change(0, key(n), &patch(3));
    }
    world.run(SECOND);
    world.change_unseen(0, key(1), 7);
    world.read_table_while(0, |world| {
        world.change(0, key(1), &patch(7));
        world.drop_entry(0, key(2), End::Over);
        world.forget(key(2));
    });
    world.run(SECOND);
    assert_eq!(found(&mut world, 0), [0, 0, 0, 0, 0, 1]);
    world.check();
}

/// PROTOCOL.md 13.1
#[test]
fn a_copy_that_another_flow_is_in_the_way_of_is_a_conflict_until_there_is_room_for_it() {
    let mut world = World::new(2, Faults::NONE, 60);
    world.run(SECOND);
    world.answer_with(1, Outcome::Conflict);
    world.open(0, key(1));
    world.run(SECOND);
    for _ in 0..2 {
        world.read_table(1);
        assert_eq!(found(&mut world, 1), [0, 0, 0, 0, 1, 0]);
        world.run(SECOND);
    }
    world.answer_with(1, Outcome::Done);
    world.read_table(1);
    world.run(SECOND);
    found(&mut world, 1);
    world.read_table(1);
    assert_eq!(found(&mut world, 1), [0; 6]);
    world.check();
}

/// The copy of a flow is not as its carrier told it any longer, though the holder's kernel is as the holder believes.
fn spoil(world: &mut World, at: usize, key: FlowKey, change: impl FnOnce(&mut Entry)) {
    world.plant(at, |node| {
        let slot = node.table.find(&key).unwrap();
        change(node.table.get_mut(slot).unwrap());
    });
}

fn lose(world: &mut World, at: usize, key: FlowKey) {
    world.plant(at, |node: &mut Node| {
        let slot = node.table.find(&key).unwrap();
        node.table.remove(slot);
    });
}

/// PROTOCOL.md 13.2
#[test]
fn copies_that_are_not_what_their_carriers_have_are_found_by_class_and_set_right_and_no_others() {
    for members in 2..4 {
        let mut world = World::new(members, Faults::NONE, 52);
        world.run(SECOND);
        for n in 0..3000 {
            world.open(0, key(n));
            world.change(0, key(n), &patch(3));
        }
        for n in 3000..3100 {
            world.open(1, key(n));
        }
        world.run(SECOND);
        world.compare(1);
        world.run(SECOND);
        assert_eq!(found(&mut world, 1), [0; 6]);
        assert!(world.node(1).comparing().is_equal());
        let proof = world.node(1).comparing().proof(member(0)).unwrap();
        assert_eq!(proof.flows, 3000);

        for n in 0..50 {
            lose(&mut world, 1, key(n));
            // Its carrier has lost it unheard: that is a ghost of ours.
            lose(&mut world, 0, key(100 + n));
            spoil(&mut world, 1, key(200 + n), |entry| {
                let address = [9; 16];
                let src = Some(Endpoint { address, port: 9 });
                entry.state.nat = Some(Box::new(Nat { src, dst: None }));
            });
            spoil(&mut world, 1, key(300 + n), |entry| entry.state.mark = 9);
        }
        world.compare(1);
        // Changes go on meanwhile.
        for n in 1000..3000 {
            world.change(0, key(n), &patch(if n % 2 == 0 { 4 } else { 7 }));
            world.open(1, key(n + 10_000));
            if n % 3 == 0 {
                world.close(0, key(n));
            }
            world.run(Duration::from_micros(500));
        }
        world.run(SECOND * 3);
        let [missing, ghosts, nat, attribute, ..] = found(&mut world, 1);
        assert_eq!([missing, ghosts, nat, attribute], [50; 4], "{members}");
        assert!(!world.node(1).comparing().is_equal());
        for n in 0..50 {
            world.forget(key(100 + n));
            assert!(!world.kernel(1).contains_key(&key(100 + n)));
            assert_eq!(world.kernel(1)[&key(200 + n)].nat, None);
            assert_eq!(world.kernel(1)[&key(300 + n)].mark, 0);
        }
        world.compare(1);
        world.run(SECOND * 3);
        assert_eq!(found(&mut world, 1), [0; 6]);
        assert!(world.node(1).comparing().is_equal());
    }
}

/// 6.7, 13.2: found claims are not compared, so that nobody else would ever tell the flow again.
#[test]
fn what_was_refused_for_the_sake_of_a_ghost_is_told_anew() {
    let mut world = World::new(3, Faults::NONE, 55);
    world.run(SECOND);
    world.open(0, key(1));
    world.change(0, key(1), &patch(3));
    world.run(SECOND);
    lose(&mut world, 0, key(1));
    world.plant(1, |node: &mut Node| {
        let slot = node.table.find(&key(1)).unwrap();
        node.table.get_mut(slot).unwrap().origin = Origin::Found;
        node.outbox.push(&mut node.table, slot, Change::Upsert);
    });
    world.run(SECOND);
    world.compare(2);
    world.run(SECOND * 3);
    let [_, ghosts, ..] = found(&mut world, 2);
    assert_eq!(ghosts, 1);
    world.check();
}

/// Nobody was there to be told, so that no delta ever told of them.
#[test]
fn flows_from_before_anybody_else_was_there_are_compared_as_all_others() {
    let mut world = World::new(2, Faults::NONE, 54);
    world.stop(1);
    world.run(SECOND * 2);
    for n in 0..100 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.start(1, TABLE_OLD);
    world.run(SECOND * 2);
    for _ in 0..2 {
        world.compare(1);
        world.run(SECOND * 3);
        assert_eq!(found(&mut world, 1), [0; 6]);
        world.check();
    }
    let proof = world.node(1).comparing().proof(member(0)).unwrap();
    assert_eq!(proof.flows, 100);

    lose(&mut world, 1, key(0));
    spoil(&mut world, 1, key(1), |entry| entry.state.mark = 9);
    world.compare(1);
    world.run(SECOND * 3);
    assert_eq!(found(&mut world, 1), [1, 0, 0, 1, 0, 0]);
    world.check();
}

#[test]
fn a_carrier_that_does_not_answer_proves_nothing_and_holds_up_nobody() {
    let mut world = World::new(3, Faults::NONE, 53);
    world.run(SECOND);
    world.open(1, key(1));
    world.open(2, key(2));
    world.run(SECOND);
    world.unlink(0, 1);
    world.compare(0);
    world.run(SECOND * 15);
    let comparing = world.node(0).comparing();
    assert!(!comparing.goes_on() && !comparing.is_equal());
    assert_eq!(comparing.proof(member(1)), None);
    assert_eq!(comparing.proof(member(2)).unwrap().flows, 1);
}
