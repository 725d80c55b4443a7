//! What `ctsync import-conntrackd` makes of the configurations that are out there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::cluster::program;
use tests::leftovers::Directory;
use tests::netns::run;

/// The options that VyOS writes for `service conntrack-sync`, over a link by multicast.
const LIKE_VYOS: &str = "\
Sync {
    Mode FTFW {
        DisableExternalCache on
        StartupResync on
    }
    Multicast Default {
        IPv4_address 225.0.0.50
        Group 3780
        IPv4_interface 192.0.2.1
        Interface eth1
        SndSocketBuffer 10485760
        RcvSocketBuffer 10485760
        Checksum on
    }
    Options {
        ExpectationSync {
            ftp
            sip
        }
    }
}
General {
    HashSize 32768
    HashLimit 524288
    LogFile off
    Syslog daemon
    LockFile /var/lock/conntrack.lock
    UNIX {
        Path /var/run/conntrackd.ctl
    }
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    NetlinkOverrunResync off
    NetlinkEventsReliable on
    Filter From Userspace {
        Address Ignore {
            IPv4_address 127.0.0.1
            IPv6_address ::1
            IPv4_address 192.0.2.1
        }
        Protocol Accept {
            TCP
            ICMP
        }
    }
}
Helper {
    Type rpc inet udp {
        QueueNum 3
        QueueLen 10240
        Policy rpc {
            ExpectMax 1
            ExpectTimeout 300
        }
    }
}
";

#[track_caller]
fn import(file: &Path) -> Value {
    let mut command = Command::new(program());
    let json = run(command
        .args(["import-conntrackd", "--json"])
        .arg(file)
        .stdin(Stdio::null()));
    serde_json::from_str(&json).expect("it prints JSON")
}

/// The options that it has something to say of.
fn noted(import: &Value) -> Vec<&str> {
    let notes = import["notes"].as_array().expect("there are notes");
    notes
        .iter()
        .filter_map(|it| it["option"].as_str())
        .collect()
}

#[test]
fn every_line_of_debians_examples_is_understood() {
    let directory = Directory::new("migration");
    run(Command::new("apt-get")
        .args(["download", "-qq", "conntrackd"])
        .current_dir(directory.path()));
    run(Command::new("sh")
        .args(["-c", "dpkg-deb --extract conntrackd_*.deb ."])
        .current_dir(directory.path()));
    let found = run(Command::new("find")
        .arg(directory.path())
        .args(["-name", "conntrackd.conf"]));
    let files: Vec<_> = found.lines().map(PathBuf::from).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let import = import(&file);
        let strange = import["notes"]
            .as_array()
            .expect("there are notes")
            .iter()
            .find(|it| {
                it["reason"]
                    .as_str()
                    .is_some_and(|it| it.contains("known here"))
            });
        assert_eq!(strange, None, "{}", file.display());
        if file.to_string_lossy().contains("/sync/") {
            assert!(
                import["config"]
                    .as_str()
                    .is_some_and(|it| it.contains("interface: eth2")),
                "{import:#}"
            );
            assert!(
                import["policy"]
                    .as_str()
                    .is_some_and(|it| it.contains("[tcp, sctp, dccp]")),
                "{import:#}"
            );
        }
    }
}

#[test]
fn what_vyos_writes_is_understood() {
    let directory = Directory::new("migration");
    let file = directory.path().join("conntrackd.conf");
    std::fs::write(&file, LIKE_VYOS).expect("the directory is ours");
    let import = import(&file);
    let expected = [
        "Group 3780",
        "SndSocketBuffer 10485760",
        "RcvSocketBuffer 10485760",
        "Checksum on",
        "ExpectationSync",
        "HashSize 32768",
        "HashLimit 524288",
        "LogFile off",
        "Syslog daemon",
        "Path /var/run/conntrackd.ctl",
        "NetlinkOverrunResync off",
        "NetlinkEventsReliable on",
        "Address Ignore",
        "Helper",
    ];
    assert_eq!(noted(&import), expected);
    let config = import["config"].as_str().expect("it is a text");
    for part in [
        "sync: \"192.0.2.1\"",
        "interface: eth1",
        "transport: multicast",
        "group: \"225.0.0.50\"",
    ] {
        assert!(config.contains(part), "{part}: {config}");
    }
}
