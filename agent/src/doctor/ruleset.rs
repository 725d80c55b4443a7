//! What in the operator's ruleset would surprise: read with `nft`, whoever made the rules. Those of iptables-legacy are
//! not in it, and that is said.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::Finding;
use crate::config::Config;

/// Places that are named; there may be thousands of the same.
const PLACES_MAX: usize = 3;

/// What is looked for in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trap {
    Notrack,
    Zone,
    Offload,
    Masquerade,
    Mark,
}

const TRAPS: &[Trap] = &[
    Trap::Notrack,
    Trap::Zone,
    Trap::Offload,
    Trap::Masquerade,
    Trap::Mark,
];

impl Trap {
    const fn check(self) -> &'static str {
        match self {
            Self::Notrack => "notrack",
            Self::Zone => "zones",
            Self::Offload => "flowtable",
            Self::Masquerade => "masquerade",
            Self::Mark => "connmark",
        }
    }

    const fn why(self) -> &'static str {
        match self {
            Self::Notrack => {
                "what is not tracked is no flow, and is not replicated: stateful rules drop it after a failover"
            }
            Self::Zone => "a flow is found in its zone only: the other members need the same rule",
            Self::Offload => {
                "an offloaded flow passes by the rules, also by the one that tells that a flow has moved here"
            }
            Self::Masquerade => {
                "when an interface goes down or loses its address, the kernel deletes the flows that it masquerades"
            }
            Self::Mark => {
                "a rule that sets the whole mark clears the bit that marks a copy: the flow seems to have moved here"
            }
        }
    }

    const fn cure(self) -> &'static str {
        match self {
            Self::Notrack => "remove the rule, or let it match only what needs no state",
            Self::Zone => "compare the rule with those of the other members",
            Self::Offload => {
                "keep it if the flows stay at their gateway; else take it out of the way of those that move"
            }
            Self::Masquerade => "`snat to` an address that moves with the role",
            Self::Mark => {
                "keep the bit: `ct mark set ct mark & 0x80000000 | VALUE`, with the bit of kernel.copy_bit"
            }
        }
    }
}

pub fn examine(config: &Config) -> Vec<Finding> {
    let output = Command::new("nft").args(["-j", "list", "ruleset"]).output();
    let ruleset = match output {
        Ok(output) if output.status.success() => serde_json::from_slice(&output.stdout).ok(),
        _ => None,
    };
    let Some(ruleset) = ruleset else {
        return vec![Finding::warning(
            "ruleset",
            "nft does not list the ruleset",
            "what in it would surprise cannot be said",
            "see what `nft -j list ruleset` says",
        )];
    };
    let copy_bit = config.kernel.copy_bit.map_or(0, |bit| bit.mask());
    let mut findings = judge(&ruleset, copy_bit);
    if fs::read_to_string("/proc/net/ip_tables_names").is_ok_and(|it| !it.trim().is_empty()) {
        findings.push(Finding::warning(
            "iptables",
            "there are rules of iptables-legacy, which are not looked at",
            "NOTRACK, zones, MASQUERADE or CONNMARK in them surprise as they would in nftables",
            "look through `iptables-legacy-save`, or move to iptables-nft",
        ));
    }
    findings
}

/// What is in a ruleset, as `nft -j` writes it.
fn judge(ruleset: &Value, copy_bit: u32) -> Vec<Finding> {
    let objects = ruleset["nftables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let rules: Vec<_> = objects
        .iter()
        .map(|object| &object["rule"])
        .filter(|rule| rule["table"] != "ctsync")
        .collect();
    let findings: Vec<_> = TRAPS
        .iter()
        .filter_map(|trap| {
            let caught = rules.iter().filter(|rule| has(rule, *trap, copy_bit));
            let places: Vec<_> = caught.map(|rule| place(rule)).collect();
            let (first, rest) = places.split_at(places.len().min(PLACES_MAX));
            let more = match rest.len() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            (!first.is_empty()).then(|| {
                let found = format!("in {}{more}", first.join(", "));
                Finding::warning(trap.check(), found, trap.why(), trap.cure())
            })
        })
        .collect();
    match findings.is_empty() {
        true => vec![Finding::ok(
            "ruleset",
            format!(
                "nothing surprising in {} rules",
                rules.iter().filter(|it| it.is_object()).count()
            ),
        )],
        false => findings,
    }
}

fn has(rule: &Value, trap: Trap, copy_bit: u32) -> bool {
    let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
    statements.iter().any(|statement| {
        let is = |name: &str| statement.get(name).is_some();
        // Modules of iptables are opaque, but for their names.
        let target = statement["xt"]["name"].as_str().unwrap_or_default();
        let mangled = &statement["mangle"]["key"]["ct"]["key"];
        match trap {
            Trap::Notrack => is("notrack") || matches!(target, "NOTRACK" | "CT"),
            Trap::Zone => mangled == "zone",
            Trap::Offload => is("flow"),
            Trap::Masquerade => is("masquerade") || target == "MASQUERADE",
            Trap::Mark => {
                let value = statement["mangle"]["value"].as_u64();
                let clears = value.is_some_and(|value| value & u64::from(copy_bit) == 0);
                copy_bit != 0 && mangled == "mark" && clears
            }
        }
    })
}

fn place(rule: &Value) -> String {
    let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
    let handle = &rule["handle"];
    format!(
        "{} {} {} (handle {handle})",
        word("family"),
        word("table"),
        word("chain")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `nft -j list ruleset` of nftables 1.0.6 says, shortened.
    const RULESET: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}},
        {"rule": {"family": "inet", "table": "t", "chain": "pre", "handle": 3, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}}, {"notrack": null}]}},
        {"rule": {"family": "inet", "table": "t", "chain": "pre", "handle": 4, "expr": [
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": 1}}]}},
        {"rule": {"family": "inet", "table": "t", "chain": "pre", "handle": 5, "expr": [
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"|": [{"&": [{"ct": {"key": "mark"}}, 2147483648]}, 1]}}}]}},
        {"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 2, "expr": [
            {"counter": {"packets": 0, "bytes": 0}}, {"xt": {"type": "target", "name": "MASQUERADE"}}]}},
        {"rule": {"family": "inet", "table": "ctsync", "chain": "moved", "handle": 2, "expr": [
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": 0}}]}}]}"#;

    #[test]
    fn traps_are_found_with_their_places_and_our_own_table_is_none() {
        let findings = judge(&serde_json::from_str(RULESET).unwrap(), 1 << 31);
        let found: Vec<_> = findings
            .iter()
            .map(|it| (it.check, it.found.as_str()))
            .collect();
        let expected = [
            ("notrack", "in inet t pre (handle 3)"),
            ("masquerade", "in ip nat POSTROUTING (handle 2)"),
            ("connmark", "in inet t pre (handle 4)"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn empty_ruleset_is_well() {
        let findings = judge(&serde_json::json!({ "nftables": [] }), 0);
        assert_eq!(
            findings,
            [Finding::ok("ruleset", "nothing surprising in 0 rules")]
        );
    }
}
