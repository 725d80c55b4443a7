//! Who has no member's key gets nowhere, nor does who has recorded everything; and keys are replaced without a gap.

use std::fs;
use std::thread;
use std::time::Duration;

use tests::arrivals::{Arrivals, open_flows};
use tests::cluster::{Cluster, Daemon, Settings, Transport, keygen};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::netns::{DEADLINE, wait_until};
use tests::table::{Table, table, wait_equal};
use tests::wire::{Replayer, Tap, is_datagram};

/// The counters of datagrams that are put away though they were ours once.
const CAUSES: [&str; 5] = [
    "datagrams_unknown_member",
    "datagrams_unknown_key",
    "datagrams_forged",
    "datagrams_below_floor",
    "datagrams_replayed_or_unproven",
];

#[test]
fn who_dials_with_the_key_of_no_member_is_refused_and_told_of_once() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let [stranger, member] = &mut cluster.members[..] else {
        panic!("there are two")
    };
    assert_eq!(member.counter("tls_strangers"), 0);
    become_a_stranger(stranger);
    stranger.start(&lab.gateways[0]);
    wait_until("the stranger is refused, again and again", DEADLINE, || {
        member.counter("tls_strangers") >= 3
    });
    let refusals = |daemon: &Daemon| {
        let log = daemon.log();
        log.matches("refused a connection to the link port").count()
    };
    assert_eq!(refusals(member), 1, "{}", member.log());
    wait_until("the stranger knows why", DEADLINE, || {
        stranger.log().contains("the peer refuses our key")
    });
    nothing_comes_through(&lab, &cluster);
}

#[test]
fn who_is_dialled_and_has_the_key_of_no_member_is_refused() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    let [member, stranger] = &mut cluster.members[..] else {
        panic!("there are two")
    };
    become_a_stranger(stranger);
    stranger.start(&lab.gateways[1]);
    wait_until("the stranger is refused, again and again", DEADLINE, || {
        member.counter("tls_strangers") >= 3
    });
    nothing_comes_through(&lab, &cluster);
}

/// From its next start on, the daemon has another key than its peers know.
#[track_caller]
fn become_a_stranger(daemon: &Daemon) {
    let config = fs::read_to_string(daemon.config()).expect("it was written");
    let old = config
        .lines()
        .find_map(|it| it.strip_prefix("key_file: "))
        .expect("it names the key");
    let new = daemon.config().with_file_name("stranger.key");
    let text = config
        .replace(&keygen(old.as_ref()), &keygen(&new))
        .replace(old, new.to_str().expect("names are UTF-8"));
    fs::write(daemon.config(), text).expect("it can be written");
}

/// Nothing that a stranger at the first or second gateway sends or hears changes a table.
#[track_caller]
fn nothing_comes_through(lab: &Lab, cluster: &Cluster) {
    let unheard = || {
        let daemons = cluster.members.iter();
        daemons
            .map(|it| it.counter("datagrams_unknown_key"))
            .collect::<Vec<_>>()
    };
    let before = unheard();
    let mut crowd = Crowd::default();
    crowd.udp(lab, Path::Plain, Family::Ipv4, 20);
    wait_until("both have sent, and neither understands", DEADLINE, || {
        unheard()
            .iter()
            .zip(&before)
            .all(|(now, before)| *now > before + 10)
    });
    assert_eq!(table(&lab.gateways[0]).len(), 20);
    assert!(table(&lab.gateways[1]).is_empty());
}

#[test]
fn everything_replayed_in_order_and_shuffled_changes_no_entry_whoever_restarted() {
    let lab = Lab::new(2);
    let taps = [0, 1].map(|it| Tap::open(&lab, it));
    let mut cluster = Cluster::start(&lab, Transport::Unicast);
    drop(open_flows(&lab, Duration::from_secs(1)));
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 30);
    crowd.udp(&lab, Path::Through(1), Family::Ipv6, 30);
    wait_equal(&lab.gateways, DEADLINE);
    // What is recorded says that these live, and does not know of the ones after.
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    wait_equal(&lab.gateways, DEADLINE);
    let heard = taps.map(|it| it.packets());
    for heard in &heard {
        let datagrams = heard.iter().filter(|it| is_datagram(it)).count();
        assert!(datagrams > 30 && datagrams < heard.len(), "{datagrams}");
    }
    crowd.tcp(&lab, Path::Redirected, Family::Ipv6, 30);
    let before = wait_equal(&lab.gateways, DEADLINE);

    replay(&lab, &cluster, &heard, &before);
    for restarted in [&[1][..], &[0], &[0, 1]] {
        for index in restarted {
            cluster.members[*index].start(&lab.gateways[*index]);
        }
        cluster.wait_in_step();
        assert_eq!(wait_equal(&lab.gateways, DEADLINE), before);
        replay(&lab, &cluster, &heard, &before);
    }
}

/// Sends to each gateway every packet that it has heard once, in order and shuffled, and sees that each datagram was put
/// away and no table has changed.
#[track_caller]
fn replay(lab: &Lab, cluster: &Cluster, heard: &[Vec<Vec<u8>>; 2], before: &Table) {
    for (victim, heard) in heard.iter().enumerate() {
        let replayer = Replayer::new(lab, 1 - victim);
        let refused = || {
            let counted = CAUSES.map(|it| cluster.members[victim].counter(it));
            counted.iter().sum::<u64>()
        };
        for packets in [heard.clone(), shuffled(heard)] {
            // In portions that the victim's socket holds, however late it gets to them.
            for portion in packets.chunks(200) {
                let datagrams = portion.iter().filter(|it| is_datagram(it)).count();
                let expected = refused() + datagrams as u64;
                portion.iter().for_each(|it| replayer.send(it));
                wait_until("every one is put away", DEADLINE, || refused() >= expected);
            }
        }
    }
    for gateway in &lab.gateways {
        assert_eq!(&table(gateway), before);
    }
}

/// In another order, the same each time.
fn shuffled(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut shuffled = packets.to_vec();
    let mut random: u64 = 1;
    for last in (1..shuffled.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        shuffled.swap(last, (random >> 33) as usize % (last + 1));
    }
    shuffled
}

#[test]
fn keys_are_replaced_ten_times_under_load_and_no_change_is_lost() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let arrivals = Arrivals::listen(&lab.gateways[1], "10.0.0.100");
    let refused = || {
        let daemons = cluster.members.iter();
        daemons
            .flat_map(|it| CAUSES.map(|cause| it.counter(cause)))
            .collect::<Vec<_>>()
    };
    let before = refused();
    let flows = thread::scope(|scope| {
        let rolls = cluster.members.iter().map(|it| {
            scope.spawn(|| {
                for roll in 1..=10 {
                    let said = it.ask("keys roll");
                    assert_eq!(said, format!("key {roll} of this run is in use\n"));
                }
            })
        });
        let rolls: Vec<_> = rolls.collect();
        let mut flows = Vec::new();
        while rolls.iter().any(|it| !it.is_finished()) {
            flows.extend(open_flows(&lab, Duration::from_secs(1)));
        }
        flows
    });
    assert!(flows.len() > 1000, "{} flows are no load", flows.len());
    wait_until("every flow has arrived", DEADLINE, || {
        flows.iter().all(|it| arrivals.of(it.port()).is_some())
    });
    lab.gateways[0].run("conntrack -D -p udp -s 10.0.0.100");
    assert!(wait_equal(&lab.gateways, DEADLINE).is_empty());
    for daemon in &cluster.members {
        assert_eq!(daemon.counter("key_rolls"), 10);
    }
    assert_eq!(refused(), before, "{CAUSES:?}, of each member");
}

#[test]
fn keys_are_replaced_by_age_and_by_number_of_datagrams() {
    for more in [
        "keys: { max_age: 1s }",
        "keys: { max_packets: 1000 }\nliveness: { hello: 10ms }\ndelta: { flush: 100us }",
    ] {
        let lab = Lab::new(2);
        let settings = Settings {
            more,
            ..Settings::default()
        };
        let cluster = Cluster::start_with(&lab, settings);
        let mut flows = Vec::new();
        while cluster.members[0].counter("key_rolls") < 2 {
            flows.extend(open_flows(&lab, Duration::from_secs(1)));
            assert!(flows.len() < 20_000, "{more}");
        }
        let table = wait_equal(&lab.gateways, DEADLINE);
        assert_eq!(table.len(), flows.len(), "{more}");
        for daemon in &cluster.members {
            assert_eq!(daemon.counter("datagrams_forged"), 0);
        }
    }
}
