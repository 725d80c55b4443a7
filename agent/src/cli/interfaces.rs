//! `ctsync interfaces`: the interfaces that have to be up on this member, and whether they are.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::status::short;
use super::view::{View, verdict};
use super::{Daemon, Failure};
use crate::control::answer::members::{Direction, Interface, Seen};
use crate::units::Age;

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
            verdict(interfaces.iter().all(|it| it.is_up()))
        })
    }
}

/// What fits into one line.
const COLUMNS: usize = 100;

/// The interfaces as people read them.
struct Page<'a>(&'a [Interface]);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wanted: &dyn Fn(&&Interface) -> bool| self.0.iter().filter(wanted).count();
        let (all, up) = (self.0.len(), count(&|it| it.is_up()));
        let (sync, sync_up) = (count(&|it| it.sync), count(&|it| it.sync && it.is_up()));
        writeln!(f, "required          {all}, {up} of them up")?;
        writeln!(f, "required secured  {sync}, {sync_up} of them up\n")?;
        if self.0.is_empty() {
            return writeln!(f, "none is monitored: see `interfaces` in ctsync.yaml(5)");
        }
        let rows: Vec<_> = self.0.iter().map(Row::new).collect();
        let widest = |heading: &str, length: fn(&Row<'_>) -> usize| {
            rows.iter().map(length).fold(heading.len(), usize::max)
        };
        let name = widest("INTERFACE", |it| it.name.len());
        let inbound = widest("INBOUND", |it| it.inbound.len());
        let outbound = widest("OUTBOUND", |it| it.outbound.len());
        let heading = Row {
            name: "INTERFACE",
            vlan: "VLAN".to_owned(),
            inbound: "INBOUND".to_owned(),
            outbound: "OUTBOUND".to_owned(),
            sync: "SYNC",
            mode: "MODE",
            last_seen: None,
        };
        let line = |row: &Row<'_>| {
            format!(
                "{:<name$}  {:>4}  {:<inbound$}  {:<outbound$}  {:<4}  {:<9}  ",
                row.name, row.vlan, row.inbound, row.outbound, row.sync, row.mode
            )
        };
        writeln!(f, "{}LAST PEER, AGO", line(&heading))?;
        for row in &rows {
            let line = line(row);
            writeln!(f, "{line}{}", row.last(COLUMNS - line.len()))?;
        }
        Ok(())
    }
}

/// An interface, as it is written.
struct Row<'a> {
    /// Without the number of a VLAN, which has a column of its own.
    name: &'a str,
    vlan: String,
    inbound: String,
    outbound: String,
    sync: &'static str,
    mode: &'a str,
    last_seen: Option<&'a Seen>,
}

impl<'a> Row<'a> {
    fn new(it: &'a Interface) -> Self {
        let parent = it.name.rsplit_once('.').map(|(parent, _)| parent);
        Self {
            name: parent.filter(|_| it.vlan.is_some()).unwrap_or(&it.name),
            vlan: it.vlan.map_or_else(|| "-".to_owned(), |it| it.to_string()),
            inbound: direction(&it.inbound, &it.link),
            outbound: direction(&it.outbound, &it.link),
            sync: if it.sync { "yes" } else { "-" },
            mode: &it.mode,
            last_seen: it.last_seen.as_ref(),
        }
    }

    /// The last peer, in so many columns.
    fn last(&self, room: usize) -> String {
        let Some(seen) = self.last_seen else {
            return "never".to_owned();
        };
        let ago = Age(seen.ago_ms / 1000).to_string();
        format!("{} {ago}", short(&seen.member, room - ago.len() - 1))
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

#[cfg(test)]
mod tests {
    use super::{Direction, Interface, Page, Seen};

    #[test]
    fn the_longest_names_and_times_fit_into_100_columns() {
        let direction = |state: &str| Direction {
            state: state.to_owned(),
            seconds: 3599,
        };
        let interface = Interface {
            name: "enp129s0f1np1x8.4094".to_owned(),
            vlan: Some(4094),
            link: "up".to_owned(),
            inbound: direction("assumed"),
            outbound: direction("assumed"),
            sync: false,
            mode: "multicast".to_owned(),
            last_seen: Some(Seen {
                member: "firewall".repeat(7),
                ago_ms: 3_599_000,
            }),
        };
        let page = Page(&[interface]).to_string();
        assert!(
            page.contains("enp129s0f1np1x8  4094  assumed 59 min 59 s"),
            "{page}"
        );
        let widest = page.lines().map(str::len).max();
        assert_eq!(widest, Some(100), "{page}");
    }
}
