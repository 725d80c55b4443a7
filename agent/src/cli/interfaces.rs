//! `ctsync interfaces`: the interfaces that have to be up on this member, and whether they are.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::status::Age;
use super::watch::Watch;
use crate::control::roles::{Direction, Interface};

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
        let up = interfaces.iter().filter(|it| it.is_up()).count();
        if self.json {
            print_json(out, &interfaces)?;
        } else {
            write!(out, "{}", Page(&interfaces))?;
        }
        match up == interfaces.len() {
            true => Ok(()),
            false => Err(Failure::Printed),
        }
    }
}

/// The interfaces as people read them, in 100 columns or less.
struct Page<'a>(&'a [Interface]);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted: &dyn Fn(&&Interface) -> bool| self.0.iter().filter(wanted).count();
        let (all, up) = (self.0.len(), count(&|it| it.is_up()));
        let (sync, sync_up) = (count(&|it| it.sync), count(&|it| it.sync && it.is_up()));
        writeln!(f, "required          {all}, {up} of them up")?;
        writeln!(f, "required secured  {sync}, {sync_up} of them up\n")?;
        let names = self.0.iter().map(|it| it.name.len());
        let width = names.fold("INTERFACE".len(), usize::max);
        writeln!(
            f,
            "{:<width$}  {:>4}  {:<19}  {:<19}  {:<4}  {:<9}  LAST PEER, AGO",
            "INTERFACE", "VLAN", "INBOUND", "OUTBOUND", "SYNC", "MODE"
        )?;
        for it in self.0 {
            let vlan = it.vlan.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let sync = if it.sync { "yes" } else { "-" };
            let last = match &it.last_seen {
                Some(seen) => format!("{} {}", seen.member, Age(seen.ago_ms / 1000)),
                None => "never".to_owned(),
            };
            writeln!(
                f,
                "{:<width$}  {vlan:>4}  {:<19}  {:<19}  {sync:<4}  {:<9}  {last}",
                it.name,
                direction(&it.inbound, &it.link),
                direction(&it.outbound, &it.link),
                it.mode
            )?;
        }
        Ok(())
    }
}

/// A direction that is down with its link says that of the link.
fn direction(direction: &Direction, link: &str) -> String {
    let state = match (direction.state.as_str(), link) {
        ("down", "missing") => "missing",
        (state, _) => state,
    };
    format!("{state} {}", Age(direction.seconds))
}
