use super::*;
use alloc::vec::Vec;

fn id(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn standing(state: State, fitness: u8) -> Standing {
    Standing {
        state,
        mode: Mode::HighAvailability,
        load: Load::Normal,
        priority: 100,
        fitness: Fitness(fitness),
        problems: 0,
        seconds: 0,
    }
}

/// What member 1 becomes.
fn decided(mine: Standing, others: &[(u8, Standing)]) -> (State, Why) {
    let others = others.iter().map(|(member, it)| (id(*member), *it));
    decide(false, (id(1), mine), others)
}

const FITNESSES: [u8; 5] = [0, 1, 253, 254, 255];

/// Every standing that a member can have, as far as an election looks at it.
fn every() -> impl Iterator<Item = Standing> {
    let with = |state| FITNESSES.map(|fitness| standing(state, fitness));
    State::ALL.into_iter().flat_map(with)
}

/// PROTOCOL.md 12.4: the table of the protocol, row by row.
#[test]
fn each_state_follows_from_what_the_others_are() {
    use State::{Active, Attention, Down, Init, Ready, Standby};
    let fit = |state| standing(state, 255);
    let ill = |state| standing(state, 254);
    let worse = |state| standing(state, 253);
    type Row<'a> = (Standing, &'a [(u8, Standing)], State, Why);
    let table: &[Row<'_>] = &[
        (fit(Init), &[], Active, Why::Alone),
        (ill(Init), &[], Attention, Why::NobodyFit),
        (fit(Standby), &[(2, ill(Down))], Active, Why::Best),
        (fit(Standby), &[(2, fit(Standby))], Active, Why::Best),
        (
            fit(Standby),
            &[(2, fit(Active))],
            Standby,
            Why::Behind(id(2)),
        ),
        (ill(Standby), &[(2, fit(Active))], Down, Why::Unfit),
        (standing(Init, 0), &[(2, fit(Active))], Init, Why::Unfit),
        // Hand-over: claim, let go, take.
        (
            fit(Standby),
            &[(2, ill(Attention))],
            Ready,
            Why::WaitsFor(id(2)),
        ),
        (
            ill(Active),
            &[(2, fit(Standby))],
            Attention,
            Why::Until(id(2)),
        ),
        (ill(Attention), &[(2, fit(Ready))], Down, Why::Unfit),
        (fit(Ready), &[(2, ill(Down))], Active, Why::Best),
        // Nobody is fit: the least unfit.
        (
            ill(Down),
            &[(2, worse(Attention))],
            Ready,
            Why::WaitsFor(id(2)),
        ),
        (worse(Attention), &[(2, ill(Ready))], Down, Why::Unfit),
        (ill(Ready), &[(2, worse(Down))], Attention, Why::NobodyFit),
        // Two that were active apart: the smaller number.
        (fit(Active), &[(2, fit(Active))], Active, Why::Best),
        (fit(Active), &[(2, fit(Ready))], Active, Why::Best),
    ];
    for (mine, others, state, why) in table {
        assert_eq!(
            decided(*mine, others),
            (*state, *why),
            "{mine:?} {others:?}"
        );
    }
    let theirs = [(id(1), fit(Active))];
    assert_eq!(
        decide(false, (id(2), fit(Active)), theirs.into_iter()),
        (Standby, Why::Behind(id(1)))
    );
}

/// Whatever two members are: when they have heard each other a few times, one is active, the one that ranks first, and
/// nothing changes any more. And whoever has the role does not let go before the other is ready.
#[test]
fn two_members_that_talk_end_with_one_active_from_every_pair_of_states() {
    for preempt in [false, true] {
        for (one, two) in every().flat_map(|one| every().map(move |two| (one, two))) {
            for (first, priority) in [(0, 100), (1, 100), (0, 200), (1, 50)] {
                let mut both = [(id(1), one), (id(2), two)];
                both[1].1.priority = priority;
                let mut history = Vec::new();
                for turn in first..first + 8 {
                    let (me, other) = (turn % 2, (turn + 1) % 2);
                    let had_role = both.iter().any(|(_, it)| it.state.is_active());
                    both[me].1.state = decide(preempt, both[me], [both[other]].into_iter()).0;
                    let has_role = both.iter().any(|(_, it)| it.state.is_active());
                    let is_claimed = both.iter().any(|(_, it)| it.state == State::Ready);
                    assert!(!had_role || has_role || is_claimed, "{one:?} {two:?}");
                    history.push(both.map(|(_, it)| it.state));
                }
                let active = both.iter().filter(|(_, it)| it.state.is_active());
                assert_eq!(active.count(), 1, "{preempt} {one:?} {two:?}: {history:?}");
                let [_, .., before, end] = history[..] else {
                    panic!()
                };
                assert_eq!(before, end, "{preempt} {one:?} {two:?}: {history:?}");
                let best = both.iter().max_by_key(|it| rank(preempt, it)).unwrap();
                assert!(best.1.state.is_active());
            }
        }
    }
}

#[test]
fn among_three_that_talk_one_is_active_whatever_they_were() {
    let all: Vec<_> = every().collect();
    for (number, one) in all.iter().enumerate() {
        for (offset, two) in all.iter().enumerate() {
            let three = all[(number * 7 + offset * 11) % all.len()];
            let mut members = [(id(1), *one), (id(2), *two), (id(3), three)];
            for turn in 0..15 {
                let me = (turn * 2) % 3;
                let others = members.into_iter().filter(|it| it.0 != members[me].0);
                members[me].1.state = decide(false, members[me], others).0;
            }
            let active = members.iter().filter(|(_, it)| it.state.is_active());
            assert_eq!(active.count(), 1, "{one:?} {two:?} {three:?} {members:?}");
        }
    }
}

#[test]
fn the_one_that_is_active_stays_unless_preempt_says_otherwise() {
    let active = standing(State::Active, 255);
    let better = Standing {
        priority: 200,
        ..standing(State::Standby, 255)
    };
    for (preempt, mine) in [(false, State::Active), (true, State::Active)] {
        let of_active = decide(preempt, (id(2), active), [(id(1), better)].into_iter());
        assert_eq!(of_active.0, mine);
        let of_better = decide(preempt, (id(1), better), [(id(2), active)].into_iter());
        let expected = if preempt {
            State::Ready
        } else {
            State::Standby
        };
        assert_eq!(of_better.0, expected);
    }
}

#[test]
fn in_load_sharing_all_that_are_fit_are_active_and_the_least_unfit_if_nobody_is() {
    let sharing = |state, fitness| Standing {
        mode: Mode::LoadSharing,
        ..standing(state, fitness)
    };
    let table = [
        (255, 255, State::Active),
        (255, 0, State::Active),
        (254, 255, State::Down),
        (0, 255, State::Init),
        (254, 253, State::Attention),
        (253, 254, State::Down),
    ];
    for (mine, theirs, expected) in table {
        let mine = sharing(State::Standby, mine);
        let theirs = [(2, sharing(State::Active, theirs))];
        assert_eq!(decided(mine, &theirs).0, expected, "{mine:?} {theirs:?}");
    }
}

fn config() -> Config {
    Config {
        mode: Mode::HighAvailability,
        priority: 100,
        preempt: false,
        settle: Duration::from_secs(3),
    }
}

fn set(members: &[u8]) -> MemberSet {
    members.iter().map(|member| id(*member)).collect()
}

#[test]
fn a_member_that_starts_waits_for_others_and_no_longer_than_it_was_told() {
    let mut election = Election::new(id(1), config(), at(0));
    let none = Problems::default();
    assert_eq!(election.poll_timeout(), Some(at(3000)));
    assert_eq!(election.elect(set(&[]), set(&[2]), none, at(2999)), None);
    assert_eq!(election.standing(at(2999)).state, State::Init);
    let change = election.elect(set(&[]), set(&[2]), none, at(3000)).unwrap();
    assert_eq!((change.to, change.why), (State::Active, Why::Alone));
    assert_eq!(election.poll_timeout(), None);
}

#[test]
fn when_everybody_has_spoken_there_is_nothing_to_wait_for() {
    let mut election = Election::new(id(1), config(), at(0));
    let none = Problems::default();
    let (there, expected) = (set(&[2]), set(&[2]));
    assert_eq!(election.elect(there, expected, none, at(1)), None, "silent");
    election.handle_standing(id(2), 7, standing(State::Active, 255));
    let change = election.elect(there, expected, none, at(2)).unwrap();
    assert_eq!(
        (change.to, change.why),
        (State::Standby, Why::Behind(id(2)))
    );
}

#[test]
fn of_two_that_start_the_one_of_greater_priority_goes_first() {
    let mut election = Election::new(id(1), config(), at(0));
    let none = Problems::default();
    let mut starts = standing(State::Init, 0);
    starts.problems = Problem::Starting.bit();
    for (number, priority, expected) in [(1, 101, State::Init), (2, 100, State::Active)] {
        starts.priority = priority;
        election.handle_standing(id(2), number, starts);
        election.elect(set(&[2]), set(&[2]), none, at(number));
        assert_eq!(election.standing(at(number)).state, expected, "{priority}");
    }
}

#[test]
fn what_was_overtaken_by_a_later_word_does_not_count() {
    let mut election = Election::new(id(1), config(), at(0));
    election.handle_standing(id(2), 7, standing(State::Active, 255));
    election.handle_standing(id(2), 6, standing(State::Standby, 255));
    assert_eq!(election.other(id(2)).unwrap().state, State::Active);
    election.forget(id(2));
    election.handle_standing(id(2), 1, standing(State::Init, 0));
    assert_eq!(election.other(id(2)).unwrap().state, State::Init);
}

#[test]
fn who_leaves_gives_the_role_up_without_waiting() {
    let mut election = Election::new(id(1), config(), at(0));
    let none = Problems::default();
    election.elect(set(&[]), set(&[2]), none, at(3000));
    election.leave();
    let change = election.elect(set(&[]), set(&[2]), none, at(3001)).unwrap();
    assert_eq!((change.to, change.why), (State::Down, Why::Leaving));
    assert_eq!(election.standing(at(3001)).fitness, Fitness::ASKED);
}

/// Who was asked to be down keeps the role until somebody has the flows; any other problem weighs less.
#[test]
fn fitness_is_ordered_by_what_a_member_can_do() {
    let of = |problems: &[Problem]| {
        let mut all = Problems::default();
        problems.iter().for_each(|problem| all.add(*problem));
        all.fitness()
    };
    let order = [
        of(&[Problem::Sync, Problem::Asked]),
        of(&[Problem::Asked]),
        of(&[Problem::Interface, Problem::Interface]),
        of(&[Problem::Check]),
        of(&[]),
    ];
    assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    assert_eq!(of(&[Problem::Interface; 300]), Fitness(2));
}
