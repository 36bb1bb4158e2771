//! Options and values without effect are reported, and the command continues.

use super::harness::{Home, MODEL, assert_says};

const MIRROR: &str = "https://mirror.example";

/// Each command names its options without effect in a warning.
fn assert_reported(cases: &[(&[&str], i32, &[&str])]) {
    let home = Home::new();
    for (args, status, says) in cases {
        let run = home.gem(args).ends(*status);
        assert_says(&run.stderr, says);
        assert!(run.stderr.contains("warning"), "{args:?}: {run:#?}");
    }
}

#[test]
fn an_option_of_doctor_without_its_required_one_is_reported() {
    assert_reported(&[
        (
            &["doctor", "--mirror", MIRROR, "--mirror-only"],
            10,
            &[
                "`--mirror` has no effect without `--fix` or `--network`",
                "`--mirror-only` has",
            ],
        ),
        (
            &["doctor", "--accept-terms"],
            10,
            &["`--accept-terms` has no effect without `--fix`"],
        ),
        (
            &["doctor", "--update-check"],
            10,
            &["`--update-check` has no effect without `--catalog-url`"],
        ),
    ]);
}

#[test]
fn an_option_without_its_required_option_is_reported() {
    assert_reported(&[
        (
            &["status", "--catalog-url", MIRROR],
            7,
            &["`--catalog-url` has no effect without `--update-check`"],
        ),
        (
            &["status", "--update-check"],
            7,
            &["`--update-check` has no effect without `--catalog-url`"],
        ),
        (&["uninstall", "--yes"], 0, &["`--yes` has no effect without `--purge`"]),
        (
            &["status", "--scope", "workspace"],
            7,
            &["`--scope workspace` has no effect", "one installation"],
        ),
        (
            &["upgrade", "--check", "--allow-older"],
            0,
            &["`--allow-older` has no effect with `--check`"],
        ),
        (
            &["upgrade", "--check", "--accept-terms"],
            0,
            &["`--accept-terms` has no effect with `--check`"],
        ),
    ]);
}

#[test]
fn an_option_with_its_required_option_is_not_reported() {
    let home = Home::new();
    for args in [
        ["status", "--catalog-url", MIRROR, "--update-check"].as_slice(),
        &["uninstall", "--purge", "--yes"],
    ] {
        let run = home.gem(args).run();
        assert!(!run.stderr.contains("has no effect"), "{run:#?}");
    }
}

#[test]
fn an_option_of_a_part_that_is_left_out_or_missing_is_reported() {
    let home = Home::new();
    let port = home.port.to_string();
    let install = ["install", "--runtime", "builtin", "--port", &port, "--no-start"];
    let run = home.gem(&install).args(["--no-settings", "--scope", "workspace"]).ok();
    assert_says(&run.stderr, &["`--scope` has no effect now because of `--no-settings`"]);
    let run = home.gem(&["doctor", "--verify"]).run();
    assert_says(
        &run.stderr,
        &["`--verify` has no effect: the runtime `builtin` has no files"],
    );
    let run = home.gem(&["list", "--show-all"]).ok();
    assert_says(&run.stderr, &["`--show-all` has no effect: the runtime `builtin`"]);
    let run = home.gem(&["start", "--on-fallback", "ask", "--model", "other"]).ok();
    assert_says(
        &run.stderr,
        &[
            "`--on-fallback ask` asks nobody: the server has no terminal",
            "the runtime `builtin` has no model and only answers to that name",
        ],
    );
    let run = home.gem(&["start"]).ends(9);
    assert_says(&run.stderr, &["with `builtin` under the name `other`"]);
    home.gem(&["stop"]).ok();
}

#[test]
fn mirrors_of_a_runtime_without_files_are_said() {
    let home = Home::new();
    let builtin = ["install", "--runtime", "builtin", "--dry-run"];
    let mirrors = ["--mirror", "https://mirror.example", "--mirror-only"];
    let run = home.gem(&builtin).args(mirrors).ok();
    let why = "has no effect: the runtime `builtin` needs no download";
    assert_says(
        &run.stderr,
        &[&format!("`--mirror` {why}"), &format!("`--mirror-only` {why}")],
    );
    let run = home.gem(&builtin).env("GEM_SETUP_MIRROR", mirrors[1]).ok();
    assert!(!run.stderr.contains("no effect"), "{run:#?}");
}

#[test]
fn a_global_option_is_not_reported() {
    let home = Home::new();
    home.write(&home.layout().config_file(), "mirror = \"https://mirror.example\"\n");
    for args in [["doctor"].as_slice(), &["status"]] {
        let run = home.gem(args).env("GEM_SETUP_ACCEPT_TERMS", "1").run();
        assert_eq!(run.stderr, "", "{args:?}");
    }
}

#[test]
fn an_unused_wrong_value_is_reported() {
    let home = Home::new();
    for (variable, value, says) in [
        ("GEM_SETUP_PORT", "abc", "not a number"),
        ("GEM_SETUP_RUNTIME", "lite", "lite"),
        ("GEM_SETUP_THRESHOLD", "2", "2"),
        ("GEM_SETUP_UPSTREAM", "https://u:secret@", "empty host"),
        ("GEM_SETUP_ALLOW_REMOTE", "maybe", "maybe"),
        ("GEM_SETUP_TLS_CERT", "/nope", "/nope"),
    ] {
        for args in [
            ["status"].as_slice(),
            &["versions"],
            &["settings", "apply"],
            &["settings", "show"],
        ] {
            let run = home.gem(args).env(variable, value).run();
            if args == ["settings", "apply"] && variable == "GEM_SETUP_PORT" {
                assert_eq!(run.status, 2, "{run:#?}");
                continue;
            }
            assert_says(&run.stderr, &["warning", variable, says, "ignored here"]);
            assert!(!run.stderr.contains("secret"), "{run:#?}");
            assert_eq!(run.stderr.matches(variable).count(), 1, "{run:#?}");
        }
    }
    for (variable, value) in [
        ("GEM_SETUP_MODEL", "gemma"),
        ("GEM_SETUP_MODEL", "true"),
        ("GEM_SETUP_PORT", "1"),
    ] {
        let run = home.gem(&["status"]).env(variable, value).run();
        assert_eq!(run.stderr, "", "{variable}={value}");
    }
    home.write(&home.layout().config_file(), "port = \"abc\"\n");
    assert_says(&home.gem(&["status"]).run().stderr, &["`port` in ", "ignored here"]);
}

#[test]
fn the_version_of_a_part_that_is_not_upgraded_is_refused() {
    let home = Home::new();
    let run = home.gem(&["upgrade", "--model", "--to", "1"]).ends(2);
    assert_says(&run.stderr, &["`--to`", "add `--runtime`"]);
    let run = home.gem(&["upgrade", "--to", "1"]).ends(2);
    assert_says(&run.stderr, &["failed  runtime", "to `1`"]);
}

#[test]
fn an_invalid_model_file_is_refused_before_any_change() {
    let home = Home::new();
    let file = home.beside("model.litertlm");
    for (content, says) in [
        ("", "it is empty"),
        ("<!DOCTYPE html>", "begins with `<!DOCTYP`"),
        ("version https://git-lfs.github.com/spec/v1\n", "begins with `version `"),
        ("LITE", "begins with `LITE`"),
    ] {
        std::fs::write(&file, content).unwrap();
        let path = file.to_str().unwrap();
        for args in [
            ["install", "--dry-run", "--accept-terms"].as_slice(),
            &["install", "--accept-terms"],
            &["bundle", "create", "new"],
        ] {
            let run = home
                .gem(args)
                .args(["--runtime", "litert-lm", "--model-file", path])
                .ends(2);
            assert_says(&run.stderr, &[path, says, "--model-file FILE"]);
        }
    }
    home.assert_untouched();
    assert!(!home.work().join("new").exists());
}

#[test]
fn a_bundle_for_builtin_refuses_a_model() {
    let home = Home::new();
    let run = home
        .gem(&[
            "bundle",
            "create",
            "new",
            "--runtime",
            "builtin",
            "--model",
            "--accept-terms",
        ])
        .ends(2);
    assert_says(&run.stderr, &["`builtin` has no model", "leave the model out"]);
    assert!(!home.work().join("new").exists());
}

#[test]
fn commands_that_need_a_model_refuse_builtin() {
    let home = Home::new();
    let install = ["install", "--runtime", "builtin", "--no-start"];
    home.gem(&install).args(["--port", &home.port.to_string()]).ok();
    for (args, hint) in [
        (["pull", MODEL].as_slice(), "gem-setup install --runtime litert-lm"),
        (
            &["pull", MODEL, "--runtime", "builtin"],
            "gem-setup install --runtime lit ",
        ),
        (&["upgrade", "--model"], "upgrade --self"),
        (&["rollback", "model"], "gem-setup versions"),
        (
            &["route", "--classifier", "model", "hi"],
            "leave out `--classifier model`",
        ),
    ] {
        let run = home.gem(args).ends(2);
        assert_says(&run.stderr, &["the runtime `builtin` has no model", hint]);
    }
    let run = home.gem(&["route", "hi"]).env("GEM_SETUP_CLASSIFIER", "model").ok();
    assert_eq!(run.stderr, "");
    assert_says(&home.gem(&["list"]).ok().stdout, &[MODEL, "only a name"]);
    assert_eq!(
        home.gem(&["list", "--json"]).ok().json()["models"],
        serde_json::json!([])
    );
}

#[test]
fn a_runtime_that_downloads_by_itself_takes_no_mirror() {
    let home = Home::installed();
    let mirror = "https://mirror.example";
    let pull = || home.gem(&["pull", MODEL, "--runtime", "lit"]);
    let run = pull().args(["--mirror", mirror, "--mirror-only"]).ok();
    for option in ["--mirror", "--mirror-only"] {
        let says = format!("warning: `{option}` has no effect: the runtime `lit`");
        assert_says(&run.stderr, &[&says]);
    }
    let run = pull().env("GEM_SETUP_MIRROR", mirror).ok();
    assert!(
        !run.stderr.contains("has no effect"),
        "a variable is for all commands: {run:#?}"
    );
}

#[test]
fn a_wrong_value_of_a_variable_says_what_is_allowed() {
    let home = Home::new();
    for (variable, value, command, allowed) in [
        ("GEM_SETUP_VERBOSE", "x", "install", "0 to 255"),
        ("GEM_SETUP_VERBOSE", "300", "serve", "between 0 and 255"),
        ("GEM_SETUP_QUIET", "maybe", "install", "true, false"),
        ("GEM_SETUP_PORT", "x", "install", "1 to 65535"),
        ("GEM_SETUP_CLIENT_RATE", "x", "serve", "1 to 4294967295"),
        ("GEM_SETUP_CLIENT_CONCURRENCY", "0", "serve", "between 1 and 4294967295"),
        ("GEM_SETUP_DRAIN_DELAY", "x", "serve", "0 to 86400"),
        ("GEM_SETUP_FAST_PATH", "x", "serve", "between 0.5 and 1"),
        ("GEM_SETUP_LISTEN", "x", "serve", "an IP address"),
    ] {
        let run = home.gem(&[command]).env(variable, value).ends(2);
        let value = format!("'{value}'");
        assert_says(&run.stderr, &[variable, &value, allowed, "correct or unset it"]);
        assert!(!run.stderr.contains("invalid digit"), "{run:#?}");
    }
    let run = home.gem(&["status"]).env("GEM_SETUP_VERBOSE", "x").ends(7);
    assert_says(&run.stderr, &["0 to 255", "ignored here; correct or unset it"]);
    home.assert_untouched();
}
