//! `ctsync interfaces`: the interfaces that have to be up on this member, and whether they are.

use std::io::Write;

use clap::Args;

use super::status::Age;
use super::watch::Watch;
use super::{Daemon, Failure, print_json};

#[derive(Debug, Args)]
pub(super) struct Interfaces {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: Watch,
}

impl Interfaces {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.watch.show(out, |out| self.show(out))
    }

    /// Ends as a problem when one is not up.
    fn show(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let interfaces = self.daemon.connect()?.members()?.interfaces;
        let up = interfaces.iter().filter(|it| it.link == "up").count();
        if self.json {
            print_json(out, &interfaces)?;
        } else {
            writeln!(out, "required  {}, {up} of them up\n", interfaces.len())?;
            writeln!(out, "{:<20}  {:<8}  {:>14}", "INTERFACE", "LINK", "FOR")?;
            for it in &interfaces {
                let age = Age(it.seconds).to_string();
                writeln!(out, "{:<20}  {:<8}  {age:>14}", it.name, it.link)?;
            }
        }
        match up == interfaces.len() {
            true => Ok(()),
            false => Err(Failure::Printed),
        }
    }
}
