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

/// Debian's package of conntrackd, unpacked.
#[track_caller]
fn unpacked(directory: &Directory) {
    run(Command::new("apt-get")
        .args(["download", "-qq", "conntrackd"])
        .current_dir(directory.path()));
    run(Command::new("sh")
        .args(["-c", "dpkg-deb --extract conntrackd_*.deb ."])
        .current_dir(directory.path()));
}

/// The note that says that an option is not known, if one does.
fn unknown(import: &Value) -> Option<&Value> {
    let notes = import["notes"].as_array().expect("there are notes");
    let is_it = |it: &&Value| {
        it["reason"]
            .as_str()
            .is_some_and(|it| it.contains("known here"))
    };
    notes.iter().find(is_it)
}

/// Where the options of a part of the manual stand, as what opens and closes around them.
fn place(heading: &str) -> Option<(&'static str, &'static str)> {
    Some(match heading {
        "Mode FTFW" => ("Sync {\nMode FTFW {", "}\n}"),
        "Mode ALARM" => ("Sync {\nMode ALARM {", "}\n}"),
        "Mode NOTRACK" => ("Sync {\nMode NOTRACK {", "}\n}"),
        "MULTICAST" => ("Sync {\nMulticast {", "}\n}"),
        "UDP" => ("Sync {\nUDP {", "}\n}"),
        "TCP" => ("Sync {\nTCP {", "}\n}"),
        "OPTIONS" => ("Sync {\nOptions {", "}\n}"),
        "GENERAL" => ("General {", "}"),
        "UNIX" => ("General {\nUNIX {", "}\n}"),
        "FILTER" => ("General {\nFilter From Userspace {", "}\n}"),
        "SCHEDULER" => ("General {\nScheduler {", "}\n}"),
        "STATS" => ("Stats {", "}"),
        "HELPER" => ("Helper {\nType ftp inet tcp {", "}\n}"),
        _ => return None,
    })
}

#[test]
fn every_option_of_conntrackds_manual_is_mapped_or_named_with_the_reason() {
    let directory = Directory::new("migration");
    unpacked(&directory);
    let page = directory
        .path()
        .join("usr/share/man/man5/conntrackd.conf.5.gz");
    let page = run(Command::new("gzip").arg("-dc").arg(page));
    let file = directory.path().join("conntrackd.conf");
    let (mut around, mut options) = (None, 0);
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix(".SS ").or(line.strip_prefix(".SH ")) {
            around = place(heading);
        }
        let option = line
            .strip_prefix(".BI \"")
            .and_then(|it| it.split([' ', '"']).next());
        let (Some(option), Some((open, close))) = (option, around) else {
            continue;
        };
        // The manual's own slip; the program reads it as it should be.
        let option = option.replace("Destionation", "Destination");
        let value = match option.as_str() {
            "Address" | "Protocol" | "State" => "Accept {\n}",
            "Policy" => "ftp {\n}",
            "IPv6_address" | "IPv6_Destination_Address" => "2001:db8::1",
            name if name.starts_with("IPv4") => "192.0.2.1",
            "Interface" => "eth2",
            _ => "1",
        };
        let text = format!("{open}\n{option} {value}\n{close}\n");
        std::fs::write(&file, &text).expect("the directory is ours");
        assert_eq!(unknown(&import(&file)), None, "{text}");
        options += 1;
    }
    assert!(options >= 50, "{options}");
}

#[test]
fn every_line_of_debians_examples_is_understood() {
    let directory = Directory::new("migration");
    unpacked(&directory);
    let found = run(Command::new("find")
        .arg(directory.path())
        .args(["-name", "conntrackd.conf"]));
    let files: Vec<_> = found.lines().map(PathBuf::from).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let import = import(&file);
        assert_eq!(unknown(&import), None, "{}", file.display());
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
