//! Who is measured: nobody, conntrackd, ctsync; how each is configured, started, asked and stopped.
//!
//! The subtle thing: conntrackd's usual configuration keeps the peer's flows in a cache of its own, and has to be told to
//! put them into the kernel when it takes over. Only where the delay to the peer's kernel is measured does it put them
//! there at once ([`Copies::InKernel`]), as ctsync always does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::gateways::{Gateways, SYNC, SYNC_A, SYNC_B, TABLE_SIZE, assured_flows, flows};
use super::interrupt;
use crate::netns::{Namespace, Process, holds_within};

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
    _files: Files,
}

struct Daemon {
    process: Process,
    config: PathBuf,
}

impl Running {
    /// Starts a contestant on both gateways and waits until they know each other.
    pub fn start(contestant: Contestant, copies: Copies, gateways: &Gateways) -> Running {
        let files = Files::new();
        let start: fn(&Files, Copies, &Namespace, usize) -> Daemon = match contestant {
            Contestant::NoListener => {
                return Running {
                    contestant,
                    copies,
                    daemons: None,
                    _files: files,
                };
            }
            Contestant::Conntrackd => start_conntrackd,
            Contestant::Ctsync => start_ctsync,
        };
        let mut daemons = [
            start(&files, copies, &gateways.a, 0),
            start(&files, copies, &gateways.b, 1),
        ];
        let ready = holds_within(READY, || {
            interrupt::check();
            daemons.iter_mut().all(|daemon| match contestant {
                Contestant::Ctsync => ctsync_is_synced(&daemon.config),
                Contestant::Conntrackd | Contestant::NoListener => {
                    conntrackd_statistics(&daemon.config).is_some()
                }
            })
        });
        assert!(
            ready,
            "{} is not ready after {READY:?}:\n{}",
            contestant.name(),
            files.logs()
        );
        Running {
            contestant,
            copies,
            daemons: Some(daemons),
            _files: files,
        }
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
                Some(daemon) => conntrackd_external_flows(daemon),
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
            Some(daemon) => conntrackd_external_flows(daemon),
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

fn start_conntrackd(files: &Files, copies: Copies, gateway: &Namespace, side: usize) -> Daemon {
    let directory = files.0.display();
    let address = [SYNC_A, SYNC_B][side];
    let external_cache_off = match copies {
        Copies::Usual => "Off",
        Copies::InKernel => "On",
    };
    // The package's example for FTFW (doc/sync/ftfw/conntrackd.conf), with its buffer sizes. HashLimit is twice the size
    // of the kernel's table, as the manual asks; HashSize keeps the example's four entries a bucket.
    let (hash_size, hash_limit) = (TABLE_SIZE / 2, TABLE_SIZE * 2);
    let config = files.write(
        &format!("conntrackd{side}.conf"),
        &format!(
            "Sync {{
    Mode FTFW {{
        DisableExternalCache {external_cache_off}
    }}
    Multicast {{
        IPv4_address 225.0.0.50
        Group 3780
        IPv4_interface {address}
        Interface {SYNC}
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize {hash_size}
    HashLimit {hash_limit}
    LogFile {directory}/conntrackd{side}.log
    LockFile {directory}/conntrackd{side}.lock
    UNIX {{
        Path {directory}/conntrackd{side}.sock
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
            TCP
            SCTP
            DCCP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {SYNC_A}
            IPv4_address {SYNC_B}
        }}
    }}
}}
"
        ),
    );
    let mut command = gateway.command("conntrackd");
    command.arg("-C").arg(&config);
    files.start(&format!("conntrackd{side}"), &mut command, config)
}

fn conntrackd_statistics(config: &Path) -> Option<String> {
    let output = Command::new("conntrackd")
        .arg("-C")
        .arg(config)
        .arg("-s")
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn conntrackd_external_flows(daemon: &Daemon) -> u64 {
    let statistics = conntrackd_statistics(&daemon.config).unwrap_or_default();
    let external = statistics
        .split_once("cache external:")
        .map_or("", |(_, rest)| rest);
    let count = external
        .split_once("current active connections:")
        .map_or("", |(_, rest)| rest);
    // It does not answer while it is far behind: then it has none that we know of.
    count
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

fn start_ctsync(files: &Files, _: Copies, gateway: &Namespace, side: usize) -> Daemon {
    let directory = files.0.display();
    let member = side + 1;
    let secret = files.write_secret();
    let config = files.write(
        &format!("ctsync{side}.yaml"),
        &format!(
            "cluster: 7
member: {member}
members:
  - id: 1
    name: gw-a
    addresses: {{ sync: {SYNC_A} }}
  - id: 2
    name: gw-b
    addresses: {{ sync: {SYNC_B} }}
networks:
  - name: sync
    interface: {SYNC}
secret_file: {secret}
control:
  socket: {directory}/ctsync{side}.sock
",
            secret = secret.display()
        ),
    );
    let mut command = gateway.command(ctsync());
    command.args(["run", "--config"]).arg(&config);
    files.start(&format!("ctsync{side}"), &mut command, config)
}

/// The program beside this one: both come from one build.
pub fn ctsync() -> PathBuf {
    let this = std::env::current_exe().expect("a process knows its program");
    this.with_file_name("ctsync")
}

/// Whether every peer of a daemon is live and has told all it knows.
fn ctsync_is_synced(config: &Path) -> bool {
    let output = Command::new(ctsync())
        .args(["status", "--json", "--config"])
        .arg(config)
        .output();
    let Some(status) = output
        .ok()
        .and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok())
    else {
        return false;
    };
    let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
    !peers.is_empty()
        && peers
            .iter()
            .all(|peer| peer["state"] == "live" && peer["synced"] == true)
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

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn write_secret(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write("cluster.secret", &format!("{}\n", "5a".repeat(32)));
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, owner_only)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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
