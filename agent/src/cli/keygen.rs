//! `ctsync keygen`: makes a member's key, or shows the public half of one.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Failure, print_json};
use crate::identity::{DEFAULT_FILE, KeyError, MemberKey};

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// File to make; one that is there is never overwritten
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    out: PathBuf,
    /// Make nothing: print the public half of the key in this file
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    public: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The public half of a member's key.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PublicHalf {
    /// As it goes into `members`: base64.
    public_key: String,
}

impl Keygen {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let problem = |error: KeyError| Failure::Problem(error.to_string());
        let key = match &self.public {
            Some(file) => MemberKey::load(file).map_err(problem)?,
            None => MemberKey::create(&self.out).map_err(problem)?,
        };
        let public_key = key.public().to_string();
        match self.json {
            true => print_json(out, &PublicHalf { public_key })?,
            false => writeln!(out, "{public_key}")?,
        }
        Ok(())
    }
}
