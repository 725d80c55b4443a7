use super::*;

#[test]
fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
    let mut samples = Samples::default();
    for value in [3.0, 1.0, 8.0] {
        samples.push(value);
    }
    assert_eq!((samples.median(), samples.range()), (3.0, (1.0, 8.0)));
    samples.push(4.0);
    assert_eq!(samples.median(), 3.5);
}

#[test]
fn a_quantile_is_a_value_that_was_measured() {
    let mut values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
    assert_eq!(quantile(&mut values, 0.50), Duration::from_millis(100));
    assert_eq!(quantile(&mut values, 0.99), Duration::from_millis(198));
    assert_eq!(quantile(&mut values[..1], 0.99), Duration::from_millis(1));
}

#[test]
fn processor_time_and_memory_of_this_process_are_read() {
    let pid = std::process::id();
    assert!(processor_time(pid) > Duration::ZERO);
    assert!(resident_bytes(pid) > 1 << 16);
}
