//! Whole nodes on a small network: what the rules of PROTOCOL.md come to when they work together.

mod audit;
mod claims;
mod errant;
mod hold;
mod life;
mod world;

use super::{Event, Outcome};
use crate::table::Origin;
use core::time::Duration;
use proptest::prelude::*;
use world::{Faults, TABLE_OLD, World, key, member};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn flows_of_both_sides_are_in_both_kernels_within_a_few_milliseconds() {
    let mut world = World::new(2, Faults::NONE, 1);
    world.run(SECOND);
    for n in 0..100 {
        world.open(n as usize % 2, key(n));
    }
    world.run(Duration::from_millis(3));
    world.check();
}

#[test]
fn flows_that_were_there_before_the_peer_are_told_and_the_bulk_update_is_declared_complete() {
    let mut world = World::new(2, Faults::NONE, 2);
    world.stop(1);
    for n in 0..30_000 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.start(1, TABLE_OLD + 9);
    world.run(SECOND);
    world.check();
    let node = world.node(1);
    assert!(node.incoming(member(0)).synced);
    assert!(world.events(1).contains(&Event::Synced(member(0))));
}

/// PROTOCOL.md 5.4
#[test]
fn nobody_is_told_everything_before_the_kernel_table_was_read() {
    let mut world = World::new(2, Faults::NONE, 3);
    for n in 0..50 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.stop(0);
    world.start_unread(0, TABLE_OLD);
    world.run(SECOND);
    assert_eq!(world.kernel(1).len(), 50, "nothing is swept yet");
    world.read_table(0);
    world.run(SECOND);
    world.check();
}

#[test]
fn a_restart_with_the_same_table_ends_what_ended_meanwhile() {
    let mut world = World::new(3, Faults::NONE, 4);
    for n in 0..200 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.stop(0);
    for n in 0..60 {
        world.close_unseen(0, key(n));
    }
    world.start(0, TABLE_OLD);
    world.run(SECOND);
    world.check();
    assert_eq!(world.kernel(1).len(), 140);
}

#[test]
fn a_restart_with_another_table_gets_its_flows_back_from_the_others() {
    let mut world = World::new(3, Faults::NONE, 5);
    for n in 0..200 {
        world.open(0, key(n));
    }
    world.settle();
    world.restart(0, false);
    world.run(SECOND);
    world.check();
    assert_eq!(world.kernel(0).len(), 200);
}

/// PROTOCOL.md 9.2
#[test]
fn a_joiner_asks_for_a_snapshot_whichever_hello_comes_first() {
    for phase in (0..100).step_by(9) {
        let mut world = World::new(2, Faults::NONE, 5);
        world.run(SECOND * 2 + Duration::from_millis(phase));
        world.restart(1, false);
        world.run(SECOND);
        let fetched = world.node(1).counters().snapshots_fetched;
        assert_eq!(fetched, 1, "{phase} ms later");
    }
}

/// PROTOCOL.md 5.4: what counts is the table that the flows were in, not that of the run before.
#[test]
fn a_daemon_that_dies_again_right_after_a_reboot_gets_its_flows_back_all_the_same() {
    let mut world = World::new(3, Faults::NONE, 5);
    for n in 0..200 {
        world.open(0, key(n));
    }
    world.settle();
    // One peer meets the first run after the boot, the other does not.
    world.cut(0, 1);
    world.restart(0, false);
    world.run(Duration::from_millis(50));
    world.heal();
    world.restart(0, true);
    world.run(SECOND * 3);
    world.check();
    assert_eq!(world.kernel(2).len(), 200);
}

/// PROTOCOL.md 5.4: ends that a member missed while its daemon was down.
#[test]
fn a_flow_that_ended_while_a_daemon_was_down_does_not_come_back_with_it() {
    let mut world = World::new(3, Faults::NONE, 6);
    for n in 0..100 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.stop(1);
    world.run(SECOND * 2);
    for n in 0..40 {
        world.close(0, key(n));
    }
    world.run(SECOND);
    world.start(1, TABLE_OLD);
    world.run(SECOND);
    world.check();
    assert_eq!(world.kernel(1).len(), 60);
}

/// PROTOCOL.md 7.1: what a daemon does not know yet may be in its kernel.
#[test]
fn an_end_that_is_told_before_the_first_pass_is_one_in_the_kernel_too() {
    let mut world = World::new(2, Faults::NONE, 7);
    world.open(0, key(1));
    world.run(SECOND);
    world.stop(1);
    world.run(SECOND * 2);
    world.start_unread(1, TABLE_OLD);
    world.run(SECOND);
    world.close(0, key(1));
    world.run(SECOND * 8);
    assert!(world.kernel(1).is_empty());
    world.read_table(1);
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 7.5: its row may have been read before the update, and be handed in after it.
#[test]
fn a_pass_during_which_an_unknown_flow_changed_is_begun_again() {
    let mut world = World::new(2, Faults::NONE, 8);
    world.stop(0);
    world.start_unread(0, TABLE_OLD);
    assert!(!world.pass_with_update(0, key(1)));
    world.read_table(0);
}

#[test]
fn a_member_that_joins_while_another_is_dead_gets_the_flows_of_the_dead_one() {
    let mut world = World::new(3, Faults::NONE, 7);
    world.stop(2);
    for n in 0..100 {
        world.open(1, key(n));
    }
    world.run(SECOND);
    world.crash(1);
    world.run(SECOND * 2);
    world.start(2, TABLE_OLD + 2);
    world.run(SECOND);
    assert_eq!(world.kernel(2).len(), 100);
    assert_eq!(world.kernel(2), world.kernel(0));
}

#[test]
fn a_flow_that_moves_is_carried_by_its_new_gateway_and_ended_by_it() {
    let mut world = World::new(3, Faults::NONE, 8);
    world.open(0, key(1));
    world.run(SECOND);
    world.update(1, key(1), 5);
    world.run(SECOND);
    let slot = world.node(0).table().find(&key(1)).unwrap();
    let origin = world.node(0).table().get(slot).unwrap().origin;
    assert!(matches!(origin, Origin::Copy { member: carrier, .. } if carrier == member(1)));
    assert_eq!(world.node(1).counters().takeovers, 1);
    assert_eq!(world.node(0).counters().handovers, 1);
    world.close(1, key(1));
    world.run(SECOND * 5);
    world.check();
    assert!(world.node(2).table().is_empty());
}

/// PROTOCOL.md 6.5
#[test]
fn a_copy_that_runs_out_while_its_carrier_lives_comes_back() {
    let mut world = World::new(2, Faults::NONE, 9);
    world.open(0, key(1));
    world.run(SECOND);
    world.expire_copy(1, key(1));
    assert!(world.kernel(1).is_empty());
    world.run(SECOND * 3);
    world.check();
    assert_eq!(world.node(1).counters().copies_put_back, 1);
}

#[test]
fn copies_of_a_silent_member_run_out_and_are_told_again_when_it_is_back() {
    let mut world = World::new(2, Faults::NONE, 10);
    world.open(0, key(1));
    world.open(0, key(2));
    world.run(SECOND);
    world.cut(0, 1);
    world.run(SECOND * 2);
    world.expire_copy(1, key(1));
    world.run(SECOND);
    assert!(!world.kernel(1).contains_key(&key(1)));
    world.heal();
    world.run(SECOND);
    world.check();
}

#[test]
fn a_member_that_hears_but_is_not_heard_is_dead_to_both() {
    let mut world = World::new(2, Faults::NONE, 11);
    world.run(SECOND);
    world.cut_one_way(0, 1);
    world.run(SECOND * 2);
    for (at, other) in [(0, 1), (1, 0)] {
        assert!(!world.node(at).membership().live().contains(member(other)));
        assert!(world.events(at).contains(&Event::PeerDead(member(other))));
    }
    world.open(0, key(1));
    world.open(1, key(2));
    world.heal();
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 5.5: the log is bounded; a peer that was away for longer is told anew.
#[test]
fn a_peer_that_was_deaf_for_longer_than_the_log_is_told_anew() {
    let mut world = World::new(2, Faults::NONE, 12);
    world.flows_max(4_000);
    for n in 0..1_000 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    world.cut(0, 1);
    world.run(SECOND * 2);
    for n in 0..1_000 {
        world.close(0, key(n));
        world.open(0, key(n + 1_000));
        world.run(Duration::from_micros(100));
    }
    let before = world.node(0).counters().bulk_updates_sent;
    world.heal();
    world.run(SECOND);
    world.check();
    assert_eq!(world.node(0).counters().bulk_updates_sent, before + 1);
}

/// PROTOCOL.md 5.3
#[test]
fn a_delta_is_acknowledged_only_after_the_kernel_has_its_changes() {
    let mut world = World::new(2, Faults::NONE, 13);
    world.run(SECOND);
    world.hold_kernel(1);
    world.open(0, key(1));
    world.run(SECOND / 4);
    let frontier = |world: &World| world.node(0).peer_send(member(1)).unwrap().frontier();
    let last = world.node(0).last_seq();
    assert!(frontier(&world) < last, "received, but not in the kernel");
    world.release_kernel(1);
    world.run(SECOND / 4);
    assert_eq!(frontier(&world), last);
    world.check();
}

#[test]
fn what_the_kernel_refuses_is_acknowledged_and_counted_at_both_ends() {
    let mut world = World::new(2, Faults::NONE, 14);
    world.run(SECOND);
    world.answer_with(1, Outcome::Refused);
    world.open(0, key(1));
    world.run(SECOND);
    let peer = world.node(0).peer_send(member(1)).unwrap();
    assert_eq!(
        (peer.refused, peer.frontier()),
        (1, world.node(0).last_seq())
    );
    world.answer_with(1, Outcome::Done);
    world.update(0, key(1), 5);
    world.run(SECOND);
    world.check();
}

#[test]
fn what_does_not_fit_into_the_table_is_counted_as_refused() {
    let mut world = World::new(2, Faults::NONE, 15);
    world.flows_max_of(1, 10);
    world.run(SECOND);
    for n in 0..20 {
        world.open(0, key(n));
    }
    world.run(SECOND);
    assert_eq!(world.kernel(1).len(), 10);
    assert_eq!(world.node(0).peer_send(member(1)).unwrap().refused, 10);
}

/// The world checks at every step that whatever is due was announced: [`World::run`] never calls before.
#[test]
fn an_idle_node_is_called_for_hellos_only() {
    let mut world = World::new(2, Faults::NONE, 16);
    world.run(SECOND);
    let calls = world.calls(0);
    world.run(SECOND * 10);
    // Ten a second out, ten in.
    assert!(world.calls(0) - calls <= 220, "{}", world.calls(0) - calls);
}

#[test]
fn a_patch_of_a_flow_whose_birth_was_missed_waits_for_the_pass() {
    let mut world = World::new(2, Faults::NONE, 17);
    world.run(SECOND);
    world.open_unseen(0, key(1));
    world.run(SECOND);
    assert!(world.kernel(1).is_empty());
    world.read_table(0);
    world.run(SECOND);
    world.check();
}

#[test]
fn a_bulk_loss_is_made_good_in_a_few_round_trips() {
    let mut world = World::new(2, Faults::NONE, 18);
    world.run(SECOND);
    world.cut(0, 1);
    for n in 0..5_000 {
        world.open(0, key(n));
        world.run(Duration::from_micros(20));
    }
    world.heal();
    world.run(Duration::from_millis(250));
    world.check();
}

/// PROTOCOL.md 6.2: nobody else claimed a flow of term 0, so nothing of others is on its way that its end has to refuse.
#[test]
fn a_flow_that_begins_again_at_another_member_is_not_refused_for_its_end() {
    let mut world = World::new(3, Faults::NONE, 20);
    world.run(SECOND);
    world.stop(1);
    world.open(2, key(1));
    world.run(SECOND);
    // Until the stopped one has it, the end is remembered.
    world.close(2, key(1));
    world.run(SECOND / 2);
    world.open(0, key(1));
    world.start(1, TABLE_OLD);
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 6.2: the end is told no longer where the flow begins again, so it outdoes what the deaf one still has.
#[test]
fn a_flow_that_begins_again_while_a_member_is_deaf_for_its_end_is_not_refused_for_its_life() {
    let mut world = World::new(3, Faults::NONE, 26);
    world.run(SECOND);
    world.open(2, key(1));
    world.run(SECOND);
    world.cut(1, 2);
    world.close(2, key(1));
    world.run(SECOND / 4);
    world.open(0, key(1));
    world.run(SECOND / 4);
    world.update(0, key(1), 5);
    world.heal();
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 6.5
#[test]
fn a_flow_that_begins_again_where_its_copy_was_outlives_the_late_end_of_the_old_one() {
    let mut world = World::new(2, Faults::NONE, 21);
    world.open(0, key(1));
    world.run(SECOND);
    world.update(1, key(1), 5);
    world.run(SECOND);
    world.cut(0, 1);
    world.run(SECOND * 2);
    world.close(1, key(1));
    world.expire_copy(0, key(1));
    world.open(0, key(1));
    world.heal();
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 6.2: also when both ended it.
#[test]
fn what_a_member_said_of_a_flow_before_its_end_is_old_whoever_ended_it_first() {
    let mut world = World::new(2, Faults::NONE, 22);
    world.run(SECOND);
    world.open(0, key(1));
    world.run(SECOND);
    world.cut(0, 1);
    world.close(0, key(1));
    world.run(SECOND * 5);
    let next = world.node(1).last_seq() + 1;
    let [carried, ended] = world::deltas_of_life_and_end(next, &key(1));
    world.inject(1, 0, &ended);
    world.inject(1, 0, &carried);
    assert!(world.kernel(0).is_empty());
}

/// PROTOCOL.md 6.2: who took the flow over was killed before everybody heard of it.
#[test]
fn what_was_found_further_than_its_carrier_told_is_taken() {
    let mut world = World::new(3, Faults::NONE, 23);
    world.open(0, key(1));
    world.run(SECOND);
    world.cut(1, 2);
    world.update(1, key(1), 5);
    world.run(SECOND);
    world.stop(1);
    world.heal();
    world.start(1, TABLE_OLD);
    world.run(SECOND);
    world.check();
}

/// PROTOCOL.md 6.3
#[test]
fn a_copy_is_what_its_carrier_told_whatever_another_told_before() {
    let mut world = World::new(3, Faults::NONE, 24);
    world.run(SECOND);
    world.open(0, key(1));
    world.update(0, key(1), 5);
    world.run(SECOND);
    let [carried, _] = world::deltas_of_life_and_end(world.node(1).last_seq() + 1, &key(1));
    world.inject(1, 2, &carried);
    assert_eq!(world.kernel(2)[&key(1)].proto_state, 3);
}

/// PROTOCOL.md 7.3
#[test]
fn a_flow_whose_birth_was_missed_is_told_although_an_earlier_end_is_remembered() {
    let mut world = World::new(2, Faults::NONE, 25);
    world.open(0, key(1));
    world.run(SECOND);
    world.update(1, key(1), 5);
    world.run(SECOND);
    world.close(1, key(1));
    world.run(SECOND / 2);
    world.open_unseen(0, key(1));
    world.read_table(0);
    world.run(SECOND);
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// PROTOCOL.md 5 and 6: nothing is lost, nothing that ended comes back, whatever the network does.
    #[test]
    fn any_loss_is_made_good_and_no_ended_flow_comes_back(
        seed in any::<u64>(),
        members in 2usize..5,
        loss in 0u8..40,
        duplicates in 0u8..30,
        late in 0u8..40,
    ) {
        let mut world = World::new(members, Faults { loss, duplicates, late }, seed);
        world.work(1500);
        world.faults(Faults::NONE);
        world.run(SECOND * 4);
        world.check();
    }

    #[test]
    fn members_that_restart_under_load_end_with_the_same_tables(
        seed in any::<u64>(),
        loss in 0u8..20,
        restarts in prop::collection::vec((0usize..3, any::<bool>()), 1..4),
    ) {
        let mut world = World::new(3, Faults { loss, duplicates: 5, late: 10 }, seed);
        for (at, keeps_table) in restarts {
            world.work(300);
            // Nothing that is known to one member only is lost with it.
            world.settle();
            world.restart(at, keeps_table);
            world.work(300);
        }
        world.faults(Faults::NONE);
        world.run(SECOND * 4);
        world.check();
    }
}

#[test]
fn a_node_takes_any_bytes_from_a_peer() {
    let mut world = World::new(2, Faults::NONE, 19);
    world.run(SECOND);
    for body in world::hostile_bodies() {
        world.inject(0, 1, &body);
    }
    world.run(SECOND * 2);
    world.open(1, key(1));
    world.run(SECOND);
    assert!(world.kernel(0).contains_key(&key(1)), "it works on");
}
