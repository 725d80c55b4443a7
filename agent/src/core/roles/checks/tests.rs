use super::{CHECKS_MAX, Checks};
use crate::control::answer::members::CheckSays;
use ccp::election::{Fitness, Problem};
use ccp::time::Instant;
use std::time::Duration;

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

#[test]
fn a_check_that_falls_silent_becomes_a_problem_when_it_said_so() {
    let mut checks = Checks::new(Some(90));
    let timeout = Some(Duration::from_secs(1));
    checks
        .check_in("link", CheckSays::Ok, timeout, at(0))
        .unwrap();
    assert_eq!(checks.poll_timeout(at(0)), Some(at(1000)));
    assert_eq!(checks.problems(at(999)).fitness(), Fitness::FIT);
    assert!(checks.problems(at(1000)).contains(Problem::Check));
    assert_eq!(checks.poll_timeout(at(1000)), None, "it was said");
    checks
        .check_in("link", CheckSays::Ok, None, at(1001))
        .unwrap();
    assert_eq!(checks.problems(at(999_999)).fitness(), Fitness::FIT);
}

#[test]
fn what_has_only_begun_weighs_more_than_a_problem_and_what_is_gone_nothing() {
    let mut checks = Checks::new(None);
    checks
        .check_in("a", CheckSays::Problem, None, at(0))
        .unwrap();
    checks.check_in("b", CheckSays::Init, None, at(0)).unwrap();
    assert_eq!(checks.problems(at(0)).fitness(), Fitness::INIT);
    checks.check_in("b", CheckSays::Gone, None, at(0)).unwrap();
    assert_eq!(checks.problems(at(0)).fitness(), Fitness(254));
    assert_eq!(checks.sentences(at(0)), ["check a: problem"]);
    assert!(checks.check_in("b", CheckSays::Gone, None, at(0)).is_err());
}

#[test]
fn strangers_names_and_too_many_of_them_are_refused() {
    let mut checks = Checks::new(None);
    for name in ["", "a b", "ü", &"x".repeat(33)] {
        assert!(checks.check_in(name, CheckSays::Ok, None, at(0)).is_err());
    }
    for number in 0..CHECKS_MAX {
        let name = number.to_string();
        checks.check_in(&name, CheckSays::Ok, None, at(0)).unwrap();
    }
    assert!(checks.check_in("more", CheckSays::Ok, None, at(0)).is_err());
    assert!(
        checks
            .check_in("0", CheckSays::Problem, None, at(0))
            .is_ok()
    );
}

#[test]
fn a_table_that_was_nearly_full_has_to_fall_before_it_is_not() {
    let mut checks = Checks::new(Some(90));
    for (count, expected) in [
        (89, false),
        (90, true),
        (86, true),
        (84, false),
        (89, false),
    ] {
        checks.set_table(count, 100);
        let is_full = checks.problems(at(0)).contains(Problem::Table);
        assert_eq!(is_full, expected, "{count}");
    }
    checks.set_table(5, 0);
    assert!(!checks.problems(at(0)).contains(Problem::Table));
}

#[test]
fn a_state_directory_that_cannot_be_written_is_a_problem_that_says_why() {
    let mut checks = Checks::new(None);
    checks.set_storage(Some("read-only".into()));
    assert!(checks.problems(at(0)).contains(Problem::Storage));
    assert_eq!(
        checks.sentences(at(0)),
        ["check state-directory: read-only"]
    );
}
