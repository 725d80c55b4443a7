//! The protocol's core stays pure: no std, clock, socket, thread, randomness or unsafe outside its tests.

use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 8] = [
    "std::",
    "unsafe ",
    "SystemTime",
    "thread::",
    "println!",
    "static mut",
    "rand::",
    "core::arch",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("readable sources") {
        let path = entry.expect("readable sources").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_name().is_some_and(|name| name != "tests.rs")
        {
            found.push(path);
        }
    }
}

#[test]
fn the_core_is_pure_and_every_file_has_a_size_that_can_be_read() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    assert!(files.len() > 20, "the sources are here");
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let lib = lib.expect("readable sources");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable sources");
        let code = text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&text);
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            let word = FORBIDDEN.iter().find(|word| line.contains(*word));
            assert!(word.is_none(), "{}: {line}", path.display());
        }
        assert!(
            code.lines().count() <= 700,
            "{} is too long",
            path.display()
        );
    }
}

/// What code and tests cite is there to be read.
#[test]
fn every_rule_that_is_cited_is_in_the_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protocol = std::fs::read_to_string(root.join("PROTOCOL.md")).expect("PROTOCOL.md");
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable sources");
        for cited in text.split("PROTOCOL.md ").skip(1) {
            let end = cited
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(cited.len());
            let rule = cited[..end].trim_end_matches('.');
            let there = protocol.contains(&format!("- {rule} "))
                || protocol.contains(&format!("## {rule} "));
            assert!(rule.is_empty() || there, "{}: rule {rule}", path.display());
        }
    }
}
