//! The command line: what is wrong ends with a sentence and the right exit status.

use std::fs;
use std::path::Path as File;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use tests::cluster::{Cluster, Settings, Transport, program, write_config};
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{Namespace, Process, wait_until};

/// A problem was found.
const PROBLEM: i32 = 1;
/// The same, and the daemon need not be started again before it is mended.
const MISCONFIGURED: i32 = 78;
/// It was called wrongly.
const USAGE: i32 = 2;

/// Runs it to its end, and returns its exit status and what it said on stderr, which must be few lines and no panic.
#[track_caller]
fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command
        .stdin(Stdio::null())
        .output()
        .expect("it can be started");
    let said = String::from_utf8(stderr).expect("it speaks UTF-8");
    assert!(
        !said.trim().is_empty() && !said.contains("panicked"),
        "{said}"
    );
    (status.code(), said)
}

#[test]
fn run_without_the_privilege_names_it() {
    let lab = Lab::new(2);
    let directory = Directory::new("command-line");
    let path = directory.path().join("ctsync.yaml");
    write_config(&path, &lab, 0, Settings::default());
    let mut command = lab.gateways[0].command("setpriv");
    command
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(program());
    let (status, said) = refusal(command.args(["run", "--config"]).arg(&path));
    assert_eq!(status, Some(PROBLEM), "{said}");
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}

#[test]
fn run_needs_no_other_privilege() {
    let lab = Lab::new(2);
    let directory = Directory::new("command-line");
    let path = directory.path().join("ctsync.yaml");
    write_config(&path, &lab, 0, Settings::default());
    // Where it was built may be a home that only its user, or a greater privilege, can enter.
    let copy = directory.path().join("ctsync");
    fs::copy(program(), &copy).expect("there is room for a copy");
    let mut command = lab.gateways[0].command("setpriv");
    command
        .args([
            "--bounding-set=-all,+net_admin",
            "--inh-caps=-all,+net_admin",
        ])
        .arg(copy)
        .args(["run", "--config"])
        .arg(&path);
    let mut daemon = Process::spawn("ctsync", command.stderr(Stdio::null()));
    wait_until("the daemon answers", Duration::from_secs(10), || {
        let mut status = Command::new(program());
        status.args(["status", "--config"]).arg(&path);
        let output = status.output().expect("it can be started");
        !output.stdout.is_empty()
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(Duration::from_secs(10)).success());
}

#[test]
fn run_without_the_sync_interface_names_it() {
    let lab = Lab::new(2);
    let elsewhere = Namespace::new("elsewhere");
    let directory = Directory::new("command-line");
    let path = directory.path().join("ctsync.yaml");
    write_config(&path, &lab, 0, Settings::default());
    let (status, said) = refusal(
        elsewhere
            .command(program())
            .args(["run", "--config"])
            .arg(&path),
    );
    assert_eq!(status, Some(PROBLEM), "{said}");
    assert!(said.contains("sync0"), "{said}");
}

#[test]
fn run_refuses_a_key_that_others_can_read() {
    let lab = Lab::new(2);
    let directory = Directory::new("command-line");
    let path = directory.path().join("ctsync.yaml");
    write_config(&path, &lab, 0, Settings::default());
    let key = directory
        .path()
        .join(format!("{}.key", lab.gateways[0].label()));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&key, open).expect("the file is ours");
    let (status, said) = refusal(
        lab.gateways[0]
            .command(program())
            .args(["run", "--config"])
            .arg(&path),
    );
    assert_eq!(status, Some(MISCONFIGURED), "{said}");
    assert!(said.contains(&key.display().to_string()), "{said}");
}

#[test]
fn status_and_flows_tell_of_every_flow_and_stop_when_nobody_reads_on() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 500);
    crowd.udp(&lab, Path::Plain, Family::Ipv6, 500);
    tests::table::wait_equal(&lab.gateways, Duration::from_secs(10));

    for (member, origin) in cluster.members.iter().zip(["own", "copies"]) {
        let status = member.status().expect("the daemon answers");
        assert_eq!(status["flows"][origin], 1000, "{status:#}");
        let text = member.ask("status");
        assert!(
            ["gw-a", "gw-b"].iter().all(|it| text.contains(it)),
            "{text}"
        );
        assert!(
            member
                .ask("flows")
                .lines()
                .filter(|it| it.contains("tcp"))
                .count()
                == 500
        );
    }

    let mut command = Command::new(program());
    command
        .arg("flows")
        .arg("--config")
        .arg(cluster.members[0].config());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{said}");
}

/// Every verb that has `--json`, what it is called with, and the name of the schema of what it prints. FILES is a directory; the
/// last ones change things.
const VERBS: &[(&str, &str)] = &[
    ("status", "status"),
    ("syncstat", "syncstat"),
    ("flows", "flows"),
    ("explain tcp 10.0.0.100:1 203.0.113.100:2", "explain"),
    ("paths", "paths"),
    ("audit --now", "audit"),
    ("members", "members"),
    ("interfaces", "interfaces"),
    ("doctor", "doctor"),
    ("rules", "rules"),
    ("services", "services"),
    ("accounting", "accounting"),
    ("top --pages 1", "top"),
    (
        "policy dry-run --for 1s FILES/policy.yaml",
        "policy-dry-run",
    ),
    ("check", "ctsync.yaml"),
    ("check --policy", "policy.yaml"),
    ("check --config FILES/wrong.yaml", "check"),
    ("check --config FILES/nowhere.yaml", "check"),
    ("keygen --out FILES/new.key", "keygen"),
    ("keygen --public FILES/new.key", "keygen"),
    (
        "import-conntrackd FILES/conntrackd.conf",
        "import-conntrackd",
    ),
    ("keys roll", "keys-roll"),
    ("check-in disk ok", "check-in"),
    ("reload", "reload"),
    ("resync", "resync"),
    ("mode multicast", "mode"),
    ("drain", "drain"),
    ("up", "up"),
    ("down", "down"),
];

/// The schema of what no verb prints: a line of the file of accounting.
const LINE: &str = "accounting-line";

/// What `--help` of these words says.
#[track_caller]
fn help(words: &[&str]) -> String {
    let mut command = Command::new(program());
    tests::netns::run(command.args(words).arg("--help"))
}

/// The verbs of these words' help, and theirs, as they are called.
fn verbs(words: &[&str]) -> Vec<String> {
    let text = help(words);
    let Some((_, list)) = text.split_once("Commands:\n") else {
        return vec![words.join(" ")];
    };
    let list = list.lines().map_while(|it| it.split_whitespace().next());
    list.filter(|it| *it != "help")
        .flat_map(|it| verbs(&[words, &[it]].concat()))
        .collect()
}

#[test]
fn every_verb_has_json_but_those_that_print_for_programs_anyway() {
    let mut without = Vec::new();
    for verb in verbs(&[]) {
        let words: Vec<_> = verb.split(' ').collect();
        let is_it = |it: &&(&str, &str)| it.0 == verb || it.0.starts_with(&format!("{verb} "));
        let is_checked = VERBS.iter().any(|it| is_it(&it));
        let options = help(&words);
        let mut options = options.lines().map(|it| it.split_whitespace().next());
        match options.any(|it| it == Some("--json")) {
            true => assert!(is_checked, "{verb}: what it prints is not checked"),
            false => without.push(verb),
        }
    }
    assert_eq!(without, ["run", "schema", "completions"]);
    let schemas = tests::netns::run(Command::new(program()).arg("schema"));
    for schema in schemas.lines() {
        let is_checked = schema == LINE || VERBS.iter().any(|it| it.1 == schema);
        assert!(is_checked, "nothing is checked against schema {schema}");
    }
}

#[test]
fn what_every_verb_prints_with_json_is_as_its_schema_says() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "accounting: { target: PLACE, interval: 1s }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 3);
    tests::table::wait_equal(&lab.gateways, Duration::from_secs(30));
    let (gateway, daemon) = (&lab.gateways[0], &cluster.members[0]);
    let directory = Directory::new("schemas");
    let files = directory.path();
    for (name, text) in [
        (
            "policy.yaml",
            "services: { dns: { ports: 53, protocol: udp, sync: never } }",
        ),
        ("wrong.yaml", "cluster: x"),
        (
            "conntrackd.conf",
            "Sync {\nMode ALARM {\nRefreshTime 5\n}\n}\n",
        ),
    ] {
        fs::write(files.join(name), text).expect("the directory is ours");
    }
    for (verb, name) in VERBS {
        let verb = verb.replace("FILES", &files.display().to_string());
        let mut command = gateway.command(program());
        command.args(verb.split(' ')).arg("--json");
        let of_files = ["--config", "keygen", "import-conntrackd"];
        if !of_files.iter().any(|it| verb.contains(it)) {
            command.arg("--config").arg(daemon.config());
        }
        let output = command.stdin(Stdio::null()).output();
        let output = output.expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(USAGE), "{verb}: {said}");
        let printed = match *name {
            // An object a line.
            "flows" => output.stdout.split(|it| *it == b'\n').next(),
            _ => Some(output.stdout.as_slice()),
        };
        let printed = printed.filter(|it| !it.is_empty());
        let printed = printed.unwrap_or_else(|| panic!("{verb} prints nothing: {said}"));
        check_against(name, printed, files);
    }
    let written = || fs::read(daemon.place()).unwrap_or_default();
    wait_until("a line is written", Duration::from_secs(30), || {
        written().contains(&b'\n')
    });
    let line = written()
        .split(|it| *it == b'\n')
        .next()
        .map(<[u8]>::to_vec);
    check_against(LINE, &line.unwrap_or_default(), files);
}

/// JSON has to be as the schema of this name says.
#[track_caller]
fn check_against(name: &str, json: &[u8], files: &File) {
    let [answer, schema] = ["answer", "schema"].map(|it| files.join(it));
    fs::write(&answer, json).expect("the directory is ours");
    let described = Command::new(program()).args(["schema", name]).output();
    fs::write(&schema, described.expect("it runs").stdout).expect("the directory is ours");
    let mut command = Command::new("jsonschema");
    tests::netns::run(command.arg("-i").arg(&answer).arg(&schema));
}
