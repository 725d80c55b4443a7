use super::*;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// A pacer, and the time that passes for it.
struct Clock {
    pacer: Pacer,
    now: Duration,
}

impl Clock {
    fn new() -> Self {
        Self {
            pacer: Pacer::new(),
            now: us(1_000_000),
        }
    }

    /// Lets `micros` pass, then drains.
    fn drain(&mut self, micros: u64, events: usize) -> Wait {
        self.now += us(micros);
        self.pacer.handle_drain(self.now, events)
    }

    /// Drains of as many events as come at the rate while it waits, until the wait is steady.
    fn settle(&mut self, events_per_second: u64) -> Duration {
        let mut wait = WAIT_MIN;
        for _ in 0..50 {
            let events = wait.as_micros() as u64 * events_per_second / 1_000_000;
            match self.drain(wait.as_micros() as u64, events as usize) {
                Wait::For(next) => wait = next,
                Wait::Socket => panic!("{events_per_second} events a second are a load"),
            }
        }
        wait
    }
}

#[test]
fn rare_events_are_waited_for_on_the_socket() {
    let mut clock = Clock::new();
    for _ in 0..10_000 {
        assert_eq!(clock.drain(600, 1), Wait::Socket);
    }
}

#[test]
fn two_thousand_events_a_second_are_a_load_and_stay_one() {
    let mut clock = Clock::new();
    for _ in 1..BURST {
        assert_eq!(clock.drain(500, 1), Wait::Socket);
    }
    assert_eq!(clock.drain(500, 1), Wait::For(WAIT_MIN));
    assert_eq!(clock.settle(2_000), WAIT_MAX);
}

#[test]
fn a_burst_begins_a_load() {
    let mut clock = Clock::new();
    for _ in 1..BURST {
        assert_eq!(clock.drain(20, 1), Wait::Socket);
    }
    assert_eq!(clock.drain(20, 1), Wait::For(WAIT_MIN));
}

#[test]
fn one_large_drain_begins_a_load() {
    assert_eq!(Clock::new().drain(10_000_000, BURST), Wait::For(WAIT_MIN));
}

#[test]
fn under_load_a_drain_gives_about_a_batch() {
    for (rate, expected) in [
        (20_000, 2000..=2000),
        (200_000, 600..=680),
        (400_000, 300..=340),
        (2_000_000, 200..=200),
    ] {
        let mut clock = Clock::new();
        clock.drain(10, BURST);
        let wait = clock.settle(rate).as_micros();
        assert!(expected.contains(&wait), "{rate} a second: {wait} us");
    }
}

#[test]
fn a_load_ends_after_quiet_drains_in_a_row() {
    let mut clock = Clock::new();
    clock.drain(10, BURST);
    assert_eq!(clock.drain(200, 0), Wait::For(WAIT_MAX));
    assert_eq!(clock.drain(1000, 1), Wait::For(WAIT_MAX));
    assert_eq!(clock.drain(1000, 10), Wait::For(WAIT_MAX));
    assert_eq!(clock.drain(1000, 0), Wait::For(WAIT_MAX));
    assert_eq!(clock.drain(1000, 0), Wait::For(WAIT_MAX));
    assert_eq!(clock.drain(1000, 0), Wait::Socket);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut pacer = Pacer::new();
    assert_eq!(pacer.handle_drain(us(5000), 1), Wait::Socket);
    assert_eq!(pacer.handle_drain(us(10), 1), Wait::Socket);
}
