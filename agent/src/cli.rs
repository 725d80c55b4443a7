//! The command line: verbs, exit codes, and how results and failures are printed.
//!
//! One file a verb. Results go to stdout, failures to stderr as a sentence or two. Whoever closes our stdout
//! (`| head`) has seen enough: that is no failure.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{Config, DEFAULT_FILE, DEFAULT_SOCKET};
use crate::control::{Client, ClientError};

mod accounting;
mod audit;
mod check;
mod check_in;
mod completions;
mod doctor;
mod explain;
mod flows;
mod import_conntrackd;
mod interfaces;
mod keygen;
mod keys;
mod members;
mod mode;
mod paint;
mod paths;
mod policy;
mod reload;
mod resync;
mod role;
mod rules;
mod run;
mod schema;
mod screen;
mod services;
mod status;
mod syncstat;
mod top;
mod view;

/// Shares the connection table of a Linux firewall with the other members of its cluster
#[derive(Debug, Parser)]
#[command(name = "ctsync", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str =
    "Exit status: 0 all is well, 1 a problem was found, 2 wrong usage, 3 no daemon answers";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon, in the foreground
    Run(run::Run),
    /// Make this member's key and print its public half
    Keygen(keygen::Keygen),
    /// Check configuration and key, and print what it means with every default
    Check(check::Check),
    /// Show how this member and its peers are
    Status(status::Status),
    /// Show how well changes get from member to member, over which network
    Syncstat(syncstat::Syncstat),
    /// List the flows that this member knows
    Flows(flows::Flows),
    /// Show which service and rule decided on a flow, and where it is
    Explain(explain::Explain),
    /// Show what each service of the policy costs, and how long its flows live
    Services(services::Services),
    /// Show what has passed through each member, by service
    Accounting(accounting::Accounting),
    /// Show destinations whose flows pass two gateways, so that first packets wait
    Paths(paths::Paths),
    /// Show what was found by comparing the kernel's table with what is known
    Audit(audit::Audit),
    /// Show what each member is, and why
    Members(members::Members),
    /// Show the interfaces that have to be up, and whether they are
    Interfaces(interfaces::Interfaces),
    /// Ask this member to be down: another takes over if one can
    Down(role::Down),
    /// Ask this member to be up again
    Up(role::Up),
    /// Fail over as planned: go down once another has every flow in its kernel
    Drain(role::Drain),
    /// Tell the daemon how things are with a check of your own
    CheckIn(check_in::CheckIn),
    /// Switch how datagrams for all members leave, on all members
    Mode(mode::Mode),
    /// Replace the keys that seal datagrams
    Keys(keys::Keys),
    /// Have the daemon take the service policy as it is written now
    Reload(reload::Reload),
    /// Fetch everything that the peers have anew, and wait until it is here
    Resync(resync::Resync),
    /// Try another service policy on the live traffic
    Policy(policy::Policy),
    /// Print the nftables table that the daemon installs
    Rules(rules::Rules),
    /// Show members, networks and rates, live
    Top(top::Top),
    /// Look for what is wrong with this machine, and say what mends it
    Doctor(doctor::Doctor),
    /// Turn a configuration of conntrackd into one of ours
    ImportConntrackd(import_conntrackd::ImportConntrackd),
    /// Print what `--json` of a verb prints, as a JSON Schema
    Schema(schema::PrintSchema),
    /// Print the completions of a shell
    Completions(completions::Completions),
}

/// Of sysexits.h. systemd calls it CONFIG, and the unit has it start nothing anew.
const EX_CONFIG: u8 = 78;

/// Why a verb did not do what it should.
#[derive(Debug)]
enum Failure {
    /// A problem was found; all that is to be said.
    Problem(String),
    /// What was asked for cannot be; what would do.
    Usage(String),
    /// A problem, and it is printed already.
    Printed,
    /// The daemon cannot start with these files, however often it is tried.
    Misconfigured(String),
    /// No daemon answers; where and what to do.
    NoDaemon(String),
    /// The result could not be printed.
    Output(io::Error),
}

/// Does what the command line of this process says.
pub fn main() -> ExitCode {
    // Usage errors end here, with status 2; `--help` and `--version` with 0.
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Run(run) => run.execute(),
        Verb::Keygen(keygen) => print(|out| keygen.execute(out)),
        Verb::Check(check) => print(|out| check.execute(out)),
        Verb::Status(status) => print_table(|out| status.execute(out)),
        Verb::Syncstat(syncstat) => print_table(|out| syncstat.execute(out)),
        Verb::Flows(flows) => print_table(|out| flows.execute(out)),
        Verb::Explain(explain) => print(|out| explain.execute(out)),
        Verb::Services(services) => print_table(|out| services.execute(out)),
        Verb::Accounting(accounting) => print_table(|out| accounting.execute(out)),
        Verb::Paths(paths) => print_table(|out| paths.execute(out)),
        Verb::Audit(audit) => print(|out| audit.execute(out)),
        Verb::Members(members) => print_table(|out| members.execute(out)),
        Verb::Interfaces(interfaces) => print_table(|out| interfaces.execute(out)),
        Verb::Down(down) => print(|out| down.execute(out)),
        Verb::Up(up) => print(|out| up.execute(out)),
        Verb::Drain(drain) => print(|out| drain.execute(out)),
        Verb::CheckIn(check_in) => print(|out| check_in.execute(out)),
        Verb::Mode(mode) => print(|out| mode.execute(out)),
        Verb::Keys(keys) => print(|out| keys.execute(out)),
        Verb::Reload(reload) => print(|out| reload.execute(out)),
        Verb::Resync(resync) => print(|out| resync.execute(out)),
        Verb::Policy(policy) => print_table(|out| policy.execute(out)),
        Verb::Rules(rules) => print(|out| rules.execute(out)),
        Verb::Top(top) => print_table(|out| top.execute(out)),
        Verb::Doctor(doctor) => print_table(|out| doctor.execute(out)),
        Verb::ImportConntrackd(import) => print(|out| import.execute(out)),
        Verb::Schema(schema) => print(|out| schema.execute(out)),
        Verb::Completions(completions) => print(|out| completions.execute(out)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if !matches!(failure, Failure::Printed) {
                // Nobody listens if this fails; the exit status speaks.
                let _ = writeln!(io::stderr(), "ctsync: {failure}");
            }
            failure.exit_code()
        }
    }
}

/// Runs a verb that prints a table, in colours where there is somebody to see them.
fn print_table(verb: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    print(|out| match paint::is_wanted() {
        true => {
            let mut painted = paint::Painter::new(out);
            let done = verb(&mut painted);
            painted.flush()?;
            done
        }
        false => verb(out),
    })
}

/// Runs a verb that prints, and flushes what it printed.
fn print(verb: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = verb(&mut out);
    out.flush()?;
    done
}

/// What `--json` prints of an answer.
fn print_json(out: &mut dyn Write, answer: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string_pretty(answer);
    writeln!(
        out,
        "{}",
        json.expect("names, texts and numbers have a JSON form")
    )
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Problem(_) | Self::Printed | Self::Output(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::NoDaemon(_) => ExitCode::from(3),
            Self::Misconfigured(_) => ExitCode::from(EX_CONFIG),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(text)
            | Self::Usage(text)
            | Self::Misconfigured(text)
            | Self::NoDaemon(text) => f.write_str(text),
            Self::Printed => Ok(()),
            Self::Output(error) => write!(f, "cannot print the result ({error})"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NoDaemon { .. } => Self::NoDaemon(error.to_string()),
            ClientError::Io { .. } | ClientError::Refused { .. } | ClientError::Garbled { .. } => {
                Self::Problem(error.to_string())
            }
        }
    }
}

/// Which daemon to talk to.
#[derive(Debug, Args)]
struct Daemon {
    /// Configuration that names the socket [default: /etc/ctsync/ctsync.yaml]
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Control socket of the daemon
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Daemon {
    fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.socket()?)?)
    }

    fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let file = self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        match Config::load(file) {
            Ok(config) => Ok(config.control.socket),
            // Who may not read the file, or has none here, most likely means the usual socket.
            Err(error) if self.config.is_none() && error.is_unreadable() => {
                Ok(DEFAULT_SOCKET.into())
            }
            Err(error) => Err(Failure::Problem(format!(
                "{error} (or name the socket with --socket)"
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
