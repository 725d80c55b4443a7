//! A virtual machine on the kernel that Debian ships: for what the kernel of the machine that tests run on may lack.
//!
//! Tests run in network namespaces of the machine's own kernel wherever they can. That kernel may be built without
//! `NFQA_CT`, queues of nftables, flowtables, VLANs, VRF, netem or conntrack helpers; the kernels of distributions have
//! them all, and are what operators run. A test that needs one says what to carry into the machine and which script to run
//! there, as root:
//!
//! ```no_run
//! # use tests::{cluster, vm::Debian};
//! let debian = Debian::new("vlans");
//! debian.carry(&cluster::program());
//! debian.run("
//!     ip link add eth0 type veth peer name eth1
//!     ip link add link eth0 name eth0.7 type vlan id 7
//!     ./ctsync --version
//! ");
//! ```
//!
//! Inside are bash, `ip`, `nft`, `iptables`, `conntrack`, `tc`, `ping`, `ethtool`, `tcpdump`, `modprobe`, perl, no systemd
//! (that is [`crate::nspawn`]) and no network but loopback and what the script makes: namespaces and veth, as here.
//! The machine is one processor emulated, ten times slower than this one: nothing measured there means anything, and
//! deadlines must be long. It resumes within seconds from memory that `tests/vm/build` saved once, in one to two minutes,
//! below `/var/cache/ctsync-tests`; `tests/vm/run DIRECTORY` is the same by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::leftovers::Directory;

/// Lines that `tests/vm/init` prints before and after the test.
const BEGINS: &str = "the test begins\n";
const ENDS: &str = "the test ends with ";

/// How long a script may take on a machine that is busy with other tests.
const SECONDS_MAX: &str = "900";

/// A machine to be, and afterwards what it left. What is in its directory will be in `/t`, where the script is run.
#[derive(Debug)]
pub struct Debian {
    files: Directory,
}

impl Debian {
    /// A machine without anything in `/t`; `label` is for the name of a directory.
    #[track_caller]
    pub fn new(label: &str) -> Debian {
        Debian {
            files: Directory::new(label),
        }
    }

    /// Puts a copy of a program or file into `/t`, under its own name.
    #[track_caller]
    pub fn carry(&self, file: &Path) {
        let name = file.file_name().expect("a file has a name");
        let copied = fs::copy(file, self.files.path().join(name));
        copied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Puts a text into `/t`.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.files.path().join(name), text).expect("the directory is ours");
    }

    /// Boots, runs a script of `bash`, which ends at the first command that fails, and returns what it printed; panics with
    /// that when it fails. What the script leaves in `/t/out` can be [`read`](Self::read) then.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        self.write("run.sh", &format!("set -euo pipefail\n{script}\n"));
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("vm/run");
        let output = Command::new(&run)
            .arg(self.files.path())
            .env("VM_SECONDS", SECONDS_MAX)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", run.display()));
        let console = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "in the virtual machine: {}\n{console}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let printed = console.split_once(BEGINS).map_or("", |(_, after)| after);
        let end = printed.rfind(ENDS).unwrap_or(printed.len());
        printed[..end].to_owned()
    }

    /// What the script has left in a file of `/t/out`.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path: PathBuf = self.files.path().join("out").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// A program of tests, `tests/NAME.rs` of a package, as cargo has built it: to be carried into a machine.
///
/// What is in this crate's `tests` works there too, slowly: with `CTSYNC=/t/ctsync` and the program of ctsync beside it.
#[track_caller]
pub fn test_program(package: &str, name: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells this test of its package would make build scripts run anew, and their crates be compiled again.
    let of_this_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| of_this_package(name)) {
        cargo.env_remove(name);
    }
    let output = cargo
        .args(["test", "--locked", "--package", package])
        .args(["--test", name, "--no-run", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs these tests");
    let messages = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name;
        let path = message["executable"].as_str().filter(|_| is_it);
        path.map(PathBuf::from)
    });
    let last = executables.next_back();
    last.unwrap_or_else(|| panic!("cargo builds no test {name} of {package}"))
}
