//! `upgrade --model` and `rollback model`: another file is tried beside the one in use, swapped with it, and served by the running server.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use gem_setup_support::fault::{Fault, FaultServer};
use gem_setup_support::mirror::sha256_hex;
use serde_json::Value;

use super::harness::{Gem, Home, MODEL, assert_says, program, wait_until};
use super::hub::{Hub, TOKEN};
use super::killed::classify;

/// A runtime that imports like the real one and serves as the stand-in. With a model that contains `broken` it misbehaves. It records each
/// model that it serves.
const LITERT_LM: &str = r#"#!/bin/sh
models=$HOME/.litert-lm/models
case $1 in
--version) echo 'litert-lm, version 9.1' ;;
import) mkdir -p "$models/$3" && ln -f "$2" "$models/$3/model.litertlm" ;;
serve)
    cat "$models/MODEL/model.litertlm" >>"$HOME/served"
    ! grep -q broken "$models"/*/model.litertlm || export LIT_STAND_IN_SERVE=garbage
    exec PROGRAM serve "--port=$7" ;;
esac
"#;

/// A home that serves the model `one`.
fn serving() -> Home {
    let home = with_runtime();
    let (catalog, port, mirror) = (publish(&home, "one"), home.port.to_string(), home.mirror.url());
    home.gem(&[
        "install",
        "--accept-terms",
        "--port",
        &port,
        "--mirror",
        &mirror,
        "--catalog",
    ])
    .arg(catalog)
    .ok();
    home
}

/// A home with the runtime on its PATH.
fn with_runtime() -> Home {
    let mut home = Home::new();
    let bin = home.beside("bin");
    fs::create_dir(&bin).unwrap();
    let script = LITERT_LM
        .replace("MODEL", MODEL)
        .replace("PROGRAM", &program().display().to_string());
    fs::write(bin.join("litert-lm"), script).unwrap();
    fs::set_permissions(bin.join("litert-lm"), fs::Permissions::from_mode(0o755)).unwrap();
    home.set("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    home
}

/// Publishes a model, and a catalog that names it.
fn publish(home: &Home, model: &str) -> PathBuf {
    let content = format!("{model}\n").into_bytes();
    let sha256 = sha256_hex(&content);
    home.mirror
        .publish(&format!("/owner/name/resolve/main/{model}.litertlm"), content);
    let text = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\n\
         huggingface = {{ repo = \"owner/name\", file = \"{model}.litertlm\", sha256 = \"{sha256}\" }}\n"
    );
    let catalog = home.beside(&format!("{model}.toml"));
    fs::write(&catalog, text).unwrap();
    catalog
}

fn upgrade(home: &Home, model: &str) -> Gem {
    home.gem(&["upgrade", "--model", "--json", "--catalog"])
        .arg(home.beside(&format!("{model}.toml")))
}

fn directory(home: &Home, suffix: &str) -> PathBuf {
    home.layout().models().join(format!("{MODEL}{suffix}"))
}

/// The content of the model's file, if the file exists.
fn model(home: &Home, suffix: &str) -> Option<String> {
    let text = fs::read_to_string(directory(home, suffix).join("model.litertlm")).ok()?;
    Some(text.trim().to_owned())
}

/// The model of the last started engine.
fn served(home: &Home) -> String {
    let text = fs::read_to_string(home.path().join("served")).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_serves(home: &Home, expected: &str) {
    assert_eq!(
        (model(home, ""), served(home)),
        (Some(expected.to_owned()), expected.to_owned())
    );
    assert_eq!(home.gem(&["smoke", "--json"]).ok().json()["ok"], true);
    assert_eq!(classify(home.port, &format!("rename {expected}")), "model");
    assert_eq!(home.doctor().faults(), [""; 0]);
}

#[test]
fn the_catalog_of_a_new_model_is_kept() {
    let home = serving();
    let catalog = publish(&home, "two");
    upgrade(&home, "two").ok();
    fs::remove_file(catalog).unwrap();
    let plain = home.gem(&["upgrade", "--model", "--json"]).ok();
    assert_eq!(plain.result()["changed"], serde_json::json!([]), "{plain:#?}");
    assert_eq!(model(&home, "").as_deref(), Some("two"));
    home.gem(&["upgrade", "--json"]).ok();
}

#[test]
fn a_new_model_is_tried_and_then_served() {
    let home = serving();
    assert_serves(&home, "one");
    let server = home.processes()[1].clone();
    let catalog = publish(&home, "two");
    let check = home
        .gem(&["upgrade", "--check", "--json", "--catalog"])
        .arg(&catalog)
        .ok();
    assert_eq!(check.json()["upgrades"][0]["what"], "model", "{check:#?}");

    assert_eq!(upgrade(&home, "two").ok().changed(), ["model"]);
    assert_serves(&home, "two");
    assert_eq!(model(&home, "-before").as_deref(), Some("one"));
    assert_eq!(model(&home, "-next"), None);
    assert_eq!(home.processes()[1], server, "the server itself goes on");
    assert_eq!(upgrade(&home, "two").ok().changed(), [""; 0]);
    let versions = home.gem(&["versions", "--json"]).ok().json();
    let models: Vec<&Value> = versions["versions"].as_array().unwrap().iter().collect();
    let models = models.into_iter().filter(|version| version["what"] == "model");
    let current: Vec<_> = models.map(|version| version["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [true, false]);
    assert_eq!(home.gem(&["install", "--json"]).ok().changed(), [""; 0]);

    // Back, and forward again.
    for expected in ["one", "two"] {
        home.gem(&["rollback", "model"]).ok();
        assert_serves(&home, expected);
    }
    home.gem(&["uninstall", "--purge", "--yes"]).ok();
    assert!(fs::read_dir(home.layout().models()).map_or(true, |mut left| left.next().is_none()));
}

#[test]
fn a_model_that_does_not_answer_is_never_switched_to() {
    let home = serving();
    publish(&home, "broken");
    let run = upgrade(&home, "broken").ends(7);
    assert_says(
        &run.stderr,
        &["does not work here", "nothing was switched", "the model in use stays"],
    );
    // A file with a wrong hash is not even tried.
    publish(&home, "lying");
    home.mirror
        .publish("/owner/name/resolve/main/lying.litertlm", b"another".to_vec());
    upgrade(&home, "lying").ends(6);
    assert_says(
        &home.gem(&["rollback", "model"]).ends(2).stderr,
        &["no previous model is kept at `"],
    );
    assert_serves(&home, "one");
    // `cleanup` removes the remains of the trial.
    home.gem(&["cleanup"]).ok();
    assert_eq!(model(&home, "-next"), None);
}

#[test]
fn rollback_to_a_broken_model_is_refused() {
    let home = serving();
    publish(&home, "two");
    upgrade(&home, "two").ok();
    let state = || fs::read_to_string(home.layout().state_file()).unwrap();
    let recorded = state();
    let file = directory(&home, "-before").join("model.litertlm");
    // A damaged file, and a missing one.
    fs::write(&file, "broken\n").unwrap();
    for damaged in [true, false] {
        let run = home.gem(&["rollback", "model"]).ends(7);
        assert_says(
            &run.stderr,
            &["the previous model", "nothing was switched", "the model in use stays"],
        );
        assert_eq!((state(), model(&home, "").as_deref()), (recorded.clone(), Some("two")));
        if damaged {
            fs::remove_file(&file).unwrap();
        }
    }
    assert_serves(&home, "two");
    fs::write(&file, "one\n").unwrap();
    home.gem(&["rollback", "model"]).ok();
    assert_serves(&home, "one");
}

/// A hub that states the hash of `content`.
fn hub(content: &[u8]) -> Hub {
    Hub::start(content, Some(sha256_hex(content)))
}

fn with_hub(home: &Home, words: &[&str], hub: &Hub) -> Gem {
    home.gem(words)
        .env("HF_ENDPOINT", hub.server.url())
        .env("HF_TOKEN", TOKEN)
}

/// A home with the model of `hub`, whose hash the catalog leaves out.
fn installed_from(hub: &Hub) -> Home {
    let home = with_runtime();
    let text = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\n\
         huggingface = {{ repo = \"owner/name\", file = \"m.litertlm\" }}\n"
    );
    fs::write(home.catalog(), text).unwrap();
    let port = home.port.to_string();
    let install = ["install", "--accept-terms", "--port", &port, "--catalog"];
    with_hub(&home, &install, hub).arg(home.catalog()).ok();
    home
}

#[test]
fn a_hub_that_cannot_be_asked_is_named() {
    let hub = hub(b"one\n");
    let home = installed_from(&hub);
    let check = || with_hub(&home, &["upgrade", "--check"], &hub);
    // An unreachable hub is reported, and hides no other offers.
    let away = check().env("HF_ENDPOINT", "http://127.0.0.1:9").ok();
    assert_says(
        &away.stderr,
        &["was not compared with the hub", "http://127.0.0.1:9/", "cannot connect"],
    );
    // A busy hub is asked once.
    let busy = FaultServer::start(Vec::new());
    busy.always(Fault::Refuse(503, Some("1".to_owned())));
    let away = check().env("HF_ENDPOINT", busy.url()).ok();
    assert_says(&away.stderr, &["was not compared with the hub", "503"]);
    assert_eq!(busy.asked().len(), 1);
}

#[test]
fn a_changed_file_at_the_hub_is_upgraded_on_request() {
    let (one, two) = (b"one\n".to_vec(), b"two\n".to_vec());
    let (first, second) = (hub(&one), hub(&two));
    let home = installed_from(&first);
    let gem = |words: &[&str], hub: &Hub| with_hub(&home, words, hub);
    let offers = |hub: &Hub| gem(&["upgrade", "--check", "--json"], hub).ok().json()["upgrades"].clone();
    assert_eq!(offers(&first), serde_json::json!([]));
    assert_serves(&home, "one");

    let found = offers(&second);
    let short = |content: &[u8]| sha256_hex(content)[..12].to_owned();
    let expected = serde_json::json!([{"what": "model", "name": MODEL, "from": short(&one), "to": short(&two)}]);
    assert_eq!(found, expected);
    let told = gem(&["upgrade", "--check"], &second).ok();
    assert_says(&told.stdout, &["gem-setup upgrade --model"]);
    assert_eq!(
        gem(&["upgrade", "--model", "--json"], &second).ok().changed(),
        ["model"]
    );
    assert_serves(&home, "two");
    assert_eq!(offers(&second), serde_json::json!([]));
    // The previous model has its own hash again.
    gem(&["rollback", "model"], &second).ok();
    assert_serves(&home, "one");
    assert_eq!(offers(&second), expected);
    let pull = gem(&["pull", MODEL, "--force"], &second).ok();
    assert_says(
        &pull.stderr,
        &["the hub now has another file", &sha256_hex(&one), &sha256_hex(&two)],
    );
}

#[test]
fn a_model_with_other_terms_waits_for_their_acceptance() {
    let home = serving();
    let catalog = publish(&home, "two");
    let text = fs::read_to_string(&catalog).unwrap();
    let terms = "terms = [\"https://example.com/other-terms\"]\nhuggingface";
    fs::write(&catalog, text.replace("huggingface", terms)).unwrap();
    let run = upgrade(&home, "two").ends(3);
    assert_says(&run.stderr, &["https://example.com/other-terms", "--accept-terms"]);
    assert_serves(&home, "one");
    upgrade(&home, "two").arg("--accept-terms").ok();
    assert_serves(&home, "two");
}

/// A step of an upgrade, and whether it was reached.
type Step = (&'static str, fn(&Home) -> bool);

const STEPS: [Step; 6] = [
    ("begun", |_| true),
    ("fetched", |home| {
        !home.mirror.asked().iter().all(|path| !path.contains("two"))
    }),
    ("imported", |home| model(home, "-next").is_some()),
    ("tried", |home| {
        fs::metadata(home.layout().versions().join("trial.log")).is_ok_and(|log| log.len() > 0)
    }),
    ("swapping", |home| {
        directory(home, "-leaving").exists() || directory(home, "-before").exists()
    }),
    ("recorded", |home| {
        let state = fs::read_to_string(home.layout().state_file()).unwrap_or_default();
        state.contains("model_swaps")
    }),
];

#[test]
fn a_model_upgrade_killed_at_any_step_leaves_a_working_model() {
    for (name, is_reached) in STEPS {
        let home = serving();
        publish(&home, "two");
        let mut child = upgrade(&home, "two").spawn();
        while child.try_wait().unwrap().is_none() && !is_reached(&home) {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        println!(
            "killed when {name}: {:?}, {:?}, {:?}",
            model(&home, ""),
            model(&home, "-next"),
            model(&home, "-before")
        );
        wait_until("the server answers", || {
            home.gem(&["smoke", "--json"]).run().json()["ok"] == true
        });
        upgrade(&home, "two").ok();
        // After a completed swap, the server switches at its next look.
        wait_until("the server serves it", || served(&home) == "two");
        assert_serves(&home, "two");
        home.gem(&["rollback", "model"]).ok();
        assert_serves(&home, "one");
    }
}

#[test]
fn upgrade_restores_a_deleted_model() {
    let home = serving();
    fs::remove_dir_all(directory(&home, "")).unwrap();
    upgrade(&home, "one").ok();
    assert_eq!(model(&home, "").as_deref(), Some("one"));
    assert_eq!(home.doctor().faults(), [""; 0]);
}
