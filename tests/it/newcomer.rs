//! What a person meets who tries gem-setup with the README alone: advice that works, and a terminal without remains.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::harness::{Gem, Home, MODEL, Mount, Run, assert_same, assert_says, on_a_terminal, on_a_terminal_of, tree};

const LITERT_LM: &str = "#!/bin/sh\ncase $1 in --version) echo 'litert-lm, version 9.1' ;; esac\n";

/// A home on which the classifier inside gem-setup serves.
fn builtin(more: &[&str]) -> Home {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port])
        .args(more)
        .ok();
    home
}

/// `gem-setup` with `args`, and a stand-in for `litert-lm` on the PATH. `model` is the rest of the model's entry in the catalog.
fn with_litert_lm(home: &Home, model: &str, args: &[&str]) -> Gem {
    let program = home.beside("bin/litert-lm");
    home.write(&program, LITERT_LM);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let catalog = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\nterms = []\n{model}\n"
    );
    fs::write(home.catalog(), catalog).unwrap();
    let path = format!("{}:{}", home.beside("bin").display(), std::env::var("PATH").unwrap());
    home.gem(args).arg("--catalog").arg(home.catalog()).env("PATH", path)
}

const ADDRESS: &str = "huggingface = { repo = \"owner/name\", file = \"m.litertlm\" }";

#[test]
fn no_spinner_stays_below_an_error() {
    let home = Home::new();
    let install = [
        "install",
        "--runtime",
        "litert-lm",
        "--no-start",
        "--accept-terms",
        "--color",
        "never",
    ];
    // Nothing listens there.
    let gem = with_litert_lm(&home, ADDRESS, &install).env("HF_ENDPOINT", "http://127.0.0.1:1");
    let run = on_a_terminal(gem, "retry 1 of 5 at ", "");
    assert_eq!(run.status, 5, "{run:#?}");
    let (before, after) = run.stdout.split_once("error: cannot download").unwrap();
    assert!(before.contains("retry 1 of 5 at "), "{before:?}");
    assert!(!after.contains("retry 1 of 5 at "), "{after:?}");
}

#[test]
fn advice_names_each_option_once() {
    let home = Home::new();
    let file = home.beside("c.toml");
    home.write(&file, "");
    let file = file.to_str().unwrap();
    for args in [
        &["status"][..],
        &["stop"],
        &["doctor"],
        &["list"],
        &["start"],
        &["upgrade"],
    ] {
        let run = home.gem(&["--config", file]).args(args).run();
        let said = format!("{}{}", run.stdout, run.stderr);
        for line in said.lines().filter(|line| line.contains("`gem-setup ")) {
            assert_eq!(line.matches(" --config ").count(), 1, "{args:?}: {line}");
            assert_eq!(line.matches(" --home ").count(), 1, "{args:?}: {line}");
        }
    }
    // A server that is started again with the home's name did not get it from a person.
    let run = home.program(env!("CARGO_BIN_EXE_gem-setup")).args(["serve"]).ends(7);
    assert_says(&run.stderr, &["run `gem-setup install`"]);
}

#[test]
fn a_pull_for_another_runtime_names_what_installs_it() {
    let home = builtin(&["--no-start"]);
    let pull = ["pull", MODEL, "--runtime", "litert-lm"];
    let expected = "gem-setup install --runtime litert-lm";
    assert_says(&home.gem(&pull).arg("--accept-terms").ends(7).stderr, &[expected]);
    assert_says(&home.gem(&pull).ends(3).stderr, &[expected, "--accept-terms"]);
}

#[test]
fn an_unknown_model_changes_nothing_with_builtin() {
    let home = builtin(&["--no-start"]);
    let before = fs::read_to_string(home.layout().state_file()).unwrap();
    let run = home.gem(&["install", "--model", "foo", "--no-start"]).ends(2);
    assert_says(&run.stderr, &["the catalog has no model `foo`"]);
    assert_eq!(fs::read_to_string(home.layout().state_file()).unwrap(), before);
}

#[test]
fn what_differs_in_the_running_server_is_named() {
    let home = builtin(&[]);
    home.gem(&["restart", "--model", "foo"]).ok();
    let check = home.doctor().check("server.process");
    let detail = check["detail"].as_str().unwrap();
    let differing = format!("serves the model name `foo`, but the model name `{MODEL}` was installed");
    assert_says(detail, &[&differing]);
    assert!(!detail.contains("port"), "{detail}");
}

#[test]
fn a_missing_configuration_is_named_by_what_names_it() {
    let home = builtin(&["--no-start"]);
    let fix = |run: &Run| run.check("setup.records")["fix"].as_str().unwrap().to_owned();
    let by_variable = home.doctor_command().env("GEM_SETUP_CONFIG", "/nope").ends(10);
    assert_eq!(fix(&by_variable), "correct or unset the variable `GEM_SETUP_CONFIG`");
    let by_flag = home.gem(&["--config", "/nope", "doctor", "--json"]).ends(10);
    assert_eq!(fix(&by_flag), "correct the path given with `--config`");
    for (args, status) in [
        (&["stop"][..], 0),
        (&["status"], 7),
        (&["versions"], 0),
        (&["service", "status"], 0),
    ] {
        let by_flag = home.gem(&["--config", "/nope"]).args(args).ends(status);
        let by_variable = home.gem(args).env("GEM_SETUP_CONFIG", "/nope").ends(status);
        assert_says(&by_flag.stderr, &["warning", "/nope"]);
        let warned = by_variable.stderr.replace("; correct or unset it", "");
        assert_eq!((&by_flag.stdout, &by_flag.stderr), (&by_variable.stdout, &warned));
    }
    home.gem(&["--config", "/nope", "start"]).ends(2);
}

#[test]
fn a_model_that_cannot_come_is_foreseen() {
    let home = Home::new();
    for (model, more, words) in [
        (
            "",
            &[][..],
            &["has no address", "--model-file", "--runtime builtin"][..],
        ),
        (
            ADDRESS,
            &["--mirror", "https://mirror.example", "--mirror-only"],
            &["SHA-256", "only mirrors"],
        ),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let install = ["install", "--runtime", "litert-lm", "--no-start", "--accept-terms"];
            let run = with_litert_lm(&home, model, &install).args(more).args(dry).run();
            assert_ne!(run.status, 0, "{run:#?}");
            assert_says(&run.stderr, words);
            assert!(!run.stderr.contains("--runtime litert-lm"), "{run:#?}");
            home.assert_untouched();
        }
    }
}

#[test]
fn a_log_directory_without_room_is_foreseen() {
    for options in [c"size=64k", c"size=16m,nr_inodes=4"] {
        let home = Home::new();
        let directory = home.layout().tmp();
        let Some(mounted) = Mount::on(directory.clone(), options) else {
            return;
        };
        let install = |more: &[&str]| {
            let port = home.port.to_string();
            let install = ["install", "--runtime", "builtin", "--port", &port];
            home.gem(&install).args(more).run()
        };
        let before = tree(&home.path(), &[]);
        for more in [&["--dry-run"][..], &[]] {
            let run = install(more);
            assert_eq!(run.status, 5, "{run:#?}");
            assert_says(&run.stderr, &["failed  space", &home.shown(&directory)]);
        }
        assert_same(&before, &tree(&home.path(), &[]));
        drop(mounted);
        assert_eq!(install(&[]).status, 0);
        let _mounted = Mount::on(directory.clone(), options).unwrap();
        let said = home.gem(&["doctor"]).ends(10).stdout;
        assert_says(&said, &["FAIL platform.disk", "resolve `platform.disk` first"]);
        assert!(!said.contains("gem-setup restart"), "{said}");
    }
}

#[test]
fn another_encoding_is_named() {
    let home = Home::new();
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    for text in ["\u{feff}{\"ui\": {}}", "{\"ui\": {}}"] {
        home.write(&home.settings(), "");
        fs::write(home.settings(), utf16(text)).unwrap();
        let run = home.gem(&["settings", "show"]).ends(8);
        assert_says(&run.stderr, &["it is UTF-16, but must be UTF-8", "save `"]);
        let check = home.doctor().check("settings.file");
        assert_says(check["detail"].as_str().unwrap(), &["UTF-16"]);
    }
    let file = home.layout().config_file();
    home.write(&file, "");
    for (bytes, words) in [
        (
            b"# one\nmodel = \"\xff\"\n".to_vec(),
            "line 2 has a byte that is not UTF-8",
        ),
        (utf16("\u{feff}port = 1\n"), "it is UTF-16, but must be UTF-8"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_says(&home.gem(&["start"]).ends(2).stderr, &[words, "save `"]);
    }
}

#[test]
fn an_empty_or_cut_record_is_called_so() {
    let home = builtin(&["--no-start"]);
    for (text, words) in [
        ("", "it is empty"),
        ("{\"format\": 1,\n", "it ends too early, at line 2"),
    ] {
        fs::write(home.layout().state_file(), text).unwrap();
        assert_says(&home.gem(&["status"]).run().stderr, &[words]);
        let check = home.doctor().check("setup.records");
        assert_says(check["detail"].as_str().unwrap(), &[words]);
    }
}

#[test]
fn every_report_breaks_at_words() {
    let home = builtin(&[]);
    home.gem(&["restart", "--model", "foo"]).ok();
    for args in [
        &["status"][..],
        &["service", "status"],
        &["uninstall", "--dry-run"],
        &["smoke", "--print-command"],
        &["uninstall"],
        &["status"],
    ] {
        let args = [args, &["--color", "never"]].concat();
        let run = on_a_terminal_of(Some(30), home.gem(&args), "\n", |_| ());
        let pasted = |line: &&str| line.contains("curl ") || line.contains("Invoke-RestMethod");
        let prose = run.stdout.lines().filter(|line| !line.contains('`') && !pasted(line));
        for line in prose {
            let is_one_word = line.split_whitespace().count() < 2;
            assert!(
                is_one_word || line.trim_end().chars().count() <= 30,
                "{args:?}: {line:?}"
            );
        }
        let commands = run.stdout.lines().filter(pasted).count();
        assert_eq!(commands, if args[0] == "smoke" { 2 } else { 0 }, "{run:#?}");
    }
}

#[test]
fn caches_without_their_model_are_no_cut_pull() {
    let home = Home::installed();
    let directory = home.layout().models().join(MODEL);
    for entry in fs::read_dir(&directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::write(directory.join("model.litertlm.xnnpack_cache"), "weights").unwrap();
    let check = home.doctor().check("model.present");
    let detail = check["detail"].as_str().unwrap();
    assert!(!detail.contains("cut short"), "{detail}");
    assert_says(detail, &["its file is not in", directory.to_str().unwrap()]);
}

#[test]
fn a_runtime_that_cannot_be_run_is_said_once() {
    let home = Home::installed();
    fs::set_permissions(home.lit(), fs::Permissions::from_mode(0o644)).unwrap();
    let run = home.gem(&["start"]).ends(7);
    assert_eq!(run.stderr.matches("Permission denied").count(), 1, "{run:#?}");
}

#[test]
fn a_repair_without_the_terms_switches_nothing_on() {
    let home = Home::new();
    // Nothing listens there.
    let run = home
        .gem(&["doctor", "--fix", "--mirror", "http://127.0.0.1:1", "--mirror-only"])
        .run();
    assert_ne!(run.status, 0, "{run:#?}");
    assert!(!home.settings().exists(), "{run:#?}");
    home.gem(&["doctor", "--fix", "--mirror", "http://127.0.0.1:1", "--mirror-only"])
        .run();
    assert!(!home.settings().exists(), "a second one neither");
    let last = run.stdout.lines().last().unwrap();
    assert_says(last, &["gem-setup doctor --fix --accept-terms"]);
}

#[test]
fn a_bundle_that_fails_leaves_no_directory() {
    let home = Home::new();
    for name in ["new/deep/b.tar", "new/deep"] {
        let place = home.beside(name);
        let gem = home.gem(&[
            "bundle",
            "create",
            place.to_str().unwrap(),
            "--runtime",
            "lit",
            "--catalog",
        ]);
        // Nothing listens there.
        gem.arg(home.catalog())
            .args(["--mirror", "http://127.0.0.1:1", "--mirror-only"])
            .ends(5);
        assert!(!home.beside("new").exists(), "{name}");
    }
}

#[test]
fn in_one_stream_the_verdict_comes_before_what_to_do_next() {
    let home = Home::new();
    let port = home.port.to_string();
    let install = home.gem(&["install", "--runtime", "builtin", "--port", &port]);
    let said = install.under(&["sh", "-c", r#"exec "$0" "$@" 2>&1"#]).ok().stdout;
    let (before, _) = said.split_once("What to do next:").unwrap();
    assert_says(before, &["Local model routing is set up"]);
}

/// The README's example of a healthy machine.
#[test]
fn the_readme_shows_what_a_healthy_machine_prints() {
    let readme = include_str!("../../README.md");
    let example = readme.split_once("$ gem-setup doctor\n").unwrap().1;
    let (doctor, rest) = example.split_once("$ gem-setup status\n").unwrap();
    let status = rest.split_once("```").unwrap().0;
    let home = Home::new();
    home.write(
        &home.settings(),
        "{\"security\": {\"auth\": {\"selectedType\": \"gemini-api-key\"}}}",
    );
    let gemini = home.beside("bin/gemini");
    home.write(&gemini, "#!/bin/sh\necho 0.61.0\n");
    fs::set_permissions(&gemini, fs::Permissions::from_mode(0o755)).unwrap();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let path = format!("{}:{}", home.beside("bin").display(), std::env::var("PATH").unwrap());
    let said = home.gem(&["doctor"]).env("PATH", path).env("GEMINI_API_KEY", "k").ok();
    assert_eq!(said.stdout, doctor);
    let shape = |text: &str| {
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let mut shape: Vec<char> = text.chars().map(digits).collect();
        shape.dedup_by(|one, other| *one == '0' && *other == '0');
        shape.into_iter().collect::<String>()
    };
    assert_eq!(shape(&home.gem(&["status"]).ok().stdout), shape(status));
}
