//! `ctsync interfaces`: the interfaces that have to be up on this member, and whether they are.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::status::Age;
use super::view::{View, is_well};
use crate::control::roles::{Direction, Interface};

use super::{Daemon, Failure};

#[derive(Debug, Args)]
pub(super) struct Interfaces {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Interfaces {
    /// Ends as a problem when one is not up.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.members()?.interfaces);
        let page = |out: &mut dyn Write, interfaces: &Vec<_>| write!(out, "{}", Page(interfaces));
        self.view.show(out, ask, page, |interfaces| {
            is_well(interfaces.iter().all(|it| it.is_up()))
        })
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
