use super::*;
use crate::policy::tests::parse;
use crate::ruleset::CopyBit;
use conntrack::{HelperName, L4, Tuple};

const POLICY: &str = "\
services:
  web: { protocol: tcp, ports: 80, sync: delayed, delay: 2s }
  dns: { protocol: udp, ports: 53, sync: never }
rules:
  - { source: 10.0.0.0/8, service: web }
  - { service: web }
";

fn dry_run() -> DryRun {
    let shared = Shared {
        mark_mask: u32::MAX >> 1,
        copy_bit: CopyBit::new(31),
        label_mask: [0; 16],
    };
    let addresses = AddressSet::new(["192.0.2.1".parse().unwrap()], []);
    DryRun::new(parse(POLICY).unwrap(), addresses, shared, 2)
}

fn flow(proto: u8, from: u16, to: u16) -> Flow {
    Flow::new(Tuple {
        src: [10, 0, 0, 1].into(),
        dst: [203, 0, 113, 1].into(),
        proto,
        l4: L4::Ports { src: from, dst: to },
        zone: 0,
    })
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

/// The kernel tells these things of a flow, at these milliseconds.
fn tell(dry_run: &mut DryRun, flow: Flow, kinds: &[(u64, EventKind)]) {
    for (millis, kind) in kinds {
        let event = Event {
            kind: *kind,
            portid: 0,
            flow,
        };
        dry_run.handle_event(&event, at(*millis));
    }
}

fn counts(dry_run: &DryRun, service: Option<&str>) -> Counts {
    (dry_run.rows().iter())
        .find(|row| row.service.as_deref() == service)
        .map_or_else(Counts::default, |row| row.counts)
}

use EventKind::{Destroy, New, Update};

#[test]
fn what_is_never_synchronised_saves_every_message_and_is_exposed_while_it_lives() {
    let mut dry_run = dry_run();
    tell(
        &mut dry_run,
        flow(17, 1, 53),
        &[(0, New), (1, Update), (9, Destroy)],
    );
    tell(&mut dry_run, flow(17, 2, 53), &[(0, New)]);
    tell(&mut dry_run, flow(17, 3, 54), &[(0, New), (1, Update)]);
    dry_run.end(at(10_000));
    dry_run.handle_row(&flow(17, 2, 53), None);
    dry_run.handle_row(&flow(17, 3, 54), None);
    let dns = Counts {
        flows: 2,
        events: 4,
        told: 0,
        saved: 4,
        // Three records of a live flow, one of an end.
        saved_bytes: 3 * 16 + 14,
        late: 0,
        untold: 2,
        exposed: 1,
    };
    let other = Counts {
        flows: 1,
        events: 2,
        told: 2,
        ..Counts::default()
    };
    assert_eq!(counts(&dry_run, Some("dns")), dns);
    assert_eq!(counts(&dry_run, None), other);
}

#[test]
fn a_delayed_flow_costs_nothing_if_it_ends_within_its_delay_and_one_message_for_all_before_it() {
    let mut dry_run = dry_run();
    tell(
        &mut dry_run,
        flow(6, 1, 80),
        &[(0, New), (1, Update), (1999, Destroy)],
    );
    tell(
        &mut dry_run,
        flow(6, 2, 80),
        &[(0, New), (1, Update), (2, Update), (2000, Destroy)],
    );
    tell(&mut dry_run, flow(6, 3, 80), &[(0, New), (1, Update)]);
    tell(&mut dry_run, flow(6, 4, 80), &[(9000, New)]);
    dry_run.end(at(10_000));
    dry_run.handle_row(&flow(6, 3, 80), None);
    dry_run.handle_row(&flow(6, 4, 80), None);
    let web = Counts {
        flows: 4,
        events: 10,
        told: 3,
        saved: 7,
        // Of eight records of a live flow and two of an end two and one are told.
        saved_bytes: 6 * 18 + 14,
        late: 2,
        untold: 1,
        exposed: 1,
    };
    assert_eq!(counts(&dry_run, Some("web")), web);
    let rows = dry_run.rows();
    assert_eq!((rows.len(), rows[0].delay_seconds), (1, Some(2)));
}

#[test]
fn a_flow_older_than_the_dry_run_is_past_its_delay_unless_the_kernel_dates_it() {
    let mut dry_run = dry_run();
    tell(&mut dry_run, flow(6, 1, 80), &[(0, Update)]);
    dry_run.end(at(1000));
    dry_run.handle_row(&flow(6, 1, 80), None);
    assert_eq!(
        (
            counts(&dry_run, Some("web")).told,
            counts(&dry_run, Some("web")).exposed
        ),
        (1, 0)
    );
    dry_run.restart_rows();
    dry_run.handle_row(&flow(6, 1, 80), Some(Duration::from_millis(1999)));
    dry_run.handle_row(&flow(6, 2, 80), Some(Duration::from_secs(2)));
    assert_eq!(counts(&dry_run, Some("web")).exposed, 1);
}

#[test]
fn masters_flows_with_helpers_and_those_there_is_no_room_for_are_told_before_their_delay() {
    let mut dry_run = dry_run();
    tell(&mut dry_run, flow(6, 1, 80), &[(0, New)]);
    let child = Flow {
        master: Some(flow(6, 1, 80).orig),
        ..flow(6, 5, 4000)
    };
    tell(&mut dry_run, child, &[(1, New)]);
    assert_eq!(
        (
            counts(&dry_run, Some("web")).late,
            counts(&dry_run, None).told
        ),
        (1, 1)
    );
    let helped = Flow {
        helper: HelperName::new("ftp"),
        ..flow(6, 2, 80)
    };
    tell(&mut dry_run, helped, &[(0, New)]);
    assert_eq!(
        (
            counts(&dry_run, Some("web")).told,
            counts(&dry_run, Some("web")).saved
        ),
        (2, 0)
    );
    for port in 3..6 {
        tell(&mut dry_run, flow(6, port, 80), &[(0, New)]);
    }
    assert_eq!(
        (
            counts(&dry_run, Some("web")).told,
            counts(&dry_run, Some("web")).saved
        ),
        (3, 2)
    );
}

#[test]
fn copies_and_flows_of_the_machine_itself_are_not_counted() {
    let mut dry_run = dry_run();
    let copy = Flow {
        mark: Some(1 << 31),
        ..flow(17, 1, 53)
    };
    let mut own = flow(17, 1, 53);
    own.orig.dst = [192, 0, 2, 1].into();
    own.reply = own.orig.mirror();
    for flow in [copy, own] {
        tell(&mut dry_run, flow, &[(0, New), (1, Update), (2, Destroy)]);
        dry_run.handle_row(&flow, None);
    }
    let written = Event {
        kind: New,
        portid: 77,
        flow: flow(17, 2, 53),
    };
    dry_run.handle_event(&written, at(0));
    assert_eq!(dry_run.rows(), []);
}
