//! Every example in YAML that the documentation has is one that ctsync takes.

use agent::config::Config;
use agent::policy::Policy;
use std::path::Path;

const README: &str = include_str!("../../README.md");
const POLICY_PAGE: &str = include_str!("../../packaging/man/ctsync-policy.5");
const POLICY_EXAMPLE: &str = include_str!("../../packaging/policy.yaml");

/// What stands between a line `begin` and the next line `end`, without the indentation that `begin` has.
fn blocks(text: &str, begin: &str, end: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.by_ref().find(|line| line.trim_start() == begin) {
        let indent = line.len() - line.trim_start().len();
        let within = (lines.by_ref()).take_while(|line| line.trim_start() != end);
        let within = within.map(|line| line.get(indent..).unwrap_or_default());
        blocks.push(within.fold(String::new(), |all, line| all + line + "\n"));
    }
    blocks
}

fn takes(example: &str, place: &str) {
    let path = Path::new(place);
    if example.contains("cluster:") {
        Config::parse(example, path).unwrap_or_else(|error| panic!("{error}\n{example}"));
    } else {
        let texts = [(path.to_owned(), example.to_owned())];
        Policy::parse(&texts, 8116).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}

#[test]
fn every_example_of_the_readme_is_taken() {
    let examples = blocks(README, "```yaml", "```");
    assert!(examples.len() >= 2, "{examples:?}");
    examples.iter().for_each(|it| takes(it, "README.md"));
}

#[test]
fn every_example_of_the_manual_is_taken() {
    let examples = blocks(POLICY_PAGE, ".nf", ".fi");
    assert!(!examples.is_empty());
    examples.iter().for_each(|it| takes(it, "ctsync-policy.5"));
}

#[test]
fn the_shipped_policy_is_taken() {
    takes(POLICY_EXAMPLE, "policy.yaml");
}
