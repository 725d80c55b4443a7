use super::{BACKLOG, Flush, PROBE_MAX, Sender, Tombstones};
use crate::outbox::{Change, Outbox};
use crate::range::RangeSet;
use crate::record::{Family, FlowKey, MemberId, MemberSet, Record, ZoneDirection};
use crate::table::{Entry, Origin, Slot, Table};
use crate::time::Instant;
use crate::wire::Skipped;
use crate::wire::control::{ACK_RANGES_MAX, Ack};
use crate::wire::cursor::Reader;
use crate::wire::flow;
use crate::wire::header::Urgency;
use core::time::Duration;
use std::vec::Vec;

struct Bench {
    sender: Sender,
    table: Table,
    outbox: Outbox,
    now: Instant,
}

fn peer() -> MemberId {
    MemberId::new(2).unwrap()
}

fn live() -> MemberSet {
    [peer()].into_iter().collect()
}

impl Bench {
    /// With one peer that has been told everything there was: nothing, in delta 1.
    fn new(flows_max: usize) -> Self {
        let mut bench = Self {
            sender: Sender::new(live(), flows_max),
            table: Table::new(flows_max, [0, 0]),
            outbox: Outbox::default(),
            now: Instant::from_micros(1_000_000),
        };
        bench.tell();
        assert_eq!(bench.send(), Some(1));
        bench.ack(1, &[]);
        bench
    }

    fn tell(&mut self) {
        self.sender.tell_anew(peer());
        let base = self.sender.peer(peer()).unwrap().base();
        self.sender.handle_ask(peer(), base, 0);
    }

    fn open(&mut self, n: u16) -> Slot {
        let key = FlowKey {
            src: [0; 16],
            dst: [0; 16],
            l4: [n, 80],
            zone: 0,
            proto: 6,
            family: Family::V4,
            zone_direction: ZoneDirection::Both,
        };
        let slot = self.table.insert(Entry::new(key, Origin::Own)).unwrap();
        self.change(slot, Change::Upsert);
        slot
    }

    fn change(&mut self, slot: Slot, change: Change) {
        self.outbox.push(&mut self.table, slot, change);
    }

    fn send(&mut self) -> Option<u64> {
        let mut out = Vec::new();
        self.sender.poll_delta(
            &mut self.table,
            &mut self.outbox,
            Flush {
                live: live(),
                to_tell: live(),
                urgency: Urgency::Normal,
                bytes_max: 1400,
            },
            self.now,
            &mut out,
        )
    }

    fn ack(&mut self, frontier: u64, beyond: &[u64]) {
        let mut set = RangeSet::new(ACK_RANGES_MAX);
        beyond.iter().for_each(|seq| assert!(set.insert(*seq)));
        let base = self.sender.peer(peer()).unwrap().base();
        let ack = Ack {
            base,
            frontier,
            delay_micros: 0,
            refused: 0,
            beyond: set,
        };
        self.sender.handle_ack(peer(), &ack, self.now);
        self.sender.trim(&mut self.table, Tombstones::Free);
    }

    /// What is resent now: the sequence and first port of each record, by datagram.
    fn resends(&mut self) -> Vec<(u64, Vec<u16>)> {
        let (mut resends, mut out) = (Vec::new(), Vec::new());
        while self
            .sender
            .poll_resend(&self.table, 1400, &mut out)
            .is_some()
        {
            let mut reader = Reader::new(&out);
            let (seq, mut ports) = (reader.seq().unwrap(), Vec::new());
            while !reader.is_empty() {
                match flow::take_record(&mut reader, &mut Skipped::default())
                    .unwrap()
                    .unwrap()
                {
                    Record::Upsert { key, .. } | Record::Delete { key, .. } => {
                        ports.push(key.l4[0])
                    }
                    Record::Told { .. } => {}
                }
            }
            resends.push((seq, ports));
            out.clear();
        }
        resends
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }
}

/// PROTOCOL.md 5.3
#[test]
fn a_lost_delta_is_made_again_of_what_no_later_one_told() {
    let mut bench = Bench::new(1000);
    let slots = [bench.open(1), bench.open(2)];
    assert_eq!(bench.send(), Some(2));
    bench.change(slots[0], Change::Upsert);
    assert_eq!(bench.send(), Some(3));
    for n in 10..12 {
        bench.open(n);
        bench.send();
    }
    bench.ack(1, &[4]);
    assert_eq!(bench.resends(), [], "two later is late, not lost");
    bench.ack(1, &[5]);
    assert_eq!(
        bench.resends(),
        [(2, Vec::from([2]))],
        "flow 1 is in delta 3"
    );
    bench.pass(Duration::from_millis(50));
    bench.ack(1, &[5]);
    let again: Vec<u64> = bench.resends().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(again, [2, 3], "the resend was lost too");
    bench.ack(5, &[]);
    assert_eq!(bench.sender.poll_timeout(live()), None);
}

#[test]
fn a_tombstone_is_freed_when_every_peer_has_acknowledged_it() {
    let mut bench = Bench::new(1000);
    let slot = bench.open(1);
    bench.send();
    bench.change(slot, Change::Delete);
    bench.send();
    bench.ack(2, &[]);
    assert_eq!(bench.table.len(), 1);
    bench.ack(3, &[]);
    assert!(bench.table.is_empty());
}

/// PROTOCOL.md 5.5
#[test]
fn a_peer_behind_the_log_is_told_anew_and_tombstones_do_not_fill_the_table() {
    let mut bench = Bench::new(400);
    for n in 0..350 {
        let slot = bench.open(n);
        bench.send();
        bench.change(slot, Change::Delete);
        bench.send();
        bench.sender.trim(&mut bench.table, Tombstones::Free);
    }
    assert!(bench.table.len() <= 100, "{}", bench.table.len());
    let last = bench.sender.last_seq();
    bench.ack(1, &[last]);
    assert!(bench.sender.take_base_changed());
    let peer = bench.sender.peer(peer()).unwrap();
    assert!(peer.is_in_bulk_update() && peer.base() == last + 1);
}

/// PROTOCOL.md 5.3
#[test]
fn a_silent_peer_is_probed_at_both_ends_ever_more_rarely() {
    let mut bench = Bench::new(1000);
    for n in 0..5 {
        bench.open(n);
        bench.send();
    }
    let mut waits = Vec::new();
    for _ in 0..12 {
        let at = bench.sender.poll_timeout(live()).unwrap();
        waits.push(at.since(bench.now));
        bench
            .sender
            .handle_timeout(live(), Instant::from_micros(at.as_micros() - 1));
        assert_eq!(bench.resends(), [], "not before it was announced");
        bench.now = at;
        bench.sender.handle_timeout(live(), at);
        let probed: Vec<u64> = bench.resends().into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(probed, [2, 6]);
    }
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(waits.last(), Some(&PROBE_MAX));
    bench.ack(1, &[6]);
    assert_eq!(bench.resends().len(), 3, "delta 2 is on its way");
    bench.pass(Duration::from_millis(20));
    bench.ack(1, &[6]);
    assert_eq!(bench.resends().len(), 4);
}

#[test]
fn the_round_trip_is_measured_by_what_was_sent_once_and_without_the_receivers_delay() {
    let mut bench = Bench::new(1000);
    bench.open(1);
    bench.send();
    bench.pass(Duration::from_millis(8));
    let ack = Ack {
        base: 1,
        frontier: 2,
        delay_micros: 5_000,
        refused: 0,
        beyond: RangeSet::new(1),
    };
    let before = bench.sender.peer(peer()).unwrap().rtt().unwrap();
    bench.sender.handle_ack(peer(), &ack, bench.now);
    let rtt = bench.sender.peer(peer()).unwrap().rtt().unwrap();
    assert_eq!(rtt, (before * 7 + Duration::from_millis(3)) / 8);
    bench.pass(Duration::from_secs(9));
    bench.sender.handle_ack(peer(), &ack, bench.now);
    assert_eq!(
        bench.sender.peer(peer()).unwrap().rtt(),
        Some(rtt),
        "nothing new in it"
    );
}

/// PROTOCOL.md 5.3
#[test]
fn an_acknowledgement_that_cannot_be_changes_nothing() {
    let mut bench = Bench::new(1000);
    bench.open(1);
    bench.send();
    let far = 1 << 40;
    for (base, frontier, beyond) in [
        (2, 2, None),
        (1, 3, None),
        (1, far, None),
        (1, 1, Some(far)),
        (0, 7, None),
    ] {
        let mut set = RangeSet::new(1);
        beyond.map(|seq| set.insert(seq));
        let ack = Ack {
            base,
            frontier,
            delay_micros: u32::MAX,
            refused: 0,
            beyond: set,
        };
        bench.sender.handle_ack(peer(), &ack, bench.now);
        let peer = bench.sender.peer(peer()).unwrap();
        assert_eq!((peer.frontier(), peer.base()), (1, 1), "{ack:?}");
    }
}

/// PROTOCOL.md 7.13
#[test]
fn what_is_no_news_waits_while_a_live_peer_has_much_to_acknowledge() {
    let mut bench = Bench::new(1000);
    for n in 0..32 {
        assert!(bench.sender.keeps_up(live()), "{n} deltas");
        bench.open(n);
        bench.send();
    }
    assert!(!bench.sender.keeps_up(live()));
    assert!(bench.sender.keeps_up(MemberSet::default()));
    // One of them is lost.
    bench.ack(1, &[3]);
    assert!(bench.sender.keeps_up(live()));
}

/// PROTOCOL.md 5.4
#[test]
fn a_bulk_update_waits_for_its_peer_and_ends_with_the_mark() {
    let mut bench = Bench::new(60_000);
    for n in 0..60_000 {
        bench.open(n);
    }
    while !bench.outbox.is_empty() {
        bench.send();
    }
    bench.tell();
    let base = bench.sender.last_seq() + 1;
    while bench.send().is_some() {}
    assert_eq!(bench.sender.last_seq() + 1 - base, BACKLOG);
    assert!(!bench.sender.wants_to_tell(live()));
    while bench.sender.peer(peer()).unwrap().is_in_bulk_update() {
        bench.ack(bench.sender.last_seq(), &[]);
        while bench.send().is_some() {}
    }
    assert_eq!(bench.sender.sent.bulk_updates, 2);
}
