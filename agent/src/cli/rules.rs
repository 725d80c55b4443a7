//! `ctsync rules`: what the daemon installs in the packet path of this machine.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, print_json};
use crate::config::{Config, DEFAULT_FILE};
use crate::ruleset;
use crate::ruleset::hold::{Backend, QUEUE, Steering};

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The nftables tables that the daemon installs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Sections {
    /// Its parts, in their order.
    sections: Vec<Part>,
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
        let steering = Steering::of(&config, &policy, Backend::of_kernel(), true);
        let sections = ruleset::sections(&config, &policy, steering.as_ref());
        if self.json {
            let sections = sections.into_iter().map(|section| Part {
                about: section.about,
                family: section.family.word(),
                nft: section.text,
            });
            let sections = sections.collect();
            print_json(out, &Sections { sections })?;
        } else {
            write!(out, "{}", ruleset::text(&sections))?;
            if let Some(Steering {
                backend: Backend::Xtables,
                ..
            }) = steering
            {
                writeln!(
                    out,
                    "\n# To the chains held the daemon appends the target NFQUEUE of xtables, as this kernel has no queue in \
                     nftables:\n# nft shows it as `queue num {QUEUE} bypass`, and cannot write it."
                )?;
            }
        }
        Ok(())
    }
}
