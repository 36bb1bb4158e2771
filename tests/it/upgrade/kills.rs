//! Commands that are killed: upgrades, rollbacks, cleanups, installations.
#![cfg(unix)]

use std::fs;

use gem_setup::runtime::ProgramStamp;

use super::{assert_answers, release, running, script, state, upgrade};
use crate::harness::{Gem, Home, MODEL, assert_says, finish, wait_until};

/// Runs `gem` repeatedly, killed with SIGKILL a little later each time, until it ends by itself.
fn kill_ever_later(mut gem: impl FnMut() -> Gem, mut after_each: impl FnMut()) -> u32 {
    for kills in 0.. {
        let mut command = gem().into_command();
        let quiet = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = quiet.spawn().unwrap();
        // The first steps follow each other closely.
        let patience = std::time::Duration::from_millis(5 + u64::from(kills * kills) * 12);
        let begun = std::time::Instant::now();
        while begun.elapsed() < patience && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status} after {kills} kills");
            return kills;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        after_each();
    }
    unreachable!()
}

#[test]
fn a_rollback_killed_at_any_time_leaves_one_that_answers() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let is_back = || state(&home)["version"] == "v9";
    let roll_back = || match is_back() {
        // The kill came after the switch: no step remains.
        true => home.gem(&["versions"]),
        false => home.gem(&["rollback", "runtime"]),
    };
    let kills = kill_ever_later(roll_back, || {
        home.gem(&["status", "--wait", "60"]).ok();
        assert_answers(&home);
    });
    println!("killed {kills} times");
    assert!(is_back());
    wait_until("the engine in use runs alone", || {
        running(&home) == ProgramStamp::of(&home.lit_in_use()) && engines(&home) == 1
    });
    assert_answers(&home);
    assert_eq!(home.doctor().faults(), [""; 0]);
}

#[test]
fn a_cleanup_killed_at_any_time_deletes_nothing_in_use_and_is_completed_by_the_next() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let layout = home.layout();
    let fill = || {
        for number in 0..60 {
            let directory = layout.versions().join(format!("lit-v{number}-00000000"));
            (0..20).for_each(|file| home.write(&directory.join(file.to_string()), "x"));
            home.write(&layout.downloads().join(number.to_string()), "x");
        }
    };
    fill();
    let clean = || home.gem(&["cleanup"]);
    let kills = kill_ever_later(clean, || {
        assert!(home.lit().exists() && home.lit_in_use().exists());
        fill();
    });
    println!("killed {kills} times");
    home.gem(&["cleanup"]).ok();
    let left = home.gem(&["cleanup", "--json"]).ok().json();
    assert_eq!(left["deleted"], serde_json::json!([]));
    assert_eq!(directories(&home).len(), 1, "the release in use");
    home.gem(&["rollback", "runtime"]).ok();
    assert_answers(&home);
}

#[test]
fn an_installation_from_a_bundle_killed_at_any_time_is_completed_by_the_next() {
    for name in ["bundle.tar", "bundle"] {
        let first = Home::installed();
        let bundle = first.beside(name);
        first.gem(&["bundle", "create", "--model"]).arg(&bundle).ok();
        let home = Home::new();
        let port = home.port.to_string();
        let install = || {
            let words = ["install", "--accept-terms", "--port", &port, "--bundle"];
            home.gem(&words).arg(&bundle).env("STAND_IN_PULL", "fail")
        };
        let kills = kill_ever_later(install, || {});
        println!("{name}: killed {kills} times");
        assert_answers(&home);
        assert_eq!(home.doctor().faults(), [""; 0]);
        home.gem(&["install", "--json"]).ok();
        let left: Vec<_> = fs::read_dir(home.layout().downloads()).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_command_that_waited_for_an_upgrade_does_not_undo_it() {
    for command in [&["install", "--force"][..], &["pull", MODEL, "--force"]] {
        let home = Home::serving();
        home.release("v10", script("slow-start=4000").as_bytes());
        let upgrading = upgrade(&home, "v10").spawn();
        wait_until("the release is fetched, and will be tried", || STEPS[2].1(&home));
        let run = home.gem(command).ends(9);
        assert_says(&run.stderr, &["another gem-setup changed", "run the command again"]);
        assert_eq!(finish(upgrading).status, 0);
        assert_eq!(state(&home)["version"], "v10");
        home.gem(command).ok();
        assert_eq!(state(&home)["version"], "v10");
    }
}

/// A step of an upgrade, and whether it was reached.
type Step = (&'static str, fn(&Home) -> bool);

const STEPS: [Step; 6] = [
    ("begun", |_| true),
    ("locked", |home| home.layout().downloads().exists()),
    ("fetched", |home| !directories(home).is_empty()),
    ("tried", |home| {
        fs::metadata(home.layout().versions().join("trial.log")).is_ok_and(|log| log.len() > 0)
    }),
    ("switched", |home| home.lit_in_use() != home.lit()),
    ("handed over", |home| {
        home.lit_in_use() != home.lit() && running(home) == ProgramStamp::of(&home.lit_in_use())
    }),
];

fn directories(home: &Home) -> Vec<fs::DirEntry> {
    let entries = fs::read_dir(home.layout().versions()).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(home.lit().file_name().unwrap()).exists())
        .collect()
}

/// Starts an upgrade and kills it with SIGKILL once `step` is reached; returns whether it was still running.
fn kill_at(home: &Home, step: Step) -> bool {
    let mut upgrading = upgrade(home, "v10").into_command();
    let quiet = upgrading
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = quiet.spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !step.1(home) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let was_at_work = child.try_wait().unwrap().is_none();
    let _ = child.kill();
    child.wait().unwrap();
    was_at_work
}

/// The number of running engines among all that were ever started.
fn engines(home: &Home) -> usize {
    let trace = home.trace();
    let serving = trace.iter().filter(|event| event["invoked"][0] == "serve");
    let pids = serving.map(|event| u32::try_from(event["pid"].as_u64().unwrap()).unwrap());
    pids.filter(|pid| {
        gem_platform::process::identity(*pid).is_some_and(|process| process.command.concat().contains("serve"))
    })
    .count()
}

/// An upgrade to `lit`, killed at each of its steps; run again, it ends with `status`.
#[track_caller]
fn assert_survives(lit: &[u8], status: i32) {
    let mut killed = Vec::new();
    for step in STEPS {
        let home = Home::serving();
        home.release("v10", lit);
        if kill_at(&home, step) {
            killed.push(step.0);
        }
        wait_until("one engine runs, the one in use", || {
            running(&home) == ProgramStamp::of(&home.lit_in_use()) && engines(&home) == 1
        });
        home.gem(&["status", "--wait", "60"]).ok();
        assert_answers(&home);
        upgrade(&home, "v10").ends(status);
        let now = if status == 0 { "v10" } else { "v9" };
        assert_eq!(state(&home)["version"], now, "killed when {}", step.0);
        assert_answers(&home);
        wait_until("no engine is left behind", || engines(&home) == 1);
        assert_eq!(home.doctor().faults(), [""; 0]);
    }
    println!("killed when {killed:?}");
    assert!(killed.len() >= 3, "{killed:?}");
}

#[test]
fn an_upgrade_killed_at_any_step_leaves_one_version_that_answers() {
    assert_survives(&release("ten"), 0);
}

#[test]
fn a_slow_upgrade_killed_at_any_step_leaves_one_version_that_answers() {
    assert_survives(script("slow-start=700").as_bytes(), 0);
}

#[test]
fn a_broken_upgrade_killed_at_any_step_leaves_the_old_version() {
    assert_survives(b"#!/bin/sh\nsleep 0.3\nexit 3\n", 7);
}

#[test]
fn a_lying_upgrade_killed_at_any_step_leaves_the_old_version() {
    assert_survives(script("garbage,delay=100").as_bytes(), 7);
}
