//! What steers packets to us to be held: a chain `hold` in our nftables table.
//!
//! Held are first packets, and SYN/ACKs that hit a copy: their SYN passed another gateway. Which first packets: those of the
//! services that the policy holds, whatever their protocol; and of TCP all, or those to suspected destinations. The rules
//! hold no less than the policy says, and what they hold too much the daemon lets pass. A packet that nobody reads passes
//! (`bypass`), unless it is configured otherwise.
//!
//! The chain stands in postrouting: after the operator's, so that what they drop is told to nobody, and after source NAT, so
//! that the kernel can say how the flow is translated. Where it does not say, a first packet of a translated flow goes to a queue
//! of its own, where it is counted and not held. An answer needs no more than its headers: here they are those of the
//! client's own connection, whatever the translation.
//!
//! Where the kernel has no `queue` in nftables, the same chains stand in tables of their own for each family, and the rule
//! that queues calls the target NFQUEUE of xtables. `nft` cannot write that one ([`complete`]).

use super::{CopyBit, Family, RulesetError, Section, end_of};
use crate::config::{Config, HoldMode, Otherwise};
use crate::policy::Policy;
use crate::policy::classify::Condition;
use crate::policy::service::{has_ports, has_types};
use conntrack::consts::{IPPROTO_ICMP, IPPROTO_ICMPV6};
use conntrack::{TableFamily, Verdict, append_queue_rule};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

/// The queue that packets wait in.
pub const QUEUE: u16 = 8116;
/// The queue of packets that pass, and are counted, as it is not known how they are translated.
pub const QUEUE_UNTOLD: u16 = 8117;
/// After source NAT (100), and before the chain `moved` (300) clears the copy bit.
const PRIORITY: u16 = 200;
/// The chains that do nothing but give packets to a queue.
const QUEUES: [(&str, u16); 2] = [("held", QUEUE), ("untold", QUEUE_UNTOLD)];

/// Destinations: an address, and how many bits of it count.
pub type Prefix = (IpAddr, u8);

/// Which first packets of TCP are held whatever their service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firsts {
    /// All.
    All,
    /// Those to these destinations.
    To(BTreeSet<Prefix>),
}

/// What a kernel queues packets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `queue` of nftables.
    Nft,
    /// The target NFQUEUE of xtables.
    Xtables,
}

impl Backend {
    /// What the running kernel can do.
    pub fn of_kernel() -> Self {
        match probe() {
            Ok(()) => Self::Nft,
            Err(_) => Self::Xtables,
        }
    }
}

/// Whether rules of nftables can give packets to a queue: `nft` has the kernel judge one, and installs nothing.
pub fn probe() -> Result<(), RulesetError> {
    let rules = "table inet ctsync-probe { chain hold { type filter hook postrouting priority 200; queue flags bypass to 1; }; }\n";
    super::nft(&["--check"], rules)
}

/// Which packets are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// How they are queued.
    pub backend: Backend,
    /// Marks the copies that answers hit.
    pub copy_bit: CopyBit,
    /// The first packets of TCP.
    pub firsts: Firsts,
    /// First packets of whatever protocol of which the policy says that they are held.
    pub services: Vec<Condition>,
    /// Whether the kernel says how a packet's flow is translated.
    pub translation_is_known: bool,
    /// What becomes of packets to hold while nobody reads the queue.
    pub on_unread: Otherwise,
}

impl Steering {
    /// What configuration and policy ask for, while nothing is suspected; nothing if no packets are held.
    pub fn of(
        config: &Config,
        policy: &Policy,
        backend: Backend,
        translation_is_known: bool,
    ) -> Option<Self> {
        let copy_bit = config.kernel.copy_bit?;
        let firsts = match config.hold.mode {
            HoldMode::Never => return None,
            HoldMode::Auto => Firsts::To(BTreeSet::new()),
            HoldMode::Always => Firsts::All,
        };
        Some(Self {
            backend,
            copy_bit,
            firsts,
            services: policy.held().cloned().collect(),
            translation_is_known,
            on_unread: config.hold.on_unread,
        })
    }

    /// The same by another policy.
    pub fn by(&self, policy: &Policy) -> Self {
        Self {
            services: policy.held().cloned().collect(),
            ..self.clone()
        }
    }

    /// The sections of our tables.
    pub fn sections(&self) -> Vec<Section> {
        let section = |family| Section {
            about: "the first packets of flows whose directions may pass different gateways wait for the peers",
            family,
            text: self.text(family),
        };
        self.families().iter().copied().map(section).collect()
    }

    fn families(&self) -> &'static [Family] {
        match self.backend {
            Backend::Nft => &[Family::Inet],
            Backend::Xtables => &[Family::Ip, Family::Ip6],
        }
    }

    /// What becomes of a packet for this queue while nobody reads it. What would not be held passes.
    fn when_unread(&self, queue: u16) -> Verdict {
        match self.on_unread {
            Otherwise::Drop if queue == QUEUE => Verdict::Drop,
            Otherwise::Drop | Otherwise::Release => Verdict::Accept,
        }
    }

    fn text(&self, family: Family) -> String {
        let mut chains = Chains::default();
        for (name, queue) in self.queues() {
            chains.text.push_str(&match self.backend {
                Backend::Nft => {
                    let flags = match self.when_unread(queue) {
                        Verdict::Accept => " flags bypass",
                        Verdict::Drop => "",
                    };
                    format!("chain {name} {{\n\tqueue{flags} to {queue}\n}}\n")
                }
                // The rule is appended when the chain is there.
                Backend::Xtables => format!("chain {name} {{\n}}\n"),
            });
        }
        let untold = match self.translation_is_known {
            true => "",
            false => "\tct status & (snat | dnat) != 0 goto untold\n",
        };
        for service in &self.services {
            chains.service(service, family);
        }
        for (word, kind) in families(family) {
            match &self.firsts {
                Firsts::All => {}
                Firsts::To(_) => {
                    let (set, elements) = (set_name(word), self.elements(word));
                    let elements = match elements.is_empty() {
                        true => String::new(),
                        false => format!("\telements = {{ {elements} }}\n"),
                    };
                    let _ = write!(
                        chains.text,
                        "set {set} {{\n\ttype {kind}\n\tflags interval\n{elements}}}\n"
                    );
                    chains.rule(&format!(
                        "meta l4proto tcp ct original {word} daddr @{set} goto first"
                    ));
                }
            }
        }
        if self.firsts == Firsts::All {
            chains.rule("meta l4proto tcp goto first");
        }
        let others = match self.services.iter().all(is_tcp) {
            true => "",
            // Once the first packet has passed the flow is known, answered or not.
            false => {
                "\tmeta l4proto != tcp ct state new ct status & confirmed == 0 goto hold_new\n"
            }
        };
        let Chains { text, rules, .. } = chains;
        let mark = self.copy_bit.mask();
        format!(
            "{text}\
             chain first {{\n\
             {untold}\
             \tgoto held\n\
             }}\n\
             chain hold_new {{\n\
             {rules}\
             }}\n\
             chain hold {{\n\
             \ttype filter hook postrouting priority {PRIORITY}; policy accept;\n\
             \ttcp flags & (fin | syn | rst | ack) == syn | ack ct mark & {mark:#010x} != 0 goto held\n\
             \ttcp flags & (fin | syn | rst | ack) == syn ct state new goto hold_new\n\
             {others}\
             }}\n"
        )
    }

    /// Those that there is a use for.
    fn queues(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let translation_is_known = self.translation_is_known;
        (QUEUES.into_iter()).filter(move |it| it.1 == QUEUE || !translation_is_known)
    }

    /// What `nft` is told to hold first packets to other destinations than before.
    fn replace_destinations(&self) -> String {
        let mut text = String::new();
        for family in self.families() {
            for (word, _) in families(*family) {
                let (set, elements) = (set_name(word), self.elements(word));
                let table = family.word();
                let _ = writeln!(text, "flush set {table} ctsync {set}");
                if !elements.is_empty() {
                    let _ = writeln!(text, "add element {table} ctsync {set} {{ {elements} }}");
                }
            }
        }
        text
    }

    fn elements(&self, word: &str) -> String {
        let prefixes = match &self.firsts {
            Firsts::All => None,
            Firsts::To(prefixes) => Some(prefixes),
        };
        let elements: Vec<_> = (prefixes.into_iter().flatten())
            .filter(|(address, _)| address.is_ipv4() == (word == "ip"))
            .map(|(address, bits)| format!("{address}/{bits}"))
            .collect();
        elements.join(", ")
    }
}

/// What is made of services.
#[derive(Default)]
struct Chains {
    /// Chains and sets.
    text: String,
    /// Of the chain `hold_new`.
    rules: String,
    sets: u32,
}

impl Chains {
    fn rule(&mut self, rule: &str) {
        let _ = writeln!(self.rules, "\t{rule}");
    }

    /// Rules for a service, in a table of this family: one for each family of addresses and each protocol, where these have to
    /// be told apart.
    fn service(&mut self, condition: &Condition, family: Family) {
        let protocols = self.protocols(condition);
        let mark = match condition.mark {
            Some((value, mask)) => format!("ct mark & {mask:#010x} == {value:#010x} "),
            None => String::new(),
        };
        let zone = match condition.zone {
            Some(zone) => format!("ct zone {zone} "),
            None => String::new(),
        };
        let ends = |word: &str| {
            let saddr = end_of(&condition.source, word, "saddr")?;
            Some(saddr + &end_of(&condition.destination, word, "daddr")?)
        };
        for (at, (word, _)) in families(family).iter().enumerate() {
            let Some(ends) = ends(word) else {
                continue;
            };
            for (of, protocol) in &protocols {
                let is_said = at > 0 && ends.is_empty() && of.is_none();
                if !is_said && of.is_none_or(|of| of == *word) {
                    self.rule(&format!("{protocol}{ends}{zone}{mark}goto first"));
                }
            }
        }
    }

    /// Matches on protocols and what they select by, each with the family of addresses that alone has it.
    fn protocols(&mut self, condition: &Condition) -> Vec<(Option<&'static str>, String)> {
        let flows = &condition.flows;
        let numbers = |protocols: &[u8]| {
            let numbers: Vec<_> = protocols.iter().map(u8::to_string).collect();
            format!("meta l4proto {{ {} }} ", numbers.join(", "))
        };
        if flows.protocols.is_empty() {
            return vec![(None, String::new())];
        }
        if flows.selectors.is_empty() {
            return vec![(None, numbers(&flows.protocols))];
        }
        let ranges: Vec<_> = (flows.selectors.iter())
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        let ranges = ranges.join(", ");
        let of = |has: fn(u8) -> bool| -> Vec<u8> {
            (flows.protocols.iter().copied())
                .filter(|protocol| has(*protocol))
                .collect()
        };
        let mut matches = Vec::new();
        let with_ports = of(has_ports);
        if !with_ports.is_empty() {
            // Ports stand in a set with a name, as those of the original direction have no type otherwise.
            self.sets += 1;
            let set = format!("held_ports_{}", self.sets);
            let _ = write!(
                self.text,
                "set {set} {{\n\ttype inet_service\n\tflags interval\n\telements = {{ {ranges} }}\n}}\n"
            );
            let protocols = numbers(&with_ports);
            matches.push((None, format!("{protocols}ct original proto-dst @{set} ")));
        }
        for protocol in of(has_types) {
            matches.push(match protocol {
                IPPROTO_ICMP => (Some("ip"), format!("icmp type {{ {ranges} }} ")),
                IPPROTO_ICMPV6 => (Some("ip6"), format!("icmpv6 type {{ {ranges} }} ")),
                _ => continue,
            });
        }
        matches
    }
}

fn is_tcp(condition: &Condition) -> bool {
    condition.flows.protocols == [ccp::wire::flow::TCP]
}

/// The families of addresses in a table: the word for each, and the type of its addresses.
fn families(family: Family) -> &'static [(&'static str, &'static str)] {
    const BOTH: [(&str, &str); 2] = [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")];
    match family {
        Family::Inet => &BOTH,
        Family::Ip => &BOTH[..1],
        Family::Ip6 => &BOTH[1..],
    }
}

fn set_name(word: &str) -> String {
    format!("suspected_{word}")
}

/// That packets are steered to us.
#[derive(Debug)]
pub struct Holding {
    steering: Steering,
}

impl Holding {
    /// Completes what [`Steering::sections`] installed: with xtables, the rules that queue are appended.
    pub fn install(steering: Steering) -> Result<Self, HoldingError> {
        complete(&steering)?;
        Ok(Self { steering })
    }

    /// True if first packets are held by their destination, and those are to be learnt.
    pub fn learns(&self) -> bool {
        self.steering.firsts != Firsts::All
    }

    /// Holds first packets to these destinations from now on.
    pub fn replace(&self, destinations: BTreeSet<Prefix>) -> Result<(), HoldingError> {
        let steering = Steering {
            firsts: Firsts::To(destinations),
            ..self.steering.clone()
        };
        super::nft(&[], &steering.replace_destinations())
            .map_err(|error| HoldingError::new(error.reason()))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        for family in self.steering.families() {
            // With the whole table, in case of an error.
            let _ = super::nft(
                &[],
                &format!("delete chain {} ctsync hold\n", family.word()),
            );
        }
    }
}

/// Appends the rules that `nft` cannot write, to the tables as they were just installed.
pub fn complete(steering: &Steering) -> Result<(), HoldingError> {
    for family in steering.families() {
        let family = match family {
            Family::Inet => continue,
            Family::Ip => TableFamily::Ip,
            Family::Ip6 => TableFamily::Ip6,
        };
        for (chain, queue) in steering.queues() {
            let when_unread = steering.when_unread(queue);
            append_queue_rule(family, "ctsync", chain, queue, when_unread).map_err(|error| {
                HoldingError::new(format!("the kernel refuses the target NFQUEUE: {error}"))
            })?;
        }
    }
    Ok(())
}

/// Why packets are not steered to us.
#[derive(Debug)]
pub struct HoldingError {
    reason: String,
    cure: &'static str,
}

impl HoldingError {
    fn new(reason: String) -> Self {
        Self {
            reason,
            cure: "load nft_queue, or nft_compat and xt_NFQUEUE",
        }
    }

    /// What steers packets is a table of nftables, whatever queues them.
    pub fn no_nftables(reason: &str) -> Self {
        Self {
            reason: format!("nftables are not to be had ({reason})"),
            cure: "install the package nftables",
        }
    }
}

impl std::fmt::Display for HoldingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot hold packets: {}; {}, or write `mode: never` under `hold`",
            self.reason, self.cure
        )
    }
}

impl std::error::Error for HoldingError {}

#[cfg(test)]
mod tests;
