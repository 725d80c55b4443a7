//! What the audit finds, and how it calls it (PROTOCOL.md 13).

use super::world::{Faults, World, key, patch};
use crate::node::End;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Missing, ghosts, translations, attributes, lag: since this was asked last.
fn found(world: &mut World, at: usize) -> [u64; 5] {
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
    assert_eq!(found(&mut world, 0), [0; 5]);
    world.close_unseen(0, key(0));
    world.change_unseen(0, key(1), 7);
    world.open_unseen(0, key(100));
    world.read_table(0);
    world.run(SECOND);
    assert_eq!(found(&mut world, 0), [1, 1, 0, 1, 0]);
    world.check();
    world.read_table(0);
    assert_eq!(found(&mut world, 0), [0; 5]);
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
    assert_eq!(found(&mut world, 0), [0, 0, 0, 0, 1]);
    world.check();
}
