//! The launcher that Gemini CLI starts: it runs gem-setup, and its loss does no harm.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gem_platform::process::identity;
use gem_setup_support::mirror::sha256_hex;
use serde_json::Value;

use super::harness::{Gem, Home, MODEL, assert_says, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gem-setup");
const CHECK: &str = "client.launcher";

/// A home with the runtime `builtin`, installed by `program`; no server runs.
fn installed_by(program: impl AsRef<OsStr>, home: &Home) -> Gem {
    let port = home.port.to_string();
    home.program(program)
        .args(["--home".as_ref(), home.path().as_os_str()])
        .args([
            "install",
            "--json",
            "--runtime",
            "builtin",
            "--no-start",
            "--port",
            &port,
        ])
}

/// Puts gem-setup's executable at `path`.
fn place(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::hard_link(PROGRAM, path)
        .or_else(|_| fs::copy(PROGRAM, path).map(drop))
        .unwrap();
}

/// `bin` before the directories in the tests' own PATH.
fn path_with(bin: &Path) -> String {
    format!("{}:/usr/bin:/bin", bin.display())
}

/// The launcher as Gemini CLI calls it, without gem-setup in any other place.
fn launched(home: &Home, args: &[&str]) -> Gem {
    home.program(home.launcher()).env("PATH", "/usr/bin:/bin").args(args)
}

#[test]
fn the_launcher_does_what_gem_setup_does() {
    let home = Home::installed();
    assert!(home.launcher().symlink_metadata().unwrap().is_file());
    assert_says(&launched(&home, &["list"]).ok().stdout, &[MODEL]);
    assert_says(&launched(&home, &["pull", MODEL]).ok().stderr, &["is installed"]);
    launched(&home, &["no-such-command"]).ends(2);
}

#[test]
fn the_launcher_uses_its_own_home() {
    let (home, other) = (Home::new(), Home::new());
    installed_by(PROGRAM, &home).ok();
    let elsewhere = other.path();
    let status = launched(&home, &["status", "--json"]);
    let status = status
        .env("GEM_SETUP_HOME", &elsewhere)
        .env("GEMINI_CLI_HOME", &elsewhere);
    assert_eq!(status.ends(7).json()["port"], home.port);
}

#[test]
fn a_moved_launcher_uses_its_new_home() {
    let home = Home::new();
    installed_by(PROGRAM, &home).ok();
    let launcher = home.launcher();
    let launcher = launcher.strip_prefix(home.path()).unwrap();
    for name in ["moved", "it's $moved", "-moved", "moved\n"] {
        let moved = home.beside(name);
        fs::rename(home.path(), &moved).unwrap();
        // The old home exists again, but empty.
        fs::create_dir(home.path()).unwrap();
        let link = home.beside("link");
        symlink(moved.join(launcher), &link).unwrap();
        let directory = moved.join(launcher.parent().unwrap());
        let status = |program: &Path| {
            let status = home.program(program).args(["status", "--json"]).within(&directory);
            status.env("PATH", "/usr/bin:/bin").run()
        };
        let runs = [&moved.join(launcher), &link, Path::new("./gem-setup")].map(status);
        let left = fs::read_dir(home.path()).unwrap().count();
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(home.path()).unwrap();
        fs::rename(&moved, home.path()).unwrap();
        for run in runs {
            assert_eq!(run.status, 7, "not running; {name:?}: {run:#?}");
            assert_eq!(run.json()["port"], home.port, "{name:?}");
        }
        assert_eq!(left, 0, "{name:?}");
    }
}

#[test]
fn a_server_started_by_the_launcher_is_recognised() {
    let home = Home::new();
    installed_by(PROGRAM, &home).ok();
    let port = format!("--port={}", home.port);
    let mut child = launched(&home, &["serve", &port, "--verbose"]).spawn();
    let read = || fs::read_to_string(home.layout().pid_file()).ok();
    wait_until("there is a pid file", || read().is_some());
    let file: Value = serde_json::from_str(&read().unwrap()).unwrap();
    assert_eq!(file["pid"], child.id());
    let command = identity(child.id()).unwrap().command.join(" ");
    // The path that Gemini CLI writes, and the path that gem-setup writes: both must work (docs/facts.md section 3).
    for binary in [home.launcher(), file["binaryPath"].as_str().unwrap().into()] {
        let name = binary.file_name().unwrap().to_str().unwrap();
        assert_says(&command, &[" serve ", &port, name]);
    }
    home.gem(&["stop"]).ok();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_lost_launcher_is_named_and_restored() {
    let home = Home::new();
    installed_by(PROGRAM, &home).ok();
    let launcher = home.launcher();
    let precious = home.beside("precious");
    fs::write(&precious, "precious").unwrap();
    let overwrite = |text: &str| fs::write(&launcher, text).unwrap();
    let mode = |mode: u32| fs::set_permissions(&launcher, fs::Permissions::from_mode(mode)).unwrap();
    let damages: [(&str, &dyn Fn()); 8] = [
        ("missing", &|| fs::remove_file(&launcher).unwrap()),
        ("overwritten", &|| overwrite("#!/bin/sh\nexit 0\n")),
        ("overwritten", &|| overwrite(&"lit".repeat(100_000))),
        ("overwritten", &|| overwrite("")),
        ("is not executable for you", &|| mode(0o644)),
        ("is not executable for you", &|| mode(0o000)),
        ("has been changed", &|| {
            let text = fs::read_to_string(&launcher).unwrap();
            overwrite(&text.replace("exec \"$program\"", "exec echo"));
        }),
        ("not a regular file", &|| {
            fs::remove_file(&launcher).unwrap();
            symlink(&precious, &launcher).unwrap();
        }),
    ];
    for (said, damage) in damages {
        damage();
        let check = home.doctor().check(CHECK);
        assert_eq!(check["status"], "fail", "{check}");
        assert_says(check["detail"].as_str().unwrap(), &[said, launcher.to_str().unwrap()]);
        assert_says(check["fix"].as_str().unwrap(), &["`gem-setup doctor --fix"]);
        let install = installed_by(PROGRAM, &home).ok();
        assert_eq!(install.changed(), ["settings"], "{said}");
        assert_eq!(home.doctor().check(CHECK)["status"], "ok");
        assert_says(&launched(&home, &["list"]).ok().stdout, &[MODEL]);
    }
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    assert_eq!(installed_by(PROGRAM, &home).ok().changed(), [""; 0]);
}

#[test]
fn an_obstacle_at_the_launchers_path_is_named() {
    let home = Home::new();
    fs::create_dir_all(home.launcher().join("something")).unwrap();
    let run = installed_by(PROGRAM, &home).ends(8);
    assert_says(&run.stderr, &[home.launcher().to_str().unwrap(), "hint: "]);
    assert!(!home.settings().exists(), "the settings name nothing that is not there");
}

#[test]
fn a_package_managers_link_is_followed() {
    let home = Home::new();
    let [old, new] = ["1.0", "1.1"].map(|version| home.beside("cellar").join(version).join("gem-setup"));
    [&old, &new].into_iter().for_each(|path| place(path));
    let bin = home.beside("bin");
    fs::create_dir(&bin).unwrap();
    let link = bin.join("gem-setup");
    symlink("../cellar/1.0/gem-setup", &link).unwrap();
    installed_by("gem-setup", &home).env("PATH", path_with(&bin)).ok();
    home.program("gem-setup").env("PATH", path_with(&bin)).arg("start").ok();
    let file: Value = serde_json::from_str(&fs::read_to_string(home.layout().pid_file()).unwrap()).unwrap();
    assert_eq!(Path::new(file["binaryPath"].as_str().unwrap()), link);
    let server = u32::try_from(file["pid"].as_u64().unwrap()).unwrap();
    assert_eq!(identity(server).unwrap().command[0], link.to_str().unwrap());

    fs::remove_file(&link).unwrap();
    symlink("../cellar/1.1/gem-setup", &link).unwrap();
    fs::remove_dir_all(old.parent().unwrap()).unwrap();
    assert_says(&launched(&home, &["list"]).ok().stdout, &[MODEL]);
    let doctor = home.program(&link).args(["doctor", "--json"]).run();
    assert_eq!(doctor.check(CHECK)["status"], "ok");
    home.program(&link).arg("restart").ok();
}

#[test]
fn every_path_can_be_written_into_the_launcher() {
    let names: [&[u8]; 6] = [
        b"with space",
        b"it's '' quoted'",
        b"$HOME `id` \\ \"$(id)\" !x *",
        b"two\nlines\n",
        b"-n",
        b"caf\xe9 \xff",
    ];
    for name in names {
        let home = Home::new();
        let program = home.beside("programs").join(OsStr::from_bytes(name)).join("gem-setup");
        if fs::create_dir_all(program.parent().unwrap()).is_err() {
            // Some file systems accept only UTF-8.
            continue;
        }
        place(&program);
        installed_by(&program, &home).ok();
        assert_says(&launched(&home, &["list"]).ok().stdout, &[MODEL]);
        let doctor = home.doctor().check(CHECK);
        assert_eq!(doctor["status"], "warn", "it starts another gem-setup: {doctor}");
        fs::remove_file(&program).unwrap();
        assert_says(home.doctor().check(CHECK)["detail"].as_str().unwrap(), &["is gone"]);
    }
}

#[test]
fn a_moved_gem_setup_is_found_on_the_path() {
    let home = Home::new();
    let [before, after] = ["before", "after"].map(|directory| home.beside(directory).join("gem-setup"));
    place(&before);
    installed_by(&before, &home).ok();
    fs::create_dir(after.parent().unwrap()).unwrap();
    fs::rename(&before, &after).unwrap();
    let moved = launched(&home, &["list"]).env("PATH", path_with(after.parent().unwrap()));
    assert_says(&moved.ok().stdout, &[MODEL]);
    let check = home.doctor().check(CHECK);
    assert_eq!(check["status"], "fail");
    assert_says(check["detail"].as_str().unwrap(), &[before.to_str().unwrap(), "gone"]);
}

#[test]
fn a_launcher_without_a_gem_setup_fails_with_a_message() {
    let home = Home::new();
    let program = home.beside("gone").join("gem-setup");
    place(&program);
    installed_by(&program, &home).ok();
    fs::remove_file(&program).unwrap();
    // The launcher's own directory on the PATH does not count as gem-setup's.
    let own = home.layout().own();
    for path in ["/usr/bin:/bin".to_owned(), path_with(&own)] {
        let run = launched(&home, &["list"]).env("PATH", path).ends(127);
        let program = program.to_str().unwrap();
        assert_says(&run.stderr, &["error: ", program, "hint: ", "`gem-setup install`"]);
    }
}

#[test]
fn settings_that_name_the_executable_converge() {
    let home = Home::new();
    let original = "{\n  // mine\n  \"ui\": {}\n}\n";
    home.write(&home.settings(), original);
    installed_by(PROGRAM, &home).ok();
    // As left by an older gem-setup.
    let launcher = home.launcher();
    let launcher = launcher.to_str().unwrap();
    let [settings, state] = [home.settings(), home.layout().state_file()];
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let new = read(&settings);
    let old = new.replace(launcher, PROGRAM);
    fs::write(&settings, &old).unwrap();
    let [new, old] = [new, old].map(|text| sha256_hex(text.as_bytes()));
    let record = read(&state).replace(launcher, PROGRAM).replace(&new, &old);
    fs::write(&state, record).unwrap();
    fs::remove_file(launcher).unwrap();

    assert_eq!(installed_by(PROGRAM, &home).ok().changed(), ["settings"]);
    assert_says(&read(&settings), &[launcher]);
    home.gem(&["uninstall"]).ok();
    assert_eq!(read(&settings), original);
    assert!(!Path::new(launcher).exists());
}

#[test]
fn settings_apply_also_writes_the_launcher() {
    let home = Home::new();
    home.gem(&["settings", "apply"]).ok();
    assert_eq!(home.router()["binaryPath"], home.launcher().to_str().unwrap());
    launched(&home, &["version"]).ok();
    home.gem(&["uninstall"]).ok();
    assert!(!home.launcher().exists());
}
