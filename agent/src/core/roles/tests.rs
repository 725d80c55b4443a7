use super::super::Core;
use super::super::tests::{cluster, talk};
use crate::control::answer::members::{CheckSays, Members, RolesAnswer, RolesRequest};
use ccp::network::NetworkId;
use ccp::time::Instant;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn members(core: &mut Core, now: u64) -> Members {
    match core.handle_roles_request(RolesRequest::Members, at(now)) {
        RolesAnswer::Members(members) => *members,
        RolesAnswer::Done(done) => panic!("{done:?}"),
    }
}

fn ask(core: &mut Core, request: RolesRequest, now: u64) -> Option<String> {
    match core.handle_roles_request(request, at(now)) {
        RolesAnswer::Members(members) => panic!("{members:?}"),
        RolesAnswer::Done(done) => done.refused,
    }
}

/// What both say that they are, and that each says of the other.
fn states(cores: &mut [Core; 2], now: u64) -> [String; 2] {
    for core in cores.iter_mut() {
        while core.poll_event().is_some() {}
    }
    let [one, two] = [0, 1].map(|it| members(&mut cores[it], now));
    let state = |members: &Members, it: usize| members.members[it].state.clone();
    assert_eq!(state(&one, 0), state(&two, 0));
    assert_eq!(state(&one, 1), state(&two, 1));
    [state(&one, 0), state(&one, 1)]
}

#[test]
fn of_two_that_are_in_step_one_is_active_and_the_other_stands_by() {
    let mut cores = cluster();
    assert_eq!(states(&mut cores, 300), ["active", "standby"]);
    let history = members(&mut cores[0], 300).history;
    let [change] = &history[..] else {
        panic!("{history:?}")
    };
    assert_eq!(
        (change.from.as_str(), change.to.as_str()),
        ("init", "active")
    );
}

#[test]
fn who_is_asked_to_be_down_hands_over_and_comes_back_without_taking_over() {
    let mut cores = cluster();
    assert_eq!(
        ask(&mut cores[0], RolesRequest::Down { persist: false }, 300),
        None
    );
    talk(&mut cores, 300, 50);
    assert_eq!(states(&mut cores, 350), ["down", "active"]);
    let down = &members(&mut cores[0], 350).members[0];
    assert_eq!(down.problems, ["it was asked to be down"]);
    assert_eq!(ask(&mut cores[0], RolesRequest::Up, 350), None);
    talk(&mut cores, 350, 50);
    assert_eq!(states(&mut cores, 400), ["standby", "active"]);
}

#[test]
fn when_all_are_asked_to_be_down_one_stays_active_and_says_that_it_should_not_be() {
    let mut cores = cluster();
    for core in &mut cores {
        ask(core, RolesRequest::Down { persist: false }, 300);
    }
    talk(&mut cores, 300, 50);
    assert_eq!(states(&mut cores, 350), ["active-attention", "down"]);
}

#[test]
fn a_drain_waits_for_the_successors_kernel_and_then_hands_over() {
    let mut cores = cluster();
    assert_eq!(
        ask(&mut cores[0], RolesRequest::Drain { timeout_ms: 1000 }, 300),
        None
    );
    talk(&mut cores, 300, 50);
    assert_eq!(states(&mut cores, 350), ["down", "active"]);
    let drain = members(&mut cores[0], 350).drain.unwrap();
    assert_eq!(drain.state, "done", "{drain:?}");
}

#[test]
fn a_drain_without_a_fit_successor_is_refused_and_one_that_takes_too_long_changes_nothing() {
    let mut cores = cluster();
    let problem = RolesRequest::CheckIn {
        name: "uplink".into(),
        says: CheckSays::Problem,
        timeout_ms: None,
    };
    ask(&mut cores[1], problem, 300);
    talk(&mut cores, 300, 50);
    let refused = ask(&mut cores[0], RolesRequest::Drain { timeout_ms: 1000 }, 350);
    assert!(refused.unwrap().contains("no other member is fit"));
    assert_eq!(states(&mut cores, 350), ["active", "down"]);

    let mut cores = cluster();
    ask(&mut cores[0], RolesRequest::Drain { timeout_ms: 5 }, 300);
    // Nothing is carried between them meanwhile, so nothing new is acknowledged, and then it is too late.
    let event = super::super::tests::new_flow();
    cores[0].handle_event(&event);
    for now in 300..306 {
        while cores[0].poll_transmit(at(now)).is_some() {}
        cores[0].handle_timeout(at(now));
    }
    let drain = members(&mut cores[0], 306).drain.unwrap();
    assert_eq!(drain.state, "failed", "{drain:?}");
    assert_eq!(members(&mut cores[0], 306).members[0].state, "active");
}

#[test]
fn a_check_that_is_not_heard_of_in_time_costs_the_role() {
    let mut cores = cluster();
    let check = RolesRequest::CheckIn {
        name: "uplink".into(),
        says: CheckSays::Ok,
        timeout_ms: Some(100),
    };
    assert_eq!(ask(&mut cores[0], check, 300), None);
    talk(&mut cores, 300, 99);
    assert_eq!(states(&mut cores, 399), ["active", "standby"]);
    assert!(cores[0].poll_timeout() <= at(400), "it is announced");
    talk(&mut cores, 399, 20);
    assert_eq!(states(&mut cores, 419), ["down", "active"]);
    let problems = &members(&mut cores[0], 419).members[0].problems;
    assert_eq!(problems, &["check uplink: has not been heard of in time"]);
}

#[test]
fn who_leaves_says_so_and_nobody_waits_for_its_death() {
    let mut cores = cluster();
    cores[0].leave(at(300));
    let mut said = Vec::new();
    while let Some((_, datagram)) = cores[0].poll_transmit(at(300)) {
        said.push(datagram.to_vec());
    }
    for mut datagram in said {
        cores[1].handle_datagram(&mut datagram, NetworkId::FIRST, at(300));
    }
    let state = &members(&mut cores[1], 300).members[1].state;
    assert_eq!(state, "active");
}
