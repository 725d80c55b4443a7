//! Every example in YAML that the documentation has is one that ctsync takes, and one that its schemas describe.

use agent::config::Config;
use agent::policy::Policy;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIGURATION: &str = include_str!("../../packaging/ctsync.yaml");
const DEFAULT: &str = include_str!("../../packaging/default.yaml");
const POLICY: &str = include_str!("../../packaging/policy.yaml");

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

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

/// The same with every key that stands in a comment made a key.
fn uncommented(text: &str) -> String {
    let is_key = |rest: &str| {
        let key = rest.trim_start().trim_start_matches("- ").split_once(':');
        key.is_some_and(|(key, value)| {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            key.bytes().all(is_name) && (value.is_empty() || !value.contains(". "))
        })
    };
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if is_key(rest) => {
            // After a hash stands the space of a comment, but in a file that is a comment as a whole.
            let indent = line.len() - line.trim_start().len();
            let rest = rest.strip_prefix(' ').filter(|_| text.contains("# keys:"));
            let rest = rest.unwrap_or(&line.trim_start()[1..]);
            format!("{}{rest}\n", &line[..indent])
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The documents with examples, and what begins and ends one there.
fn documents() -> Vec<(PathBuf, [&'static str; 2])> {
    let files = |folder: &str, extension: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(top().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == extension))
            .collect()
    };
    let mut markdown = files(".", "md");
    markdown.extend(files("packaging/doc", "md"));
    markdown.extend(files("ccp", "md"));
    let pages = ["5", "8"].map(|section| files("packaging/man", section));
    let markdown = markdown.into_iter().map(|path| (path, ["```yaml", "```"]));
    let pages = pages.into_iter().flatten();
    markdown
        .chain(pages.map(|path| (path, [".nf", ".fi"])))
        .collect()
}

/// Every example, with the place where it stands.
fn examples() -> Vec<(String, String)> {
    let mut examples = vec![
        ("ctsync.yaml".to_owned(), CONFIGURATION.to_owned()),
        ("ctsync.yaml, uncommented".to_owned(), every_key()),
        ("default.yaml, uncommented".to_owned(), uncommented(DEFAULT)),
        ("policy.yaml".to_owned(), POLICY.to_owned()),
    ];
    for (path, [begin, end]) in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = blocks(&text, begin, end).into_iter();
        // The build puts the example there.
        let written = blocks.filter(|block| !block.contains("@CONFIGURATION@"));
        examples.extend(written.map(|block| (path.display().to_string(), whole(block))));
    }
    examples
}

/// The shipped example with every key that there is.
fn every_key() -> String {
    uncommented(CONFIGURATION).replace("transport: unicast", "transport: multicast")
}

/// A part of a configuration with what it is a part of.
fn whole(block: String) -> String {
    let is_policy = ["builtins:", "services:", "rules:"];
    let is_whole = block.contains("cluster:")
        || (block.lines()).any(|line| is_policy.iter().any(|key| line.starts_with(key)));
    match is_whole {
        true => block,
        false => format!("{CONFIGURATION}\n{block}"),
    }
}

fn is_configuration(example: &str) -> bool {
    example.contains("cluster:")
}

#[test]
fn every_example_of_the_documentation_is_taken() {
    let examples = examples();
    assert!(examples.len() >= 8, "{examples:#?}");
    for (place, example) in examples {
        let path = Path::new(&place);
        if is_configuration(&example) {
            Config::parse(&example, path).unwrap_or_else(|error| panic!("{error}\n{example}"));
        } else {
            let texts = [(path.to_owned(), example.clone())];
            Policy::parse(&texts, 8116).unwrap_or_else(|error| panic!("{error}\n{example}"));
        }
    }
}

/// What a validator says of these documents.
fn validate(schema: &Value, documents: &[Value]) -> Vec<bool> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: String, value: &Value| {
        let path = directory.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    };
    let schema = file("schema".into(), schema);
    let valid = documents.iter().enumerate().map(|(number, document)| {
        let document = file(number.to_string(), document);
        let mut command = Command::new("jsonschema");
        let output = command.arg("-i").arg(document).arg(&schema).output();
        let output = output.expect("the package python3-jsonschema is installed");
        if !output.status.success() {
            println!("{number}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    });
    valid.collect()
}

/// As a program reads it that knows nothing of ctsync, but YAML 1.2, to which `on` is a word.
fn read(example: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    let read = serde_saphyr::from_str_with_options(example, options);
    read.unwrap_or_else(|error| panic!("{error}\n{example}"))
}

#[test]
fn the_schemas_describe_every_example_and_what_check_prints() {
    let mut configurations = vec![read(
        &Config::parse(&every_key(), "every key".as_ref())
            .unwrap()
            .to_yaml(),
    )];
    let mut policies = vec![read(&Policy::new(8116).to_yaml())];
    for (_, example) in examples() {
        match is_configuration(&example) {
            true => configurations.push(read(&example)),
            false => policies.push(read(&example)),
        }
    }
    for (schema, documents) in [
        (Config::schema(), configurations),
        (Policy::schema(), policies),
    ] {
        let valid = validate(schema.as_value(), &documents);
        assert_eq!(valid, vec![true; documents.len()], "{documents:#?}");
    }
}

#[test]
fn the_schemas_refuse_what_is_none() {
    let configuration = read(CONFIGURATION);
    let changed = |change: fn(&mut Value)| {
        let mut changed = configuration.clone();
        change(&mut changed);
        changed
    };
    let configurations = [
        changed(|it| it["clustre"] = json!(7)),
        changed(|it| it["cluster"] = json!("seven")),
        changed(|it| drop(it.as_object_mut().unwrap().remove("networks"))),
        changed(|it| it["networks"][0]["transport"] = json!("anycast")),
        changed(|it| it["hold"] = json!({ "mode": "sometimes" })),
    ];
    let policies = [
        json!({ "service": {} }),
        json!({ "services": { "web": { "sync": "later" } } }),
        json!({ "services": { "web": { "ports": [] } } }),
        json!({ "rules": [{ "source": "10.0.0.0/8" }] }),
        json!({ "builtins": { "vrrp": true } }),
    ];
    assert_eq!(
        validate(Config::schema().as_value(), &configurations),
        [false; 5]
    );
    assert_eq!(validate(Policy::schema().as_value(), &policies), [false; 5]);
}
