use super::*;
use crate::policy::tests::parse;
use ccp::record::{Claim, Family, FlowState, Term, ZoneDirection};
use ccp::wire::flow::{put_delete, put_upsert};

const POLICY: &str = "services: { web: { protocol: tcp, ports: 80, sync: delayed, delay: 15s }, \
                      dns: { protocol: udp, ports: 53, sync: never } }";

fn key(proto: u8, source: u16, port: u16) -> FlowKey {
    FlowKey {
        src: [10; 16],
        dst: [20; 16],
        l4: [source, port],
        zone: 0,
        proto,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn row(costs: &mut ServiceCosts, policy: &Policy, name: &str, now: Instant) -> ServiceCost {
    let answer = costs.answer(policy, now);
    let mut named = answer.services.into_iter();
    named
        .find(|row| row.service.as_deref() == Some(name))
        .unwrap()
}

#[test]
fn flows_are_told_apart_by_how_long_they_lived_once_all_of_their_age_are_known() {
    let policy = parse(POLICY).unwrap();
    let mut costs = ServiceCosts::new(&policy);
    for (flow, lived) in [Some(900), Some(2500), Some(14_000), Some(29_000), None]
        .into_iter()
        .enumerate()
    {
        let key = key(6, flow as u16, 80);
        let service = policy.decide(&key, 0).service;
        costs.note_event(service);
        costs.note_begun(&key, service, at(500));
        if let Some(lived) = lived {
            costs.note_ended(&key, at(500 + lived));
        }
    }
    let before = row(&mut costs, &policy, "web", at(30_499));
    assert_eq!((before.flows, before.events, before.watched), (5, 5, 0));
    let after = row(&mut costs, &policy, "web", at(30_500));
    assert_eq!(after.watched, 5);
    let ended = [
        after.ended_within_1s,
        after.ended_within_3s,
        after.ended_within_15s,
        after.ended_within_30s,
    ];
    assert_eq!(ended, [1, 2, 3, 4]);
    assert_eq!(
        (after.sync.as_ref(), after.delay_seconds),
        ("delayed", Some(15))
    );
    assert!(costs.live.is_empty() && costs.watched.is_empty());
}

#[test]
fn a_flood_of_one_service_leaves_room_for_the_others_and_memory_is_bounded() {
    let policy = parse(POLICY).unwrap();
    let mut costs = ServiceCosts::new(&policy);
    for second in 0..400 {
        for flow in 0..1000 {
            let key = key(6, flow, 80);
            costs.note_begun(&key, policy.decide(&key, 0).service, at(second * 1000));
            costs.note_ended(&key, at(second * 1000 + 10));
        }
        let key = key(17, second as u16, 53);
        costs.note_begun(&key, policy.decide(&key, 0).service, at(second * 1000));
        assert!(costs.watched.len() <= 31 * (usize::from(WATCHED_A_SECOND) + 1));
    }
    let dns = row(&mut costs, &policy, "dns", at(430_000));
    assert_eq!(
        (dns.flows, dns.watched, dns.ended_within_30s),
        (400, 400, 0)
    );
    let web = row(&mut costs, &policy, "web", at(430_000));
    assert_eq!((web.flows, web.watched), (400_000, 400 * 64));
    assert_eq!(web.ended_within_1s, web.watched);
    // Many services at once come to the limit of all.
    let no_service = policy.decide(&key(6, 1, 1), 0).service;
    for second in 500..529 {
        for flow in 0..u16::MAX {
            costs.note_begun(&key(6, flow, 1), no_service, at(second * 1000));
            costs.costs.iter_mut().for_each(|account| account.begun = 0);
        }
    }
    assert_eq!(costs.watched.len(), WATCHED_MAX);
    assert!(costs.live.len() <= WATCHED_MAX);
}

#[test]
fn what_the_peers_are_told_is_counted_by_record() {
    let policy = parse(POLICY).unwrap();
    let mut costs = ServiceCosts::new(&policy);
    let mut body = 7_u64.to_be_bytes().to_vec();
    let (web, other) = (key(6, 1, 80), key(132, 1, 80));
    put_upsert(
        &mut body,
        &web,
        &FlowState::default(),
        Term(3),
        Claim::Carried,
    );
    let (_, first) = (web, body.len() - 8);
    put_upsert(
        &mut body,
        &other,
        &FlowState {
            mark: 9,
            timeout_secs: 100_000,
            ..FlowState::default()
        },
        Term(0),
        Claim::Found,
    );
    put_delete(&mut body, &web, Term(3), Claim::Carried);
    costs.note_delta(&policy, &body);
    let told = row(&mut costs, &policy, "web", at(0));
    assert_eq!(told.messages, 2);
    let no_service = costs.answer(&policy, at(0)).services;
    let no_service = no_service.iter().find(|row| row.service.is_none()).unwrap();
    assert_eq!(no_service.messages, 1);
    assert!(told.bytes > first as u64);
    assert_eq!(told.bytes + no_service.bytes, (body.len() - 8) as u64);
}

#[test]
fn another_policy_goes_on_with_the_services_that_it_has_too() {
    let old = parse(POLICY).unwrap();
    let mut costs = ServiceCosts::new(&old);
    for port in [80, 81] {
        costs.note_event(old.decide(&key(6, 1, port), 0).service);
    }
    costs.note_event(old.decide(&key(17, 1, 53), 0).service);
    let new = parse("services: { new: { protocol: tcp, ports: 81 }, web: { protocol: tcp, ports: 80, sync: never } }").unwrap();
    costs.replace(&old, &new);
    assert_eq!(row(&mut costs, &new, "new", at(0)).events, 0);
    let web = row(&mut costs, &new, "web", at(0));
    assert_eq!((web.events, web.sync.as_ref()), (1, "never"));
    costs.note_event(new.decide(&key(6, 1, 81), 0).service);
    assert_eq!(row(&mut costs, &new, "new", at(0)).events, 1);
}
