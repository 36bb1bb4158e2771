//! `state.json` and `terms.json`: no command undoes the record of another one, and each part on the machine is on record.

use std::fs;
use std::thread;
use std::time::Duration;

use gem_setup::lock::Lock;
use serde_json::{Value, json};

use super::harness::{Gem, Home, MODEL, Run, assert_says, finish};

/// A home without a server, whose runtime needs no download.
fn installed() -> Home {
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-start", "--no-smoke"]).ok();
    home
}

/// Runs `gem`, which finds the home's lock taken; meanwhile the lock's owner makes the change `change`.
fn meanwhile(home: &Home, mut gem: Gem, change: impl FnOnce()) -> Run {
    let lock = Lock::try_acquire(&home.layout().lock_file()).unwrap().unwrap();
    let waiting = gem.spawn();
    // A command that has not begun by then reads the change, and must keep it too.
    thread::sleep(Duration::from_millis(700));
    change();
    drop(lock);
    finish(waiting)
}

fn state(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap()
}

/// Changes one choice in the record, as another `install` does.
fn choose(home: &Home, name: &str, value: &Value) {
    let mut record = state(home);
    record[name] = value.clone();
    fs::write(home.layout().state_file(), record.to_string()).unwrap();
}

#[test]
fn settings_commands_keep_the_record_of_another_installation() {
    for command in ["apply", "remove"] {
        let home = installed();
        let run = meanwhile(&home, home.gem(&["settings", command]), || {
            choose(&home, "port", &json!(24_001))
        });
        assert_eq!(run.status, 0, "{run:#?}");
        // `apply` writes only a change.
        home.gem(&["settings", "remove"]).ok();
        assert_eq!(state(&home)["port"], 24_001, "{command}");
    }
}

#[test]
fn settings_are_applied_for_the_installation_that_counts() {
    let home = installed();
    let run = meanwhile(&home, home.gem(&["settings", "apply"]), || {
        choose(&home, "port", &json!(24_003))
    });
    assert_eq!(run.status, 0, "{run:#?}");
    assert_says(&home.router()["classifier"]["host"].to_string(), &["24003"]);
}

#[test]
fn settings_stay_out_of_a_workspace_that_was_recorded_meanwhile() {
    let home = Home::new();
    let install = ["install", "--runtime", "builtin", "--no-start", "--scope", "workspace"];
    home.gem(&install).env("GEMINI_CLI_TRUST_WORKSPACE", "true").ok();
    choose(&home, "scope", &json!("user"));
    let other = home.beside("other");
    fs::create_dir(&other).unwrap();
    let run = meanwhile(&home, home.gem(&["settings", "apply"]).within(&other), || {
        choose(&home, "scope", &json!("workspace"));
    });
    assert_eq!(run.status, 2, "{run:#?}");
    assert!(!other.join(".gemini").exists());
}

#[test]
fn settings_applied_during_an_uninstallation_do_not_bring_its_record_back() {
    let home = installed();
    let run = meanwhile(&home, home.gem(&["settings", "apply"]), || {
        fs::remove_file(home.layout().state_file()).unwrap();
    });
    assert_eq!(run.status, 0, "{run:#?}");
    assert_eq!(state(&home)["port"], 9379);
}

#[test]
fn no_choice_of_another_installation_is_undone() {
    let choices = [
        ("mirrors", json!(["https://mirror.example/"])),
        ("mirror_only", json!(true)),
        ("bundle", json!("/media/bundle")),
        ("direct", json!(true)),
    ];
    let commands = [
        &["install", "--force", "--no-start", "--no-smoke"][..],
        &["doctor", "--fix"],
    ];
    for ((name, value), command) in choices.iter().zip(commands.into_iter().cycle()) {
        let home = installed();
        let run = meanwhile(&home, home.gem(command), || choose(&home, name, value));
        assert_eq!(state(&home)[*name], *value, "{command:?}");
        assert_eq!(run.status, 9, "{run:#?}");
        let output = run.stdout + &run.stderr;
        assert_says(&output, &["another gem-setup changed", "run the command again"]);
    }
}

#[test]
fn a_recorded_catalog_is_not_put_back_over_another_one() {
    let home = installed();
    let text = "# another\n".to_owned() + &fs::read_to_string(home.layout().catalog_file()).unwrap();
    let install = home.gem(&["install", "--force", "--no-start", "--no-smoke"]);
    let run = meanwhile(&home, install, || {
        fs::write(home.layout().catalog_file(), &text).unwrap()
    });
    assert_eq!(fs::read_to_string(home.layout().catalog_file()).unwrap(), text);
    assert_eq!(run.status, 9, "{run:#?}");
}

#[test]
fn an_installation_with_the_same_choices_is_no_conflict() {
    let home = installed();
    let mirror = "https://mirror.example/";
    let install = home.gem(&["install", "--force", "--no-start", "--no-smoke", "--mirror", mirror]);
    let run = meanwhile(&home, install, || choose(&home, "mirrors", &json!([mirror])));
    assert_eq!(run.status, 0, "{run:#?}");
}

#[test]
fn terms_accepted_for_a_bundle_do_not_undo_those_of_an_installation() {
    const OTHER: &str =
        r#"{"accepted": [{"model": "other", "urls": [], "time": "2026-01-01T00:00:00Z", "how": "flag"}]}"#;
    let home = installed();
    let place = home.beside("bundle");
    let create = home.gem(&["bundle", "create", "--model", "--runtime", "lit", "--accept-terms"]);
    let create = create.args(["--mirror", &home.mirror.url(), "--catalog"]);
    let create = create.arg(home.catalog()).arg(&place);
    meanwhile(&home, create, || home.write(&home.layout().terms_file(), OTHER));
    let terms = fs::read_to_string(home.layout().terms_file()).unwrap();
    assert_says(&terms, &["\"other\"", MODEL]);
}

#[test]
fn an_incomplete_copy_of_a_model_is_deleted() {
    let home = Home::installed();
    let copy = home.layout().models().join(format!(".{MODEL}.new"));
    for command in ["cleanup", "uninstall"] {
        home.write(&copy.join("model.litertlm"), "half");
        home.gem(&[command]).ok();
        assert!(!copy.exists(), "{command}");
    }
}

#[cfg(unix)]
mod imported {
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use gem_setup_support::mirror::sha256_hex;

    use super::{Gem, Home, MODEL, Value, assert_says, fs, state};

    /// A runtime that imports, but does not serve.
    const LITERT_LM: &str = r#"#!/bin/sh
models=$HOME/.litert-lm/models
case $1 in
--version) echo 'litert-lm, version VERSION' ;;
list) ls "$models" 2>/dev/null ;;
import) mkdir -p "$models/$3" && cp "$2" "$models/$3/model.litertlm" ;;
esac
exit 0
"#;

    /// Puts `litert-lm` of this version in the directory `bin` of `home`.
    fn place(home: &Home, bin: &str, version: &str) -> PathBuf {
        let program = home.beside(bin).join("litert-lm");
        home.write(&program, &LITERT_LM.replace("VERSION", version));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn catalog(home: &Home, version: &str) -> PathBuf {
        let text = format!(
            "format = 1\n[runtime.litert-lm]\nversion = \"{version}\"\n[[model]]\nname = \"{MODEL}\"\n\
             terms = [\"https://ai.google.dev/gemma/terms\"]\n"
        );
        let file = home.beside(&format!("catalog-{version}.toml"));
        fs::write(&file, text).unwrap();
        file
    }

    /// A model file with this content.
    fn model(home: &Home, content: &str) -> PathBuf {
        let file = home.beside(content);
        fs::write(&file, format!("LITERTLM{content}")).unwrap();
        file
    }

    fn install(home: &Home, version: &str, model: &Path) -> Gem {
        let words = [
            "install",
            "--json",
            "--accept-terms",
            "--runtime",
            "litert-lm",
            "--no-start",
        ];
        let install = home.gem(&words).args(["--no-settings", "--catalog"]);
        install.arg(catalog(home, version)).arg("--model-file").arg(model)
    }

    fn with_runtime() -> Home {
        let mut home = Home::new();
        place(&home, "bin", "9.1");
        home.set("PATH", format!("{}:/usr/bin:/bin", home.beside("bin").display()));
        home
    }

    /// The recorded hash of the model's file.
    fn recorded(home: &Home) -> Value {
        let state = state(home);
        let mut files = state["hashed"].as_array().unwrap().iter();
        let found = files.find(|file| file["path"].as_str().unwrap().contains(MODEL));
        found.map_or(Value::Null, |file| file["sha256"].clone())
    }

    fn sha256(file: &Path) -> String {
        sha256_hex(&fs::read(file).unwrap())
    }

    #[test]
    fn pull_records_the_file_that_it_imports() {
        let home = with_runtime();
        let (one, two) = (model(&home, "one"), model(&home, "two"));
        install(&home, "9.1", &one).ok();
        assert_eq!(recorded(&home), sha256(&one));
        home.gem(&["pull", MODEL, "--force", "--model-file"]).arg(&two).ok();
        assert_eq!(recorded(&home), sha256(&two));
        assert_eq!(home.doctor().check("model.present")["status"], "ok");
        home.gem(&["doctor", "--fix"]).run();
        assert_eq!(sha256(&home.layout().model_file(MODEL)), sha256(&two));
    }

    #[test]
    fn an_upgrade_to_the_same_version_records_the_program_that_it_finds() {
        let mut home = with_runtime();
        install(&home, "9.1", &model(&home, "one")).ok();
        fs::remove_dir_all(home.beside("bin")).unwrap();
        let program = place(&home, "other", "9.1");
        home.set("PATH", format!("{}:/usr/bin:/bin", home.beside("other").display()));
        home.gem(&["upgrade", "--catalog"]).arg(catalog(&home, "9.1")).ok();
        assert_eq!(state(&home)["litert_lm"], program.to_str().unwrap());
        assert_eq!(home.doctor().check("runtime.binary")["status"], "ok");
    }

    #[test]
    fn a_model_stays_on_record_if_the_release_that_needed_it_is_refused() {
        let home = with_runtime();
        install(&home, "9.1", &model(&home, "one")).ok();
        let before = state(&home)["litert_lm"].clone();
        fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
        place(&home, "bin", "9.2");
        let two = model(&home, "two");
        let run = install(&home, "9.2", &two).ends(7);
        assert_says(&run.stderr, &["nothing was switched"]);
        assert_eq!(recorded(&home), sha256(&two));
        assert_eq!(
            (&state(&home)["version"], &state(&home)["litert_lm"]),
            (&"9.1".into(), &before)
        );
    }
}
