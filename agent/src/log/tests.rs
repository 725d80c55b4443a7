use super::*;

#[test]
fn first_line_passes_and_the_next_one_after_the_interval_counts_what_was_held_back() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut interval = Interval::new(Duration::from_secs(10));
    assert_eq!(interval.tick_at(at(0)), Some(0));
    assert_eq!(interval.tick_at(at(1)), None);
    assert_eq!(interval.tick_at(at(9)), None);
    assert_eq!(interval.tick_at(at(10)), Some(2));
    assert_eq!(interval.tick_at(at(19)), None);
    assert_eq!(interval.tick_at(at(60)), Some(1));
    assert_eq!(interval.tick_at(at(70)), Some(0));
}

#[test]
fn journal_is_only_what_our_stderr_is() {
    let stderr = std::fs::metadata("/proc/self/fd/2").unwrap();
    let (device, inode) = (stderr.dev(), stderr.ino());
    assert!(is_journal(Some(&format!("{device}:{inode}"))));
    assert!(!is_journal(Some(&format!("{device}:{}", inode + 1))));
    assert!(!is_journal(Some(&format!("{}:{inode}", device + 1))));
    for stream in [None, Some(""), Some(":"), Some("1"), Some("a:b")] {
        assert!(!is_journal(stream), "{stream:?}");
    }
}
