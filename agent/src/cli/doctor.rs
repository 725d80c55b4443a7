//! `ctsync doctor`: what is wrong with this machine or differs from its peers, why it matters, and what mends it.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::view::{View, verdict};
use crate::config::{Config, DEFAULT_FILE};
use crate::doctor::{self, Finding, Verdict};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    #[command(flatten)]
    view: View,
}

impl Doctor {
    /// Ends as a problem when something is bad.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let page = |out: &mut dyn Write, findings: &Vec<Finding>| {
            (findings.iter()).try_for_each(|finding| write!(out, "{finding}"))
        };
        self.view.show(
            out,
            || self.examine(),
            page,
            |findings| verdict(findings.iter().all(|it| it.verdict != Verdict::Bad)),
        )
    }

    fn examine(&self) -> Result<Vec<Finding>, Failure> {
        Ok(match Config::load(&self.config) {
            Ok(config) => {
                let mut findings = doctor::examine(&config);
                findings.extend(doctor::peers::examine(&config));
                findings
            }
            Err(error) => doctor::examine_unconfigured(error.to_string()),
        })
    }
}
