//! The chain `events`: keeps the kernel from making events that nobody needs.
//!
//! A flow that is never synchronised makes none at all, or only that of its end, where what has passed is counted. One of TCP
//! makes none when the answer to its first packet comes: to its peers that state is worth nothing, as the next packet brings the
//! one that is (`ASSURED`, and with it everything that the packet changed: `ctnetlink_conntrack_event` tells all of it once one
//! bit of it is wanted). From its first FIN or RST on it makes events of every change, so that no copy outlives it. Everything
//! else makes every event.
//!
//! The mask stands in the entry (`nf_conntrack_ecache`), and is set here with the flow's first packet, before the operator's
//! chains, or widened with a packet that closes it. An entry that a peer's word made has all events, whatever the policy here
//! says of it, and keeps them. What decides is the original direction, whichever way the packet goes.

use super::{Section, end_of};
use crate::policy::push::{Plan, Step};
use crate::policy::service::has_ports;
use std::fmt::Write;

/// `IPCT_*` bits of every event there is, as numbers: the names of `nft` lack some and clash with its own words.
const ALL: u32 = 0xfff;
/// Without `REPLY` and `PROTOINFO`, which the answer to a SYN brings; and without `SECMARK`, which is not replicated.
const OPENING_TCP: u32 = 0xdd7;
/// The one event of a flow that is never synchronised, where what has passed is counted: its end tells that.
const END: u32 = 0x4;

/// The section for this plan.
pub fn section(plan: &Plan) -> Section {
    let mut text = Text::default();
    let none = if plan.ends { END } else { 0 };
    for (protocol, selectors) in &plan.certain {
        text.certain(*protocol, selectors);
    }
    if let Some(protocols) = &plan.all_but {
        let others = match protocols.as_slice() {
            [] => String::new(),
            protocols => format!("meta l4proto != {} ", set(protocols)),
        };
        text.rule(&format!("{others}goto quiet"));
    }
    for step in &plan.steps {
        text.step(step);
    }
    let Text { sets, rules } = text;
    Section {
        about: "events that nobody needs are not made",
        family: super::Family::Inet,
        text: format!(
            "{sets}\
             chain quiet {{\n\
             \tct state new ct event set {none:#x}\n\
             }}\n\
             chain told {{\n\
             \tct state != new ct event set {ALL:#x} return\n\
             \tmeta l4proto tcp ct event set {OPENING_TCP:#x}\n\
             }}\n\
             chain never {{\n\
             {rules}\
             \tgoto told\n\
             }}\n\
             chain events {{\n\
             \ttype filter hook prerouting priority -150; policy accept;\n\
             \tct state new goto never\n\
             \ttcp flags & (fin | rst) != 0 goto never\n\
             }}\n"
        ),
    }
}

/// What the chain `never` is made of.
#[derive(Default)]
struct Text {
    sets: String,
    rules: String,
}

impl Text {
    fn rule(&mut self, rule: &str) {
        let _ = writeln!(self.rules, "\t{rule}");
    }

    fn certain(&mut self, protocol: u8, selectors: &[(u16, u16)]) {
        let wanted = self.selected(protocol, selectors);
        self.rule(&format!("{wanted}goto quiet"));
    }

    /// Every clause is a rule for each family, and for each protocol that has to be told apart.
    fn step(&mut self, step: &Step) {
        let condition = &step.condition;
        let verdict = match step.never {
            true => "goto quiet",
            false => "goto told",
        };
        let flows = &condition.flows;
        let protocols: Vec<String> = match (flows.protocols.as_slice(), flows.selectors.as_slice())
        {
            ([], _) => vec![String::new()],
            (protocols, []) => vec![format!("meta l4proto {} ", set(protocols))],
            (protocols, selectors) => (protocols.iter())
                .map(|protocol| self.selected(*protocol, selectors))
                .collect(),
        };
        // Types of ICMP go with one family only.
        for (word, other) in [("ip", "icmpv6 type"), ("ip6", "icmp type")] {
            let (source, destination) = (&condition.source, &condition.destination);
            let ends = (
                end_of(source, word, "saddr"),
                end_of(destination, word, "daddr"),
            );
            let (Some(source), Some(destination)) = ends else {
                continue;
            };
            let is_both = source.is_empty() && destination.is_empty();
            let possible = |it: &&String| is_both || !it.starts_with(other);
            for protocol in protocols.iter().filter(possible) {
                self.rule(&format!("{protocol}{source}{destination}{verdict}"));
            }
            if is_both {
                break;
            }
        }
    }

    /// Matches flows of a protocol with these selectors. Ports stand in sets with a name, as `nft` gives those of a match on
    /// the original direction no type.
    fn selected(&mut self, protocol: u8, selectors: &[(u16, u16)]) -> String {
        let range = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let ranges = || selectors.iter().map(range).collect::<Vec<_>>().join(", ");
        if selectors.is_empty() {
            format!("meta l4proto {protocol} ")
        } else if has_ports(protocol) {
            let name = format!("ports_{}", self.sets.matches("set ").count() + 1);
            let ranges = ranges();
            let _ = write!(
                self.sets,
                "set {name} {{\n\ttype inet_service\n\tflags interval\n\telements = {{ {ranges} }}\n}}\n"
            );
            format!("meta l4proto {protocol} ct original proto-dst @{name} ")
        } else if protocol == 1 {
            format!("icmp type {{ {} }} ", ranges())
        } else {
            format!("icmpv6 type {{ {} }} ", ranges())
        }
    }
}

fn set(protocols: &[u8]) -> String {
    let listed: Vec<_> = protocols.iter().map(u8::to_string).collect();
    format!("{{ {} }}", listed.join(", "))
}
