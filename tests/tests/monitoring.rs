//! What Prometheus reads, and what the shipped rules and dashboard make of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::cluster::{Cluster, Settings};
use tests::lab::Lab;
use tests::leftovers::Directory;
use tests::netns::run;

/// A file that goes into the package.
#[track_caller]
fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging/monitoring")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
        .filter(|it| it.starts_with("ctsync_"))
        .collect()
}

/// `promtool` of Debian's package prometheus, which is unpacked and not installed: it would start a server.
#[track_caller]
fn promtool(directory: &Path) -> PathBuf {
    run(Command::new("apt-get")
        .args(["download", "-qq", "prometheus"])
        .current_dir(directory));
    run(Command::new("sh")
        .args(["-c", "dpkg-deb --extract prometheus_*.deb ."])
        .current_dir(directory));
    directory.join("usr/bin/promtool")
}

#[test]
fn rules_and_dashboard_speak_of_what_a_daemon_tells() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: "metrics: { listen: 127.0.0.1:9116 }",
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let connect = || TcpStream::connect("127.0.0.1:9116").expect("the daemon listens");
    let mut stream = lab.gateways[0].inside(connect);
    let mut page = String::new();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .expect("it reads");
    stream.read_to_string(&mut page).expect("it answers");
    drop(cluster);

    let told = names(&page);
    assert!(told.len() > 50, "{page}");
    for file in ["ctsync.rules.yml", "grafana.json"] {
        let text = shipped(file);
        let unknown: Vec<_> = names(&text)
            .into_iter()
            .filter(|it| !told.contains(it))
            .collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&shipped("grafana.json")).expect("it is JSON");
    assert!(
        dashboard["panels"]
            .as_array()
            .is_some_and(|it| it.len() >= 8)
    );
}

#[test]
fn promtool_is_content_with_the_rules() {
    let directory = Directory::new("promtool");
    let rules = directory.path().join("ctsync.rules.yml");
    fs::write(&rules, shipped("ctsync.rules.yml")).expect("the directory is ours");
    let said = run(Command::new(promtool(directory.path()))
        .args(["check", "rules"])
        .arg(&rules));
    assert!(said.contains("SUCCESS: 13 rules found"), "{said}");
}
