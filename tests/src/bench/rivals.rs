//! Who is measured: nobody, conntrackd, ctsync; how each is configured, started, asked and stopped.
//!
//! The subtle thing: conntrackd's usual configuration keeps the peer's flows in a cache of its own, and has to be told to
//! put them into the kernel when it takes over. Only where the delay to the peer's kernel is measured does it put them
//! there at once ([`Copies::InKernel`]), as ctsync always does.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::gateways::{Gateways, assured_flows, flows};
use super::interrupt;
use crate::netns::{Namespace, Process, holds_within};

mod conntrackd;
pub mod ctsync;
pub mod join;

/// Who replicates gateway A's flows to gateway B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Contestant {
    /// Nobody, and nobody listens to the kernel's events.
    #[value(name = "none")]
    NoListener,
    /// Debian's conntrackd in FT-FW mode.
    Conntrackd,
    /// What this repository builds.
    Ctsync,
}

impl Contestant {
    /// All, in the order of the columns.
    pub const ALL: [Contestant; 3] = [
        Contestant::NoListener,
        Contestant::Conntrackd,
        Contestant::Ctsync,
    ];

    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::NoListener => "no listener",
            Contestant::Conntrackd => "conntrackd FT-FW",
            Contestant::Ctsync => "ctsync",
        }
    }
}

/// Where the receiver keeps what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Where the contestant's usual configuration keeps them.
    Usual,
    /// In the peer's kernel, at once.
    InKernel,
}

/// How long a contestant may take until both its daemons are ready.
const READY: Duration = Duration::from_secs(10);

/// Between two questions to a daemon: asking costs what is being measured.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A contestant at work. Dropping it stops its daemons and removes their files.
pub struct Running {
    contestant: Contestant,
    copies: Copies,
    /// Gateway A's daemon and gateway B's; `None` when nobody replicates.
    daemons: Option<[Daemon; 2]>,
    files: Files,
}

struct Daemon {
    process: Process,
    config: PathBuf,
}

impl Running {
    /// Starts a contestant on both gateways and waits until they know each other.
    pub fn start(contestant: Contestant, copies: Copies, gateways: &Gateways) -> Running {
        Running::start_on(contestant, copies, [&gateways.a, &gateways.b])
    }

    /// The same on any two machines with a sync link as [`Gateways`] have it.
    pub fn start_on(contestant: Contestant, copies: Copies, [a, b]: [&Namespace; 2]) -> Running {
        let files = Files::new();
        let start = |gateway, side| match contestant {
            Contestant::NoListener => None,
            Contestant::Conntrackd => Some(conntrackd::start(&files, copies, gateway, side)),
            Contestant::Ctsync => Some(ctsync::start(&files, gateway, side, "")),
        };
        let daemons = start(a, 0).zip(start(b, 1));
        let running = Running {
            contestant,
            copies,
            daemons: daemons.map(Into::into),
            files,
        };
        running.wait_ready();
        running
    }

    /// Starts ctsync with a service policy, and with more in its configuration.
    pub fn start_ctsync(policy: &str, more: &str, gateways: &Gateways) -> Running {
        let files = Files::new();
        files.write("policy.yaml", policy);
        let start = |gateway, side| ctsync::start(&files, gateway, side, more);
        let daemons = Some([start(&gateways.a, 0), start(&gateways.b, 1)]);
        let running = Running {
            contestant: Contestant::Ctsync,
            copies: Copies::Usual,
            daemons,
            files,
        };
        running.wait_ready();
        running
    }

    /// Waits until the logs of both daemons have this.
    #[track_caller]
    pub fn wait_until_both_say(&self, what: &str) {
        let both_say = || {
            interrupt::check();
            self.files.logs().matches(what).count() == 2
        };
        let logs = || self.files.logs();
        assert!(
            holds_within(2 * READY, both_say),
            "{what}: not said:\n{}",
            logs()
        );
    }

    #[track_caller]
    fn wait_ready(&self) {
        assert!(
            holds_within(READY, || self.is_ready()),
            "{} is not ready after {READY:?}:\n{}",
            self.contestant.name(),
            self.files.logs()
        );
    }

    fn is_ready(&self) -> bool {
        interrupt::check();
        self.daemons
            .iter()
            .flatten()
            .all(|daemon| match self.contestant {
                Contestant::NoListener => true,
                Contestant::Conntrackd => conntrackd::is_ready(daemon),
                Contestant::Ctsync => ctsync::is_ready(daemon),
            })
    }

    /// The process ids of the sender and the receiver.
    pub fn pids(&self) -> Option<[u32; 2]> {
        self.daemons
            .as_ref()
            .map(|daemons| [0, 1].map(|side: usize| daemons[side].process.id()))
    }

    /// Waits until the receiver, if there is one, has as many flows as gateway A, or `patience` has passed.
    pub fn settle(&self, gateways: &Gateways, patience: Duration) {
        if self.daemons.is_none() {
            return;
        }
        let wanted = flows(&gateways.a);
        for _ in 0..patience.as_millis() / ASK_AGAIN.as_millis() {
            interrupt::check();
            thread::sleep(ASK_AGAIN);
            let has = match self.external_cache() {
                Some(daemon) => conntrackd::external_flows(daemon),
                None => flows(&gateways.b),
            };
            if has >= wanted {
                break;
            }
        }
    }

    /// Flows that the receiver, if there is one, has; of those in its kernel, the ones that are established there.
    pub fn arrived(&self, gateways: &Gateways) -> Option<u64> {
        self.daemons.as_ref()?;
        Some(match self.external_cache() {
            Some(daemon) => conntrackd::external_flows(daemon),
            None => assured_flows(&gateways.b),
        })
    }

    /// The receiver, when it keeps the flows to itself.
    fn external_cache(&self) -> Option<&Daemon> {
        let [_, receiver] = self.daemons.as_ref()?;
        let keeps = self.contestant == Contestant::Conntrackd && self.copies == Copies::Usual;
        keeps.then_some(receiver)
    }
}

/// A directory for what the daemons read and write.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let directory = std::env::temp_dir().join(format!("ctsync-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        Files(directory)
    }

    /// Writes a file that only we read: one is a secret.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        let write = |mut file: File| file.write_all(text.as_bytes());
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&path).and_then(write);
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn start(&self, name: &str, command: &mut Command, config: PathBuf) -> Daemon {
        let path = self.0.join(format!("{name}.err"));
        let log = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let process = Process::spawn(
            name,
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        );
        Daemon { process, config }
    }

    /// What the daemons said so far.
    fn logs(&self) -> String {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let logs = entries.map(|entry| entry.path()).filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "err" || extension == "log")
        });
        logs.filter_map(|path| fs::read_to_string(path).ok())
            .collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
