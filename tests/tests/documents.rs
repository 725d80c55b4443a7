//! What the documents tell an operator to write and to run is good, and what they promise happens.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path as File;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::cluster::{Cluster, Settings, Transport, program, write_config};
use tests::connects::connect;
use tests::crowd::Crowd;
use tests::lab::{Family, Lab, Path};
use tests::leftovers::Directory;
use tests::netns::{DEADLINE, run, wait_until};
use tests::traffic::{Connection, Kind};

/// README and documents, by name.
fn documents() -> Vec<(String, String)> {
    let root = File::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = fs::read_dir(root.join("packaging/doc")).expect("it is there");
    let files = folder.map(|it| it.expect("it is readable").path());
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "md"));
    files
        .chain([root.join("README.md")])
        .map(|it| {
            let text = fs::read_to_string(&it).expect("it is text");
            (it.display().to_string(), text)
        })
        .collect()
}

/// The blocks between fences, with the word behind the first, and the indentation of the fence taken away.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(word), None) => {
                blocks.push((word.to_owned(), String::new()));
                inside = Some(indent);
            }
            (None, Some(indent)) => {
                let (_, block) = blocks.last_mut().expect("a fence began it");
                block.push_str(line.get(indent..).unwrap_or_default());
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

fn leak(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

#[test]
fn configurations_in_documents_are_good() {
    let lab = Lab::new(2);
    let directory = Directory::new("documents");
    let (mut configurations, mut routings) = (0, 0);
    for (name, text) in documents() {
        for (word, block) in blocks(&text) {
            if word == "yaml" && !block.starts_with("cluster:") {
                let is_policy = block.starts_with("services:") || block.starts_with("rules:");
                let settings = match is_policy {
                    true => Settings {
                        policy: leak(&block),
                        ..Settings::default()
                    },
                    false => Settings {
                        more: leak(&block),
                        ..Settings::default()
                    },
                };
                let path = directory.path().join("ctsync.yaml");
                write_config(&path, &lab, 0, settings);
                run(Command::new(program())
                    .args(["check", "--config"])
                    .arg(path));
                configurations += 1;
            } else if word == "yaml" {
                let parsed = agent::config::Config::parse(&block, File::new(&name));
                assert!(parsed.is_ok(), "{name}: {parsed:?}");
                configurations += 1;
            } else if block.starts_with("protocol ") {
                let file = directory.path().join("bird.conf");
                fs::write(&file, format!("router id 10.0.0.1;\n{block}")).expect("it is ours");
                run(Command::new("bird").arg("-p").arg("-c").arg(file));
                routings += 1;
            }
        }
    }
    assert!(
        configurations >= 3 && routings >= 1,
        "{configurations} {routings}"
    );
}

#[test]
fn the_ruleset_that_the_package_has_can_be_loaded_again_and_leaves_the_tables_of_others_alone() {
    let lab = Lab::new(2);
    let packaging = File::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/nftables");
    let gateway = &lab.gateways[0];
    gateway.run("nft add table inet other");
    for _ in 0..2 {
        let file = packaging.join("nftables.conf");
        gateway.run(&format!("nft --file {}", file.display()));
    }
    let tables = gateway.run("nft list tables");
    for table in ["table inet other", "table inet filter", "table ip nat"] {
        assert!(tables.contains(table), "{table}: {tables}");
    }
    let settings = fs::read_to_string(packaging.join("sysctl.conf")).expect("it is there");
    for line in settings.lines().filter(|it| !it.starts_with('#')) {
        let (name, _) = line.split_once(" = ").expect("a name and a value");
        gateway.run(&format!("sysctl {name}"));
    }
}

#[test]
fn commands_in_documents_are_commands() {
    let mut verbs = 0;
    for (name, text) in documents() {
        for after in text.split("sudo ctsync ").skip(1) {
            let verb: String = (after.chars())
                .take_while(|it| it.is_ascii_lowercase() || *it == '-')
                .collect();
            let mut command = Command::new(program());
            command.args([&verb, "--help"]).stdout(Stdio::null());
            let known = command.stderr(Stdio::null()).status().expect("it runs");
            assert!(known.success(), "{name}: ctsync {verb}");
            verbs += 1;
        }
    }
    assert!(verbs >= 10, "{verbs}");
}

#[test]
fn what_the_readme_shows_of_verbs_is_what_they_print() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let mut crowd = Crowd::default();
    crowd.tcp(&lab, Path::Masqueraded, Family::Ipv4, 2);
    tests::table::wait_equal(&lab.gateways, DEADLINE);
    let readme = documents()
        .into_iter()
        .find(|it| it.0.ends_with("README.md"));
    let (_, readme) = readme.expect("it is there");
    let mut shown = 0;
    for (_, block) in blocks(&readme) {
        let Some((_, call)) = block.split_once("$ sudo ctsync ") else {
            continue;
        };
        let (verb, page) = call.split_once('\n').expect("a page follows");
        // The second shows the gateway whose flows are copies.
        let printed = cluster.members[shown.min(1)].ask(verb);
        let mut lines = printed.lines();
        for line in page.lines().filter(|it| !["", "..."].contains(it)) {
            let expected = begin(line);
            assert!(lines.any(|it| begin(it) == expected), "{line}\n{printed}");
        }
        shown += 1;
    }
    assert_eq!(shown, 2);
}

/// What does not change from run to run in a line of a page: all of a heading, and the first word of others.
fn begin(line: &str) -> Vec<&str> {
    let is_heading = line.starts_with(|it: char| it.is_ascii_uppercase());
    let words = line
        .split_whitespace()
        .take(if is_heading { usize::MAX } else { 1 });
    words.filter_map(|it| it.split('=').next()).collect()
}

/// What `packaging/doc/active-active.md` says: both gateways forward, neighbours spread connections over them by their own
/// hashes, and one is taken out.
#[test]
fn connections_over_two_active_gateways_open_both_ways_and_go_on_when_one_is_taken_out() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "roles: { mode: load-sharing }",
        ..Settings::default()
    };
    let mut cluster = Cluster::start_with(&lab, settings);
    wait_until("both are active", DEADLINE, || {
        // It ends with 1 until both are fit.
        let members = &cluster.members[0].answer(&["members"])["members"];
        let members = members.as_array().cloned().unwrap_or_default();
        members.len() == 2 && members.iter().all(|it| it["state"] == "active")
    });
    // Since Linux 6.11. Without, one kernel's machines choose alike, and no connection takes two ways.
    let has_seeds = File::new("/proc/sys/net/ipv4/fib_multipath_hash_seed").exists();
    let ways = |gateways: &[Ipv4Addr]| -> String {
        let ways = gateways.iter().map(|it| format!(" nexthop via {it}"));
        ways.collect()
    };
    let spread = |hosts: &[u8]| {
        for (machine, prefix, inside, seed) in [
            (&lab.client, "default", [10, 0, 0], 1),
            (&lab.server, "10.0.0.0/24", [203, 0, 113], 2),
        ] {
            let [a, b, c] = inside;
            let gateways: Vec<_> = hosts.iter().map(|it| Ipv4Addr::new(a, b, c, *it)).collect();
            machine.sysctl("ipv4.fib_multipath_hash_policy", 1);
            if has_seeds {
                machine.sysctl("ipv4.fib_multipath_hash_seed", seed);
            }
            machine.ip(&format!("route replace {prefix}{}", ways(&gateways)));
        }
    };
    spread(&[11, 12]);

    // Some of the first take two ways, and are repeated; what the gateways learn of them is for all that follow.
    connect(&lab, Path::Plain, Family::Ipv4, 8, 40);
    let destinations: Vec<_> = cluster
        .members
        .iter()
        .map(|it| it.ask_json("paths"))
        .collect();
    let learnt = destinations.iter().any(|it| it.contains("203.0.113.0/24"));
    assert_eq!(learnt, has_seeds, "{destinations:?}");
    let connects = connect(&lab, Path::Plain, Family::Ipv4, 8, 200);
    assert_eq!((connects.count(), connects.failed), (200, 0), "{connects}");

    let open = |_| Connection::open(&lab, Kind::Interactive, Path::Plain, Family::Ipv4);
    let connections: Vec<_> = (0..8).map(open).collect();
    spread(&[12]);
    cluster.members[0].process().signal(Signal::TERM);
    assert!(cluster.members[0].process().wait(DEADLINE).success());
    for connection in &connections {
        let before = connection.progress().count;
        wait_until("it goes on", DEADLINE, || {
            connection.progress().count > before + 3
        });
        assert_eq!(connection.progress().failure, None);
    }
    assert!(cluster.members[1].counter("takeovers") > 0);
}
