//! Full syncs of the real daemons: a joiner gets everything over TLS while the table changes, from the next peer if the
//! first one dies, again on the operator's wish; and a member that is killed again and again agrees in the end.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use conntrack::{Flow, Injector};
use tests::cluster::{Cluster, Daemon, Settings};
use tests::lab::Lab;
use tests::netns::{Namespace, holds_within, wait_until};
use tests::table::{established, wait_equal};
use tests::wan::Wan;

const FLOWS: u32 = 50_000;
/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Flows that begin, and as many that end, in each of these intervals: 2,000 changes a second.
const CHANGES: u32 = 100;
const INTERVAL: Duration = Duration::from_millis(100);

/// One test at a time: each keeps three kernels busy, and a snapshot that stalls for 3 s breaks off.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Flows that are put into a gateway's table, and taken out again, by hand.
struct Load<'a> {
    gateway: &'a Namespace,
    flows: Range<u32>,
}

impl<'a> Load<'a> {
    fn new(gateway: &'a Namespace) -> Self {
        Self {
            gateway,
            flows: 0..0,
        }
    }

    fn open(&mut self, count: u32) {
        let new = self.flows.end..self.flows.end + count;
        self.flows.end = new.end;
        self.change(new, Injector::create);
    }

    fn close(&mut self, count: u32) {
        let old = self.flows.start..self.flows.start + count;
        self.flows.start = old.end;
        self.change(old, Injector::delete);
    }

    fn change(&self, flows: Range<u32>, how: fn(&mut Injector, &Flow) -> usize) {
        self.gateway.inside(|| {
            let mut injector = Injector::open().expect("a socket of the kernel's");
            for flow in flows {
                how(&mut injector, &numbered(flow));
                if injector.len() == 64 || flow % 64 == 0 {
                    injector
                        .commit(&mut |_, outcome| assert!(outcome.is_ok(), "{outcome:?}"))
                        .expect("the kernel answers");
                }
            }
            injector
                .commit(&mut |_, outcome| assert!(outcome.is_ok(), "{outcome:?}"))
                .expect("the kernel answers");
        });
    }

    /// Flows begin and end at a steady pace until it is told to stop.
    fn go_on(&mut self, stop: &AtomicBool) {
        let start = Instant::now();
        let mut turns = 0;
        let told = || stop.load(Ordering::Relaxed);
        while !holds_within((INTERVAL * turns).saturating_sub(start.elapsed()), told) {
            self.open(CHANGES);
            self.close(CHANGES);
            turns += 1;
        }
    }
}

fn is_complete(daemon: &Daemon) -> bool {
    daemon
        .status()
        .is_some_and(|status| status["sync"]["complete"] == true)
}

fn numbered(number: u32) -> Flow {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    let client = Ipv4Addr::new(10, 0, 0, 100 + host as u8);
    established(client, port as u16, Ipv4Addr::new(10, 1, 0, 99))
}

#[test]
fn a_joiner_gets_50000_flows_while_2000_a_second_change_and_again_when_it_is_told_to() {
    let _alone = alone();
    let lab = Lab::new(3);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    for member in [0, 1] {
        cluster.members[member].start(&lab.gateways[member]);
    }
    cluster.wait_in_step();
    let mut load = Load::new(&lab.gateways[0]);
    load.open(FLOWS);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| load.go_on(&stop));
        let joiner = &mut cluster.members[2];
        joiner.start(&lab.gateways[2]);
        wait_until("the joiner has everything", DEADLINE, || {
            is_complete(joiner)
        });
        assert!(joiner.counter("snapshot_rows_received") >= u64::from(FLOWS) * 9 / 10);
        assert!(joiner.log().contains("full sync is over"));
        joiner.ask("resync");
        assert!(is_complete(joiner));
        assert_eq!(joiner.counter("snapshots_fetched"), 2);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), load.flows.len());
    assert_eq!(cluster.members[2].counter("snapshots_broken"), 0);
}

#[test]
fn a_joiner_far_away_gets_everything_through_100_ms_and_5_percent_loss_each_way() {
    let _alone = alone();
    let lab = Lab::new(2);
    let length = Duration::from_millis(100);
    let ways = (lab.gateways.iter()).map(|it| Wan::before(it, "sync0", length, 20));
    let _ways: Vec<_> = ways.collect();
    let mut cluster = Cluster::configure(&lab, Settings::default());
    cluster.members[0].start(&lab.gateways[0]);
    wait_until("the first has met nobody", DEADLINE, || {
        is_complete(&cluster.members[0])
    });
    let mut load = Load::new(&lab.gateways[0]);
    load.open(5_000);

    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| load.go_on(&stop));
        let joiner = &mut cluster.members[1];
        joiner.start(&lab.gateways[1]);
        wait_until("the joiner has everything", DEADLINE, || {
            is_complete(joiner)
        });
        println!("complete after {:?}", begin.elapsed());
        // Where a datagram was lost it may have been told everything instead.
        joiner.ask("resync");
        assert!(joiner.counter("snapshot_rows_received") >= 4_000);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), load.flows.len());
}

#[test]
fn a_server_that_dies_half_way_is_followed_by_the_next_which_gives_the_rest() {
    let _alone = alone();
    let lab = Lab::new(3);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    for member in [0, 1] {
        cluster.members[member].start(&lab.gateways[member]);
    }
    cluster.wait_in_step();
    let mut load = Load::new(&lab.gateways[1]);
    load.open(FLOWS);
    wait_equal(&lab.gateways[..2], DEADLINE);
    for gateway in &lab.gateways[..2] {
        gateway.nft(
            "table inet slow { chain output { type filter hook output priority 0;
             meta l4proto tcp limit rate over 500 kbytes/second burst 64 kbytes drop; }; }",
        );
    }
    let (rest, joiner) = cluster.members.split_at_mut(2);
    let joiner = &mut joiner[0];
    joiner.start(&lab.gateways[2]);
    let mut server = None;
    wait_until("some parts are whole", DEADLINE, || {
        let status = joiner.status().unwrap_or_default();
        server = status["sync"]["from"].as_u64();
        status["sync"]["parts"].as_u64() >= Some(4)
    });
    let server = server.expect("a peer gives the parts");
    rest[server as usize - 1].process().kill();
    wait_until("the joiner has everything", DEADLINE, || {
        is_complete(joiner)
    });
    assert_eq!(joiner.counter("snapshots_fetched"), 2);
    // The network is slow enough to break more than the one that was killed.
    assert!(joiner.counter("snapshots_broken") >= 1);
    let rows = joiner.counter("snapshot_rows_received");
    assert!(rows < u64::from(FLOWS) * 6 / 5, "{rows} rows: from nothing");
    assert_eq!(wait_equal(&lab.gateways, DEADLINE).len(), load.flows.len());
}

#[test]
fn a_member_that_is_killed_ten_times_under_load_agrees_in_the_end() {
    let _alone = alone();
    let lab = Lab::new(2);
    let mut cluster = Cluster::configure(&lab, Settings::default());
    for (member, gateway) in cluster.members.iter_mut().zip(&lab.gateways) {
        member.start(gateway);
    }
    cluster.wait_in_step();
    let mut load = Load::new(&lab.gateways[0]);
    load.open(5_000);

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| load.go_on(&stop));
        for kill in 0..10 {
            // The joiner and the one that gives in turns.
            let member = kill % 2;
            let daemon = &mut cluster.members[1 - member];
            daemon.process().kill();
            daemon.start(&lab.gateways[1 - member]);
            wait_until("the member has everything", DEADLINE, || {
                is_complete(daemon)
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    let table = wait_equal(&lab.gateways, DEADLINE);
    // What ended while its gateway's daemon was dead may stay where the other was killed as well (PROTOCOL.md 8).
    let lost = load.flows.filter(|flow| {
        let port = format!(" sport={} ", 10_000 + flow % 50_000);
        !table.iter().any(|entry| entry.contains(&port))
    });
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<u32>::new());
}
