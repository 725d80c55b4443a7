//! The kernel's connection table, as the tool `conntrack` shows it, and where two tables differ.
//!
//! A line of the tool, less what differs rightly between two gateways that agree (how long an entry has to live, how
//! many use it), is an entry. The sync network's own flows are left out.

use std::collections::BTreeSet;

use crate::netns::Namespace;

/// The entries of a gateway, a line each.
pub type Table = BTreeSet<String>;

/// Reads the table of a gateway.
#[track_caller]
pub fn table(gateway: &Namespace) -> Table {
    let families =
        ["ipv4", "ipv6"].map(|it| gateway.run(&format!("conntrack -L -o extended -f {it}")));
    let lines = families.iter().flat_map(|it| it.lines());
    lines
        .filter(|it| !it.contains("src=192.0.2."))
        .map(entry)
        .collect()
}

/// What one table has and the other has not, signed as in a diff.
pub fn differences(ours: &Table, theirs: &Table) -> Vec<String> {
    let missing = ours.difference(theirs).map(|it| format!("- {it}"));
    let more = theirs.difference(ours).map(|it| format!("+ {it}"));
    missing.chain(more).collect()
}

/// `ipv4 2 tcp 6 431999 ESTABLISHED src=... mark=0 use=1`, without the numbers of the protocols and what passes.
fn entry(line: &str) -> String {
    let words = line.split_ascii_whitespace();
    let kept = words.enumerate().filter(|(position, word)| match position {
        0 | 2 => true,
        1 | 3 | 4 => false,
        _ => !word.starts_with("use="),
    });
    kept.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}
