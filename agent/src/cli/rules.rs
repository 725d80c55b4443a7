//! `ctsync rules`: what the daemon installs in the packet path of this machine.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, print_json};
use crate::config::{Config, DEFAULT_FILE};
use crate::ruleset;
use crate::ruleset::hold::{Backend, Steering};

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The nftables table that the daemon installs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Sections {
    /// Its parts, in their order.
    sections: Vec<Part>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    /// What it is for.
    about: &'static str,
    /// What stands between the braces of the table.
    nft: String,
}

impl Rules {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let config =
            Config::load(&self.config).map_err(|error| Failure::Problem(error.to_string()))?;
        let policy = (config.load_policy(&self.config))
            .map_err(|error| Failure::Problem(error.to_string()))?;
        let steering = Steering::of(&config, true);
        let (by_nft, by_iptables) = match Backend::of_kernel() {
            Backend::Nft => (steering, None),
            Backend::Iptables => (None, steering),
        };
        let sections = ruleset::sections(&config, &policy, by_nft.as_ref());
        if self.json {
            let sections = sections.into_iter().map(|section| Part {
                about: section.about,
                nft: section.text,
            });
            let sections = sections.collect();
            print_json(out, &Sections { sections })?;
        } else {
            write!(out, "{}", ruleset::text(&sections))?;
            if let Some(steering) = by_iptables {
                write_iptables(out, &steering)?;
            }
        }
        Ok(())
    }
}

/// As comments, so that `nft` takes the whole.
fn write_iptables(out: &mut dyn Write, steering: &Steering) -> std::io::Result<()> {
    for (program, is_ipv4) in [("iptables", true), ("ip6tables", false)] {
        writeln!(
            out,
            "\n# {program}-restore --noflush, then {program} -t mangle -A POSTROUTING -j ctsync-hold:"
        )?;
        for line in steering.iptables(is_ipv4).lines() {
            writeln!(out, "# {line}")?;
        }
    }
    Ok(())
}
