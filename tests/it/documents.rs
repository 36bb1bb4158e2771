//! Checks the documents: their links, their pointers to sections, the commands they show, the tests and files they name.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::harness::Home;

/// Directories without the project's own documents or code.
const SKIPPED: [&str; 3] = ["target", "node_modules", ".git"];
/// The beginnings by which a path in a document is recognised.
const ROOTS: [&str; 7] = ["src/", "platform/", "tests/", "docs/", "benches/", "packaging/", ".ci/"];

/// Documents that show commands.
const WITH_COMMANDS: [&str; 5] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/contract.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files under `directory` whose names end in `.extension`, with their texts.
fn files(directory: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !SKIPPED.iter().any(|name| path.ends_with(name)) {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|ending| ending == extension) {
            found.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// The texts between single backticks, outside fenced blocks.
fn code_spans(text: &str) -> Vec<String> {
    let is_prose = |(index, _): &(usize, &str)| index % 2 == 0;
    let prose = text.split("```").enumerate().filter(is_prose);
    prose
        .flat_map(|(_, prose)| prose.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// The lines of fenced blocks for a shell.
fn shell_lines(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.trim_start().strip_prefix("sh\n"));
    shell.flat_map(str::lines).map(str::to_owned).collect()
}

/// The arguments of a `gem-setup` command; quotes group words, a redirection or a comment ends it.
fn arguments(line: &str) -> Option<Vec<String>> {
    let (_, rest) = line.split_once("gem-setup ").filter(|(before, _)| {
        before.is_empty() || before.split(' ').all(|word| word.is_empty() || word.contains('='))
    })?;
    let words = rest.split('"').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    let own = words.take_while(|word| !matches!(*word, ">" | "#" | "|" | "&&"));
    Some(own.map(str::to_owned).collect())
}

#[test]
fn every_shown_command_is_accepted() {
    let home = Home::new();
    let mut shown = 0;
    for name in WITH_COMMANDS {
        let text = document(name);
        for line in code_spans(&text).into_iter().chain(shell_lines(&text)) {
            let Some(arguments) = arguments(&line).filter(|words| !words.is_empty() && words[0] != "…") else {
                continue;
            };
            let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            words.push("--help");
            let run = home.gem(&words).run();
            // The files of the examples do not exist here.
            let lacks_file = ["No such file", "cannot find the"]
                .iter()
                .any(|text| run.stderr.contains(text));
            assert!(run.status == 0 || lacks_file, "{name}: `{line}`\n{}", run.stderr);
            shown += 1;
        }
    }
    assert!(shown > 40, "only {shown} commands were found");
}

/// The options that a help text explains.
fn options(help: &str) -> impl Iterator<Item = &str> {
    let words = help.lines().flat_map(|line| line.split_whitespace().take(2));
    words
        .filter(|word| word.starts_with("--"))
        .filter_map(|word| word.trim_end_matches('.').split('[').next())
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_option_is_in_the_contract() {
    let home = Home::new();
    let contract = document("docs/contract.md");
    let known: HashSet<&str> = contract
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .collect();
    let help = |words: &[&str]| home.gem(words).arg("--help").ok().stdout;
    let assert_known = |command: &str, help: &str| {
        for option in options(help).filter(|option| !["--help", "--version"].contains(option)) {
            assert!(known.contains(option), "`{command} {option}`");
        }
    };
    for command in commands(&help(&[])) {
        let text = help(&[&command]);
        assert_known(&command, &text);
        for action in commands(&text) {
            assert_known(&action, &help(&[&command, &action]));
        }
    }
}

#[test]
fn every_link_leads_to_a_file() {
    for (file, text) in files(root(), "md") {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap();
            assert!(
                file.parent().unwrap().join(path).exists(),
                "{}: {target}",
                file.display()
            );
        }
    }
}

#[test]
fn every_pointer_leads_to_a_section() {
    for (file, text) in files(root(), "rs") {
        let words: Vec<&str> = text
            .split_whitespace()
            .filter(|word| !matches!(*word, "//" | "///" | "//!"))
            .collect();
        for window in words.windows(3).filter(|window| window[1].starts_with("section")) {
            let Some((_, name)) = window[0].rsplit_once("docs/") else {
                continue;
            };
            let number: String = window[2].chars().take_while(char::is_ascii_digit).collect();
            let heading = format!("\n## {number}. ");
            assert!(
                document(&format!("docs/{name}")).contains(&heading),
                "{}: {window:?}",
                file.display()
            );
        }
    }
}

#[test]
fn every_named_file_exists() {
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/architecture.md",
        "tests/README.md",
    ] {
        let spans = code_spans(&document(name));
        let paths = spans
            .iter()
            .filter(|span| ROOTS.iter().any(|root| span.starts_with(root)));
        for path in paths.filter(|path| !path.contains(['*', '<', ' ', '…'])) {
            assert!(root().join(path).exists(), "{name}: `{path}`");
        }
    }
}

#[test]
fn every_named_test_exists() {
    let sources: String = ["src", "platform", "tests"]
        .iter()
        .flat_map(|directory| files(&root().join(directory), "rs"))
        .map(|(_, text)| text)
        .collect();
    for name in ["SECURITY.md", "tests/README.md"] {
        let spans = code_spans(&document(name));
        let tests: Vec<&String> = spans.iter().filter(|span| is_test_name(span)).collect();
        assert!(!tests.is_empty(), "{name} names no test");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "{name}: `{test}`");
        }
    }
}

/// Whether `span` is a name of several words.
fn is_test_name(span: &str) -> bool {
    span.matches('_').count() >= 2
        && span
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
