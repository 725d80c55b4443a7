//! What of the members' machines should be alike and is not: compared from what they tell each other ([`crate::facts`]).

use std::time::Duration;

use super::{Finding, Verdict};
use crate::control::answer::facts::{FactsReport, PeerFacts};
use crate::facts::{Facts, INTERFACE, NETWORK, POLICY, SYSCTL};
use crate::log::Interval;

/// Differences of a kind that are named.
const NAMED_MAX: usize = 3;
/// Clocks that are closer than this are as good as equal: what is said travels, too.
const CLOCK_MS_MAX: u64 = 1000;
/// Settings that have their own finding, or are derived from what has.
const TABLE: &str = "net.netfilter.nf_conntrack_max";
const DERIVED: &[&str] = &[TABLE, "net.netfilter.nf_conntrack_expect_max"];

/// What differs between this machine and each of its peers'.
pub fn compare(report: &FactsReport) -> Vec<Finding> {
    let of_peers = report.peers.iter().map(|peer| {
        let mut findings = compare_one(&report.facts, peer);
        if findings.is_empty() {
            let found = format!("{} has the same settings, interfaces and clock", peer.name);
            findings.push(Finding::ok("peer", found));
        }
        findings
    });
    of_peers.flatten().collect()
}

fn compare_one(own: &Facts, peer: &PeerFacts) -> Vec<Finding> {
    let name = peer.name.as_str();
    let differing: Vec<_> = (own.iter())
        .filter_map(|(fact, here)| Some((fact, here, peer.facts.value(fact)?)))
        .filter(|(_, here, there)| here != there)
        .collect();
    let select = |is_it: &dyn Fn(&str) -> bool| -> Vec<(&str, u64, u64)> {
        let of_kind = differing.iter().copied().filter(|(fact, _, _)| is_it(fact));
        of_kind.collect()
    };
    let is_timeout = |fact: &str| fact.starts_with(SYSCTL) && fact.contains("_timeout");
    let is_setting =
        |fact: &str| fact.starts_with(SYSCTL) && !is_timeout(fact) && !DERIVED.contains(&fact);
    let findings = [
        table(own, peer),
        policy(own, peer),
        settings(
            name,
            "peer timers",
            &select(&is_timeout),
            "a copy ends earlier or later than its flow: where the timeout is shorter, a quiet flow is lost by a failover",
        ),
        settings(
            name,
            "peer sysctls",
            &select(&is_setting),
            "the same packet is judged otherwise at one member than at another: a flow may not go on after it moved",
        ),
        networks(name, &select(&|fact| fact.starts_with(NETWORK))),
        mtus(name, &select(&|fact| fact.starts_with(INTERFACE))),
        missing(name, own, &peer.facts),
        clock(name, peer.clock_ahead_ms),
    ];
    findings.into_iter().flatten().collect()
}

fn table(own: &Facts, peer: &PeerFacts) -> Option<Finding> {
    let (here, there) = (own.value(TABLE)?, peer.facts.value(TABLE)?);
    let name = &peer.name;
    let (smaller, greater) = match here < there {
        true => ("this machine", there),
        false => (name.as_str(), here),
    };
    (here != there).then(|| {
        Finding::bad(
            "peer table",
            format!("{here} entries at most here, {there} on {name}"),
            "a full table takes no copies: what the greater has above that is lost when its gateway fails",
            format!("on {smaller}: sysctl -w {TABLE}={greater}"),
        )
    })
}

fn policy(own: &Facts, peer: &PeerFacts) -> Option<Finding> {
    let name = &peer.name;
    (own.value(POLICY)? != peer.facts.value(POLICY)?).then(|| {
        Finding::warning(
            "peer policy",
            format!("the service policy here is another than on {name}"),
            "whether a flow is synchronised depends on which gateway it passes",
            format!("make policy.yaml the same here and on {name}, then: ctsync reload"),
        )
    })
}

fn settings(
    name: &str,
    check: &'static str,
    differing: &[(&str, u64, u64)],
    why: &'static str,
) -> Option<Finding> {
    let named = &differing[..differing.len().min(NAMED_MAX)];
    let words = named.iter().map(|(fact, here, there)| {
        let short = fact.rsplit('.').next().unwrap_or(fact);
        format!("{short} is {here} here, {there} on {name}")
    });
    let cure: Vec<_> = differing
        .iter()
        .map(|(fact, _, there)| format!("{fact}={there}"))
        .collect();
    (!differing.is_empty()).then(|| {
        Finding::warning(
            check,
            list(words, differing.len()),
            why,
            format!("if {name} is right: sysctl -w {}", cure.join(" ")),
        )
    })
}

fn networks(name: &str, differing: &[(&str, u64, u64)]) -> Option<Finding> {
    let (fact, here, there) = differing.first()?;
    let network = fact.strip_prefix(NETWORK)?;
    Some(Finding::bad(
        "peer network",
        format!("the sync network {network} has an MTU of {here} here, of {there} on {name}"),
        "full datagrams of the one with the greater are lost: under load nothing is replicated",
        format!(
            "ip link set the interface of {network} mtu {}, on both",
            here.min(there)
        ),
    ))
}

fn mtus(name: &str, differing: &[(&str, u64, u64)]) -> Option<Finding> {
    let (first, _, there) = differing.first()?;
    let first = first.strip_prefix(INTERFACE)?;
    let words = differing.iter().take(NAMED_MAX).map(|(fact, here, there)| {
        let interface = fact.strip_prefix(INTERFACE).unwrap_or(fact);
        format!("{interface} has an MTU of {here} here, of {there} on {name}")
    });
    Some(Finding::warning(
        "peer mtu",
        list(words, differing.len()),
        "packets of a flow that moves are too large for where it moves to",
        format!("if {name} is right: ip link set {first} mtu {there}"),
    ))
}

/// Interfaces that one has and the other has not. Who tells of none could not read them.
fn missing(name: &str, own: &Facts, theirs: &Facts) -> Option<Finding> {
    let only = |of: &Facts, not_of: &Facts, place: &str| -> Vec<String> {
        let names = of.iter().filter(|(fact, _)| not_of.value(fact).is_none());
        let names = names.filter_map(|(fact, _)| fact.strip_prefix(INTERFACE));
        names.map(|it| format!("{it} is {place}")).collect()
    };
    let mut missing = only(own, theirs, "only here");
    missing.extend(only(theirs, own, &format!("only on {name}")));
    let tells = |of: &Facts| of.iter().any(|(fact, _)| fact.starts_with(INTERFACE));
    (tells(own) && tells(theirs) && !missing.is_empty()).then(|| {
        Finding::warning(
            "peer names",
            list(missing.iter().take(NAMED_MAX).cloned(), missing.len()),
            "rules and routes that name an interface mean another, or none, where a flow moves to",
            "give what has the same place in both the same name: `ip link set OLD name NEW`, or a .link file of systemd",
        )
    })
}

fn clock(name: &str, ahead_ms: i64) -> Option<Finding> {
    (ahead_ms.unsigned_abs() > CLOCK_MS_MAX).then(|| {
        let seconds = ahead_ms.unsigned_abs() / 1000;
        let word = if ahead_ms > 0 { "ahead of" } else { "behind" };
        Finding::warning(
            "peer clock",
            format!("the clock of {name} is {seconds} s {word} this one"),
            "logs and histories of the members cannot be compared",
            "timedatectl set-ntp true, on both",
        )
    })
}

/// What is named, and how many more there are.
fn list(words: impl Iterator<Item = String>, count: usize) -> String {
    let named = words.collect::<Vec<_>>().join("; ");
    match count.saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// What differs, as far as it was logged.
#[derive(Debug)]
pub struct Differences {
    logged: Vec<Finding>,
    interval: Interval,
}

/// However often a peer tells something else.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl Default for Differences {
    fn default() -> Self {
        Self {
            logged: Vec::new(),
            interval: Interval::new(LOG_INTERVAL),
        }
    }
}

impl Differences {
    /// Logs what is bad and was not when this was called last.
    pub fn look(&mut self, report: &FactsReport) {
        let mut findings = compare(report);
        findings.retain(|it| it.verdict == Verdict::Bad);
        let is_news = findings.iter().any(|it| !self.logged.contains(it));
        if !is_news || self.interval.tick().is_some() {
            let news = findings.iter().filter(|it| !self.logged.contains(it));
            news.for_each(Finding::log);
            self.logged = findings;
        }
    }
}

#[cfg(test)]
mod tests;
