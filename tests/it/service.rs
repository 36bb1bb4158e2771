//! `service` and its effect on a running server, with a script in place of systemd.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gem_platform::process::is_alive;

use super::harness::{Gem, Home, assert_says};

/// Records its arguments, and whether the home has a server at that moment.
const SYSTEMCTL: &str = r#"#!/bin/sh
if [ -e "$HOME/.gemini/tmp/litert-server.pid" ]; then state=served; else state=free; fi
echo "$* $state" >> "$HOME/../calls"
case "$*" in
    *show-environment*) [ ! -e "$HOME/../stuck" ] || exec sleep 600; [ ! -e "$HOME/../no-systemd" ] ;;
    *MainPID*) echo "MainPID=$(cat "$HOME/../main-pid" 2>/dev/null || echo 0)" ;;
esac
"#;

pub(crate) fn with_systemd(home: &Home, args: &[&str]) -> Gem {
    let bin = home.beside("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("systemctl");
    fs::write(&program, SYSTEMCTL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let config = home.path().join(".config");
    home.gem(args).env("PATH", path).env("XDG_CONFIG_HOME", config)
}

pub(crate) fn unit(home: &Home) -> PathBuf {
    home.path().join(".config/systemd/user/gem-setup.service")
}

fn calls(home: &Home) -> Vec<String> {
    let calls = fs::read_to_string(home.beside("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

#[test]
fn a_running_server_is_stopped_for_the_service() {
    let home = Home::serving();
    let processes = home.processes();
    with_systemd(&home, &["service", "install"]).ok();
    assert!(!processes.iter().any(is_alive));
    assert_eq!(calls(&home).last().unwrap(), "--user restart gem-setup.service free");
    let written = fs::read_to_string(unit(&home)).unwrap();
    assert_says(&written, &["\"serve\"", "\"--foreground\""]);
}

#[test]
fn a_service_that_ends_at_logout_is_reported() {
    let home = Home::installed();
    let run = with_systemd(&home, &["service", "install"])
        .env("USER", "nobody-here")
        .ok();
    assert_says(&run.stderr, &["log out", "loginctl enable-linger"]);
}

#[test]
fn the_service_starts_the_target_of_a_package_managers_link() {
    let home = Home::installed();
    let bin = home.beside("bin");
    fs::create_dir_all(&bin).unwrap();
    let link = bin.join("gem-setup");
    symlink(env!("CARGO_BIN_EXE_gem-setup"), &link).unwrap();
    let prepared = with_systemd(&home, &["service", "status"]).into_command();
    let mut called = home.program(&link).args(["service", "install"]);
    for (name, value) in prepared.get_envs() {
        called = called.env(name.to_str().unwrap(), value.unwrap_or_default());
    }
    called.ok();
    let written = fs::read_to_string(unit(&home)).unwrap();
    assert_says(&written, &[&format!("\"{}\"", link.display())]);
    assert!(!written.contains(env!("CARGO_BIN_EXE_gem-setup")), "{written}");
}

#[test]
fn uninstall_removes_the_service_of_this_home_and_of_no_other() {
    let home = Home::installed();
    with_systemd(&home, &["service", "install"]).ok();
    let own = fs::read_to_string(unit(&home)).unwrap();
    let path = home.path();
    let path = path.to_str().unwrap();
    for other in [
        own.replace(&format!("\"{path}\""), &format!("\"{path}b\"")),
        own.replace(&format!("\"{path}\""), &format!("\"{path}/in\"")),
        format!("[Service]\nExecStart=:\"{path}/bin/gem-setup\" \"serve\" \"--home\" \"/elsewhere\"\n"),
    ] {
        fs::write(unit(&home), &other).unwrap();
        with_systemd(&home, &["uninstall"]).ok();
        assert_eq!(fs::read_to_string(unit(&home)).unwrap(), other);
    }
    fs::write(unit(&home), own).unwrap();
    with_systemd(&home, &["uninstall"]).ok();
    assert!(!unit(&home).exists());
    assert!(
        calls(&home)
            .iter()
            .any(|call| call.contains("disable --now gem-setup.service"))
    );
}

#[test]
fn the_services_own_server_is_left_alone() {
    let home = Home::serving();
    let processes = home.processes();
    home.write(&unit(&home), "[Service]\nExecStart=\"/bin/gem-setup\" \"serve\"\n");
    fs::write(home.beside("main-pid"), processes[1].pid.to_string()).unwrap();
    with_systemd(&home, &["service", "install"]).ok();
    assert!(processes.iter().all(is_alive));
}

#[test]
fn without_a_service_manager_the_server_keeps_running() {
    let home = Home::serving();
    fs::write(home.beside("no-systemd"), "").unwrap();
    with_systemd(&home, &["service", "install"]).ends(1);
    assert!(home.processes().iter().all(is_alive));
    assert!(!unit(&home).exists());
}

#[test]
fn a_service_whose_file_cannot_be_written_leaves_the_server() {
    let home = Home::serving();
    let in_the_way = home.path().join(".config");
    fs::write(&in_the_way, "").unwrap();
    let run = with_systemd(&home, &["service", "install"]).run();
    assert_ne!(run.status, 0, "{run:#?}");
    assert_says(&run.stderr, &["cannot write", &home.shown(&in_the_way)]);
    assert!(home.processes().iter().all(is_alive));
}

#[test]
fn a_service_without_a_runtime_is_refused() {
    let home = Home::new();
    let run = with_systemd(&home, &["service", "install"]).ends(7);
    assert_says(&run.stderr, &["gem-setup install"]);
    assert!(!unit(&home).exists());
}

#[test]
fn a_service_with_a_taken_port_names_the_remedy() {
    let home = Home::serving();
    let run = home.gem(&["serve"]).env("NOTIFY_SOCKET", "/nowhere").ends(9);
    assert_says(&run.stderr, &["gem-setup service install"]);
    home.gem(&["serve"]).ok();
}

#[test]
fn a_service_manager_that_does_not_answer_is_named() {
    let home = Home::serving();
    with_systemd(&home, &["service", "install"]).ok();
    home.gem(&["start"]).ok();
    fs::write(home.beside("stuck"), "").unwrap();
    std::thread::scope(|threads| {
        for args in [
            ["service", "install"].as_slice(),
            &["service", "uninstall"],
            &["uninstall"],
        ] {
            let home = &home;
            threads.spawn(move || {
                let run = with_systemd(home, args).ends(1);
                let command = "`systemctl --user show-environment` has not answered";
                assert_says(&run.stderr, &[command, "hint: run that command by hand"]);
            });
        }
    });
    assert!(unit(&home).exists() && home.processes().iter().all(is_alive));
}

#[test]
fn a_service_that_gem_setup_did_not_write_stays() {
    let home = Home::installed();
    with_systemd(&home, &["service", "install"]).ok();
    let (unit, kept) = (unit(&home), home.beside("kept.service"));
    let make_pipe = || assert!(Command::new("mkfifo").arg(&unit).status().unwrap().success());
    let things: [&dyn Fn(); 5] = [
        &|| fs::rename(&unit, &kept).and_then(|()| symlink(&kept, &unit)).unwrap(),
        &|| symlink("/dev/null", &unit).unwrap(),
        &|| fs::write(&unit, "[Service]\nExecStart=/usr/bin/other\n").unwrap(),
        &|| fs::create_dir(&unit).unwrap(),
        &make_pipe,
    ];
    for put in things {
        put();
        let before = fs::symlink_metadata(&unit).unwrap();
        for command in ["install", "uninstall"] {
            let run = with_systemd(&home, &["service", command]).ends(9);
            let parts = [
                &*home.shown(&unit),
                "is not the service's file",
                "delete that file yourself",
            ];
            assert_says(&run.stderr, &parts);
        }
        let after = fs::symlink_metadata(&unit).unwrap();
        assert_eq!((after.file_type(), after.ino()), (before.file_type(), before.ino()));
        let away: fn(&Path) -> std::io::Result<()> = if before.is_dir() {
            |path| fs::remove_dir(path)
        } else {
            |path| fs::remove_file(path)
        };
        away(&unit).unwrap();
    }
    assert!(!calls(&home).iter().any(|call| call.contains("disable")));
    let run = with_systemd(&home, &["service", "uninstall"]).ok();
    assert_says(&run.stdout, &["no systemd user unit was installed"]);
}
