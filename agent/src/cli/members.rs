//! `ctsync members`: what each member of the cluster is, and why.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::view::{View, verdict};
use super::{Daemon, Failure};
use crate::control::answer::members;
use crate::paragraph;
use crate::units::{Age, time};

#[derive(Debug, Args)]
pub(super) struct Members {
    #[command(flatten)]
    daemon: Daemon,
    /// Also show how this member became what it is: its last 50 changes
    #[arg(long)]
    history: bool,
    #[command(flatten)]
    view: View,
}

impl Members {
    /// Ends as a problem when a member is not fit, or not there.
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.members()?);
        let page = |out: &mut dyn Write, members: &_| {
            write!(out, "{}", Page(members))?;
            match self.history {
                true => write!(out, "{}", History(members)),
                false => Ok(()),
            }
        };
        self.view.show(out, ask, page, |members| {
            verdict(members.members.iter().all(|it| it.fit))
        })
    }
}

/// The members as people read them.
pub(super) struct Page<'a>(pub &'a members::Members);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.0;
        let preempt = if members.preempt { ", preempt" } else { "" };
        writeln!(f, "mode           {}{preempt}", members.mode)?;
        match members.last_failover_ms {
            Some(millis) => writeln!(
                f,
                "last failover  {} ago, of {} since the start",
                time(millis),
                members.failovers
            )?,
            None => writeln!(f, "last failover  none since the start")?,
        }
        if let Some(drain) = &members.drain {
            writeln!(f, "drain          {}: {}", drain.state, drain.text)?;
        }
        writeln!(
            f,
            "\n{:<6}  {:<18}  {:<16}  {:>8}  {:>14}  WHY",
            "MEMBER", "NAME", "STATE", "PRIORITY", "FOR"
        )?;
        for member in &members.members {
            member_lines(f, member)?;
        }
        for difference in &members.differences {
            writeln!(f, "\nconfigurations differ: {difference}")?;
        }
        write!(f, "{}", Checks(&members.checks))
    }
}

/// The checks of this member, a line each under a heading.
pub(super) struct Checks<'a>(pub &'a [members::Check]);

impl Display for Checks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            writeln!(f, "\n{:<20}  STATE", "CHECK")?;
        }
        for check in self.0 {
            let text = match (check.due_ms, check.text.is_empty()) {
                (Some(due), true) => format!("has to be heard of again in {}", time(due)),
                (_, _) => check.text.clone(),
            };
            let row = format!("{:<20}  {:<8}", check.name, check.state);
            match text.as_str() {
                "" => writeln!(f, "{}", row.trim_end())?,
                text => paragraph::write(f, &(row + "  "), text)?,
            }
        }
        Ok(())
    }
}

fn member_lines(f: &mut fmt::Formatter<'_>, member: &members::Member) -> fmt::Result {
    let name = match member.this {
        true => format!("{} (this)", member.name),
        false => member.name.clone(),
    };
    let priority = member
        .priority
        .map_or_else(|| "-".to_owned(), |it| it.to_string());
    let age = member
        .seconds
        .map_or_else(|| "-".to_owned(), |it| Age(it).to_string());
    let mut reasons: Vec<&str> = member.problems.iter().map(String::as_str).collect();
    reasons.extend((!member.why.is_empty()).then_some(member.why.as_str()));
    reasons.extend(
        member
            .starved
            .then_some("its daemon does not get to run in time"),
    );
    let mut reasons = reasons.into_iter();
    let row = format!(
        "{:<6}  {name:<18}  {:<16}  {priority:>8}  {age:>14}  ",
        member.id, member.state
    );
    paragraph::write(f, &row, reasons.next().unwrap_or("-"))?;
    let below = " ".repeat(row.chars().count());
    reasons.try_for_each(|reason| paragraph::write(f, &below, reason))
}

/// The changes of this member, newest first.
struct History<'a>(&'a members::Members);

impl Display for History<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:>14}  {:<16}  {:<16}  WHY", "AGO", "FROM", "TO")?;
        self.0.history.iter().try_for_each(|it| {
            let ago = time(it.ago_ms);
            let row = format!("{ago:>14}  {:<16}  {:<16}  ", it.from, it.to);
            paragraph::write(f, &row, &it.why)
        })
    }
}
