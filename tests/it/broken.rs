//! Machines without something that every program expects: devices, `/proc`, rights, limits, streams.
#![cfg(target_os = "linux")]

use std::fs;

use super::harness::{Gem, Home, Run, assert_says};

/// A home with a complete installation; these faults need no model.
fn builtin() -> Home {
    let home = Home::new();
    let port = home.port.to_string();
    home.gem(&["install", "--runtime", "builtin", "--port", &port]).ok();
    home
}

/// `gem`, run after the commands of `script`.
fn after(gem: Gem, script: &str) -> Gem {
    gem.under(&["sh", "-c", &format!(r#"{script} && exec "$0" "$@""#)])
}

/// The same with private mounts; `None` if this user may not mount.
fn mounted(gem: Gem, script: &str) -> Option<Run> {
    let script = format!(r#"({script}) || exit 77; exec "$0" "$@""#);
    let run = gem.under(&["unshare", "--mount", "sh", "-c", &script]).run();
    if run.status == 77 || run.stderr.starts_with("unshare:") {
        eprintln!("not tested: this user may not mount");
        return None;
    }
    Some(run)
}

#[test]
fn a_null_device_that_cannot_serve_is_named() {
    let home = builtin();
    home.gem(&["stop"]).ok();
    let devices = home.beside("devices");
    fs::create_dir_all(&devices).unwrap();
    let (devices, file) = (devices.display().to_string(), home.beside("file"));
    home.write(&file, "");
    let file = file.display().to_string();
    for script in [
        format!("mount --bind {devices} /dev"),
        format!(
            "mount -t tmpfs none {devices} && mknod {devices}/null c 1 3 && mount -o remount,nodev {devices} && mount --bind {devices} /dev"
        ),
        format!("mount --bind {file} /dev/null"),
    ] {
        let Some(doctor) = mounted(home.gem(&["doctor"]), &script) else {
            return;
        };
        assert_eq!(doctor.status, 10, "{script}: {doctor:#?}");
        assert_says(&doctor.stdout, &["FAIL server.files: ", "`/dev/null`", "mknod"]);
        for command in [&["install", "--dry-run"][..], &["install"], &["start"]] {
            let run = mounted(home.gem(command), &script).unwrap();
            assert_eq!(run.status, 7, "{script}: {run:#?}");
            assert_says(&run.stderr, &["cannot begin: ", "`/dev/null`", "mknod"]);
        }
        for command in ["status", "list", "logs", "settings", "stop"] {
            let words = if command == "settings" {
                vec!["settings", "show"]
            } else {
                vec![command]
            };
            let run = mounted(home.gem(&words), &script).unwrap();
            assert!(!run.stderr.contains("error"), "{script}: {run:#?}");
        }
    }
}

#[test]
fn without_proc_no_command_says_that_a_server_is_elsewhere() {
    let home = builtin();
    for command in ["status", "stop", "uninstall", "doctor", "list"] {
        let Some(run) = mounted(home.gem(&[command]), "mount -t tmpfs none /proc") else {
            return;
        };
        assert_ne!(run.status, 0, "{run:#?}");
        let said = run.stdout + &run.stderr;
        assert_says(&said, &["/proc", "mounted", "run `mount -t proc proc /proc`"]);
    }
    home.gem(&["status"]).ok();
}

#[test]
fn a_umask_without_owner_rights_does_no_harm() {
    let home = Home::new();
    let port = home.port.to_string();
    let install = home.gem(&["install", "--runtime", "builtin", "--port", &port]);
    after(install, "umask 0777").ok();
    home.gem(&["status"]).ok();
}

#[test]
fn a_file_size_limit_is_a_reported_error() {
    let home = builtin();
    for command in [["status"].as_slice(), &["stop"]] {
        after(home.gem(command), "ulimit -f 0").ok();
    }
    let apply = after(home.gem(&["settings", "remove"]), "ulimit -f 0").ends(8);
    assert_says(
        &apply.stderr,
        &["no file may have more than 0 B here", "`ulimit -f unlimited`"],
    );
    home.gem(&["start"]).ok();
}

#[test]
fn a_low_limit_of_open_files_is_named() {
    let home = builtin();
    for limit in [6, 8, 20] {
        let stop = after(home.gem(&["stop"]), &format!("ulimit -n {limit}")).ends(1);
        assert_says(&stop.stderr, &[&format!("{limit} open files"), "`ulimit -n 1024`"]);
    }
    after(home.gem(&["stop"]), "ulimit -n 32").ok();
}

#[test]
fn a_server_is_found_and_stopped_without_state_json() {
    let home = builtin();
    home.write(&home.layout().state_file(), "{");
    let status = home.gem(&["status", "--json"]).ok().json();
    assert_eq!((&status["running"], &status["ready"]), (&true.into(), &true.into()));
    assert_says(&home.gem(&["stop"]).ok().stdout, &["stopped the server"]);
    assert_says(&home.gem(&["status"]).ends(1).stderr, &["state.json", "hint: "]);
}

#[test]
fn a_directory_as_log_gets_advice_to_move_it() {
    let home = Home::new();
    fs::create_dir_all(home.layout().log_file()).unwrap();
    let run = home.gem(&["logs"]).ends(1);
    assert_says(&run.stderr, &["it is a directory", "hint: move `", "` somewhere else"]);
}

#[test]
fn a_home_that_is_no_directory_is_named_once() {
    let home = Home::new();
    let file = home.beside("file");
    home.write(&file, "");
    for not_a_directory in [file.to_str().unwrap(), "/dev/null"] {
        let gem = |words: &[&str]| {
            let gem = home.program(env!("CARGO_BIN_EXE_gem-setup")).args(words);
            gem.env("HOME", not_a_directory)
        };
        for (words, status) in [
            (&["status"][..], 7),
            (&["stop"], 0),
            (&["logs"], 0),
            (&["uninstall", "--dry-run"], 0),
            (&["doctor"], 10),
        ] {
            let run = gem(words).ends(status);
            assert!(!run.stderr.contains("error"), "{run:#?}");
        }
        let run = gem(&["install", "--runtime", "builtin", "--dry-run"]).ends(8);
        assert_says(&run.stderr, &["is not a directory", "`--home DIR`, or set HOME"]);
        assert!(!run.stderr.contains("away"), "{run:#?}");
        assert_eq!(run.stderr.matches(not_a_directory).count(), 1, "{run:#?}");
    }
}

#[test]
fn a_relative_home_is_the_same_for_server_and_service() {
    let home = Home::new();
    let gem = |words: &[&str]| {
        let gem = home.program(env!("CARGO_BIN_EXE_gem-setup")).args(words);
        gem.env("HOME", "relative").env("XDG_CONFIG_HOME", "also-relative")
    };
    let place = home.work().join("relative/.config").display().to_string();
    let status = gem(&["service", "status", "--json"]).ok().json();
    assert_says(status["definition"].as_str().unwrap(), &[&place]);
}

#[test]
fn help_that_cannot_be_written_is_an_error() {
    let home = Home::new();
    for words in [
        ["--version"].as_slice(),
        &["--help"],
        &["help", "start"],
        &["--color", "never", "--help"],
    ] {
        let gem = home.gem(words).under(&["sh", "-c", r#"exec "$0" "$@" >/dev/full"#]);
        let run = gem.ends(1);
        assert_says(&run.stderr, &["cannot write to standard output", "No space left"]);
    }
}
