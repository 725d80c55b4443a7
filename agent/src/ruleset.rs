//! Everything that we ask of the kernel's packet path: our nftables table, `inet ctsync`, and nothing else in it.
//!
//! It is composed of [`Section`]s, one a concern, each of a file of its own under `ruleset/` (`moved`, `events`) that makes
//! its chains from the configuration and knows nothing of the others. [`Rules::of`] lists them in the order in which they
//! stand in the table: a new concern is a new file and a line there. What is installed and what `ctsync rules` prints is
//! the same [`text`].
//!
//! The table is put in place whole, in one transaction of `nft`: packets see the one before or the new one, never half of
//! it. That is so when the daemon starts, when it replaces what a crash left behind, and when its configuration changes.
//! It goes when the daemon stops, and is put back when somebody else deletes it (`watch`). No other table is touched, as
//! none can name a chain of another. What can't stand in a table of the family `inet` (`hold`, on some kernels) stands in
//! `ip ctsync` and `ip6 ctsync`, which come and go with it.
//!
//! Where there are no nftables (`tools`), chains of xtables do what they can (`xtables`).

pub(crate) mod events;
pub(crate) mod hold;
pub(crate) mod moved;
pub(crate) mod tools;
pub(crate) mod watch;
pub(crate) mod xtables;

use crate::config::Config;
use crate::policy::Policy;
use crate::policy::prefix::Prefix;
use crate::policy::push::Plan;
use ccp::record;
use conntrack::Unwanted;
use hold::Steering;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tools::{Means, Tools};
use xtables::Chains;

/// The bit of the connmark that marks a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyBit(u8);

impl CopyBit {
    /// `None` unless `number` is 0 to 31.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 32 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number of the bit.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// A mask with this bit alone.
    pub const fn mask(self) -> u32 {
        1 << self.0
    }
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Those of IPv4 and IPv6.
    Inet,
    /// Those of IPv4.
    Ip,
    /// Those of IPv6.
    Ip6,
}

impl Family {
    /// As `nft` calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// One concern's part of the table: chains, and the sets that they use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is for, in a line; stands above it as a comment.
    pub about: &'static str,
    /// Which table it stands in; `inet`, unless it can't.
    pub family: Family,
    /// What stands between the braces of the table, each line ended, none indented for the table.
    pub text: String,
}

/// What configuration and policy ask of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Of nftables; nothing if configuration and policy do without.
    pub sections: Vec<Section>,
    /// Of xtables, what nftables are not there to do.
    pub chains: Chains,
    /// What the kernel need not hand over, where no rules keep it from making it. Beside them a filter would be run for each
    /// event and find none to drop.
    pub unwanted: Unwanted,
    /// What the policy is pushed down by.
    pub means: Means,
}

impl Rules {
    /// Made for the tools that there are. `steering` holds packets, by nftables.
    pub fn of(
        config: &Config,
        policy: &Policy,
        steering: Option<&Steering>,
        tools: &Tools,
    ) -> Result<Self, RulesetError> {
        let means = tools.means(config.policy.kernel)?;
        let plan = || Plan {
            ends: config.accounting.is_on(),
            ..policy.plan()
        };
        let copy_bit = config.kernel.copy_bit;
        if copy_bit.is_some() {
            tools.need_any()?;
        }
        let by_nft = copy_bit.filter(|_| tools.nft.is_ok());
        let events = (means == Means::Nftables).then(|| events::section(&plan()));
        let hold = steering.map(Steering::sections).unwrap_or_default();
        let moved = by_nft.map(moved::section);
        Ok(Self {
            sections: events.into_iter().chain(hold).chain(moved).collect(),
            chains: Chains {
                quiet: (means == Means::Xtables).then(plan),
                copy_bit: copy_bit.filter(|_| by_nft.is_none()),
            },
            unwanted: match means {
                Means::Filter => unwanted(plan()),
                Means::Nftables | Means::Xtables | Means::Nothing => Unwanted::default(),
            },
            means,
        })
    }
}

fn unwanted(plan: Plan) -> Unwanted {
    Unwanted {
        protocols: plan.certain,
        all_but: plan.all_but,
    }
}

/// What `nft` is told to put `sections` in the place of whatever table of ours there is. Naming the table before it is
/// deleted makes that work whether or not it was there.
pub fn text(sections: &[Section]) -> String {
    let of = |family| sections.iter().filter(move |it| it.family == family);
    let mut text = removal(Family::Inet);
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        if of(family).next().is_none() {
            continue;
        }
        if family != Family::Inet {
            text.push_str(&removal(family));
        }
        text.push_str(&format!(
            "table {} ctsync {{\n\tcomment \"made and removed by ctsync\"\n",
            family.word()
        ));
        for section in of(family) {
            text.push_str(&format!("\n\t# {}\n", section.about));
            for line in section.text.lines() {
                text.push_str(&format!("\t{line}\n"));
            }
        }
        text.push_str("}\n");
    }
    text
}

/// A match on one end of the original direction, of the family of addresses that `nft` calls by this word; nothing if no
/// address of that family is meant.
fn end_of(prefixes: &[Prefix], word: &str, end: &str) -> Option<String> {
    let family = match word {
        "ip" => record::Family::V4,
        _ => record::Family::V6,
    };
    let listed: Vec<_> = (prefixes.iter())
        .filter(|prefix| prefix.family == family)
        .map(Prefix::to_string)
        .collect();
    match (prefixes, listed.as_slice()) {
        ([], _) => Some(String::new()),
        (_, []) => None,
        (_, listed) => Some(format!(
            "ct original {word} {end} {{ {} }} ",
            listed.join(", ")
        )),
    }
}

fn removal(family: Family) -> String {
    let family = family.word();
    format!("table {family} ctsync\ndelete table {family} ctsync\n")
}

/// Removes the tables that only some kernels need, if there are any: another run may have left them behind.
fn remove_others() {
    // A kernel may know nothing of one of the families.
    let _ = nft(&[], &removal(Family::Ip));
    let _ = nft(&[], &removal(Family::Ip6));
}

/// What is installed, as long as it is.
#[derive(Debug)]
pub struct Ruleset {
    rules: Rules,
    /// A file that exists while xtables chains are installed, and lists their tables. The next run reads it after a crash,
    /// because asking iptables about a table would create it.
    mark: PathBuf,
}

/// Why rules could not be installed. `Display` says what to do.
#[derive(Debug)]
pub enum RulesetError {
    /// There is no `nft`, or it could not be run.
    Run(io::Error),
    /// `nft` refused; what it said.
    Refused(String),
    /// What the configuration wants is not to be had; why not.
    Missing(Vec<String>),
    /// `iptables` or `ip6tables` could not be run, or refused.
    Xtables(String),
    /// The mark of chains of xtables could not be made.
    Mark(PathBuf, io::Error),
}

impl fmt::Display for RulesetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cure =
            "or write `kernel: { copy_bit: none }` and `policy: { kernel: filter }` to do without";
        let reason = self.reason();
        match self {
            Self::Run(_) => write!(f, "{reason}; install the package nftables, {cure}"),
            Self::Refused(_) => write!(
                f,
                "cannot install the table of ctsync: {reason}; give ctsync CAP_NET_ADMIN and a kernel with nf_tables, {cure}"
            ),
            Self::Missing(_) => write!(
                f,
                "cannot install rules: {reason}; install the package nftables, or iptables, {cure}"
            ),
            Self::Xtables(_) => write!(
                f,
                "cannot change the chains of ctsync: {reason}; give ctsync CAP_NET_ADMIN, {cure}"
            ),
            Self::Mark(..) => write!(f, "{reason}; let ctsync write to its directory"),
        }
    }
}

impl RulesetError {
    /// What went wrong, without what to do.
    fn reason(&self) -> String {
        match self {
            Self::Run(error) => format!("cannot run nft: {error}"),
            Self::Refused(said) => format!("nft refuses such rules: {said}"),
            Self::Missing(reasons) => reasons.join("; "),
            Self::Xtables(reason) => reason.clone(),
            Self::Mark(path, error) => format!("cannot write {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for RulesetError {}

impl Ruleset {
    /// Installs them in this network namespace, in the place of what a crash left behind. What is to be known after another
    /// one stands in `directory`.
    pub fn install(rules: &Rules, directory: &Path) -> Result<Self, RulesetError> {
        let mark = directory.join("xtables");
        remove_others();
        let done = nft(&[], &text(&rules.sections));
        match rules.sections.is_empty() {
            // Who wants nothing installed may well have no nft.
            true => drop(done),
            false => done?,
        }
        let ruleset = Self {
            rules: rules.clone(),
            mark,
        };
        if !rules.chains.is_empty() || ruleset.mark.exists() {
            ruleset.put(&rules.chains)?;
        }
        Ok(ruleset)
    }

    /// Puts these in the place of what is installed: those of nftables in one transaction, those of xtables in one for each
    /// family of addresses. True if those of nftables are others.
    pub fn replace(&mut self, rules: Rules) -> Result<bool, RulesetError> {
        let is_other = rules.sections != self.rules.sections;
        if is_other {
            nft(&[], &text(&rules.sections))?;
        }
        // Also if they are the same: rules of the operator may have come behind them, or in their place.
        self.put(&rules.chains).inspect_err(|_| {
            // As it was.
            let _ = self.put(&self.rules.chains);
            let _ = nft(&[], &text(&self.rules.sections));
        })?;
        self.rules = rules;
        Ok(is_other)
    }

    /// Whether there is something of ours that can go without anybody being told.
    pub fn has_chains(&self) -> bool {
        !self.rules.chains.is_empty()
    }

    /// Puts our tables and chains back if somebody has deleted one; true if so.
    pub fn restore(&self) -> Result<bool, RulesetError> {
        if self.has_chains() && !self.rules.chains.are_there() {
            return self.put(&self.rules.chains).map(|()| true);
        }
        let sections = &self.rules.sections;
        let is_there = |family: Family| {
            let list = format!("list table {} ctsync\n", family.word());
            nft(&["--terse"], &list).is_ok()
        };
        if sections.iter().all(|it| is_there(it.family)) {
            return Ok(false);
        }
        nft(&[], &text(sections)).map(|()| true)
    }

    /// What is installed.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    fn put(&self, chains: &Chains) -> Result<(), RulesetError> {
        let of_mark = |error| RulesetError::Mark(self.mark.clone(), error);
        if let Ok(tables) = std::fs::read_to_string(&self.mark) {
            xtables::remove(&tables).map_err(RulesetError::Xtables)?;
            std::fs::remove_file(&self.mark).map_err(of_mark)?;
        }
        if chains.is_empty() {
            return Ok(());
        }
        std::fs::write(&self.mark, chains.tables()).map_err(of_mark)?;
        chains.install().map_err(RulesetError::Xtables)
    }
}

impl Drop for Ruleset {
    fn drop(&mut self) {
        remove_others();
        let table = match nft(&[], &text(&[])) {
            Ok(()) | Err(RulesetError::Run(_)) => Ok(()),
            Err(error) => Err(error),
        };
        let chains = match self.rules.chains.is_empty() {
            true => Ok(()),
            false => self.put(&Chains::default()),
        };
        for error in [table, chains].into_iter().filter_map(Result::err) {
            tracing::warn!(event = "table-stays", %error, "rules of ctsync stay in the ruleset; they harm nothing");
        }
    }
}

fn nft(options: &[&str], text: &str) -> Result<(), RulesetError> {
    let output = run_with_input(Command::new("nft").args(options).args(["-f", "-"]), text)
        .map_err(RulesetError::Run)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(RulesetError::Refused(first_line(&output)))
    }
}

/// Why a program failed, as it says itself: the rest of it repeats what it was told.
fn first_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().map(str::trim);
    first.unwrap_or("it gives no reason").to_owned()
}

fn run_with_input(command: &mut Command, text: &str) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it ends before it has read all, its exit status says more than the broken pipe.
        let _ = stdin.write_all(text.as_bytes());
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests;
