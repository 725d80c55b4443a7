//! What in the operator's ruleset would surprise: read with `nft`, and with the programs of iptables, whose rules `nft`
//! shows without what they do, or not at all.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Finding, iptables};
use crate::config::Config;

/// Places that are named; there may be thousands of the same.
const PLACES_MAX: usize = 3;

/// What is looked for in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
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
    let (mut traps, rules) = judge(&ruleset, copy_bit);
    let of_iptables = iptables::examine(copy_bit);
    traps.extend(of_iptables.traps);
    let mut findings = tell(&traps, rules + of_iptables.rules);
    // Their modules are loaded, so that there may be rules: without them the programs fail as there is nothing to print.
    let may_have_rules = |program: &&str| {
        let names = match program.starts_with("ip6") {
            true => "/proc/net/ip6_tables_names",
            false => "/proc/net/ip_tables_names",
        };
        !program.contains("legacy") || fs::read(names).is_ok_and(|it| !it.is_empty())
    };
    if let Some(program) = of_iptables.silent.into_iter().find(may_have_rules) {
        findings.push(Finding::warning(
            "iptables",
            format!("{program} does not print its rules"),
            "NOTRACK, zones, MASQUERADE or CONNMARK in them surprise as they would in nftables",
            "run it as root: sudo ctsync doctor",
        ));
    }
    findings
}

/// What is in a ruleset, as `nft -j` writes it, and where; and how many rules that are not our own.
fn judge(ruleset: &Value, copy_bit: u32) -> (Vec<(Trap, String)>, usize) {
    let objects = ruleset["nftables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let rules: Vec<_> = objects
        .iter()
        .map(|object| &object["rule"])
        .filter(|rule| rule.is_object() && rule["table"] != "ctsync")
        .collect();
    let caught = |trap: &Trap| {
        let caught = rules.iter().filter(|rule| has(rule, *trap, copy_bit));
        let caught = caught.map(|rule| (*trap, place(rule)));
        caught.collect::<Vec<_>>()
    };
    (TRAPS.iter().flat_map(caught).collect(), rules.len())
}

/// A finding for each trap that there is in so many rules.
fn tell(traps: &[(Trap, String)], rules: usize) -> Vec<Finding> {
    if traps.is_empty() {
        let found = format!("nothing surprising in {rules} rules");
        return vec![Finding::ok("ruleset", found)];
    }
    let finding = |trap: &Trap| {
        let places = traps.iter().filter(|(it, _)| it == trap);
        let places: Vec<_> = places.map(|(_, place)| place.as_str()).collect();
        let (first, rest) = places.split_at(places.len().min(PLACES_MAX));
        let more = match rest.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        (!first.is_empty()).then(|| {
            let found = format!("in {}{more}", first.join(", "));
            Finding::warning(trap.check(), found, trap.why(), trap.cure())
        })
    };
    TRAPS.iter().filter_map(finding).collect()
}

fn has(rule: &Value, trap: Trap, copy_bit: u32) -> bool {
    let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
    statements.iter().any(|statement| {
        let is = |name: &str| statement.get(name).is_some();
        let mangled = &statement["mangle"]["key"]["ct"]["key"];
        match trap {
            Trap::Notrack => is("notrack"),
            Trap::Zone => mangled == "zone",
            Trap::Offload => is("flow"),
            Trap::Masquerade => is("masquerade"),
            Trap::Mark => {
                let value = &statement["mangle"]["value"];
                let number = value.as_u64();
                // The packet's mark has not the bit.
                let clears = number.is_some_and(|value| value & u64::from(copy_bit) == 0)
                    || value["meta"]["key"] == "mark";
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
            {"counter": {"packets": 0, "bytes": 0}}, {"masquerade": null}]}},
        {"rule": {"family": "inet", "table": "t", "chain": "post", "handle": 6, "expr": [
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": {"meta": {"key": "mark"}}}}]}},
        {"rule": {"family": "inet", "table": "ctsync", "chain": "moved", "handle": 2, "expr": [
            {"mangle": {"key": {"ct": {"key": "mark"}}, "value": 0}}]}}]}"#;

    #[test]
    fn traps_are_found_with_their_places_and_our_own_table_is_none() {
        let (traps, rules) = judge(&serde_json::from_str(RULESET).unwrap(), 1 << 31);
        assert_eq!(rules, 5);
        let findings = tell(&traps, rules);
        let found: Vec<_> = findings
            .iter()
            .map(|it| (it.check, it.found.as_str()))
            .collect();
        let expected = [
            ("notrack", "in inet t pre (handle 3)"),
            ("masquerade", "in ip nat POSTROUTING (handle 2)"),
            (
                "connmark",
                "in inet t pre (handle 4), inet t post (handle 6)",
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn empty_ruleset_is_well() {
        let (traps, rules) = judge(&serde_json::json!({ "nftables": [] }), 0);
        assert_eq!(
            tell(&traps, rules),
            [Finding::ok("ruleset", "nothing surprising in 0 rules")]
        );
    }
}
