//! `ctsync services`: what each service costs, and how long its flows live.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::status::short;
use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::services::{self, ServiceCost};
use crate::units::counted;

#[derive(Debug, Args)]
pub(super) struct Services {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Services {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.services()?);
        let page = |out: &mut dyn Write, services: &_| write!(out, "{}", Page(services));
        self.view.show(out, ask, page, |_| Ok(()))
    }
}

/// The costs as people read them, in at most 100 columns.
pub(super) struct Page<'a>(pub &'a services::Services);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let services::Services { services, left_out } = self.0;
        writeln!(
            f,
            "{:<20}  {:<13}{:>9}{:>10}{:>10}{:>12}{:>6}{:>6}{:>6}{:>6}",
            "SERVICE", "SYNC", "FLOWS", "EVENTS", "MESSAGES", "BYTES", "<1s", "<3s", "<15s", "<30s"
        )?;
        for cost in services {
            line(f, cost)?;
        }
        if *left_out > 0 {
            writeln!(
                f,
                "\n{} less",
                counted(*left_out, "more costs", "more cost")
            )?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, cost: &ServiceCost) -> fmt::Result {
    let ServiceCost {
        service,
        builtin: _,
        sync,
        delay_seconds,
        flows,
        events,
        messages,
        bytes,
        watched,
        ended_within_1s,
        ended_within_3s,
        ended_within_15s,
        ended_within_30s,
    } = cost;
    let name = short(service.as_deref().unwrap_or("(no service)"), 20);
    let sync = match delay_seconds {
        Some(delay) => format!("{sync} {delay}s"),
        None => sync.to_string(),
    };
    write!(
        f,
        "{name:<20}  {sync:<13}{flows:>9}{events:>10}{messages:>10}{bytes:>12}"
    )?;
    for ended in [
        ended_within_1s,
        ended_within_3s,
        ended_within_15s,
        ended_within_30s,
    ] {
        let share = (ended * 100).checked_div(*watched);
        let share = share.map_or_else(|| "-".to_owned(), |share| format!("{share}%"));
        write!(f, "{share:>6}")?;
    }
    writeln!(f)
}
