//! An installation works without its source.

use std::fs;
use std::path::{Path, PathBuf};

use gem_setup_support::mirror::sha256_hex;
use serde_json::{Value, json};
use url::Url;

use super::harness::{Home, MODEL, assert_says, executable};

/// A bundle of everything that `lit` needs, including its model.
fn bundle() -> (Home, PathBuf) {
    let source = Home::installed();
    let bundle = source.beside("medium").join("bundle");
    source
        .gem(&["bundle", "create", bundle.to_str().unwrap(), "--model"])
        .ok();
    (source, bundle)
}

/// The options that install from `bundle` only.
fn from(bundle: &Path) -> Vec<String> {
    let mirror = Url::from_directory_path(bundle).unwrap();
    let catalog = bundle.join("catalog.toml");
    let options = [
        "--catalog",
        catalog.to_str().unwrap(),
        "--mirror",
        mirror.as_str(),
        "--mirror-only",
    ];
    options.map(str::to_owned).to_vec()
}

/// A home that was installed from a bundle which was deleted.
fn orphan() -> (Home, PathBuf) {
    let (_source, bundle) = bundle();
    let home = Home::new();
    let port = home.port.to_string();
    let install = home.gem(&["install", "--accept-terms", "--port", &port]);
    install.args(from(&bundle)).ok();
    fs::remove_dir_all(bundle.parent().unwrap()).unwrap();
    (home, bundle)
}

fn state(home: &Home) -> Value {
    serde_json::from_str(&fs::read_to_string(home.layout().state_file()).unwrap()).unwrap()
}

#[test]
fn every_command_works_without_the_bundle() {
    let (home, bundle) = orphan();
    assert_eq!(state(&home)["catalog"], "catalog.toml");
    for command in [
        ["status"].as_slice(),
        &["stop"],
        &["list"],
        &["start"],
        &["restart"],
        &["serve", "--detach"],
        &["smoke"],
        &["doctor"],
        &["install"],
    ] {
        home.gem(command).ok();
    }
    assert!(!bundle.exists());
    let again = home.gem(&["install", "--json"]).ok();
    assert_eq!(again.changed(), [""; 0]);
    home.gem(&["uninstall"]).ok();
    assert!(!home.layout().catalog_file().exists());
}

#[test]
fn a_needed_download_names_the_missing_bundle() {
    let (home, bundle) = orphan();
    fs::remove_file(home.lit()).unwrap();
    let run = home.gem(&["install"]).ends(5);
    let mirror = Url::from_directory_path(&bundle).unwrap();
    assert_says(&run.stderr, &[mirror.as_str(), "hint: "]);
}

#[test]
fn a_relocated_home_keeps_its_catalog() {
    let home = Home::new();
    home.install(&["--no-start", "--runtime", "builtin"]).ok();
    assert_eq!(state(&home)["catalog"], "catalog.toml");
    fs::remove_file(home.catalog()).unwrap();
    let moved = home.beside("moved");
    fs::rename(home.path(), &moved).unwrap();
    let list = home.program(env!("CARGO_BIN_EXE_gem-setup"));
    let list = list.args(["--home".as_ref(), moved.as_os_str(), "list".as_ref()]).run();
    fs::rename(&moved, home.path()).unwrap();
    assert_eq!(list.status, 0, "{list:#?}");
}

#[test]
fn the_recorded_catalog_is_used_until_another_is_given() {
    let home = Home::installed();
    let kept = || fs::read_to_string(home.layout().catalog_file()).unwrap();
    let given = fs::read_to_string(home.catalog()).unwrap();
    assert_eq!(kept(), given);
    // A catalog that changes nothing on disk is recorded too.
    let commented = format!("# a comment\n{given}");
    fs::write(home.catalog(), &commented).unwrap();
    home.gem(&["install", "--no-start"]).ok();
    assert_eq!(kept(), given);
    assert_eq!(home.install(&["--no-start"]).ok().changed(), [""; 0]);
    assert_eq!(kept(), commented);
    // A catalog with another runtime is ignored unless it is given.
    let mut newer = executable();
    newer.extend_from_slice(b"\n");
    home.mirror.publish(Home::LIT, newer.clone());
    home.write_catalog(&sha256_hex(&newer), None);
    assert_eq!(home.gem(&["install", "--no-start", "--json"]).ok().changed(), [""; 0]);
    assert_eq!(home.install(&["--no-start"]).ok().changed(), ["runtime"]);
    assert_eq!(fs::read(home.lit_in_use()).unwrap(), newer);
}

#[test]
fn a_failed_installation_keeps_the_old_catalog() {
    let home = Home::installed();
    let before = fs::read_to_string(home.layout().catalog_file()).unwrap();
    home.write_catalog(&sha256_hex(b"published nowhere"), None);
    home.install(&["--no-start"]).ends(6);
    assert_eq!(fs::read_to_string(home.layout().catalog_file()).unwrap(), before);
    home.gem(&["list"]).ok();
}

#[test]
fn a_state_that_names_a_catalog_elsewhere_is_read() {
    let home = Home::installed();
    let mut old = state(&home);
    old["catalog"] = json!(home.catalog());
    fs::write(home.layout().state_file(), old.to_string()).unwrap();
    fs::remove_file(home.layout().catalog_file()).unwrap();
    home.gem(&["list"]).ok();
    home.gem(&["install", "--no-start"]).ok();
    assert_eq!(state(&home)["catalog"], "catalog.toml");
    fs::remove_file(home.catalog()).unwrap();
    home.gem(&["list"]).ok();
}

#[test]
fn commands_with_the_lock_copy_a_catalog_elsewhere() {
    for command in [
        ["start"].as_slice(),
        &["restart"],
        &["doctor", "--fix"],
        &["pull", MODEL],
    ] {
        let home = Home::serving();
        let mut old = state(&home);
        old["catalog"] = json!(home.catalog());
        fs::write(home.layout().state_file(), old.to_string()).unwrap();
        fs::remove_file(home.layout().catalog_file()).unwrap();
        let check = home.doctor().check("setup.records");
        assert_eq!(check["status"], "warn", "{check}");
        assert_says(
            check["detail"].as_str().unwrap(),
            &[home.catalog().to_str().unwrap(), "outside"],
        );
        home.gem(command).ok();
        assert_eq!(state(&home)["catalog"], "catalog.toml", "{command:?}");
        fs::remove_file(home.catalog()).unwrap();
        home.gem(&["list"]).ok();
        assert_eq!(home.doctor().status, 0);
    }
}

#[test]
fn a_relative_catalog_is_one_of_the_current_directory() {
    let home = Home::new();
    let port = home.port.to_string();
    fs::rename(home.catalog(), home.work().join("mine.toml")).unwrap();
    let install = ["install", "--accept-terms", "--no-start", "--catalog", "mine.toml"];
    let options = ["--port", &port, "--mirror", &home.mirror.url()];
    home.gem(&install).args(options).ok();
    home.gem(&["list"]).within(&home.path()).ok();
}

#[test]
fn a_home_that_was_moved_is_uninstalled_as_planned() {
    let home = Home::new();
    home.write(&home.settings(), "{\"ui\": {\"theme\": \"dark\"}}");
    home.gem(&["install", "--runtime", "builtin", "--no-start", "--no-smoke"])
        .ok();
    let moved = home.beside("moved");
    fs::rename(home.path(), &moved).unwrap();
    let gem = |more: &[&str]| {
        home.program(env!("CARGO_BIN_EXE_gem-setup"))
            .arg("--home")
            .arg(&moved)
            .args(more)
    };
    let before = home.path().display().to_string();
    let plan = gem(&["uninstall", "--dry-run"]).ok().stdout;
    let done = gem(&["uninstall"]).ok().stdout;
    assert!(!plan.contains(&before) && !done.contains(&before), "{plan}{done}");
    assert_says(
        &plan,
        &[&format!(
            "would restore `{}",
            moved.join(".gemini/settings.json").display()
        )],
    );
    assert_says(&done, &["settings.json`: restored"]);
    assert_eq!(
        fs::read_to_string(moved.join(".gemini/settings.json")).unwrap(),
        "{\"ui\": {\"theme\": \"dark\"}}"
    );
    // The backup stays, and not the record, which has more than a kilobyte.
    let kept = plan.lines().find(|line| line.starts_with("would keep ")).unwrap();
    assert!(kept.ends_with(" B)"), "{kept}");
    fs::rename(&moved, home.path()).unwrap();
}

#[test]
fn nothing_is_said_to_stay_that_goes() {
    // Settings that are changed again leave a copy.
    for (more, stays) in [("--no-settings", false), ("--no-smoke", true)] {
        let home = Home::new();
        home.gem(&["install", "--runtime", "builtin", "--no-start", more]).ok();
        let plan = home.gem(&["uninstall", "--dry-run"]).ok().stdout;
        assert_eq!(plan.contains("would keep"), stays, "{plan}");
        assert_eq!(home.gem(&["uninstall"]).ok().stdout.contains("Kept"), stays);
    }
}
