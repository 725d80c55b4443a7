//! On the kernel that Debian ships: what the kernel of this machine may lack, and that the codec is not of one kernel only.

use tests::cluster::program;
use tests::vm::{Debian, test_program};

/// A machine with a program of tests in `./tests`, and what goes before it: the limit of the table follows from the
/// machine's little memory.
fn with_tests(package: &str, name: &str) -> (Debian, String) {
    let debian = Debian::new(name);
    let program = test_program(package, name);
    debian.carry(&program);
    let file = program.file_name().expect("a file has a name");
    let file = file.to_str().expect("cargo's names are ASCII");
    let prepare = format!(
        "modprobe nf_conntrack
         sysctl -q net.netfilter.nf_conntrack_max=131072
         export RUST_BACKTRACE=0
         mv {file} tests
         "
    );
    (debian, prepare)
}

#[test]
fn what_the_codec_does_on_this_kernel_it_does_on_that_of_debian() {
    let (debian, prepare) = with_tests("conntrack", "kernel");
    // Captures are the same bytes on every kernel.
    let printed = debian.run(&format!(
        "{prepare} ./tests --test-threads 1 --skip captures::"
    ));
    assert!(printed.contains(" 0 failed; "), "{printed}");
}

#[test]
fn packets_are_held_with_their_flows_attached() {
    let (debian, prepare) = with_tests("conntrack", "kernel");
    let printed = debian.run(&format!(
        "{prepare} HELD_CAPTURES=out/held.txt ./tests --test-threads 1 --ignored attached::"
    ));
    assert!(printed.contains(" 2 passed; 0 failed; "), "{printed}");
    // To be copied to conntrack/tests/data when the kernel says more one day.
    let captures = debian.read("held.txt");
    assert!(captures.lines().count() >= 36, "{captures}");
}

#[test]
fn the_order_of_states_is_also_that_of_this_kernel() {
    let (debian, prepare) = with_tests("tests", "progress");
    // The rest follows from it.
    let printed = debian.run(&format!("{prepare} ./tests every_transition"));
    assert!(printed.contains(" 0 failed; "), "{printed}");
}

#[test]
fn what_a_full_table_has_no_room_for_goes_in_later() {
    let (debian, prepare) = with_tests("tests", "conflicts");
    debian.carry(&program());
    let printed = debian.run(&format!("{prepare} CTSYNC=/t/ctsync ./tests --ignored"));
    assert!(printed.contains(" 1 passed; 0 failed; "), "{printed}");
}

#[test]
fn translated_connections_whose_directions_pass_different_gateways_open() {
    let (debian, prepare) = with_tests("tests", "translated");
    debian.carry(&program());
    let printed = debian.run(&format!(
        "{prepare} CTSYNC=/t/ctsync ./tests --ignored --nocapture"
    ));
    assert!(printed.contains(" 1 passed; 0 failed; "), "{printed}");
}

#[test]
fn vlans_of_a_trunk_are_monitored() {
    let (debian, prepare) = with_tests("tests", "interfaces");
    debian.carry(&program());
    let printed = debian.run(&format!(
        "{prepare} CTSYNC=/t/ctsync ./tests --ignored --nocapture"
    ));
    assert!(printed.contains(" 1 passed; 0 failed; "), "{printed}");
}

#[test]
fn associations_of_sctp_and_offloaded_flows_go_on() {
    let (debian, prepare) = with_tests("tests", "protocols");
    debian.carry(&program());
    debian.run(&format!(
        "{prepare} modprobe sctp
         modprobe nft_flow_offload
         CTSYNC=/t/ctsync ./tests --ignored --test-threads 1"
    ));
}

#[test]
fn what_the_helper_is_missing_for_is_replicated() {
    let (debian, prepare) = with_tests("tests", "expectations");
    debian.carry(&program());
    debian.run(&format!("{prepare} CTSYNC=/t/ctsync ./tests --ignored"));
}
