//! How long copies live: as long as their flows, which their carrier alone knows.

use std::time::Duration;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;
use tests::table::{table, wait_equal};
use tests::traffic::{Connection, Kind};

/// How long tables may take to agree, and entries to time out.
const DEADLINE: Duration = Duration::from_secs(20);

/// A lab whose UDP flows live for a second or two after their last packet.
fn short_lived() -> Lab {
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.sysctl("netfilter.nf_conntrack_udp_timeout", 1);
        gateway.sysctl("netfilter.nf_conntrack_udp_timeout_stream", 2);
    }
    lab
}

#[test]
fn flows_that_time_out_on_their_carrier_end_everywhere() {
    let lab = short_lived();
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 100);
    crowd.udp(&lab, Path::Masqueraded, Family::Ipv6, 100);
    wait_until("all were told", DEADLINE, || {
        cluster.members[1].counter("applied_changes") >= 200
    });
    for gateway in &lab.gateways {
        wait_until("all have ended", DEADLINE, || table(gateway).is_empty());
    }
}

/// The kernel makes no event when a packet refreshes a timeout: so the copy runs out, and comes back.
#[test]
fn a_copy_that_times_out_comes_back_while_its_flow_lives() {
    let lab = short_lived();
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let connection = Connection::open(&lab, Kind::Datagrams, Path::Masqueraded, Family::Ipv4);
    let copy = &cluster.members[1];
    for times in 1..=2 {
        wait_until("the copy was put back", DEADLINE, || {
            // Looking at the table is what makes the kernel see to what has timed out.
            table(&lab.gateways[1]);
            copy.counter("copies_put_back") >= times
        });
        assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 1);
    }
    drop(connection);
    for gateway in &lab.gateways {
        wait_until("the flow has ended", DEADLINE, || table(gateway).is_empty());
    }
}
