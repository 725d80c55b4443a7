//! `ctsync keys`: the keys that seal the daemon's datagrams.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Daemon, Failure, print_json};
use crate::control::answer::Rolled;

#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Draw another key for this member's datagrams, hand it to the peers, and use it
    Roll(Roll),
}

#[derive(Debug, Args)]
struct Roll {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        match &self.action {
            Action::Roll(roll) => roll.execute(out),
        }
    }
}

impl Roll {
    fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let rolled = self.daemon.connect()?.roll_keys()?;
        let Rolled { epoch, unlinked } = &rolled;
        if self.json {
            print_json(out, &rolled)?;
        } else {
            writeln!(out, "key {epoch} of this run is in use")?;
        }
        match unlinked.is_empty() {
            true => Ok(()),
            false => {
                let unlinked: Vec<_> = unlinked.iter().map(u8::to_string).collect();
                Err(Failure::Problem(format!(
                    "there is no link to these live members, which get the key when it is back: {}; see the log",
                    unlinked.join(", ")
                )))
            }
        }
    }
}
