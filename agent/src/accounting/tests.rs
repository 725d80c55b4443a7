use super::*;
use ccp::record::{Family, ZoneDirection};

const INTERVAL: Duration = Duration::from_secs(60);

fn member(id: u8) -> MemberId {
    MemberId::new(id).unwrap()
}

fn after(seconds: u64) -> Instant {
    Instant::default() + Duration::from_secs(seconds)
}

fn key(port: u16) -> FlowKey {
    FlowKey {
        src: [1; 16],
        dst: [2; 16],
        l4: [port, 80],
        zone: 0,
        proto: 6,
        family: Family::V4,
        zone_direction: ZoneDirection::Both,
    }
}

/// So many packets there, of ten bytes each, and one back.
fn traffic(packets: u64) -> Traffic {
    [packets, 1].map(|packets| Counters {
        packets,
        bytes: packets * 10,
    })
}

/// Reads a table of these rows.
fn pass(books: &mut Accounting, rows: &[(u16, u64)], now: Instant) -> bool {
    books.begin_pass();
    for (port, packets) in rows {
        books.note_row(&key(*port), "web", &traffic(*packets));
    }
    books.end_pass(now)
}

/// Packets of `web` there, and back.
fn web(totals: &Totals) -> [u64; 2] {
    totals
        .0
        .get("web")
        .copied()
        .unwrap_or_default()
        .map(|it| it.packets)
}

fn counting(run: u64) -> Accounting {
    let mut books = Accounting::new(Some(INTERVAL), run, after(0));
    pass(&mut books, &[], after(0));
    books
}

#[test]
fn what_grew_since_the_last_reading_is_added_and_the_rest_at_the_end() {
    let mut books = counting(1);
    assert!(!pass(&mut books, &[(1, 5), (2, 7)], after(59)));
    assert_eq!(web(&books.own()), [12, 2]);
    assert!(
        pass(&mut books, &[(1, 8), (2, 7)], after(60)),
        "an interval is over"
    );
    assert_eq!(web(&books.own()), [15, 2]);
    books.note_end(&key(1), "web", &traffic(9));
    assert_eq!(web(&books.own()), [16, 2]);
    books.note_end(&key(3), "web", &traffic(4));
    assert_eq!(
        web(&books.own()),
        [20, 3],
        "it began and ended between two readings"
    );
    assert_eq!(books.own().sum()[0].bytes, 200);
    assert_eq!(books.own().0.get("dns"), None);
}

#[test]
fn what_was_there_before_counts_from_then_on() {
    let mut books = Accounting::new(Some(INTERVAL), 1, after(0));
    books.note_end(&key(2), "web", &traffic(50));
    pass(&mut books, &[(1, 100)], after(0));
    assert_eq!(web(&books.own()), [0, 0]);
    pass(&mut books, &[(1, 103)], after(1));
    assert_eq!(web(&books.own()), [3, 0]);
}

#[test]
fn an_entry_in_the_place_of_one_whose_end_was_lost_counts_whole() {
    let mut books = counting(1);
    pass(&mut books, &[(1, 100), (2, 10)], after(1));
    pass(&mut books, &[(1, 4)], after(2));
    assert_eq!(web(&books.own()), [114, 3]);
    pass(&mut books, &[(1, 4), (2, 12)], after(3));
    assert_eq!(
        web(&books.own()),
        [126, 4],
        "the second was not forgotten for another"
    );
}

/// Carries what one has to say to the other.
fn tell(from: &mut Accounting, [from_id, to_id]: [u8; 2], to: &mut Accounting, now: Instant) {
    while let Some(told) = from.poll(member(to_id)) {
        let told = TotalsMessage::decode(&told.encode()).expect("it is well formed");
        to.handle(member(from_id), told, now);
    }
}

#[test]
fn a_survivor_has_what_the_dead_had_told_and_gives_it_back() {
    let [mut a, mut b] = [counting(1), counting(2)];
    a.handle_link_up(member(2));
    b.handle_link_up(member(1));
    pass(&mut a, &[(1, 5)], after(60));
    tell(&mut a, [1, 2], &mut b, after(60));
    assert_eq!(
        b.of_peer(member(1)).map(|(it, at)| (web(&it), at)),
        Some(([5, 1], after(60)))
    );
    // What comes now dies with it.
    pass(&mut a, &[(1, 9)], after(61));
    b.handle_link_down(member(1));
    pass(&mut b, &[(1, 2)], after(120));

    let mut a = counting(3);
    pass(&mut a, &[(7, 2)], after(1));
    a.handle_link_up(member(2));
    b.handle_link_up(member(1));
    tell(&mut a, [1, 2], &mut b, after(121));
    assert_eq!(
        b.of_peer(member(1)).map(|(it, _)| web(&it)),
        Some([5, 1]),
        "not less than before"
    );
    tell(&mut b, [2, 1], &mut a, after(121));
    assert_eq!(web(&a.own()), [7, 2]);
    assert_eq!(web(a.since_start()), [2, 1]);
    assert_eq!(a.of_peer(member(2)).map(|(it, _)| web(&it)), Some([2, 1]));
    pass(&mut a, &[(7, 3)], after(120));
    tell(&mut a, [1, 2], &mut b, after(122));
    assert_eq!(b.of_peer(member(1)).map(|(it, _)| web(&it)), Some([8, 2]));

    // A link that comes again brings nothing twice.
    for _ in 0..3 {
        a.handle_link_up(member(2));
        b.handle_link_up(member(1));
        tell(&mut a, [1, 2], &mut b, after(123));
        tell(&mut b, [2, 1], &mut a, after(123));
    }
    assert_eq!(web(&a.own()), [8, 2]);
    assert_eq!(b.of_peer(member(1)).map(|(it, _)| web(&it)), Some([8, 2]));
}

#[test]
fn who_does_not_count_keeps_what_others_tell_and_tells_nothing() {
    let mut books = Accounting::new(None, 1, after(0));
    books.handle_link_up(member(2));
    books.note_row(&key(1), "web", &traffic(3));
    assert!(!pass(&mut books, &[(1, 5)], after(100)));
    assert_eq!(books.poll(member(2)), None);
    let mut other = counting(2);
    other.handle_link_up(member(1));
    pass(&mut other, &[(1, 5)], after(60));
    tell(&mut other, [2, 1], &mut books, after(60));
    assert_eq!(
        books.of_peer(member(2)).map(|(it, _)| web(&it)),
        Some([5, 1])
    );
}

#[test]
fn services_of_too_many_names_count_as_none() {
    let mut totals = Totals::default();
    for number in 0..SERVICES_MAX + 10 {
        totals.change(&format!("s{number}"), &traffic(1), add);
    }
    assert_eq!(totals.iter().count(), SERVICES_MAX + 1);
    assert_eq!(totals.0.get("").map(|it| it[0].packets), Some(10));
}

#[test]
fn what_no_member_would_tell_is_refused() {
    let mut totals = Totals::default();
    totals.change("web", &traffic(1), add);
    totals.change("", &traffic(2), add);
    let told = TotalsMessage {
        whose: Whose::Mine(77),
        totals,
    };
    let body = told.encode();
    assert_eq!(TotalsMessage::decode(&body), Some(told));
    for length in [0, 1, 8, 10, body.len() - 1] {
        assert_eq!(
            TotalsMessage::decode(&body[..length]),
            None,
            "{length} bytes"
        );
    }
    let mut other = body.clone();
    other[0] = 2;
    assert_eq!(TotalsMessage::decode(&other), None);
    let at = body.windows(3).position(|it| it == b"web").unwrap();
    let mut escape = body;
    escape[at] = 0x1b;
    assert_eq!(TotalsMessage::decode(&escape), None);
}
