//! What the compiler does not check: the invariants of the architecture, and documents that say what is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tests::cluster::{Cluster, Transport};
use tests::lab::Lab;

/// A file of more lines does several jobs.
const LINES_MAX: usize = 600;

/// The folder of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
}

/// The text of a file, named from the root.
#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every file with this ending, named from the root.
fn files(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("the folder was listed");
        for path in entries.map(|it| it.expect("it is readable").path()) {
            let name = name(&path);
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(name);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} below {}", root().display());
    found
}

fn name(path: &Path) -> String {
    let name = path.strip_prefix(root()).expect("it is below the root");
    name.to_str().expect("names are UTF-8").to_owned()
}

/// Whether a file holds nothing but tests, and what they and benchmarks need.
fn is_test(name: &str) -> bool {
    name.starts_with("tests/")
        || ["/tests/", "/benches/"].iter().any(|it| name.contains(it))
        || name.ends_with("/tests.rs")
}

/// The lines of a source file up to its own tests, comments left out, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let tested = text.split("\n#[cfg(test)]\nmod tests").next();
    (1..)
        .zip(tested.unwrap_or_default().lines())
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Asserts that no line of these files is wrong.
#[track_caller]
fn nowhere(files: impl IntoIterator<Item = String>, is_wrong: impl Fn(&str) -> bool) {
    let mut places = Vec::new();
    for file in files {
        let text = read(&file);
        let wrong = code(&text).filter(|(_, line)| is_wrong(line));
        places.extend(wrong.map(|(number, line)| format!("{file}:{number}: {}", line.trim())));
    }
    assert!(places.is_empty(), "{places:#?}");
}

/// The words of a text, cut at everything that cannot be in an identifier.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
}

/// What `#![no_std]` and `#![forbid(unsafe_code)]` do not keep out.
const IMPURE: [&str; 5] = ["std::", "println!", "static mut", "rand::", "core::arch"];

#[test]
fn the_protocol_needs_no_std_no_clock_and_nothing_of_the_kernel() {
    let lib = read("ccp/src/lib.rs");
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(lib.contains(attribute), "{attribute}");
    }
    let pure = files(".rs")
        .into_iter()
        .filter(|it| it.starts_with("ccp/src/") && !is_test(it));
    nowhere(pure, |line| {
        IMPURE.iter().any(|it| line.contains(it)) || words(line).any(|it| it == "conntrack")
    });
    assert!(!read("ccp/Cargo.toml").contains("conntrack"));
    assert!(!words(&read("conntrack/Cargo.toml")).any(|it| it == "ccp"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let others = files(".rs")
        .into_iter()
        .filter(|it| it != "conntrack/src/sys.rs" && it != "tests/tests/hygiene.rs");
    nowhere(others, |line| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
            .iter()
            .any(|it| line.contains(it))
    });
}

#[test]
fn no_file_does_several_jobs() {
    let long: Vec<_> = files(".rs")
        .into_iter()
        .filter(|it| !is_test(it))
        .map(|it| (read(&it).lines().count(), it))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

#[test]
fn nothing_is_left_to_do_or_to_debug() {
    let sources = files(".rs")
        .into_iter()
        .filter(|it| it != "tests/tests/hygiene.rs");
    nowhere(sources, |line| {
        ["todo!", "unimplemented!", "dbg!"]
            .iter()
            .any(|it| line.contains(it))
    });
    let notes = files(".rs")
        .into_iter()
        .chain(files(".md"))
        .filter(|it| it != "tests/tests/hygiene.rs")
        .filter(|it| words(&read(it)).any(|word| word == "TODO" || word == "FIXME"));
    let notes: Vec<_> = notes.collect();
    assert!(notes.is_empty(), "{notes:?}");
}

/// Tests wait for what they want to see. What makes traffic at a pace, and the wait itself, is in `tests/src`.
#[test]
fn no_test_sleeps() {
    let tests = files(".rs")
        .into_iter()
        .filter(|it| is_test(it) && !it.starts_with("tests/src/"));
    nowhere(tests, |line| {
        line.contains("sleep(") && !line.contains("fn ")
    });
}

#[test]
fn the_changelog_tells_of_this_version() {
    let manifest = read("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|it| it.strip_prefix("version = "))
        .expect("the workspace has a version");
    let heading = format!("## [{}]", version.trim_matches('"'));
    assert!(
        read("CHANGELOG.md")
            .lines()
            .any(|it| it.starts_with(&heading)),
        "{heading}"
    );
}

#[test]
fn what_documents_point_to_is_there() {
    let mut missing = Vec::new();
    for document in files(".md") {
        let text = read(&document);
        let folder = root().join(&document).with_file_name("");
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|it| it.split(')').next())
            .filter(|it| !it.contains("://") && !it.starts_with('#'))
            .map(|it| it.split('#').next().unwrap_or_default());
        // Paths in backquotes are meant from the root.
        let paths = text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|it| is_path(it) && !root().join(it).exists());
        missing.extend(
            links
                .filter(|it| !folder.join(it).exists())
                .chain(paths)
                .map(|it| format!("{document}: {it}")),
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_rule_that_is_cited_is_in_the_protocol() {
    let protocol = read("ccp/PROTOCOL.md");
    let is_there = |rule: &str| {
        ["- ", "## "]
            .iter()
            .any(|it| protocol.contains(&format!("\n{it}{rule} ")))
    };
    let cited_after = |text: &str, mark: &str| -> Vec<String> {
        let is_of_rule = |it: char| it.is_ascii_digit() || it == '.';
        let rest = text.split(mark).skip(1);
        let cited = rest.map(|it| it.split(|it| !is_of_rule(it)).next().unwrap_or_default());
        cited
            .map(|it| it.trim_end_matches('.').to_owned())
            .collect()
    };
    let mut missing = Vec::new();
    for file in files(".rs").into_iter().chain(files(".lua")) {
        let cited = cited_after(&read(&file), "PROTOCOL.md ");
        let wrong = cited
            .into_iter()
            .filter(|it| !it.is_empty() && !is_there(it));
        missing.extend(wrong.map(|rule| format!("{file}: {rule}")));
    }
    let own = cited_after(&protocol, "(").into_iter();
    missing.extend(own.filter(|it| it.contains('.') && !is_there(it)));
    assert!(missing.is_empty(), "{missing:?}");
}

/// Whether a text is the path of a file or folder of ours.
fn is_path(text: &str) -> bool {
    let folders = [
        "ccp/",
        "conntrack/",
        "agent/",
        "packaging/",
        "systemd/",
        "tests/",
    ];
    folders.iter().any(|it| text.starts_with(it)) && !text.contains([' ', '*', '{'])
}

#[test]
fn the_readme_tells_what_each_dependency_is_for() {
    let readme = read("README.md");
    for manifest in files("/Cargo.toml") {
        let text = read(&manifest);
        let sections = text
            .split("\n[")
            .filter(|it| it.starts_with("dependencies]") || it.starts_with("dev-dependencies]"));
        for line in sections.flat_map(|it| it.lines().skip(1)) {
            let Some((name, source)) = line.split_once(" = ") else {
                continue;
            };
            let is_told = readme.contains(&format!("`{name}`"));
            assert!(is_told || source.contains("path ="), "{manifest}: {name}");
        }
    }
}

#[test]
fn every_counter_is_in_the_manual_and_no_other() {
    let lab = Lab::new(2);
    let cluster = Cluster::start(&lab, Transport::Unicast);
    let status = cluster.members[0].status().expect("the daemon answers");
    let counters = status["counters"]
        .as_object()
        .expect("a status has counters");
    let counted: BTreeSet<&str> = counters.keys().map(String::as_str).collect();

    let manual = read("packaging/man/ctsync.8");
    let (_, section) = manual
        .split_once(".SH COUNTERS")
        .expect("the manual has a section of them");
    let section = section.split("\n.SH ").next().unwrap_or_default();
    // A heading follows each `.TP`: one name, or several.
    let headings = section
        .split("\n.TP\n.B")
        .skip(1)
        .filter_map(|it| it.lines().next());
    let described: BTreeSet<&str> = headings.flat_map(words).filter(|it| it.len() > 1).collect();
    assert_eq!(counted, described);
}

#[test]
fn every_event_of_the_log_is_in_the_manual_and_no_other() {
    let mut logged = BTreeSet::new();
    let sources = files(".rs").into_iter();
    for file in sources.filter(|it| it.starts_with("agent/src/") && !is_test(it)) {
        let names = read(&file)
            .split("event = \"")
            .skip(1)
            .filter_map(|it| it.split('"').next().map(str::to_owned))
            .collect::<Vec<_>>();
        logged.extend(names);
    }
    let manual = read("packaging/man/ctsync.8").replace("\\-", "-");
    let (_, section) = manual
        .split_once(".SH JOURNAL")
        .expect("the manual has a section of them");
    let section = section.split("\n.SH ").next().unwrap_or_default();
    let headings = section
        .split("\n.TP\n.B")
        .skip(1)
        .filter_map(|it| it.lines().next());
    let described: BTreeSet<_> = headings
        .flat_map(|it| it.split([' ', ',', '\\']))
        .filter(|it| it.len() > 1)
        .map(str::to_owned)
        .collect();
    assert_eq!(logged, described);
    // An entry there is its name as a comment, a new `uuidgen | tr -d -`, and what it means.
    let catalog = read("packaging/journal/ctsync.catalog");
    let entries = catalog.split("\n\n# ").skip(1);
    let explained: BTreeSet<_> = entries
        .filter_map(|it| it.lines().next().map(str::to_owned))
        .collect();
    assert_eq!(logged, explained);
}

#[test]
fn every_line_of_the_log_begins_with_its_event() {
    let sources = files(".rs").into_iter();
    for file in sources.filter(|it| it.starts_with("agent/src/") && !is_test(it)) {
        let text = read(&file);
        let lines: Vec<_> = code(&text).map(|(_, line)| line.trim()).collect();
        let text = lines.join(" ");
        for level in ["info!(", "warn!(", "error!("] {
            for (at, _) in text.match_indices(level) {
                let said = text[at + level.len()..].trim_start();
                let said: String = said.chars().take(80).collect();
                assert!(said.starts_with("event = \""), "{file}: {level}{said}");
            }
        }
    }
}
