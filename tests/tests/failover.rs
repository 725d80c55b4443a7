//! A gateway dies under load, and every connection goes on through the other.
//!
//! One experiment carries all the traffic; each test asks for the connections it is named after.

use std::sync::LazyLock;
use std::time::Duration;

use tests::demo::failover::{Failover, Outcome, Protection};
use tests::lab::{Family, Path};
use tests::traffic::Kind;

static OUTCOMES: LazyLock<Vec<Outcome>> = LazyLock::new(|| {
    let mut failover = Failover::prepare(Protection::Ctsync);
    failover.open(Duration::from_secs(1));
    failover.kill_daemon();
    failover.cut_links();
    failover.move_routes();
    failover.observe()
});

#[track_caller]
fn all_go_on(is_meant: impl Fn(&Outcome) -> bool) {
    let meant: Vec<_> = OUTCOMES.iter().filter(|it| is_meant(it)).collect();
    assert!(!meant.is_empty(), "the experiment has such connections");
    let dead: Vec<_> = meant.iter().filter(|it| !it.goes_on()).collect();
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn bulk_streams_go_on_and_lose_no_byte() {
    all_go_on(|it| it.kind == Kind::Bulk);
}

#[test]
fn interactive_connections_go_on() {
    all_go_on(|it| it.kind == Kind::Interactive);
}

#[test]
fn udp_flows_go_on() {
    all_go_on(|it| it.kind == Kind::Datagrams);
}

#[test]
fn connections_without_nat_go_on() {
    all_go_on(|it| it.path == Path::Plain);
}

#[test]
fn masqueraded_connections_go_on() {
    all_go_on(|it| it.path == Path::Masqueraded);
}

#[test]
fn connections_behind_destination_nat_go_on() {
    all_go_on(|it| it.path == Path::Redirected);
}

#[test]
fn ipv4_connections_go_on() {
    all_go_on(|it| it.family == Family::Ipv4);
}

#[test]
fn ipv6_connections_go_on() {
    all_go_on(|it| it.family == Family::Ipv6);
}
