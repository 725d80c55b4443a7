//! What the policy keeps back, puts off, and does not stand in the way of.

use super::*;
use crate::convert;
use crate::costs::ServiceCosts;
use crate::policy::tests::parse;
use conntrack::HelperName;

/// A cluster whose first member has this policy.
fn cluster_with(policy: &str) -> [Core; 2] {
    let mut cores = cluster();
    begin_with(&mut cores[0], policy);
    cores
}

/// It has this policy, as if it had never had another.
fn begin_with(core: &mut Core, policy: &str) {
    core.policy = parse(policy).unwrap().into();
    core.costs = ServiceCosts::new(&core.policy);
}

const DELAYED: &str = "services: { web: { protocol: tcp, ports: 80, sync: delayed, delay: 2s } }";
const NEVER: &str = "services: { web: { protocol: tcp, ports: 80, sync: never } }";

/// What the first kernel's table has, when it is asked.
fn look_up(cores: &mut [Core; 2], flow: Option<Flow>) -> usize {
    std::iter::from_fn(|| {
        let wanted = cores[0].poll_lookup()?;
        cores[0].handle_lookup(&wanted.key, flow.as_ref());
        Some(())
    })
    .count()
}

fn told(cores: &[Core; 2]) -> u64 {
    counter(&cores[0], "records_sent")
}

#[test]
fn a_flow_that_is_never_synchronised_costs_no_byte() {
    let mut cores = cluster_with(NEVER);
    let before = told(&cores);
    for kind in [EventKind::New, EventKind::Update, EventKind::Destroy] {
        cores[0].handle_event(&event(kind, tcp(3)));
    }
    cores[0].handle_row(&tcp(3));
    let [_, asked] = talk(&mut cores, 320, 50);
    assert!(asked.is_empty(), "{asked:?}");
    assert_eq!(
        (told(&cores), counter(&cores[0], "policy_never")),
        (before, 3)
    );
}

#[test]
fn a_flow_that_ends_within_its_delay_costs_no_byte() {
    let mut cores = cluster_with(DELAYED);
    let before = told(&cores);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    cores[0].handle_event(&event(EventKind::Update, tcp(3)));
    talk(&mut cores, 320, 1500);
    cores[0].handle_event(&event(EventKind::Destroy, tcp(3)));
    talk(&mut cores, 1820, 3000);
    assert_eq!(look_up(&mut cores, Some(tcp(3))), 0);
    assert_eq!(told(&cores), before);
    assert_eq!(counter(&cores[0], "policy_delayed"), 1);
    assert_eq!(counter(&cores[0], "policy_delayed_ended"), 1);
}

#[test]
fn a_flow_that_lives_past_its_delay_is_told_as_it_is_then() {
    let mut cores = cluster_with(DELAYED);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    let [_, asked] = talk(&mut cores, 320, 1900);
    assert!(asked.is_empty() && cores[0].poll_lookup().is_none());
    talk(&mut cores, 2220, 1000);
    assert_eq!(look_up(&mut cores, Some(tcp(3))), 1);
    let [_, asked] = talk(&mut cores, 3220, 20);
    let [(Action::Create, flow)] = asked[..] else {
        panic!("{asked:?}")
    };
    assert!(matches!(flow.protoinfo, Some(ProtoInfo::Tcp(tcp)) if tcp.state == 3));
    // From now on it is as any other.
    cores[0].handle_event(&event(EventKind::Destroy, tcp(3)));
    let [_, asked] = talk(&mut cores, 3240, 20);
    assert!(matches!(asked[..], [(Action::Delete, _)]), "{asked:?}");
}

#[test]
fn a_flow_that_is_gone_when_its_delay_is_over_costs_no_byte() {
    let mut cores = cluster_with(DELAYED);
    let before = told(&cores);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    talk(&mut cores, 320, 3000);
    assert_eq!(look_up(&mut cores, None), 1);
    assert_eq!(told(&cores), before);
}

#[test]
fn the_delay_counts_from_the_start_of_the_flow() {
    for (age, waits) in [(1, true), (5, false)] {
        let mut cores = cluster_with(DELAYED);
        cores[0].set_wall_clock(100_000_000_000);
        cores[0].begin_pass();
        let row = Flow {
            start_nanos: Some((100 - age) * 1_000_000_000),
            ..tcp(3)
        };
        cores[0].handle_row(&row);
        cores[0].end_pass();
        let [_, asked] = talk(&mut cores, 320, 50);
        assert_eq!(asked.is_empty(), waits, "{age}");
        let [_, asked] = talk(&mut cores, 370, 1700);
        assert!(asked.is_empty());
        assert_eq!(look_up(&mut cores, Some(row)), usize::from(waits));
    }
}

#[test]
fn a_flow_of_unknown_age_that_was_there_before_the_daemon_is_told_at_once() {
    let mut first = core(1, 7, 9);
    begin_with(&mut first, DELAYED);
    first.begin_pass();
    first.handle_row(&tcp(3));
    first.end_pass();
    assert_eq!(first.flows(Default::default(), 9).rows.len(), 1);
}

#[test]
fn a_flow_that_passes_another_member_too_is_told_at_once() {
    let mut cores = cluster_with(DELAYED);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    let key = convert::key(&tcp(1));
    cores[0].handle_non_sticky(&key);
    assert_eq!(look_up(&mut cores, Some(tcp(2))), 1);
    let [_, asked] = talk(&mut cores, 320, 20);
    assert!(matches!(asked[..], [(Action::Create, _)]), "{asked:?}");
    // The other way round: the other member told of it.
    let mut cores = cluster_with(DELAYED);
    cores[0].handle_event(&event(EventKind::New, tcp(1)));
    cores[1].handle_event(&event(EventKind::New, tcp(2)));
    talk(&mut cores, 320, 20);
    assert_eq!(counter(&cores[0], "policy_delayed_early"), 1);
    cores[0].handle_event(&event(EventKind::Update, tcp(3)));
    let [_, asked] = talk(&mut cores, 340, 20);
    assert!(
        matches!(asked[..], [(Action::Update, _)]),
        "it is told as any other: {asked:?}"
    );
}

#[test]
fn the_master_of_a_flow_that_is_told_is_told_before_it() {
    let mut cores = cluster_with(DELAYED);
    let master = tcp(3);
    let child = Flow {
        orig: Tuple {
            l4: L4::Ports { src: 20, dst: 2000 },
            ..master.orig
        },
        master: Some(master.orig),
        ..tcp(1)
    };
    let child = Flow {
        reply: child.orig.mirror(),
        ..child
    };
    cores[0].handle_event(&event(EventKind::New, master));
    cores[0].handle_event(&event(EventKind::New, child));
    for flow in [master, child] {
        let wanted = cores[0].poll_lookup().unwrap();
        assert_eq!(wanted.key, convert::key(&flow));
        cores[0].handle_lookup(&wanted.key, Some(&flow));
    }
    let [_, asked] = talk(&mut cores, 320, 20);
    let made: Vec<_> = asked.iter().map(|(_, flow)| flow.orig).collect();
    assert_eq!(made, [master.orig, child.orig]);
}

#[test]
fn a_flow_with_a_helper_is_never_put_off() {
    let mut cores = cluster_with(DELAYED);
    let flow = Flow {
        helper: HelperName::new("ftp"),
        ..tcp(1)
    };
    cores[0].handle_event(&event(EventKind::New, flow));
    let [_, asked] = talk(&mut cores, 320, 20);
    assert_eq!(asked.len(), 1);
}

#[test]
fn what_a_peer_told_is_the_protocols_whatever_the_policy_here_says() {
    let mut cores = cluster_with(NEVER);
    cores[1].handle_event(&event(EventKind::New, tcp(1)));
    talk(&mut cores, 320, 20);
    cores[0].handle_event(&event(EventKind::Update, tcp(3)));
    let [_, asked] = talk(&mut cores, 340, 20);
    assert!(matches!(asked[..], [(Action::Update, _)]), "{asked:?}");
}

/// The end that its carrier told found no daemon here. As long as not everything was told it may be a peer's that has another
/// policy.
#[test]
fn a_copy_that_nobody_tells_of_is_deleted_though_its_service_is_never_synchronised() {
    let mut core = core(1, 7, 9);
    begin_with(&mut core, NEVER);
    core.shared.copy_bit = crate::ruleset::CopyBit::new(31);
    let copy = Flow {
        mark: Some(1 << 31),
        ..tcp(3)
    };
    for (seconds, deletes) in [(0, 0), (1, 0), (60, 1)] {
        let now = Instant::from_micros(seconds * 1_000_000);
        core.handle_timeout(now);
        while core.poll_transmit(now).is_some() {}
        core.begin_pass();
        core.handle_row(&copy);
        core.handle_row(&Flow {
            orig: Tuple {
                l4: L4::Ports { src: 7, dst: 80 },
                ..copy.orig
            },
            ..tcp(3)
        });
        core.end_pass();
        let asked = std::iter::from_fn(|| core.poll_apply());
        let deleted = asked.filter(|it| it.action == Action::Delete && it.flow.orig == copy.orig);
        assert_eq!(deleted.count(), deletes, "after {seconds} s");
    }
}
