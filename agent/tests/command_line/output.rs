//! Where the output goes: a pipe, a reader that leaves, a full disk.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use agent::control::answer::FlowRow;

use crate::daemon::{Daemon, FLOWS, row};
use crate::{EXAMPLE, Files, ctsync, outcome};

#[test]
fn every_flow_is_printed_once() {
    let daemon = Daemon::start();
    let (code, lines, said) = outcome(&mut ctsync(&[
        "flows",
        "--json",
        "--socket",
        &daemon.socket,
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    let rows: Vec<FlowRow> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows, (0..FLOWS).map(row).collect::<Vec<_>>());
    let (code, table, _) = outcome(&mut ctsync(&["flows", "--socket", &daemon.socket]));
    assert_eq!(code, 0);
    assert_eq!(table.lines().count(), 1 + usize::try_from(FLOWS).unwrap());
}

/// What it says and how it ends when its reader takes `lines` lines and leaves.
fn abandoned_after(lines: usize, command: &mut Command) -> (i32, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..lines {
        reader.read_line(&mut String::new()).unwrap();
    }
    drop(reader);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (
        child.wait().unwrap().code().expect("it was not killed"),
        said,
    )
}

#[test]
fn reader_that_leaves_early_is_no_failure() {
    let daemon = Daemon::start();
    let files = Files::new(EXAMPLE);
    for verb in ["status", "flows"] {
        for json in [&[][..], &["--json"]] {
            for lines in [0, 1] {
                let mut command = ctsync(&[verb, "--socket", &daemon.socket]);
                assert_eq!(
                    abandoned_after(lines, command.args(json)),
                    (0, String::new()),
                    "{verb} {json:?} {lines}"
                );
            }
        }
    }
    assert_eq!(
        abandoned_after(0, &mut ctsync(&["check", "--config", &files.config()])),
        (0, String::new())
    );
    assert_eq!(
        abandoned_after(0, &mut ctsync(&["--help"])),
        (0, String::new())
    );
}

#[test]
fn full_disk_is_a_failure() {
    let daemon = Daemon::start();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, _, said) = outcome(ctsync(&["flows", "--socket", &daemon.socket]).stdout(full));
    assert_eq!(code, 1);
    assert_eq!(
        said,
        "ctsync: cannot print the result (No space left on device (os error 28))\n"
    );
}
