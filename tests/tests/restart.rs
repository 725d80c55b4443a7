//! Daemons that come late, or die and come back: the tables agree again, in what began and in what ended meanwhile.

use rustix::process::Signal;

use tests::cluster::{Cluster, Settings, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::DEADLINE;
use tests::table::wait_equal;

#[test]
fn flows_older_than_every_daemon_are_replicated() {
    let lab = Lab::new(2);
    let mut crowd = Crowd::default();
    for path in [Path::Plain, Path::Masqueraded, Path::Redirected] {
        crowd.tcp(&lab, path, Family::Ipv4, 100);
        crowd.udp(&lab, path, Family::Ipv6, 100);
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 600);
    drop(cluster);
}

#[test]
fn a_late_joiner_gets_everything_while_more_begins() {
    let lab = Lab::new(3);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    for member in [0, 1] {
        cluster.members[member].start(&lab.gateways[member]);
    }
    cluster.wait_in_step();
    let mut crowd = Crowd::default();
    for gateway in [0, 1, 2] {
        crowd.udp(&lab, Path::Through(gateway), Family::Ipv4, 1000);
        crowd.tcp(&lab, Path::Through(gateway), Family::Ipv6, 300);
    }

    cluster.members[2].start(&lab.gateways[2]);
    for gateway in [0, 1, 2] {
        crowd.udp(&lab, Path::Through(gateway), Family::Ipv6, 500);
    }
    cluster.wait_in_step();
    assert_eq!(
        wait_equal(&lab.gateways, DEADLINE).len(),
        3 * (1000 + 300 + 500)
    );
}

#[test]
fn a_gateway_that_was_booted_gets_back_even_what_it_carried() {
    let mut lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Multicast);
    let mut crowd = Crowd::default();
    for gateway in [0, 1, 2] {
        crowd.udp(&lab, Path::Through(gateway), Family::Ipv4, 200);
        crowd.tcp(&lab, Path::Through(gateway), Family::Ipv6, 100);
    }
    let before = wait_equal(&lab.gateways, DEADLINE);
    assert_eq!(before.len(), 900);

    cluster.members[0].process().kill();
    lab.reboot(0);
    cluster.members[0].start(&lab.gateways[0]);
    cluster.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE), before);
}

#[test]
fn a_daemon_that_is_told_to_end_ends_well_and_leaves_the_flows() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Plain, Family::Ipv4, 100);
    let before = wait_equal(&lab.gateways, DEADLINE);
    for (daemon, signal) in cluster.members.iter_mut().zip([Signal::TERM, Signal::INT]) {
        daemon.process().signal(signal);
        let status = daemon.process().wait(DEADLINE);
        assert!(status.success(), "{signal:?}: {status}");
        let socket = daemon.config().with_extension("sock");
        assert!(!socket.exists(), "{}", socket.display());
    }
    assert_eq!(before.len(), 100);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE), before);
}

#[test]
fn a_peer_that_was_killed_learns_what_began_and_what_ended_meanwhile() {
    began_and_ended_while_dead(1);
}

#[test]
fn a_carrier_that_was_killed_tells_what_began_and_what_ended_meanwhile() {
    began_and_ended_while_dead(0);
}

/// All flows pass through the first gateway; the daemon of one of the two is killed and comes back.
#[track_caller]
fn began_and_ended_while_dead(member: usize) {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 200);
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv6, 200);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 400);

    cluster.members[member].process().kill();
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    crowd.tcp(&lab, Path::Redirected, Family::Ipv4, 300);
    cluster.members[member].start(&lab.gateways[member]);
    cluster.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 500);
}

#[test]
fn a_daemon_that_is_restarted_writes_to_its_kernel_only_what_has_changed() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 200);
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv6, 200);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 400);

    let restarted = &mut cluster.members[1];
    restarted.process().signal(Signal::TERM);
    assert!(restarted.process().wait(DEADLINE).success());
    crowd.tcp(&lab, Path::Redirected, Family::Ipv4, 30);
    cluster.members[1].start(&lab.gateways[1]);
    cluster.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 430);
    let restarted = &cluster.members[1];
    let written = restarted.counter("applied_changes") - restarted.counter("copies_refreshed");
    assert_eq!(written, 30);
    // The other one was told before, and again: it has lost nothing, and taken nothing over.
    let other = &cluster.members[0];
    assert_eq!(other.counter("applied_changes"), 0);
    assert_eq!(other.counter("takeovers"), 0);
}
