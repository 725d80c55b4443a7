//! On the kernel that Debian ships: what the kernel of this machine may lack, and that the codec is not of one kernel only.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::vm::Debian;

/// The program of `conntrack/tests/kernel`, as cargo has built it for these tests.
#[track_caller]
fn kernel_tests() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--package", "conntrack"])
        .args(["--test", "kernel", "--no-run", "--message-format=json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs these tests");
    let messages = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "kernel";
        message["executable"]
            .as_str()
            .filter(|_| is_ours)
            .map(PathBuf::from)
    });
    let last = executables.next_back();
    last.expect("the tests have been built")
}

/// A machine with the tests of the kernel in `./kernel`, and the command that raises the limit of its table, which follows
/// from its little memory.
fn with_kernel_tests(label: &str) -> (Debian, String) {
    let debian = Debian::new(label);
    let program = kernel_tests();
    debian.carry(&program);
    let name = program.file_name().expect("a file has a name");
    let name = name.to_str().expect("cargo's names are ASCII");
    let script = format!(
        "modprobe nf_conntrack
         sysctl -q net.netfilter.nf_conntrack_max=131072
         export RUST_BACKTRACE=0
         mv {name} kernel
         "
    );
    (debian, script)
}

#[test]
fn what_the_codec_does_on_this_kernel_it_does_on_that_of_debian() {
    let (debian, prepare) = with_kernel_tests("kernel");
    // Captures are the same bytes on every kernel.
    let printed = debian.run(&format!(
        "{prepare} ./kernel --test-threads 1 --skip captures::"
    ));
    assert!(printed.contains(" 0 failed; "), "{printed}");
}

#[test]
fn a_packet_held_after_all_translation_tells_both_tuples() {
    let (debian, prepare) = with_kernel_tests("attached");
    debian.run(&format!(
        "{prepare} HELD_CAPTURES=out/held.txt ./kernel --ignored --exact \
         attached::a_packet_held_after_all_translation_tells_both_tuples"
    ));
    // To be copied to conntrack/tests/data when the kernel says more one day.
    let captures = debian.read("held.txt");
    assert!(captures.lines().count() >= 36, "{captures}");
}
