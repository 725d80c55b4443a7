//! The binary as an operator uses it: what it prints, where, and its exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use agent::config::roles::DEFAULT_PRIORITY;
use agent::config::{Config, Transport};
use agent::control::answer::audit::{Difference, DifferenceCounts, Equal, Proof, Report, Round};
use agent::control::answer::members::{Done, RolesAnswer};
use agent::control::answer::services::{ServiceCost, Services};
use agent::control::answer::sync::SyncStatus;
use agent::control::answer::{
    Counters, Cursor, Endpoints, Family, FlowCounts, FlowPage, FlowRow, HoldStatus, KeyStatus,
    MemberStatus, Origin, PeerHold, PeerState, PeerStatus, Reach, RoleStatus, Rolled,
    SplitDestinations, Status, SyncStat,
};
use agent::control::{self, Ask, Server};
use agent::identity::{MemberKey, PublicKey};
use agent::policy::Policy;

const EXAMPLE: &str = include_str!("../../packaging/ctsync.yaml");
const MAN_PAGE: &str = include_str!("../../packaging/man/ctsync.8");
/// The commented default of the example, and the public key of the member that it is for.
const EXAMPLE_KEY_FILE: &str = "# key_file: /etc/ctsync/member.key";
const EXAMPLE_PUBLIC_KEY: &str = "pPUQwz4ZqDcK2YkVU0CV1yTmHlQk0x2cD8o3b5cXW0g=";

/// The configuration is wrong, says the daemon to systemd.
const EX_CONFIG: i32 = 78;
/// More than any pipe holds.
const FLOWS: u32 = 20_000;

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

/// A control socket with made-up answers behind it.
struct Daemon {
    _server: Server,
    socket: String,
    _directory: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        Self::start_with(answer)
    }

    fn start_with(answer: fn(Ask)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (sender, mut asks) = control::asks();
        let (wake, woken) = mpsc::channel();
        thread::spawn(move || {
            while woken.recv().is_ok() {
                while let Ok(ask) = asks.try_recv() {
                    answer(ask);
                }
            }
        });
        let server = Server::start(
            &path,
            Box::new(move || wake.send(()).unwrap_or_default()),
            sender,
        )
        .unwrap();
        Self {
            _server: server,
            socket: path.to_str().unwrap().to_owned(),
            _directory: directory,
        }
    }
}

fn answer(ask: Ask) {
    match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let end = (from.0 + u32::try_from(limit).unwrap()).min(FLOWS);
            let next = (end < FLOWS).then_some(Cursor(end));
            answer
                .send(FlowPage {
                    rows: (from.0..end).map(row).collect(),
                    next,
                })
                .unwrap_or_default();
        }
        Ask::Roles(_, answer) => answer.send(done()).unwrap_or_default(),
        Ask::RollKeys(answer) => answer.send(rolled()).unwrap_or_default(),
        Ask::Explain(..) | Ask::Facts(_) | Ask::TakeFacts(_) => {}
        Ask::Reload(answer) => {
            (answer.send(Err("policy.yaml:1:2: wrong; mend it".into()))).unwrap_or_default()
        }
        Ask::Mode(_, answer) => (answer.send(Done { refused: None })).unwrap_or_default(),
        Ask::Paths(answer) => answer
            .send(SplitDestinations::default())
            .unwrap_or_default(),
        Ask::SyncStat(answer) => answer.send(SyncStat::default()).unwrap_or_default(),
        Ask::Resync(answer) => answer.send(SyncStatus::default()).unwrap_or_default(),
        Ask::Accounting(_) => {}
        Ask::Services(answer) => answer.send(services(0)).unwrap_or_default(),
        Ask::Audit(answer) | Ask::AuditNow(answer) => answer.send(report()).unwrap_or_default(),
    }
}

fn report() -> Report {
    let found = DifferenceCounts {
        missing: 1,
        conflict: 2,
        ..DifferenceCounts::default()
    };
    let round = Round {
        seconds_ago: 12,
        milliseconds: 31,
        cpu_us: 28_040,
        entries: 20_000,
        differences: found,
    };
    Report {
        interval_seconds: 60,
        rounds: 9,
        last: Some(round.clone()),
        equal: Some(Round {
            seconds_ago: 72,
            differences: DifferenceCounts::default(),
            ..round
        }),
        peers: vec![Proof {
            member: 2,
            name: "gw-b".into(),
            equal: Some(Equal {
                seconds_ago: 73,
                flows: 19_000,
            }),
        }],
        differences: found,
        history: vec![Difference {
            seconds_ago: 12,
            first_seconds_ago: 72,
            times: 2,
            class: "missing".into(),
            proto: "udp".into(),
            orig: row(1).orig,
            zone: 0,
            member: Some(2),
        }],
    }
}

#[test]
fn audit_says_when_the_table_was_equal_last_and_what_was_found() {
    let daemon = Daemon::start();
    let output = ctsync(&["audit", "--socket", &daemon.socket])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "last    12 s ago, 20000 entries in 31 ms (28.0 ms of CPU), but for 2 conflicts\n",
        "equal   72 s ago, 20000 entries in 31 ms (28.0 ms of CPU)\n",
        "        with 2 (gw-b) 73 s ago, 19000 flows that it carries",
        "missing                    1                1",
        "conflict                   2                2",
        "`ctsync explain FLOW` names the one that is in the way",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(
        text.contains("     12 s       72 s      2  missing    udp      2       "),
        "{text}"
    );
    let output = ctsync(&["audit", "--now", "--json", "--socket", &daemon.socket])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["history"][0]["class"], "missing");
}

/// Two services, one of which has cost so many messages.
fn services(messages: u64) -> Services {
    let cost = |service: &str, messages| ServiceCost {
        service: Some(service.into()),
        builtin: false,
        sync: "always".into(),
        delay_seconds: None,
        flows: 7,
        events: 21,
        messages,
        bytes: messages * 20,
        watched: 0,
        ended_within_1s: 0,
        ended_within_3s: 0,
        ended_within_15s: 0,
        ended_within_30s: 0,
    };
    Services {
        services: vec![cost("web", messages), cost("dns", 0)],
        left_out: 0,
    }
}

fn rolled() -> Rolled {
    Rolled {
        epoch: 4,
        unlinked: vec![2],
    }
}

fn done() -> RolesAnswer {
    RolesAnswer::Done(Done { refused: None })
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        cluster: 7,
        member: MemberStatus {
            id: 1,
            name: "gw-a".into(),
        },
        uptime_seconds: 61,
        flows: FlowCounts {
            own: FLOWS.into(),
            copies: 0,
            found: 0,
        },
        sync: SyncStatus {
            complete: true,
            ..SyncStatus::default()
        },
        holds: HoldStatus::default(),
        key: KeyStatus {
            epoch: 0,
            age_seconds: 60,
        },
        role: RoleStatus {
            state: "standby".into(),
            seconds: 61,
            why: "gw-b ranks first".into(),
            checks: Vec::new(),
        },
        peers: vec![PeerStatus {
            id: 2,
            name: "gw-b".into(),
            state: PeerState::Live,
            version: None,
            lacks: Vec::new(),
            linked: true,
            synced: true,
            rtt_us: Some(200),
            last_heard_ms: Some(1500),
            unacknowledged: 1,
            missing: 2,
            refused: 3,
            hold: PeerHold::default(),
            reach: Reach::default(),
        }],
        capabilities: vec![],
        warnings: vec![],
        counters: Counters(vec![
            ("datagrams_sent".into(), 12),
            ("datagrams_forged".into(), 0),
        ]),
    }
}

fn row(number: u32) -> FlowRow {
    FlowRow {
        family: Family::Ipv4,
        proto: "udp".into(),
        orig: Endpoints {
            src: "192.0.2.1".parse().unwrap(),
            dst: "198.51.100.1".parse().unwrap(),
            sport: Some(u16::try_from(number).unwrap()),
            dport: Some(53),
        },
        nat_src: None,
        nat_dst: None,
        state: None,
        timeout: Some(30),
        mark: 0,
        zone: 0,
        origin: Origin::Own,
        member: 1,
    }
}

/// The example with every key that stands in a comment made a key.
fn uncommented(text: &str) -> String {
    let is_key = |rest: &str| {
        let Some((key, value)) = rest.trim_start().split_once(':') else {
            return false;
        };
        key.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && value.split(' ').count() <= 2
    };
    let line = |line: &str| match line.split_once("# ") {
        Some((indent, rest)) if indent.trim().is_empty() && is_key(rest) => {
            format!("{indent}{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

#[test]
fn shipped_example_passes_the_check_and_what_is_printed_means_the_same() {
    let files = Files::new(EXAMPLE);
    let (code, printed, said) = outcome(&mut ctsync(&["check", "--config", &files.config()]));
    assert_eq!((code, said.as_str()), (0, ""));
    let heading = format!(
        "# {} is good. With every default, it says:\n",
        files.config()
    );
    assert!(printed.starts_with(&heading), "{printed}");
    let (printed, policy) = printed.split_once("---\n").unwrap();
    let config = Config::load(&files.path("ctsync.yaml")).unwrap();
    assert_eq!(
        Config::parse(printed, Path::new("printed")).unwrap(),
        config
    );
    let policy = [("printed".into(), policy.to_owned())];
    assert_eq!(Policy::parse(&policy, 8116).unwrap(), Policy::new(8116));

    let (code, json, said) = outcome(&mut ctsync(&[
        "check",
        "--json",
        "--config",
        &files.config(),
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(Config::parse(&json, Path::new("printed")).unwrap(), config);
    serde_json::from_str::<serde_json::Value>(&json).unwrap();
}

#[test]
fn shipped_example_names_every_key_with_its_default() {
    let example = Config::parse(EXAMPLE, Path::new("example")).unwrap();
    let full = uncommented(EXAMPLE).replace("transport: unicast", "transport: multicast");
    let mut full = Config::parse(&full, Path::new("example, uncommented")).unwrap();
    assert_eq!(
        full.networks[0].transport,
        Transport::Multicast {
            group: "239.255.81.16".parse().unwrap()
        }
    );
    full.networks[0].transport = Transport::Unicast;
    let monitor_socket = full.control.monitor_socket.take();
    assert!(
        monitor_socket.is_some(),
        "it is off, and has a place in the package"
    );
    assert!(full.metrics.listen.take().is_some(), "it is off");
    assert!(full.log.datagram_keys.take().is_some(), "it is off");
    assert!(full.hooks.directory.take().is_some(), "there are none");
    let priority = std::mem::take(&mut full.roles.priority);
    assert!(priority.values().all(|it| *it == DEFAULT_PRIORITY));
    assert_eq!(full, example);
    for key in [
        "transport",
        "group",
        "port",
        "max_age",
        "max_packets",
        "flush",
        "hello",
        "dead_after",
        "event_buffer",
        "mark_mask",
        "label_mask",
        "file",
        "directory",
        "kernel",
        "socket",
        "monitor_socket",
        "listen",
        "level",
    ] {
        assert!(uncommented(EXAMPLE).contains(&format!(" {key}: ")), "{key}");
    }
}

#[test]
fn wrong_configuration_ends_check_and_run_with_its_place() {
    let files = Files::new(&EXAMPLE.replace("member: 1\n", "member: 9\n"));
    let line = 1 + EXAMPLE
        .lines()
        .position(|line| line == "member: 1")
        .unwrap();
    let expected = format!(
        "ctsync: {}:{line}:9: member 9 is not among `members`; write `1` or `2`, or add it there\n",
        files.config()
    );
    for (verb, status) in [("check", 1), ("run", EX_CONFIG)] {
        let refused = outcome(&mut ctsync(&[verb, "--config", &files.config()]));
        assert_eq!(refused, (status, String::new(), expected.clone()), "{verb}");
    }
}

#[test]
fn wrong_configuration_is_an_object_with_json() {
    let files = Files::new(&EXAMPLE.replace("member: 1\n", "member: 9\n"));
    let line = 1 + EXAMPLE
        .lines()
        .position(|line| line == "member: 1")
        .unwrap();
    let (code, json, said) = outcome(&mut ctsync(&[
        "check",
        "--json",
        "--config",
        &files.config(),
    ]));
    assert_eq!((code, said.as_str()), (1, ""));
    let expected = serde_json::json!({ "errors": [{
        "file": files.config(),
        "line": line,
        "column": 9,
        "reason": "member 9 is not among `members`",
        "cure": "write `1` or `2`, or add it there",
    }]});
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&json).unwrap(),
        expected
    );
}

#[test]
fn missing_key_fails_the_check_which_names_what_is_wrong_with_the_policy_as_well() {
    let files = Files::new(EXAMPLE);
    fs::remove_file(files.path("member.key")).unwrap();
    let policy = files.path("policy.yaml");
    fs::write(&policy, "services: { x: { sync: perhaps } }\n").unwrap();
    let (code, printed, said) = outcome(&mut ctsync(&["check", "--config", &files.config()]));
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(
        said.starts_with(&format!(
            "ctsync: {}: there is no such file",
            files.path("member.key").display()
        )),
        "{said}"
    );
    let place = format!("\nctsync: {}:1:", policy.display());
    assert!(said.contains(&place), "{said}");
}

#[test]
fn a_key_that_is_not_the_configured_one_ends_check_and_run_with_the_place_of_the_other() {
    let files = Files::new(EXAMPLE);
    let file = files.path("member.key");
    fs::remove_file(&file).unwrap();
    let key = MemberKey::create(&file).unwrap();
    let line = 1 + EXAMPLE
        .lines()
        .position(|line| line.contains(EXAMPLE_PUBLIC_KEY))
        .unwrap();
    let expected = format!(
        "ctsync: {}:{line}:17: this is not the public half of the key in {}, which member 1 proves its identity with; \
         write {} here and on every member, or bring the other key back\n",
        files.config(),
        file.display(),
        key.public()
    );
    for (verb, status) in [("check", 1), ("run", EX_CONFIG)] {
        let refused = outcome(&mut ctsync(&[verb, "--config", &files.config()]));
        assert_eq!(refused, (status, String::new(), expected.clone()), "{verb}");
    }
}

#[test]
fn keygen_prints_the_public_half_and_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("member.key");
    let file = file.to_str().unwrap();
    let (code, printed, said) = outcome(&mut ctsync(&["keygen", "--out", file]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(printed.trim_end().parse::<PublicKey>().is_ok(), "{printed}");
    let again = outcome(&mut ctsync(&["keygen", "--public", file]));
    assert_eq!(again, (0, printed, String::new()));
    let (code, printed, said) = outcome(&mut ctsync(&["keygen", "--out", file]));
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(
        said.starts_with(&format!("ctsync: {file}: there is a file already")),
        "{said}"
    );
}

#[test]
fn a_roll_over_that_some_peers_miss_is_done_and_a_problem() {
    let daemon = Daemon::start();
    let roll = ["keys", "roll", "--socket", &daemon.socket];
    let (code, printed, said) = outcome(&mut ctsync(&roll));
    assert_eq!(
        (code, printed.as_str()),
        (1, "key 4 of this run is in use\n")
    );
    assert!(said.contains("no link to the live members [2]"), "{said}");
    let (code, json, _) = outcome(ctsync(&roll).arg("--json"));
    assert_eq!(code, 1);
    assert_eq!(serde_json::from_str::<Rolled>(&json).unwrap(), rolled());
}

#[test]
fn a_reload_that_fails_is_a_problem_and_says_why() {
    let daemon = Daemon::start();
    let failed = outcome(&mut ctsync(&["reload", "--socket", &daemon.socket]));
    let said = "ctsync: nothing was changed: policy.yaml:1:2: wrong; mend it\n";
    assert_eq!(failed, (1, String::new(), said.to_owned()));
}

#[test]
fn missing_configuration_is_named() {
    for (verb, status) in [
        ("run", EX_CONFIG),
        ("check", 1),
        ("status", 1),
        ("flows", 1),
    ] {
        let (code, _, said) = outcome(&mut ctsync(&[verb, "--config", "/nowhere/ctsync.yaml"]));
        assert_eq!(code, status, "{verb}");
        let expected = "ctsync: /nowhere/ctsync.yaml: cannot be read (No such file";
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--json"],
        &["check", "--socket", "x"],
        &["status", "--config", "x", "--socket", "y"],
    ] {
        let (code, printed, said) = outcome(&mut ctsync(arguments));
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}");
        assert!(said.contains("Usage: ctsync"), "{said}");
    }
    let without_ports = ["explain", "tcp", "10.0.0.1", "10.0.0.2"];
    let (code, _, said) = outcome(&mut ctsync(&without_ports));
    assert_eq!(code, 2);
    assert!(said.contains("is not a flow; write it as"), "{said}");
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["help", "flows"],
    ] {
        let (code, printed, said) = outcome(&mut ctsync(arguments));
        assert_eq!((code, said.as_str()), (0, ""), "{arguments:?}");
        assert!(printed.lines().all(|line| line.len() <= 100), "{printed}");
    }
}

#[test]
fn without_a_daemon_the_status_is_3() {
    let files = Files::new(&format!(
        "{EXAMPLE}\ncontrol:\n  socket: /nowhere/from-the-file.sock\n"
    ));
    for verb in ["status", "flows"] {
        let refused = outcome(&mut ctsync(&[verb, "--socket", "/nowhere/control.sock"]));
        let expected = "ctsync: no daemon answers at /nowhere/control.sock: is it running? See `systemctl status ctsync`\n";
        assert_eq!(refused, (3, String::new(), expected.into()), "{verb}");
        let (code, _, said) = outcome(&mut ctsync(&[verb, "--config", &files.config()]));
        assert_eq!(code, 3);
        assert!(
            said.contains("no daemon answers at /nowhere/from-the-file.sock"),
            "{said}"
        );
    }
}

#[test]
fn status_is_printed_as_the_daemon_gave_it() {
    let daemon = Daemon::start();
    let (code, json, said) = outcome(&mut ctsync(&[
        "status",
        "--json",
        "--socket",
        &daemon.socket,
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status());
    let (code, page, _) = outcome(&mut ctsync(&["status", "--socket", &daemon.socket]));
    assert_eq!(code, 0);
    assert!(
        page.contains("gw-a") && page.contains("gw-b") && page.contains("(1 more are 0)"),
        "{page}"
    );
}

#[test]
fn peer_that_is_not_well_makes_the_exit_status_1() {
    let daemon = Daemon::start_with(|ask| match ask {
        Ask::Status(answer) => {
            let mut status = status();
            status.peers[0].state = PeerState::Dead;
            answer.send(status).unwrap_or_default();
        }
        other => answer(other),
    });
    for more in [&[][..], &["--json"]] {
        let (code, printed, said) =
            outcome(ctsync(&["status", "--socket", &daemon.socket]).args(more));
        assert_eq!((code, said.as_str()), (1, ""));
        assert!(printed.contains("dead"), "{printed}");
    }
}

#[test]
fn watched_page_comes_again_and_has_no_colours_in_a_pipe() {
    let daemon = Daemon::start();
    let mut command = ctsync(&["status", "--watch", "1", "--socket", &daemon.socket]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let headings = lines
        .map(Result::unwrap)
        .inspect(|line| assert!(!line.contains('\u{1b}'), "{line}"))
        .filter(|line| line.starts_with("member "));
    assert_eq!(headings.take(2).count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn top_shows_the_peers_and_what_grows() {
    let daemon = Daemon::start_with(|ask| match ask {
        Ask::Status(answer) => {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let mut status = status();
            let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
            status.counters = Counters(vec![
                ("datagrams_sent".into(), 12 + 1_000_000 * looks),
                ("datagrams_forged".into(), 7),
            ]);
            answer.send(status).unwrap_or_default();
        }
        Ask::Services(answer) => {
            static LOOKS: AtomicU64 = AtomicU64::new(0);
            let looks = LOOKS.fetch_add(1, Ordering::Relaxed);
            answer.send(services(1000 * looks)).unwrap_or_default();
        }
        other => answer(other),
    });
    let (code, page, said) = outcome(&mut ctsync(&[
        "top",
        "--pages",
        "2",
        "--socket",
        &daemon.socket,
    ]));
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        page.matches("gw-a (member 1 of cluster 7)").count(),
        2,
        "{page}"
    );
    assert_eq!(page.matches("datagrams_sent").count(), 2, "{page}");
    assert_eq!(page.matches("\nweb ").count(), 2, "{page}");
    assert!(!page.contains("dns"), "it costs nothing: {page}");
    assert!(
        !page.contains("datagrams_forged"),
        "what does not grow is left out: {page}"
    );
    assert!(page.lines().all(|line| line.len() <= 100), "{page}");
}

#[test]
fn completions_of_every_shell_know_every_verb() {
    for shell in ["bash", "fish", "zsh"] {
        let (code, script, said) = outcome(&mut ctsync(&["completions", shell]));
        assert_eq!((code, said.as_str()), (0, ""));
        assert!(
            ["status", "keygen"]
                .iter()
                .all(|verb| script.contains(verb)),
            "{shell}"
        );
    }
    assert_eq!(outcome(&mut ctsync(&["completions", "csh"])).0, 2);
}

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

/// The verbs that the help of these words lists, and theirs, each with its help.
fn verbs(words: &[&str]) -> Vec<(String, String)> {
    let (_, help, _) = outcome(&mut ctsync(&[words, &["--help"]].concat()));
    let Some((_, list)) = help.split_once("Commands:\n") else {
        return vec![(words.join(" "), help)];
    };
    let list = list.lines().map_while(|it| it.split_whitespace().next());
    list.filter(|it| *it != "help")
        .flat_map(|it| verbs(&[words, &[it]].concat()))
        .collect()
}

/// Options of many verbs, which the manual has once.
const SHARED: &[&str] = &["--config", "--socket", "--json", "--watch", "--help"];

/// A heading of the manual as it is read: without macro and fonts.
fn heading(line: &str) -> String {
    let (_, text) = line.split_once(' ').unwrap_or_default();
    let text = text.replace("\\fI", "").replace("\\fP", "");
    // Blanks part the arguments of a macro, escaped ones stay.
    text.replace("\\ ", "\t")
        .replace(' ', "")
        .replace('\t', " ")
        .replace("\\-", "-")
}

#[test]
fn man_page_has_every_verb_and_option() {
    let (_, rest) = MAN_PAGE.split_once("\n.SH VERBS\n").expect("it is there");
    let (described, rest) = rest.split_once("\n.SH OPTIONS\n").expect("it is there");
    let headings = described.split(".TP\n").skip(1);
    let headings: Vec<_> = headings
        .filter_map(|it| Some(heading(it.lines().next()?)))
        .collect();
    let (shared, _) = rest.split_once("\n.SH ").expect("sections follow");
    let shared = shared.replace("\\-", "-");
    let mut missing = Vec::new();
    for (verb, help) in verbs(&[]) {
        let is_it = |it: &&String| **it == verb || it.starts_with(&format!("{verb} "));
        let Some(heading) = headings.iter().find(is_it) else {
            missing.push(verb);
            continue;
        };
        let options = (help.lines())
            .filter(|line| line.trim_start().starts_with('-'))
            .flat_map(str::split_whitespace)
            .map(|word| word.trim_end_matches(','))
            .filter(|word| word.starts_with("--"));
        for option in options {
            let place = if SHARED.contains(&option) {
                &shared
            } else {
                heading
            };
            if !place.contains(option) {
                missing.push(format!("{verb}: {option}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(MAN_PAGE.contains(&format!("\"ctsync {}\"", env!("CARGO_PKG_VERSION"))));
}
