//! What in the operator's ruleset would surprise: read with `nft`, and with the programs of iptables, whose rules `nft`
//! shows without what they do, or not at all.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Finding, iptables, marks};
use crate::ruleset::CopyBit;
use crate::units::counted;

/// Places that are named; there may be thousands of the same.
const PLACES_MAX: usize = 3;

/// What is looked for in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    Notrack,
    Zone,
    Offload,
    Masquerade,
    MarkSet,
    MarkRead,
}

const TRAPS: &[Trap] = &[
    Trap::Notrack,
    Trap::Zone,
    Trap::Offload,
    Trap::Masquerade,
    Trap::MarkSet,
    Trap::MarkRead,
];

impl Trap {
    const fn check(self) -> &'static str {
        match self {
            Self::Notrack => "notrack",
            Self::Zone => "zones",
            Self::Offload => "flowtable",
            Self::Masquerade => "masquerade",
            Self::MarkSet => "connmark",
            Self::MarkRead => "mark read",
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
            Self::MarkSet => {
                "a rule that sets the whole mark loses the bit that marks a copy: what is a copy, and what moves, is not known"
            }
            Self::MarkRead => {
                "the first packet of a flow that moves here has the bit that marks a copy in its connmark as well: it does not \
                 match, and where it is dropped for that, the flow is dead"
            }
        }
    }

    fn cure(self, copy_bit: u32) -> String {
        let others = !copy_bit;
        match self {
            Self::Notrack => "remove the rule, or let it match only what needs no state".to_owned(),
            Self::Zone => "compare the rule with those of the other members".to_owned(),
            Self::Offload => {
                "keep it if the flows stay at their gateway; else take it out of the way of those that move".to_owned()
            }
            Self::Masquerade => "`snat to` an address that moves with the role".to_owned(),
            Self::MarkSet => format!(
                "set the other bits alone: `ct mark set ct mark & {copy_bit:#010x} | VALUE`, `-j CONNMARK --set-xmark \
                 VALUE/{others:#010x}`, `--save-mark --mask {others:#010x}`"
            ),
            Self::MarkRead => format!(
                "read the other bits alone: `ct mark & {others:#010x} == VALUE`, `meta mark set ct mark & {others:#010x}`, \
                 `-m connmark --mark VALUE/{others:#010x}`, `--restore-mark --mask {others:#010x}`"
            ),
        }
    }
}

/// What there is to be found; no rule about marks surprises where no bit of them marks copies.
pub fn examine(copy_bit: Option<CopyBit>) -> Vec<Finding> {
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
    let copy_bit = copy_bit.map_or(0, CopyBit::mask);
    let (mut traps, rules) = judge(&ruleset, copy_bit);
    let of_iptables = iptables::examine(copy_bit);
    traps.extend(of_iptables.traps);
    let mut findings = tell(&traps, rules + of_iptables.rules, copy_bit);
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
fn tell(traps: &[(Trap, String)], rules: usize, copy_bit: u32) -> Vec<Finding> {
    if traps.is_empty() {
        let found = format!("nothing surprising in {}", counted(rules, "rule", "rules"));
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
            Finding::warning(trap.check(), found, trap.why(), trap.cure(copy_bit))
        })
    };
    TRAPS.iter().filter_map(finding).collect()
}

fn has(rule: &Value, trap: Trap, copy_bit: u32) -> bool {
    let statements = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
    statements.iter().any(|statement| {
        let is = |name: &str| statement.get(name).is_some();
        match trap {
            Trap::Notrack => is("notrack"),
            Trap::Zone => statement["mangle"]["key"]["ct"]["key"] == "zone",
            Trap::Offload => is("flow"),
            Trap::Masquerade => is("masquerade"),
            Trap::MarkSet => copy_bit != 0 && marks::is_overwritten(statement, copy_bit),
            Trap::MarkRead => copy_bit != 0 && marks::is_read(statement, copy_bit),
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
        let findings = tell(&traps, rules, 1 << 31);
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
            tell(&traps, rules, 0),
            [Finding::ok("ruleset", "nothing surprising in 0 rules")]
        );
    }
}
