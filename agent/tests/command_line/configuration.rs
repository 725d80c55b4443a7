//! Files that are checked, shipped, wrong or missing; and keys.

use std::fs;
use std::path::Path;

use agent::config::roles::DEFAULT_PRIORITY;
use agent::config::{Config, Transport};
use agent::identity::{MemberKey, PublicKey};
use agent::policy::Policy;

use crate::{EX_CONFIG, EXAMPLE, EXAMPLE_PUBLIC_KEY, Files, ctsync, outcome};

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
fn all_that_is_wrong_with_both_files_is_said_at_once() {
    let wrong = EXAMPLE.replace("member: 1\n", "member: 9\n") + "\naudit: { interval: 1ms }\n";
    let files = Files::new(&wrong);
    fs::write(
        files.path("policy.yaml"),
        "services: { x: { sync: perhaps } }\n",
    )
    .unwrap();
    let (code, _, said) = outcome(&mut ctsync(&["check", "--config", &files.config()]));
    assert_eq!(code, 1);
    let lines: Vec<_> = (said.lines())
        .filter(|it| it.starts_with("ctsync: "))
        .collect();
    for (line, part) in lines.iter().zip(["member 9", "interval", "policy.yaml:1:"]) {
        assert!(line.contains(part), "{part}: {said}");
    }
    assert_eq!(lines.len(), 3, "{said}");
    let (code, _, said) = outcome(&mut ctsync(&["run", "--config", &files.config()]));
    assert_eq!((code, said.lines().count()), (EX_CONFIG, 1), "{said}");
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
