//! Claims and ends that are not of the flow that there is now (PROTOCOL.md 6).

use super::world::{Faults, TABLE_OLD, World, key, member, patch};
use crate::node::{HeldPacket, PassEnd, Row};
use crate::record::{Claim, FlowState, Packets, Patch, Term};
use crate::table::{Life, Origin};
use crate::wire::flow;
use crate::wire::header::Opcode;
use core::time::Duration;
use std::vec::Vec;

const SECOND: Duration = Duration::from_secs(1);

fn origin(world: &World, at: usize) -> Option<(Origin, Life)> {
    let table = world.node(at).table();
    let entry = table.get(table.find(&key(1))?)?;
    Some((entry.origin, entry.life))
}

/// 6.4: one of the peers had the flow as *found*, perhaps had told so, and told its end in turn when it heard of it.
#[test]
fn an_end_told_in_turn_is_none_of_the_flow_that_began_anew_since() {
    for is_contested in [false, true] {
        let mut world = World::new(2, Faults::NONE, 60);
        world.run(SECOND);
        world.open(0, key(1));
        world.change(0, key(1), &patch(3));
        world.run(SECOND);
        // The end goes out, and nobody acknowledges it before the same ports are used again.
        world.cut(0, 1);
        world.close(0, key(1));
        world.run(Duration::from_millis(20));
        let seq = world.node(1).last_seq() + 1;
        let mut term = Term::default();
        if is_contested {
            let mut found = seq.to_be_bytes().to_vec();
            let state = FlowState::default();
            flow::put_upsert(&mut found, &key(1), &state, term, Claim::Found);
            world.inject(1, 0, &(Opcode::Delta, found));
            world.run(Duration::from_millis(20));
            term = term.contested();
        }
        world.open(0, key(1));
        world.heal();
        let mut end = (seq + 1).to_be_bytes().to_vec();
        flow::put_delete(&mut end, &key(1), term.ended_in_turn(), Claim::Carried);
        world.inject(1, 0, &(Opcode::Delta, end));
        assert_eq!(origin(&world, 0), Some((Origin::Own, Life::Live)));
        assert!(world.kernel(0).contains_key(&key(1)));
    }
}

/// 6.4: the one who carries the flow had not heard of a claim when it was given up again.
#[test]
fn who_gives_up_a_flow_that_was_never_his_takes_no_copies_of_its_carrier_with_him() {
    let mut world = World::new(3, Faults::NONE, 67);
    world.run(SECOND);
    world.cut(0, 2);
    world.run(SECOND * 2);
    world.open(0, key(1));
    world.hold(2, 1, HeldPacket::First, key(1), &patch(1));
    world.run(SECOND * 3);
    assert!(!world.kernel(1).contains_key(&key(1)));
    world.heal();
    world.run(SECOND * 5);
    assert!((0..3).all(|at| world.kernel(at).contains_key(&key(1))));
    world.check();
}

/// 6.3: what a packet wrote last counts, and that is where the flow has come further.
#[test]
fn the_mark_of_a_flow_goes_with_how_far_it_is() {
    for further in 0..2 {
        let mut world = World::new(2, Faults::NONE, 61);
        world.run(SECOND);
        world.open(0, key(1));
        world.change(0, key(1), &patch(3));
        world.run(SECOND);
        let marked = |state, mark| Patch {
            mark: Some(mark),
            ..patch(state)
        };
        world.change(further, key(1), &marked(5, 5));
        world.change(1 - further, key(1), &marked(4, 4));
        world.run(SECOND * 3);
        world.check();
        let state = &world.kernel(0)[&key(1)];
        assert_eq!((state.proto_state, state.mark), (5, 5));
    }
}

/// 6.1: of a flow that moved, who was cut off remembers the first claim, and who made the second was killed.
#[test]
fn a_daemon_that_finds_itself_the_carrier_is_believed_by_who_did_not_hear_that_the_flow_moved() {
    let mut world = World::new(3, Faults::NONE, 62);
    world.run(SECOND);
    world.open(2, key(1));
    world.change(2, key(1), &patch(3));
    world.run(SECOND);
    world.cut(1, 0);
    world.cut(1, 2);
    world.change(0, key(1), &patch(4));
    world.run(SECOND);
    world.stop(0);
    world.start_unread(0, TABLE_OLD);
    let rows: Vec<_> = (world.kernel(0).iter())
        .map(|(key, state)| (*key, state.clone()))
        .collect();
    world.plant(0, |node| {
        node.begin_pass();
        for (key, state) in &rows {
            let state = Patch {
                timeout_secs: Some(state.timeout_secs),
                proto_state: Some(state.proto_state),
                status: Some(state.status),
                packets: Some(Packets::Passed),
                ..Patch::default()
            };
            let row = Row {
                key,
                state: &state,
                mark_mask: u32::MAX,
            };
            node.handle_row(row, Origin::Found);
        }
        assert_eq!(node.end_pass(), PassEnd::Complete);
    });
    world.run(SECOND);
    world.heal();
    world.run(SECOND * 5);
    world.check();
    assert_eq!(origin(&world, 0), Some((Origin::Own, Life::Live)));
    for at in 1..3 {
        let carrier = origin(&world, at).map(|(origin, _)| origin);
        let is_firsts = matches!(carrier, Some(Origin::Copy { member: it, .. }) if it == member(0));
        assert!(is_firsts, "gateway {at}: {carrier:?}");
    }
}

/// 6.2: it was opened after the end that a third member remembers, and who opened it was lost before that one heard.
#[test]
fn a_flow_that_began_anew_is_not_taken_for_the_one_whose_end_is_remembered() {
    let mut world = World::new(3, Faults::NONE, 63);
    world.run(SECOND);
    world.open(1, key(1));
    world.run(SECOND);
    world.change(0, key(1), &patch(7));
    world.run(SECOND);
    world.close(0, key(1));
    world.run(Duration::from_millis(20));
    assert_eq!(origin(&world, 2).map(|it| it.1), Some(Life::Dead));
    world.cut(2, 0);
    world.cut(2, 1);
    world.open(0, key(1));
    world.run(Duration::from_millis(20));
    world.restart(0, false);
    world.run(Duration::from_millis(1_200));
    let found = origin(&world, 1);
    assert_eq!(found, Some((Origin::Found, Life::Live)));
    assert_eq!(origin(&world, 2).map(|it| it.1), Some(Life::Dead));
    world.heal();
    world.run(SECOND * 5);
    world.check();
}

/// 7.12: the claim is older than what packets have done here since, of which no event came; if they did anything.
#[test]
fn a_claim_does_not_undo_what_packets_did_while_events_were_lost() {
    let cases = [
        (3, 5, 4, true),
        (3, 3, 4, false),
        // A SYN that was seen before the claim, and one that came after all that it tells.
        (1, 1, 6, false),
        (3, 1, 6, true),
    ];
    for (known, seen_here, claimed, is_ours) in cases {
        let mut world = World::new(2, Faults::NONE, 64);
        world.run(SECOND);
        world.open(0, key(1));
        world.change(0, key(1), &patch(known));
        world.run(SECOND);
        world.cut(0, 1);
        world.change(1, key(1), &patch(claimed));
        world.change_unseen(0, key(1), seen_here);
        world.plant(0, |node| node.handle_overrun());
        world.heal();
        world.run(SECOND);
        let is_own = matches!(origin(&world, 0), Some((Origin::Own, _)));
        assert_eq!(is_own, is_ours, "{known} {seen_here} {claimed}");
        let newest = if is_ours { seen_here } else { claimed };
        for at in 0..2 {
            assert_eq!(world.kernel(at)[&key(1)].proto_state, newest);
        }
        world.read_table(0);
        world.run(SECOND);
        world.check();
    }
}

/// 6.7, 9.5: a copy of who has lost the flow stood in the way of a claim, while a snapshot was fetched that names the claim.
#[test]
fn a_claim_that_was_refused_during_a_join_is_told_anew_though_a_snapshot_had_it() {
    let mut world = World::new(3, Faults::NONE, 65);
    world.run(SECOND);
    world.stop(2);
    world.start_unread(2, TABLE_OLD);
    world.run(Duration::from_millis(300));
    world.open(1, key(1));
    world.run(Duration::from_millis(100));
    let carrier = origin(&world, 2);
    assert!(matches!(carrier, Some((Origin::Copy { member: it, .. }, _)) if it == member(1)));
    world.cut(2, 0);
    world.cut(2, 1);
    world.stop(1);
    world.close_unseen(1, key(1));
    world.start(1, TABLE_OLD);
    world.run(SECOND);
    world.open(0, key(1));
    world.run(SECOND);
    world.heal();
    world.read_table(2);
    world.run(SECOND * 3);
    world.check();
}
