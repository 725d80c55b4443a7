//! Daemons that come late, or die and come back: the tables agree again, in what began and in what ended meanwhile.

use std::time::Duration;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::table::wait_equal;

/// How long tables may take to agree.
const AGREE_DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn flows_older_than_every_daemon_are_replicated() {
    let lab = Lab::new(2);
    let mut crowd = Crowd::default();
    for path in [Path::Plain, Path::Masqueraded, Path::Redirected] {
        crowd.tcp(&lab, path, Family::Ipv4, 100);
        crowd.udp(&lab, path, Family::Ipv6, 100);
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    assert_eq!(wait_equal(&lab.gateways, AGREE_DEADLINE).len(), 600);
    drop(cluster);
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
    assert_eq!(wait_equal(&lab.gateways, AGREE_DEADLINE).len(), 400);

    cluster.members[member].process().kill();
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    crowd.tcp(&lab, Path::Redirected, Family::Ipv4, 300);
    cluster.members[member].restart(&lab.gateways[member]);
    cluster.wait_in_step();
    assert_eq!(wait_equal(&lab.gateways, AGREE_DEADLINE).len(), 500);
}
