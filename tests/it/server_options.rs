//! A server keeps its options, whichever way it is started, restarted or handed to the system.
#![cfg(target_os = "linux")]

use std::fs;

use gem_platform::process::identity;
use serde_json::Value;

use super::harness::{Gem, Home, assert_says, free_port};
use super::service::{unit, with_systemd};

/// Options that go together, as words. Each is one word, so that it can be looked for.
fn combinations(home: &Home) -> Vec<Vec<String>> {
    let path = |name: &str| {
        let path = home.beside(name);
        path.to_str().unwrap().to_owned()
    };
    fs::write(home.beside("models.toml"), "format = 1\n").unwrap();
    fs::write(home.beside("ca.pem"), "").unwrap();
    let gateway = vec![
        format!("--port={}", free_port()),
        "--model=gemma3-other".to_owned(),
        "--upstream=http://127.0.0.1:9/".to_owned(),
        "--listen=127.0.0.1".to_owned(),
        "--allow-remote".to_owned(),
        "--classifier-deadline=3".to_owned(),
        "--on-classifier-failure=error".to_owned(),
        "--classifier-prompt=as-sent".to_owned(),
        "--fast-path=0.9".to_owned(),
        "--threshold=0.4".to_owned(),
        "--on-fallback=never".to_owned(),
        "--max-retry-wait=7".to_owned(),
        format!("--models={}", path("models.toml")),
        "--log-requests".to_owned(),
        format!("--ca-cert={}", path("ca.pem")),
        "--verbose".to_owned(),
    ];
    vec![
        gateway,
        vec!["--direct".to_owned()],
        vec!["--runtime=builtin".to_owned()],
    ]
}

/// Fails unless the running server has each of `words` on its command line.
#[track_caller]
fn assert_running_with(home: &Home, words: &[String]) {
    let status: Value = home.gem(&["status", "--json"]).run().json();
    let pid = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    let line = identity(pid).unwrap().command;
    for word in words {
        assert!(line.contains(word), "`{word}` is not in {line:?}");
    }
}

fn with_variables(mut gem: Gem, words: &[String]) -> Gem {
    for word in words {
        let (name, value) = word
            .trim_start_matches("--")
            .split_once('=')
            .unwrap_or((&word[2..], "1"));
        gem = gem.env(&format!("GEM_SETUP_{}", name.to_uppercase().replace('-', "_")), value);
    }
    gem
}

#[test]
fn every_option_survives_restart_and_service() {
    let home = Home::installed();
    for words in combinations(&home) {
        for by_variable in [false, true] {
            let start = home.gem(&["start"]);
            if by_variable {
                with_variables(start, &words).ok();
            } else {
                start.args(&words).ok();
            }
            assert_running_with(&home, &words);
            for _ in 0..2 {
                home.gem(&["restart"]).ok();
                assert_running_with(&home, &words);
            }
            with_systemd(&home, &["service", "install"]).ok();
            let definition = fs::read_to_string(unit(&home)).unwrap();
            words
                .iter()
                .for_each(|word| assert_says(&definition, &[&format!("\"{word}\"")]));
            // The stand-in for systemd starts nothing.
            assert_eq!(home.gem(&["status"]).run().status, 7);
        }
    }
}

#[test]
fn an_upstream_s_secrets_are_kept_from_command_line_and_record() {
    let home = Home::installed();
    let url = "http://ada:s3cret@127.0.0.1:9/base?key=s3cret#s3cret";
    let start = |command: &[&str]| home.gem(command);
    let starts = [
        start(&["start"]).args(["--upstream", url]),
        start(&["start"]).env("GEM_SETUP_UPSTREAM", url),
    ];
    for started in starts {
        started.ok();
        for _ in 0..2 {
            assert_hidden_and_kept(&home, url);
            home.gem(&["restart", "--threshold=0.3"]).ok();
        }
        let run = with_systemd(&home, &["service", "install"]).ends(2);
        assert_says(&run.stderr, &["http://***@127.0.0.1:9/base?***", "config.toml"]);
        assert!(!run.stderr.contains("s3cret"), "{run:#?}");
        home.gem(&["stop"]).ok();
        assert!(!home.layout().upstream_file().exists());
    }
}

/// Fails unless the running server uses `url` and shows none of its secrets.
fn assert_hidden_and_kept(home: &Home, url: &str) {
    let status: Value = home.gem(&["status", "--json"]).run().json();
    let pid = status["pid"].as_u64().unwrap();
    let line = identity(u32::try_from(pid).unwrap()).unwrap().command;
    assert!(!line.iter().any(|word| word.contains("s3cret")), "{line:?}");
    let variables = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(
        variables
            .split('\0')
            .any(|pair| pair == format!("GEM_SETUP_UPSTREAM={url}"))
    );
    for file in [home.layout().server_file(), home.layout().state_file()] {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("s3cret"), "{}: {text}", file.display());
    }
}

#[test]
fn a_url_that_is_refused_is_shown_without_secrets() {
    let home = Home::new();
    for url in [
        "https://u:s3cret@127.0.0.1:99999/",
        "http://u:s3cret@ex ample/",
        "u:s3cret@h",
    ] {
        for (command, option) in [("install", "--mirror"), ("serve", "--upstream")] {
            let run = home.gem(&[command, "--runtime=builtin", option, url]).ends(2);
            assert_says(&run.stderr, &["error: "]);
            assert!(!run.stderr.contains("s3cret"), "{run:#?}");
        }
    }
}

#[test]
fn the_table_of_options_is_complete() {
    let home = Home::new();
    let help = home.gem(&["serve", "--help"]).ok().stdout;
    let (own, _) = help.split_once("Global options").unwrap();
    let words = combinations(&home).concat();
    for line in own.lines().filter_map(|line| line.trim().strip_prefix("--")) {
        let name = line.split([' ', '=']).next().unwrap();
        let is_listed = words
            .iter()
            .any(|word| word.trim_start_matches("--").split('=').next() == Some(name));
        assert!(is_listed || name == "detach", "`--{name}` is not tested");
    }
}

#[test]
fn an_option_of_a_restart_replaces_the_one_kept() {
    let home = Home::installed();
    home.gem(&["start", "--threshold=0.4", "--on-fallback=never"]).ok();
    home.gem(&["restart", "--threshold=0.3"]).ok();
    let kept = ["--threshold=0.3", "--on-fallback=never"].map(str::to_owned);
    assert_running_with(&home, &kept);
    home.gem(&["stop"]).ok();
    home.gem(&["start"]).ok();
    assert_says(&home.gem(&["start"]).ok().stdout, &["already running"]);
}

#[test]
fn an_installation_keeps_the_options_it_does_not_decide() {
    let home = Home::installed();
    let port = free_port().to_string();
    home.gem(&["start", "--threshold=0.4", "--port", &port]).ok();
    // The server must move to the port of the installation.
    assert_eq!(home.install(&[]).ok().step("server"), "changed");
    assert_running_with(&home, &["--threshold=0.4".to_owned(), format!("--port={}", home.port)]);
}

#[test]
fn a_restart_reads_the_same_configuration_again() {
    let home = Home::installed();
    let file = home.beside("other.toml");
    let given = file.to_str().unwrap();
    fs::write(&file, "fast_path = 0.7\n").unwrap();
    home.gem(&["--config", given, "start"]).ok();
    assert_says(
        &home.gem(&["--config", given, "start"]).ok().stdout,
        &["already running"],
    );
    fs::write(&file, "fast_path = 0.8\n").unwrap();
    // The server runs with the old value until it is restarted.
    home.gem(&["--config", given, "start"]).ends(9);
    home.gem(&["restart"]).ok();
    assert_says(
        &home.gem(&["--config", given, "start"]).ok().stdout,
        &["already running"],
    );
    with_systemd(&home, &["service", "install"]).ok();
    let definition = fs::read_to_string(unit(&home)).unwrap();
    assert_says(&definition, &[&format!("\"--config={given}\"")]);
    assert!(!definition.contains("--fast-path"), "{definition}");
}

#[test]
fn a_service_serves_on_the_port_that_is_installed_later() {
    let home = Home::installed();
    with_systemd(&home, &["service", "install", "--threshold=0.4"]).ok();
    let definition = fs::read_to_string(unit(&home)).unwrap();
    assert_says(&definition, &["\"--threshold=0.4\""]);
    assert!(!definition.contains("--port"), "{definition}");
}

#[test]
fn an_option_without_effect_is_named() {
    let home = Home::installed();
    let run = home
        .gem(&["start", "--direct", "--upstream=http://127.0.0.1:9/", "--log-requests"])
        .ok();
    assert_says(&run.stderr, &["warning: `--upstream` has no effect", "--direct"]);
    assert!(!run.stderr.contains("log-requests"), "{run:#?}");
    home.gem(&["stop"]).ok();
    let run = home
        .gem(&["start", "--runtime=builtin", "--classifier-deadline=3"])
        .ok();
    assert_says(&run.stderr, &["`--classifier-deadline` has no effect", "builtin"]);
    home.gem(&["stop"]).ok();
    let run = home.gem(&["start", "--runtime=builtin", "--direct"]).ends(2);
    assert_says(&run.stderr, &["builtin", "--direct"]);
}
