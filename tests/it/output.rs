//! The output of commands, and errors in the command line.

use std::fs;
use std::io::Read;

use serde_json::{Value, json};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use super::harness::is_default_port_taken;
use super::harness::{Gem, Home, MODEL, assert_says};

const COMMANDS: [&str; 22] = [
    "install",
    "upgrade",
    "rollback",
    "versions",
    "cleanup",
    "doctor",
    "serve",
    "start",
    "stop",
    "restart",
    "status",
    "logs",
    "pull",
    "list",
    "smoke",
    "route",
    "settings",
    "bundle",
    "service",
    "uninstall",
    "completions",
    "man",
];

/// Replaces text that differs between runs and machines.
fn filtered(home: &Home) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    for (pattern, name) in [
        (home.path().display().to_string(), "[HOME]"),
        (home.work().display().to_string(), "[WORK]"),
        (env!("CARGO_BIN_EXE_gem-setup").to_owned(), "[GEM-SETUP]"),
    ] {
        settings.add_filter(&escaped(&pattern), name);
    }
    for (pattern, name) in [
        (r"gem-setup\.exe", "gem-setup"),
        // Checks of optional software beside gem-setup.
        (r"(?m)^(?:warn| ) [a-z]+\.(?:loader|gpu|gemini|memory): .*\n", ""),
        (r"(?m)^  client\.gemini: .*\n", ""),
        (r"\d+ other checks", "[N] other checks"),
        (r"\d+ warnings?", "[N] warnings"),
        (r"[\d.]+ [MGT]B free", "[N] free"),
        (r"SHA-256 [0-9a-f]{64}", "SHA-256 [HASH]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
        (r"pid \d+", "pid [PID]"),
        (r"(port |localhost:)\d+", "$1[PORT]"),
        (r"linux-(?:x86_64|arm64)", "[TARGET]"),
    ] {
        settings.add_filter(pattern, name);
    }
    settings
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_punctuation() {
            text.push('\\');
        }
        text.push(c);
        text
    })
}

#[test]
fn the_help_of_every_command() {
    let home = Home::new();
    filtered(&home).bind(|| {
        insta::assert_snapshot!("help", home.gem(&["--help"]).ok().stdout);
        for command in COMMANDS {
            insta::assert_snapshot!(format!("help-{command}"), home.gem(&[command, "--help"]).ok().stdout);
        }
        for (command, action) in [("settings", "apply"), ("bundle", "create")] {
            let help = home.gem(&[command, action, "--help"]).ok().stdout;
            insta::assert_snapshot!(format!("help-{command}-{action}"), help);
        }
    });
    home.assert_untouched();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn doctor_for_people_on_an_empty_home() {
    let home = Home::new();
    if is_default_port_taken() {
        eprintln!("not tested: another program has the default port");
        return;
    }
    let said = home.gem(&["doctor"]).ends(10).stdout;
    filtered(&home).bind(|| insta::assert_snapshot!("doctor-empty", said));
}

#[cfg(target_os = "linux")]
#[test]
fn doctor_for_people_on_a_healthy_home() {
    let home = Home::serving();
    let said = home.gem(&["doctor"]).ok().stdout;
    filtered(&home).bind(|| insta::assert_snapshot!("doctor-healthy", said));
}

#[cfg(target_os = "linux")]
#[test]
fn doctor_for_people_with_two_faults() {
    let home = Home::serving();
    home.gem(&["stop"]).ok();
    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(home.settings(), text.replace("\"enabled\": true", "\"enabled\": false")).unwrap();
    let said = home.gem(&["doctor"]).ends(10).stdout;
    filtered(&home).bind(|| insta::assert_snapshot!("doctor-two-faults", said));
}

#[test]
fn version_is_printed_three_ways() {
    let home = Home::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(home.gem(&["version"]).ok().stdout, format!("gem-setup {version}\n"));
    assert_eq!(home.gem(&["--version"]).ok().stdout, format!("gem-setup {version}\n"));
    for words in [["version", "--json"], ["--version", "--json"]] {
        assert_eq!(home.gem(&words).ok().json()["version"], version);
    }
    home.assert_untouched();
}

#[test]
fn completions_exist_for_four_shells() {
    let home = Home::new();
    for (shell, mark) in [
        ("bash", "complete -F _gem__setup"),
        ("zsh", "#compdef gem-setup"),
        ("fish", "complete -c gem-setup"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = home.gem(&["completions", shell]).ok().stdout;
        assert_says(&script, &[mark, "uninstall", "accept-terms"]);
        assert!(!script.contains("__guard"), "{shell} completes what is hidden");
    }
    home.gem(&["completions", "cmd"]).ends(2);
    home.assert_untouched();
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let home = Home::new();
    for args in [
        [].as_slice(),
        &["frobnicate"],
        &["install", "--frobnicate"],
        &["install", "--port", "0"],
        &["install", "--port", "70000"],
        &["install", "--runtime", "llama"],
        &["install", "--scope", "system"],
        &["install", "--mirror", "not a url"],
        &["install", "--target", "windows-x86_64"],
        &["install", "--dry-run", "--target", "solaris-sparc"],
        &["install", "--dry-run", "--catalog", "no-such-file.toml"],
        &["serve", "--fast-path", "2"],
        &["serve", "--threshold", "1.5"],
        &["route", "--threshold", "half", "hi"],
        &["serve", "--classifier-deadline", "soon"],
        &["pull"],
        &["settings"],
        &["--config", "no-such-file.toml", "start"],
    ] {
        let run = home.gem(args).ends(2);
        assert!(!run.stderr.is_empty(), "{args:?}");
        assert_eq!(run.stdout, "", "{args:?}");
    }
    home.assert_untouched();
}

#[test]
fn the_parser_s_errors_show_control_characters() {
    let home = Home::new();
    for args in [
        &["install", "--catalog", "/tmp/\u{1b}[31m"][..],
        &["settings", "apply", "--model", "\u{1b}[31m"],
        &["\u{1b}[31m"],
    ] {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &["\\u{1b}[31m"]);
        assert!(!run.stderr.contains('\u{1b}'), "{run:#?}");
    }
}

#[test]
fn a_usage_error_is_json_too() {
    let home = Home::new();
    let broken = home.beside("broken.toml");
    fs::write(&broken, "port =\n").unwrap();
    let broken = broken.to_str().unwrap();
    for (args, word) in [
        (["install", "--json", "--port", "0"].as_slice(), "--port"),
        (&["install", "--frobnicate", "--json"], "--frobnicate"),
        (&["--json", "--config", broken, "install"], "broken.toml"),
        (&["pull", "--json"], "MODEL"),
        (&["--json", "--config", broken, "pull", "some-model"], "broken.toml"),
        (&["--json", "frobnicate"], "frobnicate"),
        (
            &["route", "--json", "--models", "no-such-file.toml", "x"],
            "no-such-file.toml",
        ),
        (&["--json"], "command"),
    ] {
        let run = home.gem(args).ends(2);
        let result = run.result();
        let error = &result["error"];
        assert_eq!((&result["ok"], &error["exit"]), (&json!(false), &json!(2)), "{args:?}");
        assert_eq!(error["kind"], "usage");
        assert_says(error["message"].as_str().unwrap(), &[word]);
        assert!(!run.stderr.is_empty(), "{args:?}");
        let steps = run.steps();
        if args.contains(&"install") {
            assert_eq!(steps.len(), 9, "{args:?}");
            assert!(steps.iter().all(|(_, state)| state == "skipped"), "{steps:?}");
        } else {
            assert!(steps.is_empty(), "{steps:?}");
        }
    }
    let run = home
        .gem(&["install"])
        .env("GEM_SETUP_JSON", "1")
        .env("GEM_SETUP_PORT", "abc")
        .ends(2);
    assert_says(run.result()["error"]["hint"].as_str().unwrap(), &["GEM_SETUP_PORT"]);
    home.assert_untouched();
}

#[test]
fn a_completion_script_is_json_with_json() {
    let home = Home::new();
    let run = home.gem(&["--json", "completions", "bash"]).ok();
    let plain = home.gem(&["completions", "bash"]).ok().stdout;
    assert_eq!(run.json()["shell"], "bash");
    assert_eq!(run.json()["script"].as_str().unwrap().trim_end(), plain.trim_end());
    let is_internal = plain.contains("__reap") || plain.contains("__guard");
    assert!(!is_internal, "internal commands are nobody's to complete");
}

#[test]
fn a_usage_error_has_the_requested_colour() {
    let home = Home::new();
    let force = |gem: Gem| gem.env("CLICOLOR_FORCE", "1").ends(2).stderr;
    assert!(force(home.gem(&["frobnicate"])).contains('\u{1b}'));
    for args in [
        ["--color", "never", "frobnicate"].as_slice(),
        &["frobnicate", "--color=never"],
    ] {
        assert!(!force(home.gem(args)).contains('\u{1b}'), "{args:?}");
    }
    assert!(!force(home.gem(&["frobnicate"]).env("GEM_SETUP_COLOR", "never")).contains('\u{1b}'));
    assert!(
        home.gem(&["--color", "always", "frobnicate"])
            .ends(2)
            .stderr
            .contains('\u{1b}')
    );
}

#[test]
fn with_json_standard_output_holds_json_alone() {
    let home = Home::serving();
    let bundle = home.beside("bundle");
    for (args, status) in [
        (["doctor"].as_slice(), 0),
        (&["status"], 0),
        (&["start"], 0),
        (&["smoke"], 0),
        (&["list"], 0),
        (&["settings", "show"], 0),
        (&["settings", "apply"], 0),
        (&["route", "List the files here.", "--classifier", "builtin"], 0),
        (
            &[
                "bundle",
                "create",
                bundle.to_str().unwrap(),
                "--mirror",
                &home.mirror.url(),
            ],
            0,
        ),
        (&["version"], 0),
        (&["restart"], 0),
        (&["stop"], 0),
        (&["smoke"], 7),
        (&["settings", "remove"], 0),
        (&["uninstall", "--purge"], 0),
    ] {
        let run = home.gem(&["--json"]).args(args).ends(status);
        assert!(run.json().is_object(), "{args:?}: {run:#?}");
    }
}

#[test]
fn an_error_is_printed_once() {
    let home = Home::new();
    let run = home.gem(&["install"]).ends(3);
    assert_eq!(run.stderr.matches("have not been accepted").count(), 1, "{run:#?}");
    assert!(!run.stderr.contains("skipped"), "{run:#?}");
    let run = home.gem(&["pull", MODEL, "--accept-terms"]).ends(7);
    assert_eq!(run.stderr.matches("is not installed").count(), 1, "{run:#?}");
    let installed = Home::installed();
    fs::remove_file(installed.layout().terms_file()).unwrap();
    let run = installed.gem(&["doctor", "--fix"]).ends(3);
    assert_eq!(run.stderr.matches("have not been accepted").count(), 1, "{run:#?}");
}

#[test]
fn a_json_failure_is_on_standard_error_too() {
    let home = Home::new();
    let run = home.gem(&["--json", "smoke"]).ends(7);
    assert_says(&run.stderr, &["error: ", "hint: "]);
    assert_eq!(run.json()["ok"], false);
}

#[test]
fn colour_is_used_on_request() {
    let home = Home::new();
    let green = "\u{1b}[32m";
    assert!(!home.gem(&["doctor"]).ends(10).stdout.contains('\u{1b}'));
    assert!(
        home.gem(&["--color", "always", "doctor"])
            .ends(10)
            .stdout
            .contains(green)
    );
    assert!(
        home.gem(&["doctor"])
            .env("GEM_SETUP_COLOR", "always")
            .ends(10)
            .stdout
            .contains(green)
    );
    let never = home
        .gem(&["--color", "never", "doctor"])
        .env("CLICOLOR_FORCE", "1")
        .ends(10);
    assert!(!never.stdout.contains('\u{1b}'));
}

#[test]
fn quiet_leaves_results_and_errors() {
    let home = Home::new();
    let run = home.gem(&["--quiet", "settings", "apply", "--scope", "workspace"]).ok();
    assert_eq!(run.stderr, "");
    let run = home.gem(&["--quiet", "install", "--no-start"]).ends(3);
    assert_says(&run.stderr, &["error: "]);
}

/// A reader that stops early, such as `head`, closes the pipe.
#[test]
fn a_closed_pipe_ends_quietly() {
    let home = Home::new();
    for args in [
        ["completions", "bash"].as_slice(),
        &["doctor"],
        &["--help"],
        &["settings", "show"],
    ] {
        let mut child = home.gem(args).spawn();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        assert!(status.code() != Some(101), "{args:?}: {status}");
        assert!(!said.to_lowercase().contains("broken pipe"), "{args:?}: {said}");
    }
}

/// A lost result must not look like a printed one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_output_fails() {
    let home = Home::new();
    for args in [
        ["version"].as_slice(),
        &["--json", "version"],
        &["completions", "bash"],
        &["settings", "show"],
        &["list", "--help"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let run = home.gem(args).into_command().stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{args:?}: {said}");
        if !args.contains(&"--help") {
            assert_says(&said, &["cannot write to standard output", "hint"]);
        }
    }
}

/// With `--json` there is always JSON, even if only an error.
#[test]
fn unusable_records_still_give_json() {
    let home = Home::installed();
    // The copy in use.
    let catalog = home.layout().catalog_file();
    fs::write(&catalog, "format = 9").unwrap();
    for broken in ["catalog", "state"] {
        if broken == "state" {
            fs::write(&catalog, "format = 1").unwrap();
            fs::write(home.layout().state_file(), "{ not json").unwrap();
        }
        let status = if broken == "state" { 1 } else { 2 };
        for command in [["pull", MODEL], ["install", "--no-start"]] {
            let run = home.gem(&["--json"]).args(command).env("GEM_SETUP_CATALOG", &catalog);
            let run = run.ends(status);
            let result = run.result();
            assert_eq!(
                (&result["ok"], &result["error"]["exit"]),
                (&json!(false), &json!(status)),
                "{run:#?}"
            );
        }
        let run = home.gem(&["doctor", "--json"]).ends(10);
        assert_eq!(run.faults()[0], "setup.records", "{run:#?}");
        assert_says(run.check("setup.records")["detail"].as_str().unwrap(), &[broken]);
        assert!(run.check("setup.records")["fix"].is_string(), "{run:#?}");
        let run = home.gem(&["doctor", "--json", "--fix"]).ends(10);
        assert_eq!(run.faults()[0], "setup.records", "{run:#?}");
        let run = home.gem(&["smoke", "--json"]).run();
        assert_eq!(run.json()["ok"], false, "{run:#?}");
    }
}

#[test]
fn a_failed_repair_reports_the_remaining_faults() {
    let home = Home::installed();
    fs::remove_file(home.layout().terms_file()).unwrap();
    let run = home.gem(&["doctor", "--json", "--fix"]).ends(3);
    assert_eq!(run.json()["ok"], false);
    assert!(run.faults().contains(&"model.terms".to_owned()), "{run:#?}");
}

#[test]
fn a_result_is_always_the_last_event() {
    let home = Home::new();
    fs::write(home.catalog(), "format = 9").unwrap();
    let run = home.install(&[]).ends(2);
    let events: Vec<Value> = run.events();
    assert_eq!(events.len(), 10, "nine steps and the result: {events:#?}");
    assert_eq!(run.result()["error"]["kind"], "usage");
}

#[test]
fn without_a_command_help_comes_before_the_error() {
    let home = Home::new();
    for args in [&[][..], &["settings"]] {
        let run = home.program(env!("CARGO_BIN_EXE_gem-setup")).args(args).ends(2);
        assert!(
            !run.stderr.contains("error: Sets up") && !run.stderr.starts_with("error"),
            "{run:#?}"
        );
        assert_says(&run.stderr, &["\nUsage: ", "\nerror: no command was given", "--help"]);
    }
}
