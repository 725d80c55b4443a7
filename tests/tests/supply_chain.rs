//! What is built into ctsync is what `deny.toml` allows, and the bill of materials names all of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every package that Cargo.lock pins for this platform.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .expect("cargo runs the tests");
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

/// The strings of a list in `deny.toml`.
#[track_caller]
fn listed(key: &str) -> Vec<String> {
    let text = fs::read_to_string(top().join("deny.toml")).expect("deny.toml is there");
    let begin = format!("\n{key} = [");
    let (_, list) = text.split_once(&begin).expect("the list is there");
    let (list, _) = list.split_once(']').expect("the list ends");
    let code = list.lines().filter(|line| !line.trim().starts_with('#'));
    let quoted = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.map(str::to_owned).collect()
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// True if the SPDX expression can be fulfilled with allowed licences: all of one of its alternatives are.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let all = |part: &str| {
        let words = part
            .split(" AND ")
            .map(|word| word.trim_matches(['(', ')', ' ']));
        words
            .into_iter()
            .all(|word| allowed.iter().any(|it| it == word))
    };
    // `A AND (B OR C)` is the one form with parentheses that is in use: both sides have to do.
    match expression
        .split_once(") AND ")
        .or(expression.split_once(" AND ("))
    {
        Some((left, right)) => is_allowed(left, allowed) && is_allowed(right, allowed),
        None => expression.replace('/', " OR ").split(" OR ").any(all),
    }
}

#[test]
fn every_licence_is_allowed() {
    let allowed = listed("allow");
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(
            is_allowed(licence, &allowed),
            "{}: {licence:?} is not in deny.toml",
            package["name"]
        );
    }
}

#[test]
fn a_licence_that_is_not_allowed_is_seen() {
    let allowed = listed("allow");
    for licence in [
        "GPL-3.0-only",
        "MIT AND GPL-2.0-only",
        "(MIT OR GPL-2.0-only) AND LGPL-3.0-only",
        "",
    ] {
        assert!(!is_allowed(licence, &allowed), "{licence}");
    }
}

#[test]
fn everything_comes_from_the_registry_and_nothing_is_banned() {
    let banned = listed("deny");
    let registries = listed("allow-registry");
    for package in packages() {
        let name = package["name"].as_str().expect("a name").to_owned();
        assert!(!banned.contains(&name), "{name} is banned in deny.toml");
        if let Some(source) = package["source"].as_str() {
            let registry = source.strip_prefix("registry+").unwrap_or(source);
            assert!(
                registries.iter().any(|it| it == registry),
                "{name} comes from {source}"
            );
        }
    }
}

#[test]
fn the_bill_of_materials_names_every_crate_that_is_linked() {
    let sbom = || {
        let output = Command::new(top().join("packaging/sbom"))
            .output()
            .expect("it can be run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let first = sbom();
    assert_eq!(first, sbom());
    let bill: Value = serde_json::from_slice(&first).expect("it prints JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let components = bill["components"].as_array().expect("a list");
    let component = |name: &str| components.iter().find(|it| it["name"] == name);
    for name in ["ring", "rustls", "tokio", "ccp", "conntrack"] {
        assert!(component(name).is_some(), "{name}");
    }
    for component in components {
        let ours = ["ccp", "conntrack"]
            .iter()
            .any(|name| component["name"] == *name);
        let hash = component["hashes"][0]["content"].as_str();
        assert_eq!(hash.map(str::len), (!ours).then_some(64), "{component}");
        let licence = component["licenses"][0]["expression"].as_str();
        assert!(licence.is_some_and(|it| !it.is_empty()), "{component}");
    }
    assert_eq!(component("proptest").map(|it| &it["name"]), None);
}
