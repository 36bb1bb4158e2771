//! A server keeps its options, whether it is started, restarted or run by a service manager.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use gem_platform::process::identity;
use gem_setup::gateway::NewToken;
use gem_setup::place::write_private;
use gem_setup_support::fault::Authority;
use serde_json::Value;

use super::harness::{Gem, Home, assert_says, free_port};
use super::service::{unit, with_systemd};

/// Options that can be combined, one word each, so that they can be searched for.
fn combinations(home: &Home) -> Vec<Vec<String>> {
    let path = |name: &str| {
        let path = home.beside(name);
        path.to_str().unwrap().to_owned()
    };
    fs::write(home.beside("models.toml"), "format = 1\n").unwrap();
    let authority = Authority::new();
    fs::write(home.beside("ca.pem"), authority.pem()).unwrap();
    let (certificate, key) = authority.issue();
    fs::write(home.beside("cert.pem"), certificate).unwrap();
    let token = NewToken::random("ada").unwrap();
    for (name, text) in [("key.pem", &*key), ("tokens", &token.line), ("upstream-key", "AIza")] {
        write_private(&home.beside(name), text.as_bytes()).unwrap();
    }
    let gateway = vec![
        format!("--port={}", free_port()),
        "--model=gemma3-other".to_owned(),
        "--upstream=http://127.0.0.1:9/".to_owned(),
        "--listen=127.0.0.1".to_owned(),
        "--allow-remote".to_owned(),
        format!("--tls-cert={}", path("cert.pem")),
        format!("--tls-key={}", path("key.pem")),
        "--behind-proxy=10.0.0.0/24".to_owned(),
        format!("--token-file={}", path("tokens")),
        format!("--upstream-key-file={}", path("upstream-key")),
        "--client-rate=600".to_owned(),
        "--client-concurrency=8".to_owned(),
        "--drain-delay=0.1".to_owned(),
        "--drain-timeout=3".to_owned(),
        "--classifier-deadline=3".to_owned(),
        "--on-classifier-failure=error".to_owned(),
        "--classifier-prompt=as-sent".to_owned(),
        "--fast-path=0.9".to_owned(),
        "--threshold=0.4".to_owned(),
        "--account=no-preview".to_owned(),
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

/// Fails unless the command line of the running server contains all `words`.
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
            // The stand-in for systemd does not start the server.
            assert_eq!(home.gem(&["status"]).run().status, 7);
        }
    }
}

#[test]
fn an_upstreams_secrets_are_not_in_command_line_or_record() {
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
        let name = line.split([' ', '[']).next().unwrap();
        let is_listed = words
            .iter()
            .any(|word| word.trim_start_matches("--").split('=').next() == Some(name));
        assert!(is_listed || name == "detach", "`--{name}` is not tested");
    }
}

#[test]
fn an_option_of_a_restart_replaces_the_kept_one() {
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
    // The server keeps the old value until it is restarted.
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
fn a_service_serves_on_a_later_installed_port() {
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

#[test]
fn a_url_in_place_of_a_file_is_named_without_secrets() {
    let home = Home::new();
    let url = "https://u:s3cret@host.example/b.tar?key=s3cret";
    let program = format!("linux-x86_64={url}");
    let calls: [&[&str]; 17] = [
        &["token", "ann", "--token-file", url],
        &["--config", url, "status"],
        &["install", "--bundle", url],
        &["install", "--model-file", url],
        &["install", "--catalog", url],
        &["install", "--ca-cert", url],
        &["upgrade", "--catalog", url],
        &["route", "--history", url, "hi"],
        &["route", "--approved-plan", url, "hi"],
        &["route", "--batch", url],
        &["serve", "--models", url],
        &["serve", "--tls-cert", url],
        &["serve", "--upstream-key-file", url],
        &["bundle", "verify", url],
        &["bundle", "create", url],
        &["bundle", "create", "--program", &program, "b.tar"],
        &["man", url],
    ];
    let in_environment = home.gem(&["start"]).env("GEM_SETUP_MODELS", url);
    for gem in calls.iter().map(|args| home.gem(args)).chain([in_environment]) {
        let run = gem.ends(2);
        assert_says(&run.stderr, &["this is a URL, not a path", "https://***"]);
        assert!(!run.stderr.contains("s3cret"), "{run:#?}");
    }
    home.assert_untouched();
}

#[test]
fn a_value_without_a_usable_file_is_refused() {
    let home = Home::new();
    let (file, missing) = (home.beside("file"), home.beside("missing"));
    fs::write(&file, "").unwrap();
    let [file, missing, directory] = [&file, &missing, &home.work()].map(|path| path.to_str().unwrap().to_owned());
    let mirrors = [format!("file://{file}"), format!("file://{missing}")];
    let calls: [(&[&str], &str); 7] = [
        (&["route", "--approved-plan", &missing, "hi"], "--approved-plan"),
        (&["route", "--approved-plan", &directory, "hi"], "it is a directory"),
        (&["install", "--dry-run", "--mirror", &mirrors[0]], "is not a directory"),
        (&["install", "--dry-run", "--mirror", &mirrors[1]], "missing"),
        (&["doctor", "--mirror", &mirrors[1]], "missing"),
        (&["logs", "-n", "x"], "not a number"),
        (
            &["bundle", "create", "new", "--runtime", "builtin", "--sign", &file],
            "cannot sign",
        ),
    ];
    for (args, word) in calls {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &[word]);
    }
    let run = home.gem(&["doctor", "--accept-terms"]).ends(10);
    assert_says(&run.stderr, &["`--accept-terms` has no effect without `--fix`"]);
    assert!(
        !home.work().join("new").exists(),
        "the key is read before the bundle is begun"
    );
    home.assert_untouched();
}

/// Conda, for example, sets the variable for all programs, and keeps it after its directory was deleted.
#[test]
fn missing_certificates_are_named_before_a_download() {
    let home = Home::new();
    let install = home.gem(&["install", "--runtime", "builtin", "--dry-run", "--no-start"]);
    let run = install.env("SSL_CERT_FILE", "gone.pem").ok();
    assert_eq!(run.stderr.matches("SSL_CERT_FILE").count(), 1, "{run:#?}");
    assert_says(&run.stderr, &["`gone.pem`", "unset"]);
}

/// Not text: reading a whole disk of zeros would take too long.
#[test]
fn a_huge_file_is_refused_and_not_read() {
    let home = Home::new();
    let huge = |path: &Path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(20_000_000_000).unwrap();
    };
    huge(&home.layout().config_file());
    assert_says(&home.gem(&["stop"]).ok().stderr, &["more than", "ignored here"]);
    home.gem(&["install", "--runtime", "builtin"]).ends(2);
    fs::remove_file(home.layout().config_file()).unwrap();
    huge(&home.settings());
    let run = home.gem(&["install", "--runtime", "builtin", "--no-start"]).ends(8);
    assert_says(&run.stderr, &["more than 4 MB"]);
}

#[test]
fn model_options_without_a_model_are_named() {
    let home = Home::new();
    let plan = ["install", "--runtime", "builtin", "--dry-run"];
    assert!(!home.gem(&plan).ok().stderr.contains("no effect"));
    let run = home.gem(&plan).args(["--no-model", "--accept-terms"]).ok();
    assert_says(
        &run.stderr,
        &["`--no-model` has no effect", "`--accept-terms` has no effect"],
    );
}

#[test]
fn a_token_file_in_a_missing_directory_says_what_to_create() {
    let home = Home::new();
    let directory = home.beside("nowhere");
    let run = home
        .gem(&["token", "ada", "--token-file"])
        .arg(directory.join("tokens"))
        .ends(1);
    assert_says(
        &run.stderr,
        &[&format!("create the directory `{}`", directory.display())],
    );
}

#[test]
fn options_that_do_not_apply_are_named_by_start_and_route() {
    let home = Home::new();
    let port = home.port.to_string();
    let start = ["start", "--runtime", "builtin", "--port", &port];
    let run = home
        .gem(&start)
        .args(["--behind-proxy", "10.0.0.1", "--model", "foo"])
        .args(["--upstream", "http://nosuch.invalid"])
        .ok();
    assert_says(
        &run.stderr,
        &[
            "`--behind-proxy` has no effect",
            "--allow-remote",
            "`foo`",
            "nosuch.invalid",
            "not encrypted",
        ],
    );
    let status = home.gem(&["status"]).ok().stdout;
    assert_says(&status, &["runtime builtin, which has no model"]);
    home.gem(&["stop"]).ok();
    let run = home.gem(&["route", "--classifier", "model", "rename x to y"]).ok();
    assert_says(&run.stderr, &["the local model did not answer"]);
    let run = home.gem(&["route", "--classifier", "builtin", "rename x to y"]).ok();
    assert_eq!(run.stderr, "");
}
