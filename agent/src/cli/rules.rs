//! `ctsync rules`: what the daemon installs in the packet path of this machine.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, print_json};
use crate::config::{Config, DEFAULT_FILE};
use crate::policy::service::protocol_word;
use crate::ruleset::hold::{Backend, QUEUE, Steering};
use crate::ruleset::tools::Tools;
use crate::ruleset::xtables::Program;
use crate::ruleset::{self, Rules as Installed};

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the daemon installs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Sections {
    /// What keeps back the events that the policy does not need.
    push_down: String,
    /// Why nothing better does; `None` if there is nothing better.
    because: Option<String>,
    /// The parts of the nftables tables, in their order.
    sections: Vec<Part>,
    /// What the programs of xtables are given, where there are no nftables.
    xtables: Vec<Restored>,
    /// What the filter of the socket of events leaves out while all members have this policy.
    filter: Vec<LeftOut>,
    /// Protocols that it does not leave out, if it leaves out all others.
    filter_all_but: Option<Vec<u8>>,
}

/// What a program of xtables is given.
#[derive(Debug, Serialize, JsonSchema)]
struct Restored {
    /// iptables or ip6tables.
    program: &'static str,
    /// The input of its `-restore --noflush`.
    text: String,
}

/// A protocol, or flows of it.
#[derive(Debug, Serialize, JsonSchema)]
struct LeftOut {
    /// Its number.
    protocol: u8,
    /// First and last of ports or types; all if there are none.
    selectors: Vec<(u16, u16)>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    /// What it is for.
    about: &'static str,
    /// The family of the table that it stands in: inet, ip or ip6.
    family: &'static str,
    /// What stands between the braces of the table.
    nft: String,
}

impl Rules {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let config =
            Config::load(&self.config).map_err(|error| Failure::Problem(error.to_string()))?;
        let policy = (config.load_policy(&self.config))
            .map_err(|error| Failure::Problem(error.to_string()))?;
        let wanted = config.policy.kernel;
        let tools = Tools::look(wanted);
        let steering = match &tools.nft {
            Ok(()) => Steering::of(&config, &policy, Backend::of_kernel(), true),
            Err(_) => None,
        };
        let rules = Installed::of(&config, &policy, steering.as_ref(), &tools)
            .map_err(|error| Failure::Problem(error.to_string()))?;
        let because = tools.why(wanted);
        match self.json {
            true => print_json(out, &sections(rules, because))?,
            false => {
                print(out, &rules, because)?;
                let is_xtables = |it: Steering| it.backend == Backend::Xtables;
                if steering.is_some_and(is_xtables) {
                    writeln!(
                        out,
                        "\n# To the chains held the daemon appends the target NFQUEUE of xtables, as this kernel has no queue in \
                         nftables:\n# nft shows it as `queue num {QUEUE}`, and cannot write it."
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn sections(rules: Installed, because: Option<String>) -> Sections {
    let sections = rules.sections.into_iter().map(|section| Part {
        about: section.about,
        family: section.family.word(),
        nft: section.text,
    });
    let restored = Program::ALL.map(|program| Restored {
        program: program.word(),
        text: rules.chains.text(program),
    });
    let left_out = rules.unwanted.protocols.into_iter();
    Sections {
        push_down: rules.means.to_string(),
        because,
        sections: sections.collect(),
        xtables: (restored.into_iter())
            .filter(|it| !it.text.is_empty())
            .collect(),
        filter: left_out
            .map(|(protocol, selectors)| LeftOut {
                protocol,
                selectors,
            })
            .collect(),
        filter_all_but: rules.unwanted.all_but,
    }
}

fn print(out: &mut dyn Write, rules: &Installed, because: Option<String>) -> Result<(), Failure> {
    let means = rules.means;
    writeln!(
        out,
        "# Events of flows that the policy excludes are suppressed by {means}."
    )?;
    if let Some(reason) = because {
        writeln!(out, "# Not by something better: {reason}")?;
    }
    if !rules.sections.is_empty() {
        write!(out, "{}", ruleset::text(&rules.sections))?;
    }
    for program in Program::ALL {
        let text = rules.chains.text(program);
        if !text.is_empty() {
            write!(out, "\n# {}-restore --noflush\n{text}", program.word())?;
        }
    }
    for (protocol, selectors) in &rules.unwanted.protocols {
        let ranges = selectors.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        let ranges = ranges.collect::<Vec<_>>().join(", ");
        let name = protocol_word(*protocol);
        let line = format!("# the filter leaves out {name} {ranges}");
        writeln!(out, "{}", line.trim_end())?;
    }
    if let Some(kept) = &rules.unwanted.all_but {
        let kept: Vec<_> = kept.iter().map(|it| protocol_word(*it)).collect();
        writeln!(out, "# and every protocol but {}", kept.join(", "))?;
    }
    Ok(())
}
