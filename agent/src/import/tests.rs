use std::path::Path;

use super::*;
use crate::config::{Config, Transport};
use crate::policy::Policy;

/// One line of everything there is.
const FULL: &str = r#"# a comment
Sync {
    Mode NOTRACK {
        DisableInternalCache on
        DisableExternalCache on # it goes on after it
        CommitTimeout 180
    }
    UDP {
        IPv4_address 192.168.2.100
        IPv4_Destination_Address 192.168.2.101
        Port 3780
        Interface eth2
        Checksum on
    }
    Options { TCPWindowTracking Off
        ExpectationSync { ftp
            sip } }
}
General {
    Systemd on
    Nice -20
    HashSize 32768
    UNIX { Path /var/run/conntrackd.ctl
        Backlog 20 }
    NetlinkBufferSizeMaxGrowth 134217729
    Filter From Userspace {
        Protocol Accept { TCP
            IPv6-ICMP
            89
            Chaos }
        Address Ignore {
            IPv4_address 127.0.0.1
            IPv4_address 10.1.0.0/16
            IPv6_address ::1
        }
        State Accept {
            ESTABLISHED for TCP
        }
    }
    Frobnicate yes
}
"#;

/// The configuration with everything filled in that is left to the operator.
fn filled_in(import: &Import) -> Config {
    let mut text = import.config.clone();
    for key in [
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
    ] {
        text = text.replacen("public_key: FILL-IN", &format!("public_key: {key}"), 1);
    }
    let mut host = 200;
    while text.contains("FILL-IN") {
        host += 1;
        text = text.replacen("interface: FILL-IN", "interface: eth9", 1);
        text = text.replacen("FILL-IN", &format!("192.168.100.{host}"), 1);
    }
    Config::parse(&text, Path::new("imported")).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn unicast_link_and_buffer_are_taken_over() {
    let config = filled_in(&convert(FULL).unwrap());
    assert_eq!(config.this.addresses[0].to_string(), "192.168.2.100:8116");
    assert_eq!(
        config.peers[0].addresses[0].to_string(),
        "192.168.2.101:8116"
    );
    assert_eq!(config.kernel.event_buffer_bytes, 129 << 20);
}

#[test]
fn multicast_link_is_taken_over() {
    let text = "Sync { Multicast Default { IPv4_address 225.0.0.50\n Group 3780\n IPv4_interface 192.168.100.100\n Interface eth2\n } }";
    let text = text.replace("{ ", "{\n").replace(" }", "\n}");
    let config = filled_in(&convert(&text).unwrap());
    let group = "225.0.0.50".parse().unwrap();
    assert_eq!(config.networks[0].transport, Transport::Multicast { group });
    assert_eq!(config.networks[0].interface.as_str(), "eth2");
}

#[test]
fn filter_becomes_a_policy() {
    let expected = "\
services:
  accepted:
    protocol: [tcp, icmpv6, ospf]
  left-out:
    sync: never
rules:
  - source: [\"10.1.0.0/16\"]
    service: left-out
  - destination: [\"10.1.0.0/16\"]
    service: left-out
  - service: accepted
  - service: left-out
";
    assert_eq!(convert(FULL).unwrap().policy.as_deref(), Some(expected));
    let files = [("policy.yaml".into(), expected.to_owned())];
    Policy::parse(&files, 8116).unwrap();
    assert_eq!(convert("General {\n}").unwrap().policy, None);
}

#[test]
fn what_has_no_equivalent_is_noted_with_its_line_and_nothing_else_is() {
    let import = convert(FULL).unwrap();
    let noted: Vec<_> = import
        .notes
        .iter()
        .map(|note| (note.line, note.option.split(' ').next().unwrap()))
        .collect();
    let expected = [
        (3, "Mode"),
        (4, "DisableInternalCache"),
        (6, "CommitTimeout"),
        (11, "Port"),
        (13, "Checksum"),
        (15, "TCPWindowTracking"),
        (16, "ExpectationSync"),
        (21, "Nice"),
        (22, "HashSize"),
        (23, "Path"),
        (24, "Backlog"),
        (30, "Chaos"),
        (31, "Address"),
        (36, "State"),
        (40, "Frobnicate"),
    ];
    assert_eq!(noted, expected);
}

#[test]
fn what_is_done_anyway_is_noted_where_the_file_switches_it_off() {
    let text = |value| format!("Sync {{\nMode FTFW {{\nStartupResync {value}\n}}\n}}\n");
    assert_eq!(convert(&text("on")).unwrap().notes, []);
    let import = convert(&text("off")).unwrap();
    assert_eq!(import.notes[0].option, "StartupResync off");
}

#[test]
fn what_is_no_configuration_is_refused_with_its_line() {
    for (text, reason) in [
        ("Sync {\n", "1: a brace opens and never closes"),
        ("Sync {\n}\n}\n", "3: a brace closes that was never opened"),
        ("{\n}", "1: a brace opens without a name"),
        (&"a {\n".repeat(9), "8: braces are nested too deep"),
    ] {
        assert_eq!(convert(text).unwrap_err().to_string(), reason);
    }
}

#[test]
fn of_two_addresses_of_a_link_the_last_is_taken_and_it_is_said() {
    let text =
        "Sync {\nUDP {\nIPv4_address 192.0.2.1\nIPv4_address 192.0.2.9\nInterface eth1\n}\n}\n";
    let import = convert(text).unwrap();
    assert!(import.config.contains("192.0.2.9"), "{}", import.config);
    let [note] = import.notes.try_into().unwrap();
    assert_eq!(
        (note.line, note.option.as_str()),
        (4, "IPv4_address 192.0.2.9")
    );
}
