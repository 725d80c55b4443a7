//! `ctsync run`: the daemon.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::{Config, DEFAULT_FILE};
use crate::{daemon, log};

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
}

impl Run {
    pub fn execute(&self) -> Result<(), Failure> {
        let problem = |error: &dyn std::fmt::Display| Failure::Problem(error.to_string());
        let wrong = |error: &dyn std::fmt::Display| Failure::Misconfigured(error.to_string());
        let (config, key) = Config::load_with_key(&self.config).map_err(|error| wrong(&error))?;
        let policy = (config.load_policy(&self.config)).map_err(|error| wrong(&error))?;
        log::start(config.log.level).map_err(|error| problem(&error))?;
        daemon::run(&self.config, &config, policy, &key).map_err(|error| problem(&error))
    }
}
