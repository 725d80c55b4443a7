//! `ctsync audit`: what was found by comparing this kernel's table with what the cluster knows.

use std::io::{self, Write};

use clap::Args;

use super::view::View;
use super::{Daemon, Failure};
use crate::control::answer::audit::{Difference, DifferenceCounts, Equal, Proof, Report, Round};
use crate::protocols::endpoint;
use crate::units::counted;

/// Rounds of `--repair`: one finds and mends, the next proves it; what comes back after so many has another cause.
const ROUNDS_MAX: usize = 5;

#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(flatten)]
    daemon: Daemon,
    /// Compare now, and wait for the outcome
    #[arg(long)]
    now: bool,
    /// Compare now, and again until a round finds nothing but lag and conflicts
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    view: View,
}

impl Audit {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        self.view.show(
            out,
            || self.ask(),
            page,
            |report| match self.repair && !is_equal(report) {
                true => Err(Failure::Problem(
                    "the tables still differ; `ctsync audit` again says in what".into(),
                )),
                false => Ok(()),
            },
        )
    }

    fn ask(&self) -> Result<Report, Failure> {
        let mut client = self.daemon.connect()?;
        let mut report = match self.now || self.repair {
            true => client.audit_now()?,
            false => client.audit()?,
        };
        for _ in 1..ROUNDS_MAX {
            if !self.repair || is_equal(&report) {
                break;
            }
            report = client.audit_now()?;
        }
        Ok(report)
    }
}

/// True if the last round found nothing but lag, and conflicts: nothing is to be repaired where either kernel is right.
fn is_equal(report: &Report) -> bool {
    report.last.as_ref().is_some_and(|round| {
        let DifferenceCounts { conflict, lag, .. } = round.differences;
        let nothing = DifferenceCounts::default();
        round.differences
            == DifferenceCounts {
                conflict,
                lag,
                ..nothing
            }
    })
}

/// A report as people read it.
pub(super) fn page(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let Report {
        interval_seconds,
        rounds,
        longest_us,
        last,
        equal,
        peers,
        differences,
        history,
    } = report;
    let longest = millis(*longest_us);
    writeln!(
        out,
        "rounds  {rounds}, one every {interval_seconds} s or less often, {longest:.1} ms of CPU at a time at most"
    )?;
    writeln!(out, "last    {}", words(last.as_ref()))?;
    writeln!(out, "equal   {}", words(equal.as_ref()))?;
    for Proof {
        member,
        name,
        equal,
    } in peers
    {
        let proven = equal.map_or_else(
            || "never".to_owned(),
            |Equal { seconds_ago, flows }| {
                let flows = counted(flows, "flow", "flows");
                format!("{seconds_ago} s ago, {flows} that it carries")
            },
        );
        writeln!(out, "        with {member} ({name}) {proven}")?;
    }
    writeln!(out, "\nCLASS      IN THE LAST ROUND  SINCE THE START")?;
    let of_last = last
        .as_ref()
        .map(|round| round.differences)
        .unwrap_or_default();
    let rows = by_class(of_last).into_iter().zip(by_class(*differences));
    for ((class, last), (_, total)) in rows {
        writeln!(out, "{class:<9}  {last:>17}  {total:>15}")?;
    }
    if of_last.conflict > 0 {
        writeln!(
            out,
            "\nOf a conflict each kernel keeps its own flow: `ctsync explain FLOW` names the one that is in the way."
        )?;
    }
    if !history.is_empty() {
        writeln!(
            out,
            "\n      AGO      FIRST  TIMES  CLASS      PROTO    MEMBER  FLOW"
        )?;
    }
    for difference in history {
        line(out, difference)?;
    }
    Ok(())
}

fn words(round: Option<&Round>) -> String {
    let Some(round) = round else {
        return "never".to_owned();
    };
    let Round {
        seconds_ago,
        milliseconds,
        cpu_us,
        entries,
        differences: DifferenceCounts { conflict, .. },
    } = round;
    let but = match conflict {
        0 => String::new(),
        _ => format!(", but for {}", counted(*conflict, "conflict", "conflicts")),
    };
    let cpu = millis(*cpu_us);
    let entries = counted(*entries, "entry", "entries");
    format!("{seconds_ago} s ago, {entries} in {milliseconds} ms ({cpu:.1} ms of CPU){but}")
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn by_class(counts: DifferenceCounts) -> [(&'static str, u64); 6] {
    let DifferenceCounts {
        missing,
        ghost,
        nat,
        attribute,
        conflict,
        lag,
    } = counts;
    [
        ("missing", missing),
        ("ghost", ghost),
        ("nat", nat),
        ("attribute", attribute),
        ("conflict", conflict),
        ("lag", lag),
    ]
}

fn line(out: &mut dyn Write, difference: &Difference) -> io::Result<()> {
    let Difference {
        seconds_ago,
        first_seconds_ago,
        times,
        class,
        proto,
        orig,
        zone,
        member,
    } = difference;
    let member = member.map_or_else(|| "-".to_owned(), |member| member.to_string());
    let flow = [
        endpoint(orig.src, orig.sport),
        endpoint(orig.dst, orig.dport),
    ]
    .join(" > ");
    let zone = if *zone == 0 {
        String::new()
    } else {
        format!(" zone={zone}")
    };
    writeln!(
        out,
        "{seconds_ago:>7} s  {first_seconds_ago:>7} s  {times:>5}  {class:<9}  {proto:<7}  {member:<6}  {flow}{zone}"
    )
}
