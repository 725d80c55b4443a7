//! A Debian with systemd as its first process, on this machine's kernel, in the network namespace of a lab's gateway: what
//! an operator installs a package on.
//!
//! The system is made once, by `mmdebstrap`, and kept below `/var/cache`. Every machine starts from it as it was: what a
//! machine writes is in memory, and goes with it. Commands are run inside with `nsenter`, so that a test reads top-down.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::leftovers::unique_name;
use crate::netns::{Namespace, Process, holds_within, run, wait_until};

/// Where systems are kept. Another name each time that what is in them changes.
const CACHE: &str = "/var/cache/ctsync-tests";
/// What the package needs, and what tests look with.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables,conntrack,procps,keepalived";
/// How long a machine may take to start.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);

/// A machine that runs. Dropping it is pulling its plug.
#[derive(Debug)]
pub struct Machine {
    /// Its first process, by our own count.
    leader: Pid,
    process: Process,
    label: String,
}

impl Machine {
    /// Starts a machine whose network is that of `place`, and which sees the directory `files` as `/t`.
    #[track_caller]
    pub fn boot(place: &Namespace, files: &Path) -> Machine {
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--keep-unit", "--register=no", "--boot"])
            .args(["--read-only", "--volatile=overlay", "--console=pipe"])
            .arg("--capability=CAP_NET_ADMIN")
            .arg(format!(
                "--network-namespace-path=/run/netns/{}",
                place.name()
            ))
            .arg(format!("--machine={}", unique_name(place.label())))
            .arg(format!("--bind-ro={}:/t", files.display()))
            .arg("--directory")
            .arg(system())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Process::spawn("systemd-nspawn", &mut command);
        let mut leader = None;
        wait_until("the machine has a first process", BOOT_DEADLINE, || {
            assert!(process.is_running(), "{command:?} ended");
            leader = first_process(process.id());
            leader.is_some()
        });
        let machine = Machine {
            leader: leader.expect("it was waited for"),
            process,
            label: place.label().to_owned(),
        };
        // Until its manager listens, there is nobody to ask how far it is.
        wait_until("the machine is up", BOOT_DEADLINE, || {
            let output = machine.output("systemctl is-system-running --wait");
            matches!(output.stdout.trim_ascii(), b"running" | b"degraded")
        });
        machine
    }

    /// Runs a line of shell inside, and returns what it printed; panics with its errors when it fails.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{}: {line}: {}\n{}{}",
            self.label,
            output.status,
            text(&output.stdout),
            text(&output.stderr),
        );
        text(&output.stdout)
    }

    /// Runs a line of shell inside, whatever comes of it.
    #[track_caller]
    pub fn output(&self, line: &str) -> Output {
        Command::new("nsenter")
            .args(["--all", "--target"])
            .arg(self.leader.as_raw_nonzero().to_string())
            .args([
                "/usr/bin/env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C",
            ])
            .args(["sh", "-ec", line])
            .stdin(Stdio::null())
            .output()
            .expect("util-linux is installed")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.output("journalctl --no-pager -n 60 -o short-monotonic");
            eprintln!("--- the end of the journal of {}:", self.label);
            eprintln!("{}", String::from_utf8_lossy(&journal.stdout));
        }
        // With its first process everything in it ends, and systemd-nspawn tidies up.
        let _ = kill_process(self.leader, Signal::KILL);
        let process = &mut self.process;
        holds_within(BOOT_DEADLINE, || !process.is_running());
    }
}

/// The child of `nspawn` that is the first of its own namespace.
fn first_process(nspawn: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let is_first = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|it| it.strip_prefix("NSpid:"));
        ids.is_some_and(|ids| ids.split_ascii_whitespace().nth(1) == Some("1"))
    };
    let mut pids = children
        .split_ascii_whitespace()
        .filter_map(|it| it.parse().ok());
    pids.find(is_first).and_then(Pid::from_raw)
}

/// The directory of the system, made by who comes first: the same Debian as this machine's.
#[track_caller]
fn system() -> PathBuf {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .expect("/etc/os-release names the suite");
    let system = Path::new(CACHE).join(format!("{suite}-3"));
    fs::create_dir_all(CACHE).expect("root may make it");
    let lock = File::create(Path::new(CACHE).join("lock")).expect("root may make it");
    lock.lock().expect("a file can be locked");
    if !system.exists() {
        let unfinished = system.with_extension("unfinished");
        // A maker that was killed has left it.
        let _ = fs::remove_dir_all(&unfinished);
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={PACKAGES}"))
            .args([
                "--aptopt=Acquire::Languages \"none\"",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
            ])
            .arg(suite)
            .arg(&unfinished));
        fs::rename(&unfinished, &system).expect("it is beside it");
    }
    system
}
