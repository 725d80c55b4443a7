//! What an attacker on the sync network can do: nothing but make counters count.

use std::time::Duration;

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::wait_until;
use tests::table::{table, wait_equal};
use tests::wire::{Forger, Tap};

/// How long tables may take to agree.
const AGREE_DEADLINE: Duration = Duration::from_secs(10);

/// How much of the header counts in a datagram's judgement: it is damaged byte by byte, and so is a part of what follows.
const DAMAGED_BYTES: usize = 64;

#[test]
fn damaged_and_strange_datagrams_change_nothing_but_counters() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let tap = Tap::open(&lab, 1);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Plain, Family::Ipv4, 20);
    crowd.udp(&lab, Path::Masqueraded, Family::Ipv6, 20);
    let before = wait_equal(&lab.gateways, AGREE_DEADLINE);
    let flows = cluster.members[1].status().expect("the daemon answers")["flows"].clone();
    let heard = tap.datagrams();
    let longest = heard
        .iter()
        .max_by_key(|it| it.len())
        .expect("changes were sent");
    let refused = refused_count(&cluster);

    let forger = Forger::new(&lab, 0, 1);
    let mut sent = 0;
    let mut send = |datagram: &[u8]| {
        forger.send(datagram);
        sent += 1;
    };
    (0..longest.len()).for_each(|length| send(&longest[..length]));
    for position in 0..longest.len().min(DAMAGED_BYTES) {
        for bit in 0..8 {
            let mut damaged = longest.clone();
            damaged[position] ^= 1 << bit;
            send(&damaged);
        }
    }
    // Longer than it was, noise of every length, and what has another magic: Check Point's, and none.
    send(&[longest.as_slice(), b"more"].concat());
    let noise: Vec<u8> = (0..1472_u32)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    (0..noise.len())
        .step_by(37)
        .for_each(|length| send(&noise[..length]));
    send(&[&[0x1a, 0x90], &noise[..100]].concat());

    wait_until("every one is refused", AGREE_DEADLINE, || {
        refused_count(&cluster) >= refused + sent
    });
    assert_eq!(
        cluster.members[1].status().expect("the daemon answers")["flows"],
        flows
    );
    assert_eq!(table(&lab.gateways[1]), before);
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 10);
    assert_eq!(
        wait_equal(&lab.gateways, AGREE_DEADLINE).len(),
        before.len() + 10
    );
}

#[test]
fn a_replayed_datagram_brings_no_flow_back_even_after_a_restart() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let tap = Tap::open(&lab, 1);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 20);
    wait_equal(&lab.gateways, AGREE_DEADLINE);
    let heard = tap.datagrams();
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    assert!(wait_equal(&lab.gateways, AGREE_DEADLINE).is_empty());

    let forger = Forger::new(&lab, 0, 1);
    let mut replay = |expected: usize| {
        heard.iter().for_each(|it| forger.send(it));
        // What is sent later arrives later: when a new flow is there, the replayed datagrams have been judged.
        crowd.udp(&lab, Path::Redirected, Family::Ipv4, 1);
        let table = wait_equal(&lab.gateways, AGREE_DEADLINE);
        assert_eq!(table.len(), expected, "{table:#?}");
    };
    replay(1);
    cluster.members[1].restart(&lab.gateways[1]);
    cluster.wait_in_step();
    replay(2);
    cluster.members[0].restart(&lab.gateways[0]);
    cluster.wait_in_step();
    replay(3);
}

/// How many datagrams the second member has refused, whatever for.
#[track_caller]
fn refused_count(cluster: &Cluster) -> u64 {
    let status = cluster.members[1].status().expect("the daemon answers");
    let counters = status["counters"]
        .as_object()
        .expect("a status has counters");
    let refused = counters
        .iter()
        .filter(|(name, _)| name.starts_with("datagrams_refused"));
    refused.filter_map(|(_, count)| count.as_u64()).sum()
}
