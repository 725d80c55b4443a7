//! How long copies live: as long as their flows, which their carrier alone knows.

use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, holds_within, wait_until};
use tests::table::{table, wait_equal};
use tests::traffic::{Connection, Kind};

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

/// The kernel makes no event when a packet refreshes a timeout: only the members keep their copies alive.
#[test]
fn flows_live_on_every_member_through_ten_timeouts_and_end_everywhere_with_their_carrier() {
    let lab = Lab::new(3);
    let timeouts = [
        ("udp_timeout", 5),
        ("udp_timeout_stream", 5),
        ("icmp_timeout", 5),
        ("tcp_timeout_established", 10),
    ];
    for gateway in &lab.gateways {
        for (timeout, seconds) in timeouts {
            gateway.sysctl(&format!("netfilter.nf_conntrack_{timeout}"), seconds);
        }
    }
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let busy = Connection::open(&lab, Kind::Datagrams, Path::Masqueraded, Family::Ipv4);
    let mut idle = Crowd::default();
    idle.tcp(&lab, Path::Plain, Family::Ipv4, 1);
    idle.keep_alive(Duration::from_secs(3));
    let mut quiet = Crowd::default();
    quiet.udp_one_way(&lab, Path::Plain, Family::Ipv4, 1);
    quiet.icmp(&lab, Path::Plain, Family::Ipv4, 1);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 4);

    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(105) {
        quiet.once_more();
        for gateway in &lab.gateways {
            let table = table(gateway);
            assert_eq!(
                table.len(),
                4,
                "{} after {:?}: {table:#?}",
                gateway.label(),
                begin.elapsed()
            );
        }
    }
    for member in &cluster.members {
        assert_eq!(member.counter("copies_expired"), 0);
    }

    drop((busy, quiet));
    idle.let_die();
    let mut left = 4;
    while left > 0 {
        wait_until("a flow ends", DEADLINE, || {
            table(&lab.gateways[0]).len() < left
        });
        left = table(&lab.gateways[0]).len();
        for gateway in &lab.gateways[1..] {
            wait_until("it ends everywhere", Duration::from_secs(1), || {
                table(gateway).len() <= left
            });
        }
    }
}

#[test]
fn when_all_gateways_die_and_come_back_nothing_is_invented() {
    let mut lab = Lab::new(3);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Plain, Family::Ipv4, 50);
    crowd.udp(&lab, Path::Masqueraded, Family::Ipv6, 50);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 100);
    for daemon in &mut cluster.members {
        daemon.process().kill();
    }
    for index in 0..3 {
        lab.reboot(index);
        cluster.members[index].start(&lab.gateways[index]);
    }
    cluster.wait_in_step();
    for (gateway, daemon) in lab.gateways.iter().zip(&cluster.members) {
        assert!(table(gateway).is_empty(), "{:#?}", table(gateway));
        let status = daemon.status().expect("the daemon answers");
        for origin in ["own", "copies", "found"] {
            assert_eq!(status["flows"][origin], 0, "{status:#}");
        }
    }
}

#[test]
fn when_all_daemons_die_and_come_back_no_flow_lives_longer_than_in_its_kernel() {
    const TIMEOUT: Duration = Duration::from_secs(8);
    let lab = Lab::new(2);
    for gateway in &lab.gateways {
        gateway.sysctl("netfilter.nf_conntrack_udp_timeout", TIMEOUT.as_secs());
        gateway.sysctl(
            "netfilter.nf_conntrack_udp_timeout_stream",
            TIMEOUT.as_secs(),
        );
    }
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    for (gateway, path) in [
        (0, Path::Through(0)),
        (1, Path::Through(1)),
        (0, Path::Masqueraded),
    ] {
        crowd.udp(&lab, path, Family::Ipv4, 20 + gateway);
    }
    let silent = Instant::now();
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 61);
    for daemon in &mut cluster.members {
        daemon.process().kill();
    }
    for (daemon, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        daemon.start(gateway);
    }
    cluster.wait_in_step();
    for gateway in &lab.gateways {
        wait_until("all have ended", DEADLINE, || table(gateway).is_empty());
    }
    // A copy may have been made, or its timeout written anew, a moment before its carrier died.
    assert!(silent.elapsed() < 2 * TIMEOUT, "{:?}", silent.elapsed());
    let came_back = holds_within(Duration::from_secs(3), || {
        lab.gateways.iter().any(|it| !table(it).is_empty())
    });
    assert!(!came_back);
}

#[test]
fn flows_deleted_by_hand_on_any_member_are_gone_everywhere_and_stay_gone() {
    let lab = Lab::new(3);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    for hand in &lab.gateways {
        crowd.udp(&lab, Path::Plain, Family::Ipv4, 20);
        crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 20);
        assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), 40);
        hand.run("conntrack -D -s 10.0.0.100");
        hand.run("conntrack -D -s 10.0.0.101");
        for gateway in &lab.gateways {
            wait_until("none is left", DEADLINE, || table(gateway).is_empty());
        }
    }
    let came_back = holds_within(Duration::from_secs(4), || {
        lab.gateways.iter().any(|it| !table(it).is_empty())
    });
    assert!(!came_back);
    for member in &cluster.members {
        assert_eq!(member.counter("copies_put_back"), 0);
    }
}
