use super::Finding;

#[test]
fn what_is_wrong_takes_three_lines_within_100_columns() {
    let finding = Finding::bad(
        "events",
        "net.netfilter.nf_conntrack_events is 0",
        "the kernel tells of no change of its table, so none is replicated, however many flows may pass and change",
        "sysctl -w net.netfilter.nf_conntrack_events=2",
    );
    let text = finding.to_string();
    let expected = "\
bad      events        net.netfilter.nf_conntrack_events is 0
         why           the kernel tells of no change of its table, so none is replicated, however
                       many flows may pass and change
         cure          sysctl -w net.netfilter.nf_conntrack_events=2
";
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.len() <= 100));
    assert_eq!(
        Finding::ok("table", "5 entries of 10").to_string(),
        "ok       table         5 entries of 10\n"
    );
}
