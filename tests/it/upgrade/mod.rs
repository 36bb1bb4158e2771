//! `upgrade` and `rollback`: another release is tried beside the current one, made current, and used by the running server.

mod kills;
mod own;
mod rollback;
mod serving;
mod trial;

use std::fs;

use gem_setup::lock::Lock;
use gem_setup::runtime::ProgramStamp;
use gem_setup::supervise::ServerRecord;
use gem_setup_support::mirror::sha256_hex;
use serde_json::Value;

use crate::harness::{Gem, Home, Run, assert_says, executable};

/// The stand-in with `mark` in its bytes.
fn release(mark: &str) -> Vec<u8> {
    let mut bytes = executable();
    bytes.extend_from_slice(format!("\n# {mark}\n").as_bytes());
    bytes
}

fn state(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.layout().state_file()).unwrap()).unwrap()
}

/// `upgrade` to the release in the catalog of `version`.
fn upgrade(home: &Home, version: &str) -> Gem {
    let mirror = home.mirror.url();
    home.gem(&["upgrade", "--runtime", "--json", "--mirror", &mirror, "--catalog"])
        .arg(home.beside(&format!("catalog-{version}.toml")))
}

/// What the server's engine was started from.
fn running(home: &Home) -> Option<ProgramStamp> {
    let record = ServerRecord::read(&home.layout().server_file()).unwrap().unwrap();
    record.engine.unwrap().program
}

#[track_caller]
fn assert_answers(home: &Home) -> Run {
    let smoke = home.gem(&["smoke", "--json"]).ok();
    assert_eq!(smoke.json()["ok"], true, "{smoke:#?}");
    smoke
}

#[test]
fn an_upgrade_is_tried_and_then_served() {
    let home = Home::serving();
    let server = home.processes()[1].clone();
    home.release("v10", &release("ten"));
    let run = upgrade(&home, "v10").ok();
    assert_eq!(run.changed(), ["runtime"]);
    assert_eq!(state(&home)["version"], "v10");
    assert_eq!(home.processes()[1], server, "the server itself goes on");
    assert_ne!(home.lit_in_use(), home.lit());
    assert_eq!(running(&home), ProgramStamp::of(&home.lit_in_use()));
    assert_eq!(home.doctor().faults(), [""; 0]);
    assert_answers(&home);
    // Again: no change.
    assert_eq!(upgrade(&home, "v10").ok().changed(), [""; 0]);
    assert_eq!(home.gem(&["install", "--json"]).ok().changed(), [""; 0]);
    // And back to the release in the usual place.
    home.gem(&["rollback", "runtime", "--json"]).ok();
    assert_eq!(state(&home)["version"], "v9");
    assert_eq!(running(&home), ProgramStamp::of(&home.lit()));
    assert_eq!(home.doctor().faults(), [""; 0]);
    assert_answers(&home);
}

/// The stand-in with the misbehaviour `words`.
#[cfg(unix)]
fn script(words: &str) -> String {
    let text = String::from_utf8(executable()).unwrap();
    text.replacen("exec", &format!("STAND_IN_SERVE={words} exec"), 1)
}

#[test]
fn no_more_than_two_versions_are_kept_and_cleanup_removes_the_rest() {
    let home = Home::serving();
    for version in ["v10", "v11"] {
        home.release(version, &release(version));
        upgrade(&home, version).ok();
    }
    let versions = home.gem(&["versions", "--json"]).ok().json();
    let runtimes = versions["versions"].as_array().unwrap().iter();
    let runtimes: Vec<_> = runtimes.filter(|version| version["what"] == "runtime").collect();
    let told: Vec<_> = runtimes
        .iter()
        .map(|version| (&version["version"], &version["current"]))
        .collect();
    assert_eq!(told, [(&"v11".into(), &true.into()), (&"v10".into(), &false.into())]);
    assert!(
        runtimes.iter().all(|version| version["bytes"].as_u64() > Some(0)),
        "{runtimes:?}"
    );
    assert!(!home.lit().exists(), "the first one is gone");
    // The remains of a killed upgrade, an interrupted download, and a backup that no record names.
    let garbage = [
        home.layout().versions().join("lit-v12-00000000/lit.test"),
        home.layout().downloads().join("partial"),
        home.layout().backups().join("settings.json.20200101T000000.000000Z"),
    ];
    garbage.iter().for_each(|path| home.write(path, "x"));
    let planned = home.gem(&["cleanup", "--dry-run", "--json"]).ok().json();
    assert_eq!(planned["deleted"].as_array().unwrap().len(), 4, "{planned}");
    assert!(garbage.iter().all(|path| path.exists()));
    home.gem(&["cleanup"]).ok();
    assert!(garbage.iter().all(|path| !path.exists()));
    assert_eq!(
        home.gem(&["cleanup", "--json"]).ok().json()["deleted"],
        serde_json::json!([])
    );
    assert_answers(&home);
    home.gem(&["rollback", "runtime"]).ok();
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
}

#[test]
fn an_older_version_is_refused_unless_it_is_allowed() {
    let home = Home::installed();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    home.release("v10-alpha02", &release("ten, unfinished"));
    let before = state(&home);
    for more in [&[][..], &["--to", "v10-alpha02"]] {
        let run = upgrade(&home, "v10-alpha02").args(more).ends(6);
        assert_says(
            &run.stderr,
            &["it is older than v10", "--allow-older", "rollback runtime"],
        );
        assert_eq!(state(&home), before);
    }
    let check = upgrade(&home, "v10-alpha02").arg("--check").ok();
    assert_eq!(check.json()["upgrades"], serde_json::json!([]));
    assert_says(&check.stderr, &["it is older than v10"]);
    upgrade(&home, "v10-alpha02").arg("--allow-older").ok();
    assert_eq!(state(&home)["version"], "v10-alpha02");
    upgrade(&home, "v10").ok();
    assert_eq!(state(&home)["version"], "v10");
}

#[test]
fn a_catalog_without_the_runtime_changes_nothing() {
    let home = Home::installed();
    let before = state(&home);
    fs::write(home.beside("catalog-none.toml"), "format = 1\n").unwrap();
    let run = upgrade(&home, "none").ends(4);
    assert_says(
        &run.stderr,
        &["the catalog has no build of it", "the version in use stays"],
    );
    assert_eq!(state(&home), before);
}

#[test]
fn a_part_that_cannot_be_upgraded_is_named_first() {
    let home = Home::installed();
    home.release("v10", &release("ten"));
    let before = state(&home);
    let mirror = home.mirror.url();
    let all = [
        "upgrade",
        "--runtime",
        "--model",
        "--self",
        "--mirror",
        &mirror,
        "--catalog",
    ];
    let run = home.gem(&all).arg(home.beside("catalog-v10.toml")).ends(2);
    assert_says(&run.stderr, &["cannot upgrade the model", "pull"]);
    assert_eq!(state(&home), before);
}

#[test]
fn without_an_installation_there_is_nothing_to_upgrade() {
    let home = Home::new();
    home.release("v10", &release("ten"));
    assert_says(
        &upgrade(&home, "v10").ends(2).stderr,
        &["nothing is installed", "gem-setup install"],
    );
    home.gem(&["rollback", "runtime"]).ends(2);
    home.gem(&["versions"]).ok();
    home.gem(&["cleanup"]).ok();
}

#[test]
fn leftovers_of_a_failed_replacement_are_cleaned_up() {
    let home = Home::installed();
    let kept = home.layout().versions().join("self");
    let left = [
        kept.join("new/gem-setup"),
        kept.join("partial"),
        kept.join(format!(
            "gem-setup-{}{}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::EXE_SUFFIX
        )),
    ];
    left.iter().for_each(|path| home.write(path, "x"));
    home.gem(&["rollback", "self"]).ends(2);
    home.gem(&["cleanup"]).ok();
    assert!(left.iter().all(|path| !path.exists()));
}

#[test]
fn offers_name_the_catalog_and_an_older_release_is_said() {
    let home = Home::installed();
    home.release("v10", &release("ten"));
    let catalog = home.beside("catalog-v10.toml").display().to_string();
    let mirror = home.mirror.url();
    let check = home.gem(&["upgrade", "--check", "--catalog", &catalog]).ok();
    assert_says(
        &check.stdout,
        &[&format!("gem-setup upgrade --runtime --catalog {catalog}")],
    );
    let install = |catalog: &str| {
        home.gem(&["install", "--no-start", "--mirror", &mirror, "--catalog", catalog])
            .ok()
    };
    install(&catalog);
    let run = install(home.catalog().to_str().unwrap());
    assert_says(&run.stderr, &["v9 is older than v10", "gem-setup rollback runtime"]);
}

#[test]
fn a_cleanup_leaves_the_downloads_that_another_command_has_in_use() {
    let home = Home::installed();
    let downloads = home.layout().downloads();
    let files = |name: &str, ends: &[&str]| -> Vec<_> {
        ends.iter().map(|end| downloads.join(format!("{name}{end}"))).collect()
    };
    let used = [
        files(&sha256_hex(b"in use"), &[".part", ".json", ".json.new"]),
        files("bundle-0123456789abcdef", &["/catalog.toml"]),
    ]
    .concat();
    let old = files(&sha256_hex(b"old"), &[".part", ".json", ".json.new", ".lock"]);
    used.iter().chain(&old).for_each(|path| home.write(path, "x"));
    let locks = [
        files(&sha256_hex(b"in use"), &[".lock"]),
        files("bundle-0123456789abcdef", &[".lock"]),
    ]
    .concat();
    let held: Vec<_> = locks
        .iter()
        .map(|path| Lock::try_acquire(path).unwrap().unwrap())
        .collect();
    let planned = home.gem(&["cleanup", "--dry-run", "--json"]).ok().json();
    assert_eq!(planned["deleted"].as_array().unwrap().len(), old.len(), "{planned}");
    home.gem(&["cleanup"]).ok();
    assert!(used.iter().chain(&locks).all(|path| path.exists()));
    assert!(old.iter().all(|path| !path.exists()));
    drop(held);
    home.gem(&["cleanup"]).ok();
    assert_eq!(fs::read_dir(&downloads).unwrap().count(), 0);
}
