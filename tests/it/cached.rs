//! A gem-setup that was run from a cache, as by `npx` and `uvx`: its installation outlives the cache.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::harness::{Gem, Home, MODEL, assert_says};
use super::service::{unit, with_systemd};

const NPX: &str = ".npm/_npx/0f/node_modules/@gem-setup/linux-x64/bin/gem-setup";
const UVX: &str = ".cache/uv/archive-v0/x/bin/gem-setup";
const CHECK: &str = "client.launcher";

/// gem-setup's executable in a cache of `home`, with `mark` appended.
fn cached(home: &Home, path: &str, mark: &str) -> PathBuf {
    let program = home.path().join(path);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &program).unwrap();
    let mut file = fs::File::options().append(true).open(&program).unwrap();
    file.write_all(mark.as_bytes()).unwrap();
    program
}

fn install(home: &Home, program: &Path) -> Gem {
    let port = home.port.to_string();
    let install = home.program(program).args(["install", "--json", "--no-smoke"]);
    install.args(["--runtime", "builtin", "--port", &port])
}

/// The launcher as Gemini CLI calls it, without another gem-setup on the PATH.
fn launched(home: &Home, args: &[&str]) -> Gem {
    home.program(home.launcher()).env("PATH", "/usr/bin:/bin").args(args)
}

/// The executable of the running server.
fn server(home: &Home) -> PathBuf {
    let file: Value = serde_json::from_slice(&fs::read(home.layout().pid_file()).unwrap()).unwrap();
    PathBuf::from(file["binaryPath"].as_str().unwrap())
}

#[test]
fn an_installation_outlives_the_cache_it_came_from() {
    for path in [NPX, UVX] {
        let home = Home::new();
        let program = cached(&home, path, "");
        assert_eq!(install(&home, &program).ok().changed(), ["settings", "server"]);
        assert_eq!(
            install(&home, &program).ok().changed(),
            [""; 0],
            "the copy is the program"
        );
        let copy = home.layout().program();
        assert_eq!(server(&home), copy);
        fs::remove_file(&program).unwrap();
        let doctor = launched(&home, &["doctor", "--json"]).run();
        assert_eq!(doctor.check(CHECK)["status"], "ok", "{doctor:#?}");
        launched(&home, &["restart"]).ok();
        assert_eq!(server(&home), copy);
        assert_says(&launched(&home, &["list"]).ok().stdout, &[MODEL]);
        launched(&home, &["uninstall"]).ok();
        assert!(!home.layout().program_directory().exists());
    }
}

#[test]
fn a_newer_program_from_a_cache_replaces_the_copy() {
    let home = Home::new();
    install(&home, &cached(&home, NPX, "")).ok();
    let newer = cached(&home, UVX, "newer");
    let check = home.program(&newer).args(["doctor", "--json"]).run().check(CHECK);
    assert_eq!(check["status"], "warn", "{check}");
    install(&home, &newer).ok();
    assert_eq!(fs::read(home.layout().program()).unwrap(), fs::read(&newer).unwrap());
    let check = home.program(&newer).args(["doctor", "--json"]).run().check(CHECK);
    assert_eq!(check["status"], "ok", "{check}");
    home.gem(&["stop"]).ok();
}

#[test]
fn nothing_is_copied_before_something_is_installed() {
    let home = Home::new();
    let program = cached(&home, NPX, "");
    install(&home, &program).arg("--dry-run").ok();
    home.program(&program).args(["route", "hello"]).ok();
    home.program(&program).arg("status").ends(7);
    assert!(!home.layout().own().exists());
}

#[test]
fn every_command_that_records_or_starts_the_program_copies_it() {
    let home = Home::new();
    let program = cached(&home, NPX, "");
    let copy = home.layout().program();
    home.program(&program).args(["settings", "apply"]).ok();
    assert_says(&fs::read_to_string(home.launcher()).unwrap(), &[copy.to_str().unwrap()]);

    let home = Home::new();
    let program = cached(&home, NPX, "");
    let port = home.port.to_string();
    home.program(&program)
        .args(["start", "--runtime", "builtin", "--port", &port])
        .ok();
    assert_eq!(server(&home), home.layout().program());
    home.gem(&["stop"]).ok();
}

#[test]
fn a_service_starts_the_copy() {
    let home = Home::new();
    let program = cached(&home, UVX, "");
    let mut install = home
        .program(&program)
        .args(["service", "install", "--runtime", "builtin"]);
    for (name, value) in with_systemd(&home, &[]).into_command().get_envs() {
        install = install.env(name.to_str().unwrap(), value.unwrap_or_default());
    }
    install.ok();
    let copy = home.layout().program();
    assert_says(&fs::read_to_string(unit(&home)).unwrap(), &[copy.to_str().unwrap()]);
    assert!(copy.is_file());
}
