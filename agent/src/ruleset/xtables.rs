//! Chains of our own in the tables of xtables, where nftables are not to be had: `ctsync-events` in `raw`, `ctsync-moved` in
//! `mangle`, each reached by a jump from the end of a chain of the kernel's.
//!
//! The target CT settles which events a flow makes, with the packet that begins it. It can say that a flow makes none: it is
//! given a mask of expectations alone, as it takes none that is empty (`xt_ct_tg_check`). What it said cannot be changed later,
//! so that TCP, of which other events are needed when it closes than when it opens, makes them all.
//!
//! The jump stands behind the operator's rules: the kernel takes the first target CT that a packet meets and no other
//! (`xt_ct_target`), and theirs, which choose zones and helpers, count. A packet goes through these rules each time, not
//! only when it begins a flow; so they are few, and what they do not say is left to the daemon.

use super::CopyBit;
use crate::policy::prefix::Prefix;
use crate::policy::push::{Plan, Step};
use crate::policy::service::{has_ports, has_types};
use ccp::record;
use conntrack::consts::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use std::fmt::Write;
use std::process::Command;

/// Rules of a chain at most.
const RULES_MAX: usize = 64;
/// Ports that a rule can name; a range counts as two (`XT_MULTI_PORTS`).
const PORTS_MAX: usize = 15;
/// The number of a protocol that the programs take for every one.
const ANY: u8 = 0;
/// The types that begin a flow (`icmp_new`, `icmpv6_new`): no other needs a rule.
const BEGINNING: [(u8, &[u16]); 2] = [
    (IPPROTO_ICMP, &[8, 13, 15, 17]),
    (IPPROTO_ICMPV6, &[128, 139]),
];
/// No event of the flow, and of what it expects only the begin.
const NEVER: &str = "-j CT --expevents new";
/// The same, but for its end.
const END: &str = "-j CT --ctevents destroy --expevents new";
const RETURN: &str = "-j RETURN";

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// For IPv4.
    Iptables,
    /// For IPv6.
    Ip6tables,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Iptables, Self::Ip6tables];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }

    fn family(self) -> record::Family {
        match self {
            Self::Iptables => record::Family::V4,
            Self::Ip6tables => record::Family::V6,
        }
    }
}

/// What the chains do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    /// Flows that make no event.
    pub quiet: Option<Plan>,
    /// The bit of a copy that its first packet clears.
    pub copy_bit: Option<CopyBit>,
}

/// A table of xtables, where our chain in it is jumped to from, and our chains in it.
type Table = (&'static str, &'static str, &'static [&'static str]);

/// Where the chain of the push-down is, and where that which clears the copy bit is.
const TABLES: [Table; 2] = [
    ("raw", "PREROUTING", &["ctsync-events", "ctsync-others"]),
    ("mangle", "POSTROUTING", &["ctsync-moved"]),
];

impl Chains {
    /// True if there is nothing to install.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `iptables-restore --noflush` is told to install them where none of ours are.
    pub fn text(&self, program: Program) -> String {
        let [raw, mangle] = &TABLES;
        let quiet = self.quiet.as_ref().map(|plan| quiet(plan, program));
        let moved = self.copy_bit.map(moved);
        let mut text = String::new();
        for ((table, hook, chains), rules) in [(raw, quiet), (mangle, moved)] {
            let Some(rules) = rules else { continue };
            let _ = write!(text, "*{table}\n{}", emptied(chains));
            for (chain, rule) in rules {
                let _ = writeln!(text, "-A {chain} {rule}");
            }
            let _ = write!(text, "-A {hook} -j {}\nCOMMIT\n", chains[0]);
        }
        text
    }

    /// The tables that they stand in, for [`remove`].
    pub fn tables(&self) -> String {
        let [(raw, ..), (mangle, ..)] = TABLES;
        let raw = self.quiet.as_ref().map(|_| raw);
        let mangle = self.copy_bit.map(|_| mangle);
        let tables: Vec<_> = raw.into_iter().chain(mangle).collect();
        tables.join(" ")
    }

    /// Whether each is still jumped to.
    pub fn are_there(&self) -> bool {
        let tables = self.tables();
        let has_jumps = |program: Program| named(&tables).all(|table| has_jump(program, table));
        Program::ALL.into_iter().all(has_jumps)
    }

    /// Installs them where none of ours are.
    pub fn install(&self) -> Result<(), String> {
        (Program::ALL.into_iter())
            .try_for_each(|program| restore(program, &[], &self.text(program)))
    }
}

/// Removes what [`Chains::install`] has made in these tables, as far as it is there. To look at another would make it.
pub fn remove(tables: &str) -> Result<(), String> {
    for program in Program::ALL {
        let mut text = String::new();
        for ours in named(tables) {
            let (table, hook, chains) = ours;
            let _ = write!(text, "*{table}\n{}", emptied(chains));
            if has_jump(program, ours) {
                let _ = writeln!(text, "-D {hook} -j {}", chains[0]);
            }
            for chain in *chains {
                let _ = writeln!(text, "-X {chain}");
            }
            text.push_str("COMMIT\n");
        }
        restore(program, &[], &text)?;
    }
    Ok(())
}

/// Whether the programs are there and the kernel has what they ask it for; else why not.
pub fn probe() -> Result<(), String> {
    let quiet = Some(Plan {
        certain: vec![(6, vec![(1, 2)])],
        ..Plan::default()
    });
    let copy_bit = CopyBit::new(31);
    let chains = Chains { quiet, copy_bit };
    (Program::ALL.into_iter())
        .try_for_each(|program| restore(program, &["--test"], &chains.text(program)))
}

/// To name a chain makes it, or empties it.
fn emptied(chains: &[&str]) -> String {
    chains.iter().map(|it| format!(":{it} - [0:0]\n")).collect()
}

/// Those of [`TABLES`] that [`Chains::tables`] names.
fn named(tables: &str) -> impl Iterator<Item = &'static Table> {
    (TABLES.iter()).filter(move |(table, ..)| tables.split(' ').any(|it| it == *table))
}

fn has_jump(program: Program, (table, hook, chains): &Table) -> bool {
    let mut command = Command::new(program.word());
    let command = command.args(["-w", "5", "-t", table, "-C", hook, "-j", chains[0]]);
    command.output().is_ok_and(|it| it.status.success())
}

fn restore(program: Program, options: &[&str], text: &str) -> Result<(), String> {
    let program = format!("{}-restore", program.word());
    let mut command = Command::new(&program);
    command.args(["--noflush", "--wait", "5"]).args(options);
    match super::run_with_input(&mut command, text) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program} refuses such rules: {}",
            super::first_line(&output)
        )),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}

fn moved(copy_bit: CopyBit) -> Vec<(&'static str, String)> {
    let (set, kept) = (copy_bit.mask(), !copy_bit.mask());
    let rule =
        format!("-m connmark --mark {set:#010x}/{set:#010x} -j CONNMARK --and-mark {kept:#010x}");
    vec![("ctsync-moved", rule)]
}

/// Rules, each with its chain, for as much of the plan as there is room for. What is certain stands for itself; of the
/// steps, none may be left out before another.
fn quiet(plan: &Plan, program: Program) -> Vec<(&'static str, String)> {
    const CHAIN: &str = "ctsync-events";
    let never = if plan.ends { END } else { NEVER };
    let mut rules = Vec::new();
    let said_so = |it: &&(u8, Vec<(u16, u16)>)| it.0 != ANY;
    for (protocol, selectors) in plan.certain.iter().filter(said_so) {
        let matches = selected(*protocol, selectors, program);
        if rules.len() + matches.len() <= RULES_MAX {
            rules.extend(matches.iter().map(|it| (CHAIN, format!("{it}{never}"))));
        }
    }
    if let Some(protocols) = &plan.all_but {
        const OTHERS: &str = "ctsync-others";
        let named = protocols.iter().map(|it| format!("-p {it} {RETURN}"));
        rules.extend(named.chain([never.into()]).map(|rule| (OTHERS, rule)));
        rules.push((CHAIN, format!("-j {OTHERS}")));
    }
    for step in &plan.steps {
        let Some(said) = said(step, never, program, RULES_MAX.saturating_sub(rules.len())) else {
            break;
        };
        rules.extend(said.into_iter().map(|rule| (CHAIN, rule)));
    }
    rules
}

/// The rules of a step; `None` if they are more than so many, or it can't be said.
fn said(step: &Step, never: &str, program: Program, max: usize) -> Option<Vec<String>> {
    let condition = &step.condition;
    let ends = |prefixes: &[Prefix], option: &str| -> Vec<String> {
        let ours = prefixes
            .iter()
            .filter(|prefix| prefix.family == program.family());
        match prefixes {
            [] => vec![String::new()],
            _ => ours.map(|prefix| format!("{option} {prefix} ")).collect(),
        }
    };
    let sources = ends(&condition.source, "-s");
    let destinations = ends(&condition.destination, "-d");
    let flows = match condition.flows.protocols.as_slice() {
        [] => vec![String::new()],
        protocols => (protocols.iter())
            .flat_map(|protocol| selected(*protocol, &condition.flows.selectors, program))
            .collect(),
    };
    let target = if step.never { never } else { RETURN };
    let is_many = sources.len() * destinations.len() * flows.len() > max;
    if is_many || condition.flows.protocols.contains(&ANY) {
        return None;
    }
    let mut rules = Vec::new();
    for source in &sources {
        for destination in &destinations {
            let of_flows = flows.iter();
            rules.extend(of_flows.map(|flows| format!("{flows}{source}{destination}{target}")));
        }
    }
    Some(rules)
}

/// Matches on a protocol and what it selects by, a rule each.
fn selected(protocol: u8, selectors: &[(u16, u16)], program: Program) -> Vec<String> {
    if selectors.is_empty() {
        vec![format!("-p {protocol} ")]
    } else if has_ports(protocol) {
        let ports = multiports(selectors).into_iter();
        ports
            .map(|ports| format!("-p {protocol} -m multiport --dports {ports} "))
            .collect()
    } else if has_types(protocol) {
        let option = match (protocol, program) {
            (IPPROTO_ICMP, Program::Iptables) => "-m icmp --icmp-type",
            (IPPROTO_ICMPV6, Program::Ip6tables) => "-m icmp6 --icmpv6-type",
            // The other family has none of them.
            _ => return Vec::new(),
        };
        let begins = BEGINNING.iter().filter(|(of, _)| *of == protocol);
        let is_meant = |kind: &&u16| {
            let mut ranges = selectors.iter();
            ranges.any(|(first, last)| (first..=last).contains(kind))
        };
        (begins.flat_map(|(_, kinds)| kinds.iter()).filter(is_meant))
            .map(|kind| format!("-p {protocol} {option} {kind} "))
            .collect()
    } else {
        Vec::new()
    }
}

/// Ports as the match `multiport` takes them, in as many pieces as it takes.
fn multiports(selectors: &[(u16, u16)]) -> Vec<String> {
    let mut pieces = vec![(0, Vec::new())];
    for (first, last) in selectors {
        let (word, room) = match first == last {
            true => (first.to_string(), 1),
            false => (format!("{first}:{last}"), 2),
        };
        match pieces.last_mut() {
            Some((taken, words)) if *taken + room <= PORTS_MAX => {
                *taken += room;
                words.push(word);
            }
            Some(_) | None => pieces.push((room, vec![word])),
        }
    }
    pieces
        .into_iter()
        .map(|(_, words): (usize, Vec<String>)| words.join(","))
        .collect()
}

#[cfg(test)]
mod tests;
