//! `settings` and `uninstall`: the changes in Gemini CLI's files, and their removal.

use std::fs;
use std::net::TcpStream;

use gem_platform::process::is_alive;
use serde_json::{Value, json};

use super::harness::{Home, MODEL, assert_says, executable, tree};

/// Settings written by a person, with everything that JSON with comments allows.
const OWN: &str = "\u{feff}{\r\n\t// mine\r\n\t\"theme\" : \"Größe\", /* dark */\r\n\t\"experimental\": {\"other\": [1,2,],},\r\n}\r\n";

#[test]
fn uninstall_restores_the_settings_byte_for_byte() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    home.install(&[]).ok();
    let written = fs::read_to_string(home.settings()).unwrap();
    assert_says(
        &written,
        &[
            "// mine",
            "Größe",
            "/* dark */",
            "\"other\": [1,2]",
            "gemmaModelRouter",
            "\r\n",
        ],
    );
    let processes = home.processes();

    let run = home.gem(&["uninstall", "--json"]).ok().json();
    assert_eq!(
        (&run["stopped"], &run["settings"][0]["outcome"]),
        (&json!(true), &json!("restored"))
    );
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), OWN);
    assert!(!processes.iter().any(is_alive));
    assert!(TcpStream::connect(("127.0.0.1", home.port)).is_err());
    assert!(!home.layout().lit_bin().exists());
    assert!(!home.layout().state_file().exists());
    assert!(
        home.layout().models().join(MODEL).exists(),
        "the model goes with --purge alone"
    );
    assert_eq!(home.doctor().status, 10);
}

#[test]
fn later_changes_to_the_settings_stay() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    home.install(&["--no-start"]).ok();
    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(home.settings(), text.replace("Größe", "light")).unwrap();
    home.gem(&["uninstall"]).ok();
    let left = fs::read_to_string(home.settings()).unwrap();
    assert!(!left.contains("gemmaModelRouter"), "{left}");
    assert_says(&left, &["// mine", "\"light\"", "/* dark */", "\"other\": [1,2]"]);
}

#[test]
fn purge_leaves_nothing_of_its_own() {
    let home = Home::serving();
    let own = home.layout().gemini().join("GEMINI.md");
    home.write(&own, "mine");
    let run = home.gem(&["uninstall", "--purge"]).ok();
    assert_says(&run.stdout, &["stopped the server", "deleted"]);
    let left: Vec<_> = tree(&home.path(), &[])
        .into_iter()
        .filter(|(_, file)| file.is_some())
        .map(|(path, _)| path)
        .collect();
    assert_eq!(left, [std::path::Path::new(".gemini/GEMINI.md")]);
    assert!(!home.layout().models().parent().unwrap().exists());
}

#[test]
fn uninstall_lists_what_stays() {
    let home = Home::installed();
    let planned = home.gem(&["uninstall", "--dry-run"]).ok().stdout;
    let model = format!("`~/.litert-lm/models/{MODEL}`");
    assert_says(
        &planned,
        &[
            "would delete `~/.gemini/bin/litert/lit.test",
            &format!("would keep {model}"),
        ],
    );
    assert!(home.lit().exists() && home.layout().state_file().exists());
    let run = home.gem(&["uninstall"]).ok();
    assert_says(
        &run.stdout,
        &["Kept:", &model, "`~/.gemini/gem-setup`", "uninstall --purge"],
    );
}

/// `gemini gemma setup` downloads its own copy of the runtime to the same place.
#[test]
fn uninstall_leaves_files_that_gem_setup_did_not_install() {
    let never = Home::new();
    never.write(&never.lit(), "of another program");
    let run = never.gem(&["uninstall", "--purge", "--yes"]).ok();
    assert!(!run.stdout.contains("deleted"), "{run:#?}");
    assert_eq!(fs::read_to_string(never.lit()).unwrap(), "of another program");

    let found = Home::new();
    fs::create_dir_all(found.layout().lit_bin()).unwrap();
    fs::write(found.lit(), executable()).unwrap();
    found.install(&["--no-start"]).ok();
    let other = found.layout().lit_bin().join("other-tool");
    found.write(&other, "mine");
    let plan = found.gem(&["uninstall", "--dry-run", "--json"]).ok().json();
    let mut foreign: Vec<&Value> = plan["foreign"].as_array().unwrap().iter().collect();
    foreign.sort_by_key(|path| path.to_string());
    assert_eq!(foreign, [&json!(found.lit()), &json!(other)], "{plan:#}");
    let run = found.gem(&["uninstall"]).ok();
    assert_says(&run.stdout, &["no record", "`~/.gemini/bin/litert/other-tool`"]);
    assert!(found.lit().exists() && other.exists());

    // A file downloaded over a wrong one belongs to gem-setup.
    let replaced = Home::new();
    replaced.write(&replaced.lit(), "something else");
    replaced.install(&["--no-start"]).ok();
    replaced.gem(&["uninstall"]).ok();
    assert!(!replaced.layout().lit_bin().exists());
}

#[test]
fn a_purge_can_be_planned() {
    let home = Home::installed();
    let plan = home.gem(&["uninstall", "--purge", "--dry-run", "--json"]).ok().json();
    let paths = plan["delete"].as_array().unwrap();
    let model = home.layout().models().join(MODEL);
    for path in [&model, &home.layout().terms_file(), &home.lit()] {
        assert!(paths.contains(&json!(path)), "{plan:#}");
    }
    assert_eq!(
        (&plan["keep"], &plan["settings"][0]["outcome"]),
        (&json!([]), &json!("deleted"))
    );
    assert!(model.exists() && home.lit().exists());
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(
        !paths
            .iter()
            .any(|path| std::path::Path::new(path.as_str().unwrap()).exists())
    );
}

#[cfg(unix)]
#[test]
fn a_purge_asks_at_a_terminal() {
    use super::harness::on_a_terminal;

    let home = Home::installed();
    let purge = || home.gem(&["uninstall", "--purge"]);
    let run = on_a_terminal(purge(), "Delete these permanently?", "n\n");
    assert_eq!(run.status, 1, "{run:#?}");
    assert_says(
        &run.stdout,
        &["would delete `~/.gemini/bin/litert/lit.test", "nothing was changed"],
    );
    assert!(home.lit().exists());
    assert_eq!(on_a_terminal(purge(), "Delete these permanently?", "y\n").status, 0);
    assert!(!home.lit().exists());
    let home = Home::installed();
    let run = home.gem(&["uninstall", "--purge", "--yes"]).ok();
    assert_says(&run.stdout, &["deleted"]);
}

#[test]
fn purge_after_uninstall_still_knows_the_model() {
    let home = Home::installed();
    home.gem(&["uninstall"]).ok();
    let model = home.layout().models().join(MODEL);
    assert!(model.exists());
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(!model.exists());
    assert!(!home.layout().own().exists());
}

#[test]
fn purge_after_a_second_installation_knows_the_model() {
    let home = Home::installed();
    home.gem(&["uninstall"]).ok();
    home.install(&["--no-start"]).ok();
    assert_eq!(home.invocations("pull"), 1);
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(!home.layout().models().join(MODEL).exists());
}

#[test]
fn purge_deletes_half_pulled_models_too() {
    let mut home = Home::installed();
    home.gem(&["pull", "gemma3-other", "--json", "--accept-terms"]).ok();
    home.gem(&["status", "--json"]).run();
    home.set("STAND_IN_PULL", "fail");
    home.gem(&["pull", "gemma3-half", "--json", "--accept-terms"]).ends(7);
    home.write(&home.layout().models().join("gemma3-half/part"), "half");
    let state: Value = serde_json::from_str(&fs::read_to_string(home.layout().state_file()).unwrap()).unwrap();
    assert_eq!(state["model"], MODEL, "a pull configures nothing");
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(!home.layout().models().exists());
}

#[test]
fn purge_leaves_the_models_of_others() {
    for options in [
        ["--no-start"].as_slice(),
        &["--no-start", "--force"],
        &["--no-start", "--runtime", "builtin"],
    ] {
        let home = Home::new();
        let models = home.layout().models();
        for name in [MODEL, "theirs"] {
            home.write(&models.join(name).join("model.litertlm"), "theirs");
        }
        home.install(options).ok();
        home.gem(&["uninstall", "--purge"]).ok();
        for name in [MODEL, "theirs"] {
            assert!(models.join(name).join("model.litertlm").exists(), "{options:?}: {name}");
        }
    }
}

#[test]
fn a_model_is_named_by_one_segment_of_a_path() {
    let home = Home::new();
    let precious = home.beside("precious");
    fs::create_dir(&precious).unwrap();
    let precious = precious.to_str().unwrap();
    for name in ["", ".", "..", "../precious", "a/b", "a\\b", precious] {
        let options = ["--runtime", "builtin", "--no-start", "--model", name];
        let run = home.install(&options).ends(2);
        assert_says(&run.stderr, &["--model", "is not a name for a local model"]);
        for args in [
            ["start", "--model", name].as_slice(),
            &["serve", "--model", name],
            &["settings", "apply", "--model", name],
            &["pull", name],
        ] {
            home.gem(args).ends(2);
        }
        if !name.is_empty() {
            home.gem(&["install"]).env("GEM_SETUP_MODEL", name).ends(2);
        }
    }
    home.assert_untouched();
}

#[test]
fn a_record_with_foreign_paths_deletes_nothing() {
    let home = Home::installed();
    let precious = home.beside("precious");
    fs::create_dir(&precious).unwrap();
    let path = home.layout().state_file();
    let text = fs::read_to_string(&path).unwrap();
    for place in [precious.to_str().unwrap(), ""] {
        let mut state: Value = serde_json::from_str(&text).unwrap();
        state["pulled"] = json!([place]);
        fs::write(&path, state.to_string()).unwrap();
        home.gem(&["uninstall", "--purge"]).ends(1);
        assert!(precious.exists() && home.layout().models().join(MODEL).exists());
    }
    fs::write(&path, text).unwrap();
    let theirs = home.layout().models().join("theirs/model.litertlm");
    home.write(&theirs, "theirs");
    home.write(
        &home.layout().own().join("kept-model"),
        &format!("{}\n..\n", precious.display()),
    );
    home.gem(&["uninstall", "--purge"]).ok();
    assert!(precious.exists() && theirs.exists());
}

#[test]
fn commands_with_nothing_to_undo_create_nothing() {
    let home = Home::new();
    for args in [
        ["stop"].as_slice(),
        &["settings", "remove"],
        &["status"],
        &["stop", "--json"],
    ] {
        home.gem(args).run();
        home.assert_untouched();
    }
}

#[test]
fn uninstall_of_nothing_does_nothing() {
    let home = Home::new();
    for args in [["uninstall"].as_slice(), &["uninstall", "--purge"]] {
        assert_eq!(home.gem(args).ok().stdout, "There was nothing to undo.\n");
        home.assert_untouched();
    }
}

#[test]
fn after_uninstall_install_works_again() {
    let home = Home::installed();
    home.gem(&["uninstall"]).ok();
    let run = home.install_unaccepted(&["--no-start"]).ok();
    assert_eq!(
        run.changed(),
        ["runtime", "settings"],
        "terms and model are still there"
    );
}

/// The record may have been moved away because it is damaged, as its error advises, or deleted with all of gem-setup's files.
#[test]
fn uninstall_without_a_record_removes_gem_setups_settings() {
    let home = Home::new();
    let install = || {
        let port = home.port.to_string();
        home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    };
    home.write(&home.settings(), OWN);
    install();
    fs::remove_file(home.layout().state_file()).unwrap();
    install();
    assert_says(
        &home.gem(&["uninstall", "--dry-run"]).ok().stdout,
        &["take the router out of"],
    );
    assert_says(&home.gem(&["uninstall"]).ok().stdout, &["settings.json`: edited"]);
    let left = fs::read_to_string(home.settings()).unwrap();
    assert_says(&left, &["// mine", "Größe", "\"other\""]);
    assert!(!left.contains("gemmaModelRouter"), "{left}");

    install();
    home.gem(&["stop"]).ok();
    fs::remove_dir_all(home.layout().own()).unwrap();
    home.gem(&["uninstall"]).ok();
    assert!(
        !fs::read_to_string(home.settings())
            .unwrap()
            .contains("gemmaModelRouter")
    );
}

#[test]
fn uninstall_follows_its_plan() {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    let plan = home.gem(&["uninstall", "--purge", "--dry-run", "--json"]).ok().json();
    let shown = home.gem(&["uninstall", "--purge", "--dry-run"]).ok().stdout;
    assert_says(
        &shown,
        &["would stop the server (pid ", "would delete `", "server.lock`"],
    );
    assert!(plan["stop"].is_u64(), "{plan}");
    let run = home.gem(&["uninstall", "--purge", "--yes", "--json"]).ok().json();
    assert_eq!((&plan["settings"], &run["stopped"]), (&run["settings"], &json!(true)));
    // The uninstallation itself makes the copy of the settings.
    let planned = |path: &&Value| **path != json!(home.layout().backups());
    for deleted in run["deleted"].as_array().unwrap().iter().filter(planned) {
        assert!(plan["delete"].as_array().unwrap().contains(deleted), "{deleted}");
    }
}

#[test]
fn remove_deletes_a_created_file_unless_it_has_other_content() {
    let home = Home::new();
    home.gem(&["settings", "apply"]).ok();
    assert_says(&home.gem(&["settings", "remove"]).ok().stdout, &["deleted"]);
    assert!(!home.settings().exists());

    home.gem(&["settings", "apply"]).ok();
    let text = fs::read_to_string(home.settings()).unwrap();
    fs::write(home.settings(), text.replacen('{', "{\"ui\": {},", 1)).unwrap();
    home.gem(&["settings", "remove"]).ok();
    assert!(home.settings().exists());

    // The creator of this file is unknown.
    fs::remove_file(home.layout().state_file()).unwrap();
    fs::write(home.settings(), "{}").unwrap();
    home.gem(&["settings", "remove"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), "{}");
}

#[test]
fn settings_are_removed_from_the_file_that_was_installed() {
    let home = Home::new();
    let port = home.port.to_string();
    let install = ["install", "--runtime", "builtin", "--no-start", "--scope", "workspace"];
    // The workspace is not trusted, which does not matter here.
    home.gem(&install).args(["--port", &port]).ends(8);
    let workspace = home.work().join(".gemini/settings.json");
    let user = fs::read_to_string(home.settings()).unwrap();
    assert!(fs::read_to_string(&workspace).unwrap().contains("enabled"));
    assert_says(
        &home.gem(&["settings", "remove"]).ok().stdout,
        &["work/.gemini/settings.json"],
    );
    assert!(!workspace.exists());
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), user);
    home.gem(&["settings", "apply"]).ok();
    assert!(fs::read_to_string(&workspace).unwrap().contains("enabled"));
}

#[test]
fn settings_that_cannot_be_written_leave_nothing_behind() {
    let home = Home::new();
    home.write(&home.settings(), "{ oops");
    home.gem(&["settings", "apply"]).ends(8);
    assert!(!home.layout().own().exists());
}

#[test]
fn a_directory_as_lock_file_is_a_settings_fault() {
    let home = Home::new();
    fs::create_dir_all(home.layout().lock_file()).unwrap();
    for args in [
        ["settings", "apply"].as_slice(),
        &["settings", "remove"],
        &["install", "--runtime", "builtin", "--no-start"],
    ] {
        let run = home.gem(args).ends(8);
        assert_says(&run.stderr, &[&home.shown(&home.layout().lock_file())]);
    }
}

#[test]
fn uninstall_keeps_settings_that_do_not_parse() {
    let home = Home::installed();
    fs::write(home.settings(), "{ oops").unwrap();
    let run = home.gem(&["uninstall"]).ends(8);
    assert_says(&run.stderr, &[&home.shown(&home.settings())]);
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), "{ oops");
}

#[test]
fn show_prints_each_value_and_its_source() {
    let home = Home::installed();
    let shown = home.gem(&["settings", "show"]).ok().stdout;
    assert_says(
        &shown,
        &[
            "enabled",
            "true",
            "classifier.host",
            &home.port.to_string(),
            MODEL,
            "(user, `~/.gemini/settings.json`)",
        ],
    );

    let workspace = home.work().join(".gemini/settings.json");
    home.write(
        &workspace,
        r#"{"experimental": {"gemmaModelRouter": {"enabled": false, "binaryPath": "/tmp/evil"}}}"#,
    );
    let untrusted = home.gem(&["settings", "show", "--json"]).ok().json();
    assert_eq!(untrusted["settings"]["enabled"]["value"], true);
    let trusted = home
        .gem(&["settings", "show", "--json"])
        .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
        .ok()
        .json();
    assert_eq!(trusted["settings"]["enabled"]["value"], false);
    assert_eq!(trusted["settings"]["enabled"]["origin"], "workspace");
    let binary = trusted["settings"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(key, _)| key.to_lowercase().contains("binary"));
    assert_eq!(
        binary.unwrap().1["value"],
        home.launcher().to_str().unwrap(),
        "a repository never chooses what is run"
    );
}

#[test]
fn show_on_an_empty_home_prints_defaults_and_writes_nothing() {
    let home = Home::new();
    assert_says(
        &home.gem(&["settings", "show"]).ok().stdout,
        &["enabled", "false", "http://localhost:9379", "default"],
    );
    home.assert_untouched();
}

#[test]
fn apply_and_remove_change_only_the_routers_keys() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    let applied = home.gem(&["settings", "apply", "--port", "4711", "--json"]).ok().json();
    assert_eq!(applied["changed"], true);
    let text = fs::read_to_string(home.settings()).unwrap();
    assert_says(&text, &["// mine", "http://localhost:4711", "\"enabled\": true"]);
    let again = home.gem(&["settings", "apply", "--port", "4711"]).ok();
    assert_says(&again.stdout, &["nothing changed"]);
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);

    home.gem(&["settings", "remove"]).ok();
    let text = fs::read_to_string(home.settings()).unwrap();
    assert!(!text.contains("gemmaModelRouter"), "{text}");
    assert_says(&text, &["// mine", "Größe", "/* dark */", "\"other\": [1,2]"]);
    home.gem(&["settings", "remove"]).ok();
}

#[test]
fn apply_in_the_workspace_never_names_an_executable_there() {
    let home = Home::new();
    home.gem(&["settings", "apply", "--scope", "workspace"]).ok();
    let text = fs::read_to_string(home.work().join(".gemini/settings.json")).unwrap();
    assert!(!text.contains("binaryPath"), "{text}");
    assert_eq!(home.router()["binaryPath"], home.launcher().to_str().unwrap());
    home.gem(&["settings", "remove", "--scope", "workspace"]).ok();
    let text = fs::read_to_string(home.work().join(".gemini/settings.json")).unwrap_or_default();
    assert!(!text.contains("gemmaModelRouter"), "{text}");
}

#[test]
fn settings_of_any_size_are_refused_in_little_memory() {
    let home = Home::new();
    let workspace = home.work().join(".gemini/settings.json");
    for file in [home.settings(), workspace] {
        home.write(&file, "{}");
        let long = fs::File::options().write(true).open(&file).unwrap();
        long.set_len(1 << 40).unwrap();
        let message = home.doctor().check("settings.file")["detail"].to_string();
        assert_says(&message, &["settings.json", "it has more than 4 MB"]);
        fs::remove_file(&file).unwrap();
    }
    home.write(&home.settings(), &" ".repeat(4_000_001));
    let run = home.gem(&["settings", "apply"]).ends(8);
    assert_says(&run.stderr, &["it has more than 4 MB", "make `", "smaller"]);
}

#[test]
fn settings_that_do_not_parse_are_left_alone_with_their_line() {
    let home = Home::new();
    let broken = "{\n  \"a\": 1,\n  oops\n}";
    home.write(&home.settings(), broken);
    for args in [["settings", "show"], ["settings", "apply"], ["settings", "remove"]] {
        let run = home.gem(&args).ends(8);
        assert_says(&run.stderr, &[&home.shown(&home.settings()), "line 3"]);
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), broken);
    }
}

#[test]
fn a_backup_of_the_settings_is_kept() {
    let home = Home::new();
    home.write(&home.settings(), OWN);
    home.install(&["--no-start"]).ok();
    let backups = tree(&home.layout().backups(), &[]);
    let kept = backups
        .into_values()
        .flatten()
        .any(|(bytes, _)| bytes == OWN.as_bytes());
    assert!(kept, "no copy of what was there before");
}

#[test]
fn plain_json_settings_stay_plain_json() {
    let home = Home::new();
    home.write(
        &home.settings(),
        "{\n    \"ui\": {\n        \"theme\": \"dark\"\n    }\n}",
    );
    home.install(&["--no-start"]).ok();
    let value: Value = serde_json::from_str(&fs::read_to_string(home.settings()).unwrap()).unwrap();
    assert_eq!(value["ui"]["theme"], "dark");
    assert_eq!(value["experimental"]["gemmaModelRouter"]["enabled"], true);
}

#[test]
fn a_model_that_gemini_cli_refuses_is_a_warning() {
    let home = Home::new();
    let run = home.gem(&["settings", "apply", "--model", "other"]).ok();
    assert_says(&run.stderr, &["warning", "`other`", MODEL]);
    let run = home.gem(&["settings", "apply", "--model", MODEL]).ok();
    assert!(!run.stderr.contains("warning"), "{run:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_deleted_directory_has_no_settings() {
    let home = Home::new();
    let in_deleted = |gem: super::harness::Gem| {
        let words = "mkdir gone && cd gone && rmdir ../gone && exec \"$0\" \"$@\"";
        gem.under(&["sh", "-c", words])
    };
    for args in [
        ["install", "--runtime", "builtin", "--no-start", "--scope", "workspace"].as_slice(),
        &["settings", "apply", "--scope", "workspace"],
        &["settings", "remove", "--scope", "workspace"],
    ] {
        let run = in_deleted(home.gem(args)).ends(2);
        assert_says(
            &run.stderr,
            &["the directory has been deleted", "hint: ", "--scope user"],
        );
    }
    home.assert_untouched();
    let install = ["install", "--runtime", "builtin", "--no-start", "--no-smoke"];
    in_deleted(home.gem(&install)).ok();
}
