use super::*;
use crate::policy::tests::key;

fn flow(number: u16) -> FlowKey {
    let [high, low] = number.to_be_bytes();
    key(6, &format!("10.0.{high}.{low}"), "10.1.0.1", [1000, 80])
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(millis * 1000)
}

fn due(delays: &mut Delays, millis: u64) -> Vec<FlowKey> {
    delays.advance(at(millis));
    std::iter::from_fn(|| delays.poll()).collect()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn none_comes_before_its_delay_is_over_nor_a_second_after() {
    let mut delays = Delays::default();
    delays.insert(&flow(1), secs(3), at(500)).unwrap();
    delays.insert(&flow(2), secs(1), at(500)).unwrap();
    assert_eq!(delays.poll_timeout(), Some(at(2000)));
    assert_eq!(
        [1, 2, 3].map(|it| delays.due(&flow(it))),
        [Some(at(4000)), Some(at(2000)), None]
    );
    assert_eq!(due(&mut delays, 1999), []);
    assert_eq!(due(&mut delays, 2000), [flow(2)]);
    assert_eq!(delays.poll_timeout(), Some(at(4000)));
    assert_eq!(due(&mut delays, 3999), []);
    assert_eq!(due(&mut delays, 4000), [flow(1)]);
    assert_eq!((delays.poll_timeout(), delays.len()), (None, 0));
}

#[test]
fn one_that_ended_never_comes() {
    let mut delays = Delays::default();
    for number in 0..5 {
        delays.insert(&flow(number), secs(1), at(0)).unwrap();
    }
    for number in [0, 2, 4] {
        assert!(delays.remove(&flow(number)));
        assert!(!delays.remove(&flow(number)));
    }
    assert_eq!(due(&mut delays, 1000), [flow(1), flow(3)]);
}

#[test]
fn one_whose_delay_is_ended_comes_at_once() {
    let mut delays = Delays::default();
    delays.insert(&flow(1), secs(30), at(0)).unwrap();
    assert!(delays.end(&flow(1)));
    assert!(!delays.end(&flow(2)));
    assert!(delays.has_due() && delays.contains(&flow(1)));
    assert_eq!(delays.poll(), Some(flow(1)));
    assert_eq!(delays.poll_timeout(), None);
}

#[test]
fn one_that_waits_already_goes_on_as_it_does() {
    let mut delays = Delays::default();
    delays.insert(&flow(1), secs(1), at(0)).unwrap();
    delays.insert(&flow(1), secs(9), at(900)).unwrap();
    assert_eq!(due(&mut delays, 1000), [flow(1)]);
}

#[test]
fn a_long_pause_makes_all_due() {
    let mut delays = Delays::default();
    for number in 0..3600 {
        delays
            .insert(&flow(number), secs(1 + u64::from(number)), at(0))
            .unwrap();
    }
    assert_eq!(due(&mut delays, 100_000_000).len(), 3600);
    delays
        .insert(&flow(1), secs(3600), at(100_000_500))
        .unwrap();
    assert_eq!(delays.poll_timeout(), Some(at(103_601_000)));
}

#[test]
fn there_is_a_bound() {
    let mut delays = Delays::new(2);
    delays.insert(&flow(1), secs(1), at(0)).unwrap();
    delays.insert(&flow(2), secs(1), at(0)).unwrap();
    assert_eq!(delays.insert(&flow(3), secs(1), at(0)), Err(Full));
    assert_eq!(delays.insert(&flow(2), secs(1), at(0)), Ok(()));
}

#[test]
fn a_hundred_thousand_cost_64_bytes_each_and_one_timer() {
    let info = allocation_counter::measure(|| {
        let mut delays = Delays::default();
        for number in 0..100_000_u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let key = key(6, &format!("10.{a}.{b}.{c}"), "10.1.0.1", [1000, 80]);
            delays.insert(&key, secs(15), at(0)).unwrap();
        }
        let mut turns = 0;
        while let Some(timeout) = delays.poll_timeout() {
            delays.advance(timeout);
            turns += 1;
        }
        assert_eq!(turns, 1);
    });
    // While the index grows, the old one is there too; then 4,096 lists.
    let most = 100_000 * 64 + 4097 * 8;
    let growing = 131_072 * 5 / 2;
    assert!(info.bytes_max < most + growing, "{} bytes", info.bytes_max);
    assert!(size_of::<Node>() == 52);
}
