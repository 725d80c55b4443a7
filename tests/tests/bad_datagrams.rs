//! What an attacker on the sync network can do: nothing but make counters count.

use tests::cluster::{Cluster, Transport};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::{table, wait_equal};
use tests::wire::{Forger, Tap};

/// Where a datagram is damaged bit by bit: its whole header, and a part of what follows.
const DAMAGED_BYTES: usize = 64;

/// The counters of datagrams that are put away, one a cause. An unknown opcode is none of them: who has not sealed it cannot
/// say it.
const CAUSES: [&str; 10] = [
    "datagrams_malformed",
    "datagrams_other_version",
    "datagrams_check_point",
    "datagrams_other_cluster",
    "datagrams_unknown_member",
    "datagrams_misdirected",
    "datagrams_other_network",
    "datagrams_unknown_key",
    "datagrams_forged",
    "datagrams_replayed_or_unproven",
];

#[test]
fn damaged_and_strange_datagrams_change_nothing_but_counters() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let tap = Tap::open(&lab, 1);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Plain, Family::Ipv4, 20);
    // What the victim tells is acknowledged: so it hears datagrams for all, and some for itself alone.
    crowd.udp(&lab, Path::Through(1), Family::Ipv6, 20);
    let before = wait_equal(&lab.gateways, DEADLINE);
    let victim = &cluster.members[1];
    let flows = || victim.status().expect("the daemon answers")["flows"].clone();
    let flows_before = flows();
    let heard = tap.datagrams();
    let longest = heard.iter().max_by_key(|it| it.len());
    let shortest = heard.iter().min_by_key(|it| it.len());
    assert_ne!(longest, shortest, "changes and acknowledgements were sent");
    let refused = || CAUSES.map(|it| victim.counter(it));
    let mut refused_at_least: u64 = refused().iter().sum();

    let forger = Forger::new(&lab, 0, 1);
    let bad: Vec<_> = longest
        .into_iter()
        .chain(shortest)
        .flat_map(|it| damaged_and_strange(it))
        .collect();
    // In portions that the victim's socket holds, however late it gets to them.
    for portion in bad.chunks(100) {
        portion.iter().for_each(|it| forger.send(it));
        refused_at_least += portion.len() as u64;
        wait_until("every one is refused", DEADLINE, || {
            refused().iter().sum::<u64>() >= refused_at_least
        });
    }

    let unseen: Vec<_> = CAUSES
        .into_iter()
        .zip(refused())
        .filter(|it| it.1 == 0)
        .collect();
    assert!(unseen.is_empty(), "counted for none of them: {unseen:?}");
    assert_eq!(flows(), flows_before);
    assert_eq!(table(&lab.gateways[1]), before);
    // And it goes on working.
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 10);
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), before.len() + 10);
}

/// A datagram cut at every byte, with every bit of its first bytes turned, longer than it was, and as it was; noise of
/// many lengths; and Check Point's magic number.
fn damaged_and_strange(good: &[u8]) -> Vec<Vec<u8>> {
    let cut = (0..good.len()).map(|length| good[..length].to_vec());
    let turned = (0..good.len().min(DAMAGED_BYTES) * 8).map(|bit| {
        let mut damaged = good.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    });
    let noise: Vec<u8> = (0..1472_u32)
        .map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let noises = (0..noise.len())
        .step_by(37)
        .map(|length| noise[..length].to_vec());
    let longer = [good, b"more"].concat();
    let check_point = [&[0x1a, 0x90], &noise[..100]].concat();
    cut.chain(turned)
        .chain(noises)
        .chain([longer, check_point, good.to_vec()])
        .collect()
}

#[test]
fn a_replayed_datagram_brings_no_flow_back_even_after_a_restart() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let tap = Tap::open(&lab, 1);
    let mut crowd = Crowd::default();
    crowd.udp(&lab, Path::Plain, Family::Ipv4, 20);
    wait_equal(&lab.gateways, DEADLINE);
    let heard = tap.datagrams();
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    assert!(wait_equal(&lab.gateways, DEADLINE).is_empty());

    let forger = Forger::new(&lab, 0, 1);
    let mut replay = |expected: usize| {
        heard.iter().for_each(|it| forger.send(it));
        // What is sent later arrives later: when a new flow is there, the replayed datagrams have been judged.
        crowd.udp(&lab, Path::Redirected, Family::Ipv4, 1);
        let table = wait_equal(&lab.gateways, DEADLINE);
        assert_eq!(table.len(), expected, "{table:#?}");
    };
    replay(1);
    cluster.members[1].start(&lab.gateways[1]);
    cluster.wait_in_step();
    replay(2);
    cluster.members[0].start(&lab.gateways[0]);
    cluster.wait_in_step();
    replay(3);
}
