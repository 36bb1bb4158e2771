//! Other file types in place of the files that gem-setup reads and writes: each is named once, with a remedy, before any change.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::harness::{Home, assert_says};

/// The files of a home, each with the check that reports it.
const FILES: [(&str, &str); 6] = [
    ("gem-setup/state.json", "setup.records"),
    ("gem-setup/config.toml", "setup.records"),
    ("gem-setup/server.json", "server.files"),
    ("gem-setup/terms.json", "model.record"),
    ("gem-setup/lock", "platform.home"),
    ("settings.json", "settings.file"),
];

/// An entry of another type: a function that creates it, and the words for it.
type Thing = (fn(&Path), &'static str);

const THINGS: [Thing; 4] = [
    (
        |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "it is a named pipe",
    ),
    (|path| fs::create_dir(path).unwrap(), "it is a directory"),
    (|path| symlink(path, path).unwrap(), "link"),
    (|path| symlink("/dev/zero", path).unwrap(), "it is a "),
];

#[test]
fn doctor_and_install_name_each_misplaced_file_once() {
    for (name, id) in FILES {
        for (make, words) in THINGS {
            let home = Home::new();
            let path = home.layout().gemini().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);

            let run = home.gem(&["doctor"]).ends(10);
            let failed: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
            assert_eq!(failed.len(), 1, "{run:#?}");
            assert_says(failed[0], &[&format!("FAIL {id}: "), name, words]);
            let last = run.stdout.trim_end().lines().last().unwrap();
            assert_says(&last.to_lowercase(), &["follow the steps under \"by hand\""]);

            let run = home.gem(&["install", "--dry-run", "--accept-terms"]).run();
            assert_ne!(run.status, 0, "{run:#?}");
            assert_eq!(run.stderr.matches(words).count(), 1, "{run:#?}");
            assert_says(&run.stderr, &["hint: ", name]);
        }
    }
}

#[test]
fn no_command_waits_for_the_writer_of_a_pipe() {
    let home = Home::installed();
    for name in [
        "catalog.toml",
        "decisions.jsonl",
        "server.lock",
        "../tmp/litert-server.pid",
    ] {
        let path = home.layout().own().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        THINGS[0].0(&path);
        for command in ["status", "doctor", "stop", "list"] {
            // The harness kills a run that hangs, and the test fails.
            let run = home.gem(&[command]).run();
            assert_ne!(run.status, -1, "{run:#?}");
        }
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_server_is_stopped_despite_a_misplaced_pid_file() {
    let home = Home::installed();
    let path = home.layout().pid_file();
    for (make, words) in THINGS {
        home.gem(&["start"]).ok();
        fs::remove_file(&path).unwrap();
        make(&path);
        assert_says(&home.gem(&["stop"]).ok().stdout, &["stopped the server"]);
        assert_says(&home.gem(&["stop"]).ok().stdout, &["no server is running"]);
        let is_link = path.is_symlink();
        assert!(is_link || path.exists(), "what is not ours stays");
        if !is_link {
            let run = home.gem(&["start"]).run();
            assert_ne!(run.status, 0, "{run:#?}");
            assert_says(&run.stderr, &["litert-server.pid", words]);
        }
        fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).unwrap();
    }
}

#[test]
fn a_misplaced_server_lock_is_named_with_the_remedy() {
    let home = Home::installed();
    let path = home.layout().server_lock_file();
    let _ = fs::remove_file(&path);
    for (make, words) in &THINGS[..2] {
        make(&path);
        for command in ["start", "stop"] {
            let run = home.gem(&[command]).run();
            assert_ne!(run.status, 0, "{run:#?}");
            assert_says(&run.stderr, &["server.lock", words, "move "]);
        }
        fs::remove_dir(&path).or_else(|_| fs::remove_file(&path)).unwrap();
    }
}

#[test]
fn any_misplaced_file_stops_install_and_survives_uninstall() {
    for name in ["mirrors", "upstream", "gem-setup"] {
        for (make, words) in &THINGS[..2] {
            let home = Home::new();
            let path = home.layout().own().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
            if path.is_dir() {
                fs::write(path.join("precious"), "").unwrap();
            }
            for command in [
                &["install", "--accept-terms"][..],
                &["install", "--dry-run", "--accept-terms"],
            ] {
                let run = home.gem(command).run();
                assert_ne!(run.status, 0, "{name}: {run:#?}");
                assert_says(&run.stderr, &[name, words, "move "]);
            }
            home.gem(&["stop"]).ok();
            home.gem(&["uninstall"]).ok();
            assert!(!path.is_dir() || path.join("precious").exists(), "{}", path.display());
        }
    }
}

#[test]
fn the_advice_for_a_thing_in_place_of_the_record_works() {
    let socket: fn(&Path) = |path| drop(UnixListener::bind(path).unwrap());
    let things = THINGS[..2].iter().copied().chain([(socket, "it is a socket")]);
    for (make, words) in things {
        for (command, status) in [
            (["status"].as_slice(), 7),
            (&["uninstall"], 0),
            (&["install", "--runtime", "builtin", "--no-start", "--no-smoke"], 0),
        ] {
            let home = Home::new();
            let path = home.layout().state_file();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
            let run = home.gem(command).ends(1);
            let advice = "state.json` somewhere else, then run the command again";
            assert_says(&run.stderr, &[words, "hint: move `", advice]);
            fs::rename(&path, home.beside("away")).unwrap();
            home.gem(command).ends(status);
        }
    }
}
