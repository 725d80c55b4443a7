//! `ctsync doctor`: what is wrong with this machine or differs from its peers, why it matters, and what mends it.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::watch::Watch;
use super::{Failure, print_json};
use crate::config::{Config, DEFAULT_FILE};
use crate::doctor::{self, Verdict};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl Doctor {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.watch.show(out, |out| self.show(out))
    }

    /// Ends as a problem when something is bad.
    fn show(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let config =
            Config::load(&self.config).map_err(|error| Failure::Problem(error.to_string()))?;
        let mut findings = doctor::examine(&config);
        findings.extend(doctor::examine_peers(&config.control.socket));
        if self.json {
            print_json(out, &findings)?;
        } else {
            for finding in &findings {
                write!(out, "{finding}")?;
            }
        }
        match findings.iter().any(|it| it.verdict == Verdict::Bad) {
            true => Err(Failure::Printed),
            false => Ok(()),
        }
    }
}
