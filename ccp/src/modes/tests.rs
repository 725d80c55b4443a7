use super::{Changed, Generation, Mode, ModeReport, Modes, Stage};
use crate::network::NetworkId;
use crate::record::{MemberId, MemberSet};
use crate::time::Instant;
use std::vec::Vec;

const NETWORK: NetworkId = NetworkId::FIRST;

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

/// Members whose hellos all arrive by the old mode, and by the new one but from and to those.
fn run(
    mut members: Vec<Modes>,
    cut: &[(usize, usize)],
    millis: [u64; 2],
) -> (Vec<Modes>, Vec<Changed>) {
    let mut changed = Vec::new();
    let mut packet_number = millis[0];
    for now in (millis[0]..millis[1]).step_by(100) {
        for from in 0..members.len() {
            packet_number += 1;
            let tried = members[from].tried(NETWORK);
            members[from].note_hello(NETWORK, packet_number);
            let reports: Vec<_> = members[from].reports().collect();
            for to in (0..members.len()).filter(|to| *to != from) {
                for report in &reports {
                    changed.extend(members[to].handle_report(id(from as u8 + 1), report, at(now)));
                }
                if tried.is_some() && !cut.contains(&(from, to)) {
                    members[from].handle_echo(id(to as u8 + 1), NETWORK, packet_number as u32);
                }
            }
        }
        for me in 0..members.len() {
            let live: MemberSet = (0..members.len())
                .filter(|it| *it != me)
                .map(|it| id(it as u8 + 1))
                .collect();
            changed.extend(members[me].poll(live, at(now)));
        }
    }
    (members, changed)
}

fn three() -> Vec<Modes> {
    let first = [(Mode::Unicast, Generation::default())];
    (1..=3).map(|it| Modes::new(id(it), &first)).collect()
}

#[test]
fn a_mode_that_carries_is_used_by_all() {
    let mut members = three();
    members[1].ask(NETWORK, Mode::Multicast, at(0));
    let (members, changed) = run(members, &[], [0, 1000]);
    assert!(members.iter().all(|it| it.mode(NETWORK) == Mode::Multicast));
    assert_eq!(changed.len(), 3);
}

#[test]
fn a_mode_that_one_does_not_hear_is_undone_and_it_is_said_who() {
    let mut members = three();
    members[0].ask(NETWORK, Mode::Broadcast, at(0));
    let (mut members, changed) = run(members, &[(1, 2)], [0, 4000]);
    assert!(members.iter().all(|it| it.mode(NETWORK) == Mode::Unicast));
    assert!(members.iter().all(|it| it.tried(NETWORK).is_none()));
    let undone = Changed::Undone {
        network: NETWORK,
        mode: Mode::Broadcast,
        deaf: [id(3)].into_iter().collect(),
    };
    assert_eq!(changed, [undone]);
    members[0].ask(NETWORK, Mode::Multicast, at(5000));
    let (members, _) = run(members, &[], [5000, 6000]);
    assert!(members.iter().all(|it| it.mode(NETWORK) == Mode::Multicast));
}

#[test]
fn of_two_changes_at_once_one_wins_everywhere() {
    let mut members = three();
    members[0].ask(NETWORK, Mode::Broadcast, at(0));
    members[2].ask(NETWORK, Mode::Multicast, at(0));
    let (members, _) = run(members, &[], [0, 6000]);
    assert!(
        members
            .iter()
            .all(|it| it.mode(NETWORK) == members[0].mode(NETWORK))
    );
}

#[test]
fn who_was_away_learns_what_counts_and_a_trial_without_its_author_ends() {
    let mut members = three();
    let away = members.pop().unwrap();
    members[0].ask(NETWORK, Mode::Multicast, at(0));
    let (mut members, _) = run(members, &[], [0, 1000]);
    members.push(away);
    let (mut members, _) = run(members, &[], [1000, 1200]);
    assert!(members.iter().all(|it| it.mode(NETWORK) == Mode::Multicast));
    members[0].ask(NETWORK, Mode::Unicast, at(2000));
    let report = members[0].reports().next().unwrap();
    members[1].handle_report(id(1), &report, at(2000));
    assert_eq!(members[1].tried(NETWORK), Some(Mode::Unicast));
    assert_eq!(members[1].poll(MemberSet::default(), at(8000)), None);
    assert_eq!(members[1].tried(NETWORK), None);
}

/// PROTOCOL.md 10.5
#[test]
fn who_was_away_learns_what_counts_also_from_one_that_has_undone_a_change_since() {
    let mut members = three();
    members[1].ask(NETWORK, Mode::Multicast, at(0));
    let (mut members, _) = run(members, &[], [0, 1000]);
    members[1].ask(NETWORK, Mode::Broadcast, at(1000));
    let (mut members, changed) = run(members, &[(1, 0)], [1000, 6000]);
    assert!(matches!(changed.as_slice(), [Changed::Undone { .. }]));
    let away = three().swap_remove(0);
    let (members, _) = run([away, members.remove(1)].into(), &[], [6000, 20_000]);
    assert_eq!(members[0].mode(NETWORK), Mode::Multicast);
}

/// PROTOCOL.md 10.5
#[test]
fn of_two_modes_that_a_member_drew_one_generation_for_one_wins_everywhere() {
    let generation = Generation { number: 1, by: 2 };
    let all = [Mode::Multicast, Mode::Unicast, Mode::Multicast];
    let members = (1..).zip(all);
    let members = members.map(|(it, mode)| Modes::new(id(it), &[(mode, generation)]));
    let (members, changed) = run(members.collect(), &[], [0, 1000]);
    assert!(members.iter().all(|it| it.mode(NETWORK) == Mode::Multicast));
    assert_eq!(changed.len(), 1);
}

#[test]
fn a_mode_is_not_used_because_nobody_is_there_to_hear_it() {
    let mut members = three();
    members[0].ask(NETWORK, Mode::Broadcast, at(0));
    let nobody = MemberSet::default();
    assert_eq!(members[0].poll(nobody, at(100)), None);
    let undone = Changed::Undone {
        network: NETWORK,
        mode: Mode::Broadcast,
        deaf: nobody,
    };
    assert_eq!(members[0].poll(nobody, at(3_000)), Some(undone));
    assert_eq!(members[0].mode(NETWORK), Mode::Unicast);
}

/// PROTOCOL.md 10.5
#[test]
fn a_peer_that_errs_neither_uses_generations_up_nor_switches_faster_than_can_be_stored() {
    let mut me = three().remove(0);
    let mut report = ModeReport {
        network: NETWORK,
        mode: Mode::Multicast,
        stage: Stage::Used,
        generation: Generation {
            number: u32::MAX,
            by: 2,
        },
        carried: MemberSet::default(),
    };
    assert_eq!(me.handle_report(id(2), &report, at(0)), None);
    let mut followed = 0;
    for hello in 1..=100 {
        report.generation.number = hello;
        let now = at(u64::from(hello) * 30);
        followed += usize::from(me.handle_report(id(2), &report, now).is_some());
    }
    assert_eq!(followed, 3, "3 s have passed");
}

#[test]
fn who_has_used_all_generations_up_can_still_be_asked() {
    let last = Generation {
        number: u32::MAX,
        by: 1,
    };
    let mut me = Modes::new(id(2), &[(Mode::Unicast, last)]);
    me.ask(NETWORK, Mode::Multicast, at(0));
    assert_eq!(me.tried(NETWORK), Some(Mode::Multicast));
}
