//! The kernel drops events because the daemon does not keep up: its table is compared with what is known, and the peers
//! learn what was missed.

use std::time::Duration;

use rustix::process::Signal;

use tests::cluster::{Cluster, Settings};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;
use tests::table::wait_equal;

/// How long tables may take to agree.
const AGREE_DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn what_began_and_what_ended_in_lost_events_is_made_good() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "kernel: { event_buffer: 1MiB }",
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Through(0), Family::Ipv4, 300);
    crowd.tcp(&lab, Path::Plain, Family::Ipv6, 200);
    assert_eq!(wait_equal(&lab.gateways, AGREE_DEADLINE).len(), 500);

    let daemon = &mut cluster.members[0];
    daemon.process().signal(Signal::STOP);
    // An event takes a good kilobyte of the buffer: these fill it, and of what follows nobody is told.
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 3000);
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 400);
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.151");
    crowd.udp(&lab, Path::Redirected, Family::Ipv6, 500);
    daemon.process().signal(Signal::CONT);

    wait_until("the overrun is noticed", AGREE_DEADLINE, || {
        daemon.counter("event_overruns") > 0
    });
    let table = wait_equal(&lab.gateways, AGREE_DEADLINE);
    assert_eq!(table.len(), 200 + 3000 + 400 + 500);
}
