//! `ctsync check-in`: a check of the operator's says how things are.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Daemon, Failure, print_json, role};
use crate::config::duration;
use crate::control::answer::members::{CheckSays, Done, RolesRequest};
use crate::core::roles::check_name;
use crate::units::millis;

#[derive(Debug, Args)]
pub(super) struct CheckIn {
    /// The check: letters, digits, dots, underscores and hyphens
    #[arg(value_parser = check_name)]
    name: String,
    /// How things are
    #[arg(value_enum)]
    says: Says,
    /// It has to check in again within this time, such as 10s, or counts as a problem
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Says {
    /// All is well
    Ok,
    /// This member should not be active
    Problem,
    /// What is checked has only begun
    Init,
    /// There is no such check any longer
    Gone,
}

impl CheckIn {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let request = RolesRequest::CheckIn {
            name: self.name.clone(),
            says: match self.says {
                Says::Ok => CheckSays::Ok,
                Says::Problem => CheckSays::Problem,
                Says::Init => CheckSays::Init,
                Says::Gone => CheckSays::Gone,
            },
            timeout_ms: self.timeout.map(millis),
        };
        role::ask(&mut self.daemon.connect()?, request)?;
        if self.json {
            print_json(out, &Done { refused: None })?;
        }
        Ok(())
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let wrong = "write a whole number and its unit, ms, s, min or h, such as 10s";
    duration(text).ok_or_else(|| wrong.to_owned())
}
