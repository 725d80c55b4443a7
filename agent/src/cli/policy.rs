//! `ctsync policy dry-run`: what another policy would make of the traffic of a while.
//!
//! It listens to the kernel itself, beside the daemon and without it, and reads the kernel's table once when the time is up.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant as Clock, SystemTime};

use ccp::time::Instant;
use clap::{Args, Subcommand};
use conntrack::{Dump, DumpError, DumpItem, EventSocket, EventSocketOptions, Item};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use schemars::JsonSchema;
use serde::Serialize;

use super::status::short;
use super::{Failure, print_json};
use crate::addresses::LocalAddresses;
use crate::config::{Config, DEFAULT_FILE, PushDown, duration};
use crate::convert::Shared;
use crate::delay::FLOWS_MAX;
use crate::dry_run::{Counts, DryRun, Row};
use crate::policy;
use crate::units::counted;

/// Events between two looks at the clock.
const EVENTS_AT_A_TIME: usize = 4096;

#[derive(Debug, Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Judge the live events of the kernel by another policy, and show what it would save and what a failover would lose
    DryRun(Trial),
}

#[derive(Debug, Args)]
struct Trial {
    /// The policy to try; several files are read as one
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = time)]
    time: Duration,
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Outcome {
    /// For how long.
    pub seconds: u64,
    /// By service.
    pub services: Vec<Row>,
    /// All of them.
    pub total: Counts,
    /// What is to be known of these figures.
    pub notes: Vec<String>,
}

impl Policy {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Action::DryRun(trial) = &self.action;
        let outcome = trial.run()?;
        match trial.json {
            true => print_json(out, &outcome)?,
            false => write!(out, "{outcome}")?,
        }
        Ok(())
    }
}

impl Trial {
    fn run(&self) -> Result<Outcome, Failure> {
        let problem = |error: &dyn fmt::Display| Failure::Problem(error.to_string());
        let config = Config::load(&self.config).map_err(|error| problem(&error))?;
        let policy = policy::Policy::load(&self.files, config.port().get())
            .map_err(|error| problem(&error))?;
        let addresses = LocalAddresses::open().map_err(|error| {
            Failure::Problem(format!("cannot read this machine's addresses ({error})"))
        })?;
        let shared = Shared {
            mark_mask: config.kernel.mark_mask,
            copy_bit: config.kernel.copy_bit,
            label_mask: [0; 16],
        };
        let options = EventSocketOptions {
            receive_buffer_bytes: config.kernel.event_buffer_bytes as usize,
            ignore: None,
        };
        let mut events = EventSocket::open(&options).map_err(|error| problem(&error))?;
        let mut dry_run = DryRun::new(policy, addresses.set().clone(), shared, FLOWS_MAX);
        let overruns = listen(&mut events, &mut dry_run, self.time).map_err(|error| {
            Failure::Problem(format!("cannot read the kernel's events ({error})"))
        })?;
        let is_whole = read_table(&mut dry_run).map_err(|error| problem(&error))?;
        let services = dry_run.rows();
        let mut total = Counts::default();
        for row in &services {
            total += row.counts;
        }
        Ok(Outcome {
            seconds: self.time.as_secs(),
            services,
            total,
            notes: notes(&config, &dry_run, self.time, overruns, is_whole),
        })
    }
}

/// Hands over what the kernel tells in this time; returns how often it had to drop events.
fn listen(events: &mut EventSocket, dry_run: &mut DryRun, time: Duration) -> io::Result<u64> {
    let begun = Clock::now();
    let now = || Instant::from_micros(0) + begun.elapsed();
    let mut overruns = 0;
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(
            &mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let now = now();
        events.drain(EVENTS_AT_A_TIME, &mut |item| match item {
            Item::Event(event) => dry_run.handle_event(&event, now),
            Item::Overrun => overruns += 1,
            // An expectation goes with its master; what is not understood is not judged.
            Item::Expectation(_) | Item::Malformed(_) => {}
        })?;
    }
    dry_run.end(now());
    Ok(overruns)
}

/// Hands over the kernel's table; false if it changed too fast to be read whole.
fn read_table(dry_run: &mut DryRun) -> Result<bool, DumpError> {
    let wall_clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let wall_clock = wall_clock.unwrap_or_default();
    let mut is_whole = true;
    for item in Dump::open()? {
        match item {
            Ok(DumpItem::Flow(flow)) => {
                let age = (flow.start_nanos)
                    .map(|start| wall_clock.saturating_sub(Duration::from_nanos(start)));
                dry_run.handle_row(&flow, age);
            }
            Ok(DumpItem::Restarted) => dry_run.restart_rows(),
            Ok(DumpItem::Interrupted) => is_whole = false,
            Err(DumpError::Malformed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(is_whole)
}

fn notes(
    config: &Config,
    dry_run: &DryRun,
    time: Duration,
    overruns: u64,
    is_whole: bool,
) -> Vec<String> {
    let mut notes = Vec::new();
    if !matches!(config.policy.kernel, PushDown::Filter | PushDown::Off) {
        notes.push(
            "events that the policy in force keeps the kernel from making are in EXPOSED alone"
                .into(),
        );
    }
    if let Some(delay) = dry_run.longest_delay().filter(|delay| *delay > time) {
        let delay = delay.as_secs();
        notes.push(format!(
            "flows older than the dry run count as past their delay; --for {delay}s or more sees all"
        ));
    }
    if overruns > 0 {
        notes.push(format!(
            "the kernel dropped events {}, the figures are too low; see kernel: event_buffer",
            counted(overruns, "time", "times")
        ));
    }
    if !is_whole {
        notes.push(
            "the kernel's table changed too fast to be read whole: EXPOSED is too low".into(),
        );
    }
    notes
}

/// Reads `--for`.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = Duration::from_secs(1)..=Duration::from_secs(3600);
    (duration(text).filter(|time| time.subsec_nanos() == 0 && seconds.contains(time)))
        .ok_or_else(|| "write whole seconds, 1s to 1h".to_owned())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "events of {} s, as this policy would have them told\n",
            self.seconds
        )?;
        writeln!(
            f,
            "{:<20}  {:<13}{:>9}{:>10}{:>10}{:>12}{:>7}{:>8}{:>9}",
            "SERVICE", "SYNC", "FLOWS", "TOLD", "SAVED", "BYTES SAVED", "LATE", "UNTOLD", "EXPOSED"
        )?;
        for row in &self.services {
            let name = row.service.as_deref().unwrap_or("(no service)");
            let sync = match row.delay_seconds {
                Some(delay) => format!("{} {delay}s", row.sync),
                None => row.sync.to_owned(),
            };
            line(f, &short(name, 20), &sync, &row.counts)?;
        }
        line(f, "all", "", &self.total)?;
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, service: &str, sync: &str, counts: &Counts) -> fmt::Result {
    let Counts {
        flows,
        events: _,
        told,
        saved,
        saved_bytes,
        late,
        untold,
        exposed,
    } = counts;
    writeln!(
        f,
        "{service:<20}  {sync:<13}{flows:>9}{told:>10}{saved:>10}{saved_bytes:>12}{late:>7}{untold:>8}{exposed:>9}"
    )
}
