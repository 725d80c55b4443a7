//! The binary as an operator uses it: what it prints, where, and its exit status.

mod answers;
mod configuration;
mod daemon;
mod manual;
mod output;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use agent::identity::MemberKey;

const EXAMPLE: &str = include_str!("../../../packaging/ctsync.yaml");
/// The commented default of the example, and the public key of the member that it is for.
const EXAMPLE_KEY_FILE: &str = "# key_file: /etc/ctsync/member.key";
const EXAMPLE_PUBLIC_KEY: &str = "pPUQwz4ZqDcK2YkVU0CV1yTmHlQk0x2cD8o3b5cXW0g=";

/// The configuration is wrong, says the daemon to systemd.
const EX_CONFIG: i32 = 78;

fn ctsync(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ctsync"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Exit status, stdout, stderr.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        status.code().expect("it was not killed"),
        text(stdout),
        text(stderr),
    )
}

/// A configuration and the key that fits it, in a directory that goes with them.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    /// `config`, with a key of ours in the place of the example's.
    fn new(config: &str) -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let file = files.path("member.key");
        let key = MemberKey::create(&file).unwrap();
        let config = config
            .replace(EXAMPLE_KEY_FILE, &format!("key_file: {}", file.display()))
            .replace(EXAMPLE_PUBLIC_KEY, &key.public().to_string());
        fs::write(files.path("ctsync.yaml"), config).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> String {
        self.path("ctsync.yaml").to_str().unwrap().to_owned()
    }
}
