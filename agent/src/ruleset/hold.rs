//! What steers packets to us to be held: a chain `hold` in our nftables table, or, where the kernel has no nft `queue`, a
//! chain `ctsync-hold` of iptables and ip6tables.
//!
//! Held are first packets of TCP connections, all or those to suspected destinations, and SYN/ACKs that hit a copy: their
//! SYN passed another gateway. A packet that nobody reads passes (`bypass`). The chains stand in postrouting: after the
//! operator's, so that what they drop is told to nobody, and in nftables after source NAT, so that the kernel can say how
//! the flow is translated. Where it does not say, translated flows are left alone; iptables has no place after source NAT,
//! so that there a first packet can be held that is about to be translated. The peers are told so when it is known.

use super::{CopyBit, Section, failed_to_run};
use crate::config::{Config, HoldMode};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// The queue that packets wait in.
pub const QUEUE: u16 = 8116;
/// After source NAT (100), and before the chain `moved` (300) clears the copy bit.
const PRIORITY: u16 = 200;
const XT_CHAIN: &str = "ctsync-hold";

/// Destinations: an address, and how many bits of it count.
pub type Prefix = (IpAddr, u8);

/// Which first packets are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Firsts {
    /// All.
    All,
    /// Those to these destinations.
    To(BTreeSet<Prefix>),
}

/// Which packets are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Marks the copies that answers hit.
    pub copy_bit: CopyBit,
    /// The first packets.
    pub firsts: Firsts,
    /// Whether the kernel says how a packet's flow is translated.
    pub translation_is_known: bool,
}

/// What a kernel queues packets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `queue` of nftables.
    Nft,
    /// `NFQUEUE` of iptables.
    Iptables,
}

impl Backend {
    /// What the running kernel can do: `nft` asks it, and changes nothing.
    pub fn of_kernel() -> Self {
        let probe = "table inet ctsync-probe { chain hold { type filter hook postrouting priority 200; queue flags bypass to 1; }; }\n";
        match super::nft(&["--check"], probe) {
            Ok(()) => Self::Nft,
            Err(_) => Self::Iptables,
        }
    }
}

impl Steering {
    /// What the configuration asks for, while nothing is suspected; nothing if no packets are held.
    pub fn of(config: &Config, translation_is_known: bool) -> Option<Self> {
        let copy_bit = config.kernel.copy_bit?;
        let firsts = match config.hold.mode {
            HoldMode::Never => return None,
            HoldMode::Auto => Firsts::To(BTreeSet::new()),
            HoldMode::Always => Firsts::All,
        };
        Some(Self {
            copy_bit,
            firsts,
            translation_is_known,
        })
    }

    /// The section of our nftables table. The destinations are sets, so that they can be replaced alone.
    pub fn section(&self) -> Section {
        let untranslated = match self.translation_is_known {
            true => "",
            false => "ct status & (snat | dnat) == 0 ",
        };
        let queue = format!("{untranslated}queue flags bypass to {QUEUE}");
        let mark = self.copy_bit.mask();
        let mut text = String::new();
        let mut rules = format!(
            "\ttcp flags & (fin | syn | rst | ack) == syn | ack ct mark & {mark:#010x} != 0 {queue}\n"
        );
        let opens = "tcp flags & (fin | syn | rst | ack) == syn ct state new";
        match &self.firsts {
            Firsts::All => rules.push_str(&format!("\t{opens} {queue}\n")),
            Firsts::To(_) => {
                for (family, kind, _) in FAMILIES {
                    let (set, elements) = (set_name(family), self.elements(family));
                    let elements = match elements.is_empty() {
                        true => String::new(),
                        false => format!("\telements = {{ {elements} }}\n"),
                    };
                    text.push_str(&format!(
                        "set {set} {{\n\ttype {kind}\n\tflags interval\n\tauto-merge\n{elements}}}\n"
                    ));
                    rules.push_str(&format!(
                        "\t{opens} ct original {family} daddr @{set} {queue}\n"
                    ));
                }
            }
        }
        text.push_str(&format!(
            "chain hold {{\n\ttype filter hook postrouting priority {PRIORITY}; policy accept;\n{rules}}}\n"
        ));
        Section {
            about: "the first packets of flows whose directions may pass different gateways wait for the peers",
            text,
        }
    }

    /// What `nft` is told to hold first packets to other destinations than before.
    fn replace_destinations(&self) -> String {
        let mut text = String::new();
        for (family, _, _) in FAMILIES {
            let (set, elements) = (set_name(family), self.elements(family));
            text.push_str(&format!("flush set inet ctsync {set}\n"));
            if !elements.is_empty() {
                text.push_str(&format!("add element inet ctsync {set} {{ {elements} }}\n"));
            }
        }
        text
    }

    fn elements(&self, family: &str) -> String {
        let prefixes = self.prefixes(family == "ip");
        prefixes.collect::<Vec<_>>().join(", ")
    }

    fn prefixes(&self, is_ipv4: bool) -> impl Iterator<Item = String> {
        let prefixes = match &self.firsts {
            Firsts::All => None,
            Firsts::To(prefixes) => Some(prefixes),
        };
        (prefixes.into_iter().flatten())
            .filter(move |(address, _)| address.is_ipv4() == is_ipv4)
            .map(|(address, bits)| format!("{address}/{bits}"))
    }

    /// What `iptables-restore` is told, or `ip6tables-restore`: the chain as it is to be, whatever it was.
    pub fn iptables(&self, is_ipv4: bool) -> String {
        let (mark, flags) = (self.copy_bit.mask(), "FIN,SYN,RST,ACK");
        let queue = format!("-j NFQUEUE --queue-num {QUEUE} --queue-bypass");
        let untranslated = match self.translation_is_known {
            true => "",
            false => "-m conntrack ! --ctstate SNAT,DNAT ",
        };
        let first = format!(
            "-A {XT_CHAIN} -p tcp -m tcp --tcp-flags {flags} SYN -m conntrack --ctstate NEW {untranslated}"
        );
        let mut text = format!(
            "*mangle\n:{XT_CHAIN} - [0:0]\n\
             -A {XT_CHAIN} -p tcp -m tcp --tcp-flags {flags} SYN,ACK -m connmark --mark {mark:#x}/{mark:#x} {untranslated}{queue}\n"
        );
        match &self.firsts {
            Firsts::All => text.push_str(&format!("{first}{queue}\n")),
            Firsts::To(_) => {
                for prefix in self.prefixes(is_ipv4) {
                    text.push_str(&format!(
                        "{first}-m conntrack --ctorigdst {prefix} {queue}\n"
                    ));
                }
            }
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// Family in nftables, type of its addresses, name of its iptables.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("ip", "ipv4_addr", "iptables"),
    ("ip6", "ipv6_addr", "ip6tables"),
];

fn set_name(family: &str) -> String {
    format!("suspected_{family}")
}

/// The chains of iptables, or the sets of nftables, as long as packets are held.
#[derive(Debug)]
pub struct Holding {
    backend: Backend,
    steering: Steering,
}

impl Holding {
    /// Has packets steered to us. With nftables that is done by the table that [`Steering::section`] is a part of.
    pub fn install(backend: Backend, steering: &Steering) -> Result<Self, HoldingError> {
        let holding = Self {
            backend,
            steering: steering.clone(),
        };
        if backend == Backend::Iptables {
            for (_, _, iptables) in FAMILIES {
                restore(iptables, &steering.iptables(iptables == "iptables"))?;
                run(
                    iptables,
                    &["-w", "-t", "mangle", "-A", "POSTROUTING", "-j", XT_CHAIN],
                )?;
            }
        }
        Ok(holding)
    }

    /// True if first packets are held by their destination, and those are to be learnt.
    pub fn learns(&self) -> bool {
        self.steering.firsts != Firsts::All
    }

    /// Holds first packets to these destinations from now on.
    pub fn replace(&self, destinations: BTreeSet<Prefix>) -> Result<(), HoldingError> {
        let steering = &Steering {
            firsts: Firsts::To(destinations),
            ..self.steering.clone()
        };
        match self.backend {
            Backend::Nft => super::nft(&[], &steering.replace_destinations())
                .map_err(|error| HoldingError(error.to_string())),
            Backend::Iptables => FAMILIES.iter().try_for_each(|(_, _, iptables)| {
                restore(iptables, &steering.iptables(*iptables == "iptables"))
            }),
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        match self.backend {
            // With the whole table, in case of an error.
            Backend::Nft => drop(super::nft(&[], "delete chain inet ctsync hold\n")),
            Backend::Iptables => remove_jumps(),
        }
    }
}

/// Why packets are not steered to us.
#[derive(Debug)]
pub struct HoldingError(String);

impl std::fmt::Display for HoldingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "packets cannot be held: {}; load nft_queue, or xt_NFQUEUE and install the package iptables, or write `mode: never` under `hold`",
            self.0
        )
    }
}

impl std::error::Error for HoldingError {}

/// Removes the chains of iptables, if they are there. A run that steers nothing, or by nftables, calls it too: one that
/// crashed may have left them behind.
pub fn remove_jumps() {
    for (_, _, iptables) in FAMILIES {
        let goes = |arguments: &[&str]| run(iptables, arguments).is_ok();
        // There is one; a start that failed half-way may have left another.
        for _ in 0..4 {
            if !goes(&["-w", "-t", "mangle", "-D", "POSTROUTING", "-j", XT_CHAIN]) {
                break;
            }
        }
        if goes(&["-w", "-t", "mangle", "-F", XT_CHAIN]) {
            goes(&["-w", "-t", "mangle", "-X", XT_CHAIN]);
        }
    }
    for (family, _, _) in FAMILIES {
        remove_empty_table(family);
    }
}

/// iptables of nftables makes a table when it is asked for a rule, and never removes it: so we do if nothing is in it.
fn remove_empty_table(family: &str) {
    let listed = Command::new("nft")
        .args(["list", "table", family, "mangle"])
        .output();
    let Ok(listed) = listed else {
        return;
    };
    let text = String::from_utf8_lossy(&listed.stdout);
    if listed.status.success() && text.lines().all(is_bare) {
        // Somebody may have come before us.
        let _ = super::nft(&[], &format!("delete table {family} mangle\n"));
    }
}

/// True of a line that a table has which does nothing.
fn is_bare(line: &str) -> bool {
    let line = line.trim();
    line.is_empty()
        || line == "}"
        || line.starts_with('#')
        || line.starts_with("table ")
        || line.starts_with("chain ") && line != format!("chain {XT_CHAIN} {{")
        || line.starts_with("type ") && line.ends_with("policy accept;")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), HoldingError> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HoldingError(failed_to_run(program, &error)))?;
    judge(program, &output)
}

fn restore(iptables: &str, text: &str) -> Result<(), HoldingError> {
    let program = format!("{iptables}-restore");
    let output = super::run_with_input(Command::new(&program).args(["-w", "--noflush"]), text)
        .map_err(|error: io::Error| HoldingError(failed_to_run(&program, &error)))?;
    judge(&program, &output)
}

fn judge(program: &str, output: &std::process::Output) -> Result<(), HoldingError> {
    match output.status.success() {
        true => Ok(()),
        false => Err(HoldingError(format!(
            "{program} refused: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

#[cfg(test)]
mod tests;
