//! Usage, completions and the manual.

use crate::{ctsync, outcome};

const MAN_PAGE: &str = include_str!("../../../packaging/man/ctsync.8");

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
    for (arguments, why) in [
        (
            &["explain", "tcp", "10.0.0.1", "10.0.0.2"][..],
            "is not a flow; write it as",
        ),
        (
            &["check-in", "bad name", "ok"],
            "a check has a name of 1 to 32 letters",
        ),
    ] {
        let (code, printed, said) = outcome(&mut ctsync(arguments));
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}");
        assert!(said.contains(why), "{said}");
    }
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
