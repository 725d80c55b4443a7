//! `ctsync accounting`: what has passed, by service.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::status::short;
use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::accounting::{self, Traffic};

#[derive(Debug, Args)]
pub(super) struct Accounting {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Accounting {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.accounting()?);
        let page = |out: &mut dyn Write, totals: &_| write!(out, "{}", Page(totals));
        self.view.show(out, ask, page, |_| Ok(()))
    }
}

/// What passed through all members, by service, and through each, as people read it, in at most 100 columns.
pub(super) struct Page<'a>(pub &'a accounting::Accounting);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounting::Accounting {
            interval_seconds,
            members,
            since_start: _,
        } = self.0;
        let mut services = BTreeMap::<_, Traffic>::new();
        for it in members.iter().flat_map(|member| &member.services) {
            let sum = services.entry(it.service.as_deref()).or_default();
            *sum = sum.plus(it.traffic);
        }
        let mut services: Vec<_> = services.into_iter().collect();
        services.sort_by_key(|(_, traffic)| std::cmp::Reverse(traffic.bytes_both()));
        head(f, "SERVICE")?;
        for (service, traffic) in services {
            line(f, service.unwrap_or("(no service)"), traffic)?;
        }
        let left_out = members.iter().map(|member| member.left_out).max();
        if let Some(left_out @ 1..) = left_out {
            writeln!(f, "{left_out} more of a member, with less")?;
        }
        writeln!(f)?;
        head(f, "MEMBER")?;
        let mut all = Traffic::default();
        for member in members {
            all = all.plus(member.total);
            let told = member.told_seconds_ago;
            let told = told.map_or_else(String::new, |ago| format!(", {ago} s ago"));
            line(
                f,
                &format!("{}{told}", short(&member.name, 16)),
                member.total,
            )?;
        }
        line(f, "all", all)?;
        match interval_seconds {
            Some(seconds) => writeln!(f, "\ncounted every {seconds} s"),
            None => writeln!(f, "\nthis member does not count (accounting.target is off)"),
        }
    }
}

fn head(f: &mut fmt::Formatter<'_>, of: &str) -> fmt::Result {
    writeln!(
        f,
        "{of:<28}{:>15}{:>20}{:>15}{:>20}",
        "PACKETS", "BYTES", "REPLY PACKETS", "REPLY BYTES"
    )
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, traffic: Traffic) -> fmt::Result {
    let Traffic {
        packets,
        bytes,
        reply_packets,
        reply_bytes,
    } = traffic;
    writeln!(
        f,
        "{:<28}{packets:>15}{bytes:>20}{reply_packets:>15}{reply_bytes:>20}",
        short(name, 28)
    )
}
