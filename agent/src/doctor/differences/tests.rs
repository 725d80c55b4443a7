use super::*;

const ALIKE: [(&str, u64); 7] = [
    (TABLE, 262_144),
    (
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        432_000,
    ),
    ("net.netfilter.nf_conntrack_tcp_loose", 0),
    ("network sync", 1500),
    (POLICY, 77),
    ("interface lan", 1500),
    ("interface wan", 1500),
];

/// A peer that has these instead, and lacks what is 0.
fn peer(but: &[(&str, u64)], clock_ahead_ms: i64) -> FactsReport {
    let facts = |of: &[(&str, u64)]| -> Facts {
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    };
    let kept = ALIKE
        .iter()
        .filter(|(name, _)| but.iter().all(|(other, _)| other != name));
    let theirs: Vec<_> = kept
        .chain(but)
        .copied()
        .filter(|it| it.1 != 0 || it.0.contains("loose"))
        .collect();
    FactsReport {
        facts: facts(&ALIKE),
        peers: vec![PeerFacts {
            id: 2,
            name: "gw-b".into(),
            clock_ahead_ms,
            facts: facts(&theirs),
        }],
    }
}

#[track_caller]
fn only_finding(report: &FactsReport) -> Finding {
    let findings = compare(report);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.into_iter().next().unwrap()
}

#[test]
fn machines_that_are_alike_are_well() {
    let finding = only_finding(&peer(&[], 900));
    assert_eq!((finding.verdict, finding.check), (Verdict::Ok, "peer"));
}

#[test]
fn a_smaller_table_is_bad_and_is_to_be_raised_where_it_is() {
    let finding = only_finding(&peer(&[(TABLE, 65_536)], 0));
    assert_eq!(
        (finding.verdict, finding.check),
        (Verdict::Bad, "peer table")
    );
    assert_eq!(
        finding.cure,
        "on gw-b: sysctl -w net.netfilter.nf_conntrack_max=262144"
    );
    let finding = only_finding(&peer(&[(TABLE, 1_000_000)], 0));
    assert!(finding.cure.starts_with("on this machine: "), "{finding}");
}

#[test]
fn settings_that_differ_are_named_with_the_command_that_makes_them_equal() {
    let finding = only_finding(&peer(
        &[("net.netfilter.nf_conntrack_tcp_timeout_established", 600)],
        0,
    ));
    assert_eq!(finding.check, "peer timers");
    assert_eq!(
        finding.found,
        "nf_conntrack_tcp_timeout_established is 432000 here, 600 on gw-b"
    );
    let finding = only_finding(&peer(&[("net.netfilter.nf_conntrack_tcp_loose", 1)], 0));
    assert_eq!(
        (finding.verdict, finding.check),
        (Verdict::Warning, "peer sysctls")
    );
    assert_eq!(
        finding.cure,
        "if gw-b is right: sysctl -w net.netfilter.nf_conntrack_tcp_loose=1"
    );
}

#[test]
fn interfaces_differ_by_name_and_by_mtu_and_a_sync_network_is_worse() {
    let finding = only_finding(&peer(&[("interface wan", 1400)], 0));
    assert_eq!(
        (finding.verdict, finding.check),
        (Verdict::Warning, "peer mtu")
    );
    let finding = only_finding(&peer(&[("interface wan", 0), ("interface eth7", 1500)], 0));
    assert_eq!(finding.found, "wan is only here; eth7 is only on gw-b");
    let finding = only_finding(&peer(&[("network sync", 9000)], 0));
    assert_eq!(
        (finding.verdict, finding.check),
        (Verdict::Bad, "peer network")
    );
}

#[test]
fn clocks_more_than_a_second_apart_are_named() {
    assert_eq!(
        only_finding(&peer(&[], 61_500)).found,
        "the clock of gw-b is 61 s ahead of this one"
    );
    assert_eq!(
        only_finding(&peer(&[], -2000)).found,
        "the clock of gw-b is 2 s behind this one"
    );
}

#[test]
fn what_only_one_version_tells_is_no_difference() {
    let finding = only_finding(&peer(
        &[
            ("net.netfilter.nf_conntrack_future", 3),
            ("something else", 4),
        ],
        0,
    ));
    assert_eq!(finding.verdict, Verdict::Ok);
}

#[test]
fn each_difference_is_logged_once_however_often_it_is_told() {
    let mut differences = Differences::default();
    differences.look(&peer(&[(TABLE, 65_536)], 0));
    assert_eq!(differences.logged.len(), 1);
    let before = differences.logged.clone();
    differences.look(&peer(&[(TABLE, 32_768)], 0));
    assert_eq!(differences.logged, before, "not so soon");
    differences.look(&peer(&[], 0));
    assert_eq!(differences.logged, [], "it is mended");
}

#[test]
fn another_policy_is_a_warning() {
    let finding = only_finding(&peer(&[(POLICY, 78)], 0));
    assert_eq!(
        (finding.verdict, finding.check),
        (Verdict::Warning, "peer policy")
    );
}
