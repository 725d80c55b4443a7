//! `ctsync rules`: what the daemon installs in the packet path of this machine.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::{Config, DEFAULT_FILE};
use crate::ruleset;

#[derive(Debug, Args)]
pub(super) struct Rules {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Rules {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let config =
            Config::load(&self.config).map_err(|error| Failure::Problem(error.to_string()))?;
        let policy = (config.load_policy(&self.config))
            .map_err(|error| Failure::Problem(error.to_string()))?;
        let sections = ruleset::sections(&config, &policy);
        if self.json {
            let sections: Vec<_> = (sections.iter())
                .map(|section| serde_json::json!({ "about": section.about, "nft": section.text }))
                .collect();
            writeln!(out, "{}", serde_json::json!({ "sections": sections }))?;
        } else {
            write!(out, "{}", ruleset::text(&sections))?;
        }
        Ok(())
    }
}
