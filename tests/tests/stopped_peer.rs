//! A peer that is stopped for 10 s under load: it holds up nobody, and catches up when it runs again.

use std::time::Duration;

use rustix::process::Signal;

use tests::arrivals::{Arrivals, Flow, open_flows};
use tests::cluster::{Cluster, Transport};
use tests::lab::Lab;
use tests::netns::wait_until;
use tests::table::wait_equal;

#[test]
fn a_stopped_peer_delays_nobody_and_catches_up() {
    let lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let arrivals = Arrivals::listen(&lab.gateways[2], "10.0.0.100");

    let before = open_flows(&lab, Duration::from_secs(2));
    let delay_before = median_delay(&before, &arrivals);
    cluster.members[1].process().signal(Signal::STOP);
    let during = open_flows(&lab, Duration::from_secs(10));
    let delay_during = median_delay(&during, &arrivals);
    // Flows that end while it is stopped must not live on there.
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    let last = open_flows(&lab, Duration::from_secs(1));
    cluster.members[1].process().signal(Signal::CONT);

    // A peer that is waited for would cost at least the second after which it counts as dead.
    let tolerated = (delay_before * 3).max(Duration::from_millis(250));
    assert!(
        delay_during <= tolerated,
        "{delay_during:?}, before it was stopped {delay_before:?}"
    );
    let table = wait_equal(&lab.gateways, Duration::from_secs(20));
    assert_eq!(table.len(), last.len());
}

/// From a flow's first datagram to its entry in the listener's table.
#[track_caller]
fn median_delay(flows: &[Flow], arrivals: &Arrivals) -> Duration {
    let arrived = |flow: &Flow| arrivals.of(flow.port());
    wait_until("every flow has arrived", Duration::from_secs(10), || {
        flows.iter().all(|it| arrived(it).is_some())
    });
    let delays = flows
        .iter()
        .filter_map(|it| Some(arrived(it)?.saturating_duration_since(it.sent)));
    let mut sorted: Vec<_> = delays.collect();
    sorted.sort();
    sorted[sorted.len() / 2]
}
