//! `ctsync keygen`: makes a member's key, or shows the public half of one.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::keys::{DEFAULT_FILE, KeyError, MemberKey};

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// File to make; one that is there is never overwritten
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    out: PathBuf,
    /// Make nothing: print the public half of the key in this file
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    public: Option<PathBuf>,
}

impl Keygen {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let problem = |error: KeyError| Failure::Problem(error.to_string());
        let key = match &self.public {
            Some(file) => MemberKey::load(file).map_err(problem)?,
            None => MemberKey::create(&self.out).map_err(problem)?,
        };
        writeln!(out, "{}", key.public())?;
        Ok(())
    }
}
