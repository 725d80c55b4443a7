//! `ctsync import-conntrackd`: a configuration of conntrackd in our words.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Failure, print_json};
use crate::import;

#[derive(Debug, Args)]
pub(super) struct ImportConntrackd {
    /// The conntrackd.conf
    file: PathBuf,
    /// Print policy.yaml, which the filter becomes, instead of ctsync.yaml
    #[arg(long, conflicts_with = "json")]
    policy: bool,
    /// Print JSON: both, and what has no equivalent
    #[arg(long)]
    json: bool,
}

impl ImportConntrackd {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let import =
            import::load(&self.file).map_err(|error| Failure::Problem(error.to_string()))?;
        if self.json {
            return Ok(print_json(out, &import)?);
        }
        match (self.policy, &import.policy) {
            (false, _) => out.write_all(import.config.as_bytes())?,
            (true, Some(policy)) => out.write_all(policy.as_bytes())?,
            (true, None) => out.write_all(b"# The file filters nothing.\n")?,
        }
        let file = self.file.display();
        for note in &import.notes {
            // They are for people, beside the result; a closed stderr loses nothing but them.
            let _ = writeln!(
                io::stderr(),
                "{file}:{}: {}: {}",
                note.line,
                note.option,
                note.reason
            );
        }
        Ok(())
    }
}
