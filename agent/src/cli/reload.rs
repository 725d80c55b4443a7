//! `ctsync reload`: has the daemon take the policy as it is written now.

use std::io::Write;

use clap::Args;

use super::{Daemon, Failure, print_json};
use crate::control::ClientError;
use crate::control::answer::Reloaded;
use crate::units::counted;

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Reload {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let reloaded = match self.daemon.connect()?.reload() {
            Ok(reloaded) => reloaded,
            Err(ClientError::Refused { reason }) => {
                return Err(Failure::Problem(format!("nothing was changed: {reason}")));
            }
            Err(error) => return Err(error.into()),
        };
        let Reloaded {
            services,
            rules,
            restart,
        } = &reloaded;
        if self.json {
            return Ok(print_json(out, &reloaded)?);
        }
        writeln!(
            out,
            "the policy is in force: {}, {}; flows are judged anew",
            counted(*services, "service", "services"),
            counted(*rules, "rule", "rules")
        )?;
        if !restart.is_empty() {
            let sections = restart.join(", ");
            writeln!(
                out,
                "what has changed under {sections} takes effect at the next restart"
            )?;
        }
        Ok(())
    }
}
