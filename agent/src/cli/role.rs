//! `ctsync down`, `ctsync up`, `ctsync drain`: what the operator wants this member to be.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Daemon, Failure, print_json};
use crate::control::Client;
use crate::control::answer::members::{Members, RolesRequest};

/// How long `down` and `up` wait to see what comes of them.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at what comes of it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(super) struct Down {
    #[command(flatten)]
    daemon: Daemon,
    /// Stay down after a restart, until `ctsync up`
    #[arg(long)]
    persist: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    daemon: Daemon,
    /// Give up, and stay active, when it takes more seconds than this
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Outcome {
    /// What this member is now.
    state: String,
    /// The names of those that are active, or active-attention.
    active: Vec<String>,
}

impl Down {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut client = self.daemon.connect()?;
        let persist = self.persist;
        ask(&mut client, RolesRequest::Down { persist })?;
        let seen = watch(&mut client, SEEN_WITHIN, |it| state(it) == "down")?;
        if self.json {
            return Ok(print_json(out, &Outcome::of(&seen))?);
        }
        match state(&seen) {
            "down" => writeln!(out, "this member is down; {}", who_is_active(&seen))?,
            other => writeln!(
                out,
                "this member is to be down, but is {other}: nobody else can take over; see `ctsync members`"
            )?,
        }
        Ok(())
    }
}

impl Up {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut client = self.daemon.connect()?;
        ask(&mut client, RolesRequest::Up)?;
        let seen = watch(&mut client, SEEN_WITHIN, |it| {
            matches!(state(it), "standby" | "active")
        })?;
        if self.json {
            return Ok(print_json(out, &Outcome::of(&seen))?);
        }
        let problems = seen.members.iter().find(|it| it.this);
        let problems = problems.map_or(&[][..], |it| &it.problems).join("; ");
        let why = if problems.is_empty() { "" } else { ": " };
        writeln!(
            out,
            "this member is {}{why}{problems}; {}",
            state(&seen),
            who_is_active(&seen)
        )?;
        Ok(())
    }
}

impl Drain {
    pub fn execute(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut client = self.daemon.connect()?;
        let timeout = Duration::from_secs(self.timeout.into());
        let timeout_ms = u64::from(self.timeout) * 1000;
        ask(&mut client, RolesRequest::Drain { timeout_ms })?;
        let is_over = |it: &Members| it.drain.as_ref().is_none_or(|it| it.state != "waiting");
        let seen = watch(&mut client, timeout + SEEN_WITHIN, is_over)?;
        match seen.drain.as_ref() {
            Some(drain) if drain.state == "done" => {
                match self.json {
                    true => print_json(out, &Outcome::of(&seen))?,
                    false => writeln!(out, "{}; this member is {}", drain.text, state(&seen))?,
                }
                Ok(())
            }
            Some(drain) => Err(Failure::Problem(drain.text.clone())),
            None => Err(Failure::Problem(
                "somebody asked for something else meanwhile; see `ctsync members`".into(),
            )),
        }
    }
}

/// Asks for a change; a refusal is a failure with the daemon's words.
pub(super) fn ask(client: &mut Client, request: RolesRequest) -> Result<(), Failure> {
    let refused = client.change_role(request)?.refused;
    refused.map_or(Ok(()), |reason| Err(Failure::Problem(reason)))
}

/// The members when it is as wanted, or when that took too long.
fn watch(
    client: &mut Client,
    timeout: Duration,
    is_wanted: impl Fn(&Members) -> bool,
) -> Result<Members, Failure> {
    let end = Instant::now() + timeout;
    loop {
        let members = client.members()?;
        if is_wanted(&members) || Instant::now() >= end {
            return Ok(members);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn state(members: &Members) -> &str {
    let this = members.members.iter().find(|it| it.this);
    this.map_or("unknown", |it| &it.state)
}

impl Outcome {
    fn of(members: &Members) -> Self {
        Self {
            state: state(members).to_owned(),
            active: active(members),
        }
    }
}

fn active(members: &Members) -> Vec<String> {
    let active = (members.members.iter()).filter(|it| it.state.starts_with("active"));
    active.map(|it| it.name.clone()).collect()
}

fn who_is_active(members: &Members) -> String {
    match active(members).as_slice() {
        [] => "nobody is active".to_owned(),
        names => format!("active: {}", names.join(", ")),
    }
}
