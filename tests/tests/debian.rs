//! On the kernel that Debian ships: what the kernel of this machine may lack, and that the codec is not of one kernel only.

use tests::vm::{Debian, test_program};

/// A machine with the tests of the kernel in `./kernel`, and the command that raises the limit of its table, which follows
/// from its little memory.
fn with_kernel_tests(label: &str) -> (Debian, String) {
    let debian = Debian::new(label);
    let program = test_program("conntrack", "kernel");
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
fn packets_are_held_with_their_flows_attached() {
    let (debian, prepare) = with_kernel_tests("attached");
    debian.run(&format!(
        "{prepare} HELD_CAPTURES=out/held.txt ./kernel --test-threads 1 --ignored attached::"
    ));
    // To be copied to conntrack/tests/data when the kernel says more one day.
    let captures = debian.read("held.txt");
    assert!(captures.lines().count() >= 36, "{captures}");
}
