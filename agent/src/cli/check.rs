//! `ctsync check`: whether the daemon could start with this configuration, and what it would make of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, print_json};
use crate::config::{Config, DEFAULT_FILE, LoadError};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print the service policy instead of the configuration
    #[arg(long)]
    policy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is wrong, for programs.
#[derive(Debug, Serialize, JsonSchema)]
struct Fault<'a> {
    /// The file.
    file: &'a Path,
    /// Counted from 1; `None` when the file as a whole is wrong.
    line: Option<u64>,
    /// Counted from 1, in characters.
    column: Option<u64>,
    /// What is wrong.
    reason: String,
    /// What to do.
    cure: String,
}

/// Why a configuration is refused.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Refusal<'a> {
    /// All that is wrong.
    errors: Vec<Fault<'a>>,
}

impl Check {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (config, policy) = match Config::judge(&self.config) {
            Ok(judged) => judged,
            Err(errors) => return self.refuse(out, &errors),
        };
        match (self.policy, self.json) {
            (true, true) => writeln!(out, "{}", policy.to_json())?,
            (false, true) => writeln!(out, "{}", config.to_json())?,
            (true, false) => {
                writeln!(out, "# The policy is good. With every default, it says:")?;
                write!(out, "{}", policy.to_yaml())?;
            }
            (false, false) => {
                writeln!(
                    out,
                    "# {} is good. With every default, it says:",
                    self.config.display()
                )?;
                write!(out, "{}", config.to_yaml())?;
                writeln!(out, "---\n# And the policy:")?;
                write!(out, "{}", policy.to_yaml())?;
            }
        }
        Ok(())
    }

    fn refuse(&self, out: &mut dyn Write, errors: &[LoadError]) -> Result<(), Failure> {
        if !self.json {
            let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
            return Err(Failure::Problem(texts.join("\nctsync: ")));
        }
        let errors = errors.iter().map(Fault::of).collect();
        print_json(out, &Refusal { errors })?;
        Err(Failure::Printed)
    }
}

impl<'a> Fault<'a> {
    fn of(error: &'a LoadError) -> Self {
        match error {
            LoadError::Config(error) => Self {
                file: error.file(),
                line: error.place().map(|place| place.line),
                column: error.place().map(|place| place.column),
                reason: error.reason(),
                cure: error.cure(),
            },
            LoadError::Key(error) => Self {
                file: error.file(),
                line: None,
                column: None,
                reason: error.reason(),
                cure: error.cure(),
            },
        }
    }
}
