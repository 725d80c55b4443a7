//! `ctsync paths`: the destinations whose flows were seen on two gateways, for which first packets are held.

use std::fmt::{self, Display};
use std::io::Write;

use clap::Args;

use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::{SplitDestination, SplitDestinations};
use crate::protocols::endpoint;
use crate::units::{Age, counted};

#[derive(Debug, Args)]
pub(super) struct Paths {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    view: View,
}

impl Paths {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let ask = || Ok(self.daemon.connect()?.paths()?);
        let page = |out: &mut dyn Write, splits: &_| write!(out, "{}", Page(splits));
        self.view.show(out, ask, page, |_| Ok(()))
    }
}

/// What was learnt as people read it, in at most 100 columns.
pub(super) struct Page<'a>(pub &'a SplitDestinations);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SplitDestinations {
            used,
            forgotten_after_seconds,
            not_learnt,
            destinations,
        } = self.0;
        let used = match used {
            true => "first packets to them are held",
            false => "not used: the configuration or the kernel has it otherwise",
        };
        writeln!(f, "destinations  {}, {used}", destinations.len())?;
        writeln!(
            f,
            "forgotten     {} after the last flow that was seen on two gateways",
            Age(*forgotten_after_seconds)
        )?;
        if *not_learnt > 0 {
            let flows = counted(*not_learnt, "flow", "flows");
            writeln!(f, "full          {flows} to others seen")?;
        }
        if !destinations.is_empty() {
            writeln!(
                f,
                "\n{:<24}  {:>12}  {:>12}  {:>12}  {:>9}",
                "DESTINATION", "LEARNT AGO", "SEEN AGO", "FORGOTTEN IN", "FLOWS"
            )?;
        }
        for destination in destinations {
            line(f, destination)?;
        }
        Ok(())
    }
}

/// Two lines, as an IPv6 flow has one to itself, and one for the interfaces.
fn line(f: &mut fmt::Formatter<'_>, split: &SplitDestination) -> fmt::Result {
    let SplitDestination {
        destination,
        interfaces,
        seconds,
        seen_seconds_ago,
        forgotten_in_seconds,
        flows: count,
        proto,
        orig,
    } = split;
    let [learnt, seen, forgotten] =
        [seconds, seen_seconds_ago, forgotten_in_seconds].map(|it| Age(*it).to_string());
    writeln!(
        f,
        "{destination:<24}  {learnt:>12}  {seen:>12}  {forgotten:>12}  {count:>9}"
    )?;
    // The source port says nothing of the path.
    let from = orig.src;
    let to = endpoint(orig.dst, orig.dport);
    writeln!(f, "  {proto} {from} > {to}")?;
    match interfaces.as_slice() {
        [] => Ok(()),
        interfaces => writeln!(f, "  out by {}", interfaces.join(", ")),
    }
}
