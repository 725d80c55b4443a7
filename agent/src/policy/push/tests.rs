use super::*;
use crate::policy::classify::tests::{Numbers, matches};
use crate::policy::service::{Flows, Kind};
use crate::policy::tests::parse;
use crate::policy::{Rule, Service};
use std::time::Duration;

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

fn draw_policy(numbers: &mut Numbers) -> Policy {
    let count = 1 + numbers.below(6) as usize;
    let service = |numbers: &mut Numbers, at| Service {
        name: format!("s{at}"),
        flows: numbers.condition().flows,
        kind: Kind::None,
        sync: match numbers.below(4) {
            0 => Sync::Always,
            1 => Sync::Delayed(Duration::from_secs(9)),
            _ => Sync::Never,
        },
        hold: Hold::Auto,
    };
    let services: Vec<_> = (0..count).map(|at| service(numbers, at)).collect();
    let rules = (0..numbers.below(8)).map(|_| {
        let service = numbers.below(count as u64) as usize;
        let condition = Condition {
            flows: services[service].flows.clone(),
            ..numbers.condition()
        };
        Rule {
            name: None,
            condition,
            service,
        }
    });
    let rules = rules.collect();
    Policy::compile(Vec::new(), services, rules)
}

/// What rules made of the plan say of a flow.
fn is_said(plan: &Plan, key: &ccp::record::FlowKey) -> bool {
    let of = |protocols: Vec<u8>, selectors: &[(u16, u16)]| Condition {
        flows: Flows {
            protocols,
            selectors: selectors.to_vec(),
        },
        ..Condition::default()
    };
    let is_certain = |it: &(u8, Vec<(u16, u16)>)| matches(&of(vec![it.0], &it.1), key, 0);
    let is_other = |named: &Vec<u8>| !named.contains(&key.proto);
    let first = (plan.steps.iter()).find(|step| matches(&step.condition, key, 0));
    plan.certain.iter().any(is_certain)
        || plan.all_but.as_ref().is_some_and(is_other)
        || first.is_some_and(|step| step.never)
}

#[test]
fn what_is_said_never_is_never_by_the_policy_whatever_mark_and_zone() {
    let mut numbers = Numbers(17);
    let (mut said, mut never) = (0, 0);
    for _ in 0..100 {
        let policy = draw_policy(&mut numbers);
        let plan = policy.plan();
        for _ in 0..100 {
            let (key, mark) = (numbers.key(), numbers.below(2) as u32);
            let is_never = policy.decide(&key, mark).sync == Sync::Never;
            never += u32::from(is_never);
            if is_said(&plan, &key) {
                said += 1;
                assert!(is_never, "{key:?} {policy:?}");
            }
        }
    }
    assert!(said * 2 > never, "{said} of {never} are said");
}
