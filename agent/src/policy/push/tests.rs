use super::*;
use crate::policy::tests::parse;

fn plan(text: &str) -> Plan {
    // Built-in services would only stand in the way.
    let builtins = super::super::builtin::names().join(": on, ");
    parse(&format!("builtins: {{ {builtins}: on }}\n{text}"))
        .unwrap()
        .plan()
}

#[test]
fn built_in_services_are_certain() {
    let certain = parse("").unwrap().plan().certain;
    for expected in [
        (6, vec![(179, 179), (639, 639), (646, 646)]),
        (112, vec![]),
        (89, vec![]),
    ] {
        assert!(certain.contains(&expected), "{expected:?} in {certain:?}");
    }
    assert_eq!(plan(""), Plan::default());
}

#[test]
fn what_is_never_wherever_it_goes_is_certain() {
    let plan = plan(
        "services: { a: { protocol: [tcp, udp], ports: [53, 60-70], sync: never }, b: { protocol: gre, sync: never } }",
    );
    assert_eq!(
        plan.certain,
        [
            (6, vec![(53, 53), (60, 70)]),
            (17, vec![(53, 53), (60, 70)]),
            (47, vec![])
        ]
    );
    assert_eq!((plan.all_but, plan.steps), (None, vec![]));
}

#[test]
fn a_clause_before_it_that_may_decide_otherwise_makes_it_uncertain() {
    let plan = plan(
        "services: { keep: { protocol: tcp, ports: 60-61 }, a: { protocol: tcp, ports: 53-70, sync: never } }\n\
         rules: [{ source: 10.0.0.0/8, mark: 1, service: keep }]",
    );
    assert_eq!(plan.certain, [(6, vec![(53, 59), (62, 70)])]);
    assert_eq!(plan.steps, []);
}

#[test]
fn everything_but_what_is_kept() {
    let plan = plan(
        "services: { keep: { protocol: tcp, ports: 22 }, rest: { sync: never } }\n\
         rules: [{ service: keep }, { service: rest }]",
    );
    assert_eq!(plan.all_but, Some(vec![6]));
    assert_eq!(plan.certain, [(6, vec![(0, 21), (23, 65535)])]);
}

#[test]
fn few_clauses_with_addresses_are_said_one_by_one() {
    let plan = plan(
        "services: { marked: { protocol: tcp }, lab: { sync: never } }\n\
         rules: [{ mark: 7, service: marked }, { source: 10.9.0.0/16, service: lab }]",
    );
    let never: Vec<_> = plan.steps.iter().map(|step| step.never).collect();
    assert_eq!(never, [false, true]);
    assert!(plan.steps.iter().all(|step| step.condition.is_plain()));
    assert_eq!(plan.certain, []);
}
