//! What good files mean; [`refused`] has the bad ones.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

mod refused;

const GOOD: &str = "\
cluster: 7
member: 1
members:
  - id: 1
    name: gw-a
    addresses: { sync: 192.0.2.1 }
    public_key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  - id: 2
    name: gw-b
    addresses: { sync: 192.0.2.2 }
    public_key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
networks:
  - name: sync
    interface: eth2
key_file: /etc/ctsync/member.key
";

const FULL: &str = "\
cluster: 65535
member: 16
members:
  - id: 16
    name: gw-p
    addresses: { sync: 2001:db8::10 }
    public_key: EBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBA=
  - id: 3
    name: gw-c
    addresses: { sync: 2001:db8::3 }
    public_key: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
  - id: 1
    name: gw-a
    addresses: { sync: 2001:db8::1 }
    public_key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
networks:
  - name: sync
    interface: enp3s0f1np1.400
    transport: multicast
    group: ff15::8116
    port: 9116
key_file: /run/keys/member.key
keys:
  max_age: 90min
  max_packets: 5000
delta:
  flush: 250us
liveness:
  hello: 1500ms
  dead_after: 10s
kernel:
  event_buffer: 1536KiB
  mark_mask: 0x00ff00ff
  copy_bit: 30
  label_mask: 0xff00000000000000ff
audit:
  interval: 5min
accounting:
  target: /var/lib/ctsync/accounting.jsonl
  interval: 10s
roles:
  mode: load-sharing
  priority: { gw-p: 200, gw-a: 0 }
  preempt: true
  settle: 0ms
  track_file: /tmp/track
interfaces:
  probe: 50ms
  dead_after: 100ms
  monitored:
    - name: eth0
      vlans: 30,10,30
    - name: eth0.20
      monitor: false
    - name: eth1
      vlans: both
checks:
  table_full: off
  state_directory: false
hooks:
  directory: /etc/ctsync/hooks
  timeout: 1min
state_directory: /tmp/state
control:
  socket: /tmp/ctsync.sock
  monitor_socket: /tmp/monitor.sock
metrics:
  listen: /tmp/metrics.sock
log:
  level: trace
";

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("ctsync.yaml")).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    Config::parse(text, Path::new("ctsync.yaml"))
        .expect_err("it is wrong")
        .to_string()
}

fn id(number: u8) -> MemberId {
    MemberId::new(number).unwrap()
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let member = |number, name: &str, address: &str| Member {
        id: id(number),
        name: name.into(),
        addresses: vec![address.parse().unwrap()],
        public_key: STANDARD.encode([number; 32]).parse().unwrap(),
    };
    let expected = Config {
        cluster: NonZeroU16::new(7).unwrap(),
        this: member(1, "gw-a", "192.0.2.1:8116"),
        peers: vec![member(2, "gw-b", "192.0.2.2:8116")],
        networks: vec![Network {
            name: "sync".into(),
            interface: InterfaceName::new("eth2").unwrap(),
            transport: Transport::Unicast,
            port: NonZeroU16::new(8116).unwrap(),
        }],
        sync: Sync { duplicate: false },
        key_file: "/etc/ctsync/member.key".into(),
        keys: Keys {
            max_age: Duration::from_secs(3600),
            max_packets: 1_000_000_000,
        },
        delta: Delta {
            flush: Duration::from_millis(1),
        },
        liveness: Liveness {
            hello: Duration::from_millis(100),
            dead_after: Duration::from_secs(1),
        },
        kernel: Kernel {
            event_buffer_bytes: 64 << 20,
            mark_mask: 0x7fff_ffff,
            copy_bit: CopyBit::new(31),
            label_mask: 0,
        },
        policy: Policy {
            file: "policy.yaml".into(),
            directory: "policy.d".into(),
            kernel: PushDown::Auto,
        },
        audit: Audit {
            interval: Duration::from_secs(60),
        },
        accounting: accounting::Accounting {
            target: accounting::Target::Off,
            interval: Duration::from_secs(60),
        },
        roles: roles::Roles {
            mode: roles::Mode::HighAvailability,
            priority: Default::default(),
            preempt: false,
            settle: Duration::from_secs(3),
            track_file: "/run/ctsync/track".into(),
        },
        interfaces: roles::Interfaces {
            timers: roles::Timers {
                interval: Duration::from_millis(200),
                dead_after: Duration::from_secs(1),
            },
            monitored: vec![],
        },
        checks: roles::Checks {
            table_percent: Some(90),
            state_directory: true,
        },
        hooks: roles::Hooks {
            directory: None,
            timeout: Duration::from_secs(10),
        },
        state_directory: "/var/lib/ctsync".into(),
        hold: Hold::default(),
        control: Control {
            socket: "/run/ctsync/control.sock".into(),
            monitor_socket: None,
        },
        metrics: Metrics { listen: None },
        log: Log {
            level: Level::Info,
            datagram_keys: None,
        },
    };
    assert_eq!(parse(GOOD), expected);
}

#[test]
fn what_is_given_is_taken() {
    let config = parse(FULL);
    assert_eq!(config.cluster.get(), 65535);
    assert_eq!(
        config.this.addresses,
        ["[2001:db8::10]:9116".parse().unwrap()]
    );
    assert_eq!(
        config.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(),
        [id(1), id(3)]
    );
    assert_eq!(
        config
            .members()
            .iter()
            .map(|member| member.name.as_str())
            .collect::<Vec<_>>(),
        ["gw-a", "gw-c", "gw-p"]
    );
    assert_eq!(
        config.networks[0].transport,
        Transport::Multicast {
            group: "ff15::8116".parse().unwrap()
        }
    );
    assert_eq!(config.key_file, Path::new("/run/keys/member.key"));
    assert_eq!(
        config.keys,
        Keys {
            max_age: Duration::from_secs(90 * 60),
            max_packets: 5000,
        }
    );
    assert_eq!(config.delta.flush, Duration::from_micros(250));
    assert_eq!(config.roles.mode, roles::Mode::LoadSharing);
    assert_eq!(
        config.roles.priority,
        [("gw-p".to_owned(), 200), ("gw-a".to_owned(), 0)].into()
    );
    assert_eq!(config.roles.track_file, Path::new("/tmp/track"));
    let [eth0, vlan, eth1] = &config.interfaces.monitored[..] else {
        panic!("{:?}", config.interfaces)
    };
    assert_eq!(eth0.vlans, roles::Vlans::List(vec![10, 30]));
    assert!(!vlan.monitor && vlan.name.as_str() == "eth0.20");
    assert_eq!(eth1.vlans, roles::Vlans::Both);
    assert_eq!(config.checks.table_percent, None);
    assert_eq!(config.hooks.timeout, Duration::from_secs(60));
    assert_eq!(config.liveness.hello, Duration::from_millis(1500));
    assert_eq!(
        config.kernel,
        Kernel {
            event_buffer_bytes: 1536 << 10,
            mark_mask: 0x00ff_00ff,
            copy_bit: CopyBit::new(30),
            label_mask: 0xff << 64 | 0xff
        }
    );
    assert_eq!(config.audit.interval, Duration::from_secs(300));
    assert_eq!(
        config.accounting,
        accounting::Accounting {
            target: accounting::Target::File("/var/lib/ctsync/accounting.jsonl".into()),
            interval: Duration::from_secs(10),
        }
    );
    assert_eq!(config.log.level, Level::Trace);
}

#[test]
fn default_group_is_of_the_members_family() {
    let transport = |text: &str| {
        parse(&text.replace(
            "interface: eth2",
            "interface: eth2\n    transport: multicast",
        ))
        .networks[0]
            .transport
    };
    assert_eq!(
        transport(GOOD),
        Transport::Multicast {
            group: "239.255.81.16".parse().unwrap()
        }
    );
    let ipv6 = GOOD.replace("192.0.2.", "2001:db8::");
    assert_eq!(
        transport(&ipv6),
        Transport::Multicast {
            group: "ff12::8116".parse().unwrap()
        }
    );
}

#[test]
fn empty_blocks_are_defaults() {
    let blocks = "delta:\nliveness: {}\nkernel: ~\naudit:\ncontrol:\nlog:\n";
    assert_eq!(parse(&format!("{GOOD}{blocks}")), parse(GOOD));
}

#[test]
fn printed_configuration_means_the_same() {
    let broadcast = GOOD.replace("eth2", "eth2\n    transport: broadcast");
    for text in [GOOD, FULL, &broadcast] {
        let config = parse(text);
        assert_eq!(parse(&config.to_yaml()), config);
        assert_eq!(parse(&config.to_json()), config);
        assert_eq!(parse(&config.to_yaml()).to_yaml(), config.to_yaml());
    }
}

#[test]
fn printed_configuration_has_every_default() {
    let expected = "\
cluster: 7
member: 1
members:
  - id: 1
    name: gw-a
    addresses:
      sync: \"192.0.2.1\"
    public_key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  - id: 2
    name: gw-b
    addresses:
      sync: \"192.0.2.2\"
    public_key: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
networks:
  - name: sync
    interface: eth2
    transport: unicast
    port: 8116
sync:
  duplicate: false
key_file: /etc/ctsync/member.key
keys:
  max_age: 1h
  max_packets: 1000000000
delta:
  flush: 1ms
liveness:
  hello: 100ms
  dead_after: 1s
kernel:
  event_buffer: 64MiB
  mark_mask: \"0x7fffffff\"
  copy_bit: \"31\"
  label_mask: none
policy:
  file: policy.yaml
  directory: policy.d
  kernel: auto
audit:
  interval: 1min
accounting:
  target: \"off\"
  interval: 1min
roles:
  mode: ha
  priority: {}
  preempt: false
  settle: 3s
  track_file: /run/ctsync/track
interfaces:
  probe: 200ms
  dead_after: 1s
  monitored: []
checks:
  table_full: 90%
  state_directory: true
hooks:
  timeout: 10s
state_directory: /var/lib/ctsync
hold:
  mode: auto
  deadline: 20ms
  held_max: 4096
  on_deadline: release
  on_limit: release
  on_no_peer: release
  on_shutdown: release
  on_unread: release
control:
  socket: /run/ctsync/control.sock
metrics: {}
log:
  level: info
";
    assert_eq!(parse(GOOD).to_yaml(), expected);
}

#[test]
fn file_of_comments_says_where_to_begin() {
    for text in ["", "# the package's\n\n  #cluster: 7\n"] {
        let said = refusal(text);
        assert!(
            said.starts_with("ctsync.yaml: nothing is configured yet; "),
            "{said}"
        );
    }
}

#[test]
fn file_that_is_not_there_is_said_to_be_missing() {
    let error = Config::load(Path::new("/nowhere/ctsync.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/ctsync.yaml: cannot be read (No such file or directory (os error 2)); \
         create it (the package ships examples), or name another: a configuration with --config, policies under `policy` in it"
    );
}

#[test]
fn directory_is_no_file() {
    let error = Config::load(Path::new("/")).unwrap_err();
    assert_eq!(
        error.reason(),
        "cannot be read (Is a directory (os error 21))"
    );
}

#[test]
fn endless_file_is_refused() {
    let error = Config::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.reason(), "is larger than 256 KiB");
}

#[test]
fn other_encoding_is_refused_with_its_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"cluster: 7\n# caf\xe9\n").unwrap();
    let error = Config::load(file.path()).unwrap_err();
    assert_eq!(error.place(), Some(error::Place { line: 2, column: 6 }));
    assert_eq!(error.reason(), "this is not UTF-8");
}
