//! A recorded bundle, from which later commands restore lost files.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{Gem, Home, MODEL, assert_says, tree};

/// A home that was installed from the tar file beside it, with a running server.
fn home() -> (Home, PathBuf) {
    let maker = Home::installed();
    let home = Home::new();
    let bundle = home.beside("my bundle.tar");
    maker.gem(&["bundle", "create", "--model"]).arg(&bundle).ok();
    let port = home.port.to_string();
    offline(
        home.gem(&["install", "--accept-terms", "--port", &port, "--bundle"])
            .arg(&bundle),
    )
    .ok();
    (home, bundle)
}

/// Without a reachable network, and with a runtime that cannot pull.
fn offline(gem: Gem) -> Gem {
    gem.env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("STAND_IN_PULL", "fail")
}

fn model(home: &Home) -> PathBuf {
    home.layout().models().join(MODEL)
}

fn lose(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

#[track_caller]
fn assert_whole(home: &Home) {
    assert!(home.lit().exists() && model(home).join("model.litertlm").exists());
    let downloads = tree(&home.layout().downloads(), &[]);
    let is_left = |path: &PathBuf| path.to_string_lossy().contains("bundle");
    assert!(!downloads.keys().any(is_left), "{downloads:?}");
}

#[test]
fn lost_files_come_from_the_recorded_bundle() {
    let (home, _bundle) = home();
    for lost in [home.lit(), model(&home)] {
        for command in [["doctor", "--fix"].as_slice(), &["install"], &["install", "--force"]] {
            lose(&lost);
            assert_says(&home.doctor().stdout, &["gem-setup doctor --fix"]);
            offline(home.gem(command)).ok();
            assert_whole(&home);
        }
    }
    lose(&home.lit());
    lose(&model(&home));
    let plan = offline(home.gem(&["install", "--dry-run"])).ok();
    assert_says(&plan.stderr, &["would copy the model"]);
    offline(home.gem(&["upgrade"])).ok();
    offline(home.gem(&["pull", MODEL])).ok();
    assert_whole(&home);
    assert_eq!(home.invocations("pull"), 0);
}

#[test]
fn a_missing_or_changed_recorded_bundle_is_named() {
    let (home, bundle) = home();
    lose(&model(&home));
    fs::remove_file(&bundle).unwrap();
    let refused = |reason: &str| {
        for command in [["install"].as_slice(), &["doctor", "--fix"]] {
            let run = offline(home.gem(command)).ends(2);
            assert_says(&run.stderr, &["my bundle.tar", reason, "gem-setup install --bundle"]);
        }
    };
    refused("is gone");
    let fix = home.doctor().check("model.present")["fix"].to_string();
    assert_says(&fix, &["put that bundle back", "gem-setup install --bundle FILE"]);
    let other = Home::installed();
    other
        .gem(&["bundle", "create", "--runtime", "builtin"])
        .arg(&bundle)
        .ok();
    refused("has been replaced by another one");
    assert_eq!(home.invocations("pull"), 0, "nothing comes from elsewhere");
    // With internet, the model can be pulled.
    home.gem(&["pull", MODEL]).ok();
    assert_whole(&home);
}
