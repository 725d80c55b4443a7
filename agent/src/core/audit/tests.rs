use crate::core::tests::core;
use ccp::time::Instant;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// With rounds that take so long of a processor each, when the next begins after one has ended.
fn rest_after(spent: Duration) -> Duration {
    let mut core = core(1, 7, 9);
    let mut ended = Duration::ZERO;
    // What a reading took that had to be begun again counts as well.
    for passed in [SECOND, 2 * SECOND] {
        let now = Instant::default() + passed;
        core.handle_timeout(now);
        assert!(core.is_auditing());
        core.begin_pass();
        core.note_audit_time(spent / 2);
        if passed == SECOND {
            core.fail_pass();
            assert_eq!(core.rounds(), 0);
        } else {
            core.end_pass();
            core.handle_timeout(now);
            ended = passed;
        }
    }
    let now = Instant::default() + ended;
    assert_eq!(core.rounds(), 1);
    assert!(!core.is_auditing());
    let report = core.audit(now);
    assert_eq!(Duration::from_micros(report.longest_us), spent / 2);
    assert_eq!(
        report.last.map(|round| round.cpu_us),
        Some(u64::try_from(spent.as_micros()).unwrap())
    );
    let counters = core.counters();
    assert!(counters.contains(&("audit_cpu_us".into(), spent.as_micros() as u64)));
    core.pass_timeout().unwrap().since(now)
}

#[test]
fn after_a_round_there_is_a_rest_so_that_audits_take_two_percent_of_a_processor_at_most() {
    // The interval.
    assert_eq!(rest_after(Duration::ZERO), 60 * SECOND);
    assert_eq!(rest_after(Duration::from_millis(300)), 60 * SECOND);
    assert_eq!(rest_after(Duration::from_millis(1200)), 60 * SECOND);
    assert_eq!(rest_after(Duration::from_millis(1500)), 75 * SECOND);
    assert_eq!(rest_after(20 * SECOND), 1000 * SECOND);
}
