//! `upgrade` and `rollback`: another release is tried beside the current one, made current, and used by the running server.

use std::fs;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use gem_setup::runtime::ProgramStamp;
use gem_setup::supervise::ServerRecord;
#[cfg(unix)]
use gem_setup_support::mirror::sha256_hex;
use serde_json::Value;

#[cfg(target_os = "linux")]
use super::harness::Mount;
#[cfg(unix)]
use super::harness::finish;
use super::harness::{Gem, Home, MODEL, Run, assert_says, executable, wait_until};
use super::killed::classify;

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

#[cfg(unix)]
#[test]
fn a_runtime_that_does_not_work_is_never_switched_to() {
    let home = Home::serving();
    let before = (state(&home), running(&home));
    for (version, lit) in [
        ("v10", "#!/bin/sh\necho broken >&2\nexit 3\n".to_owned()),
        ("v11", script("crash-at-start")),
        ("v12", script("garbage")),
        ("v13", script("errors")),
    ] {
        home.release(version, lit.as_bytes());
        let run = upgrade(&home, version).ends(7);
        assert_says(&run.stderr, &["nothing was switched", version]);
        let has_log = home.layout().versions().join("trial.log").exists();
        assert_eq!(run.stderr.contains("trial.log"), has_log, "{run:#?}");
        assert_eq!((state(&home), running(&home)), before);
        assert_answers(&home);
    }
    // `install` also tries a new release.
    let catalog = home.beside("catalog-v11.toml");
    home.gem(&["install", "--catalog"]).arg(catalog).ends(7);
    assert_eq!((state(&home), running(&home)), before);
}

#[cfg(unix)]
#[test]
fn a_runtime_that_judges_worse_is_never_switched_to() {
    let home = Home::serving();
    let before = (state(&home), running(&home));
    home.release("v10", script("contrary").as_bytes());
    let run = upgrade(&home, "v10").ends(7);
    let words = [
        "nothing was switched",
        "“List the files here.” it answers `pro`, the release in use answers `flash`",
        "it answers `flash`, the release in use answers `pro`",
    ];
    assert_says(&run.stderr, &words);
    assert_eq!((state(&home), running(&home)), before);
    assert_answers(&home);

    // If the release in use is no better, there is only a remark.
    let home = Home::publishing(script("contrary").as_bytes());
    home.install(&["--no-start"]).ok();
    home.release("v10", format!("{}# ten\n", script("contrary")).as_bytes());
    let run = upgrade(&home, "v10").ok();
    assert_says(&run.stderr, &["it answers `pro`", "unlike the rubric: `flash`"]);
}

#[cfg(unix)]
#[test]
fn a_trial_without_output_names_no_file() {
    let home = Home::installed();
    let silent = script("").replacen("\n", "\n[ \"$1\" = serve ] && exit 0\n", 1);
    home.release("v10", silent.as_bytes());
    let run = upgrade(&home, "v10").ends(7);
    assert_says(&run.stderr, &["nothing was switched", "the trial had no output"]);
    assert!(!run.stderr.contains("trial.log"), "{run:#?}");
}

#[test]
fn rollback_works_after_all_versions_were_deleted() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    if fs::remove_dir_all(home.layout().versions()).is_err() {
        // Windows keeps a running program's file.
        return;
    }
    for command in ["install", "restart", "upgrade"] {
        assert_says(&home.gem(&[command]).ends(2).stderr, &["run `gem-setup rollback"]);
    }
    let doctor = home.doctor();
    let fix = doctor.check("setup.records")["fix"].to_string();
    assert!(fix.starts_with("\"run `gem-setup rollback"), "{fix}");
    assert_answers(&home);
    home.gem(&["status"]).ok();
    home.gem(&["rollback"]).ok();
    assert_eq!(home.doctor().faults(), [""; 0]);
    assert_answers(&home);
}

#[cfg(unix)]
#[test]
fn rollback_refuses_a_damaged_release() {
    use std::io::Write as _;

    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let before = (state(&home), running(&home));
    let whole = fs::read(home.lit()).unwrap();
    let modified = fs::metadata(home.lit()).unwrap().modified().unwrap();
    let refused = |words: &[&str]| {
        let run = home.gem(&["rollback", "runtime"]).ends(7);
        assert_says(&run.stderr, &["nothing was switched", "gem-setup upgrade"]);
        assert_says(&run.stderr, words);
        assert_eq!((state(&home), running(&home)), before);
        assert_answers(&home);
    };
    // Another byte, with the same size and modification time.
    let mut other = whole.clone();
    *other.last_mut().unwrap() = b' ';
    fs::write(home.lit(), &other).unwrap();
    fs::File::options()
        .write(true)
        .open(home.lit())
        .unwrap()
        .set_modified(modified)
        .unwrap();
    refused(&["SHA-256", "the catalog has"]);
    // Appended bytes, and no server.
    fs::File::options()
        .append(true)
        .open(home.lit())
        .unwrap()
        .write_all(b"#")
        .unwrap();
    home.gem(&["stop"]).ok();
    home.gem(&["rollback", "runtime"]).ends(7);
    assert_eq!(state(&home)["version"], "v10");
    home.gem(&["start"]).ok();
    assert_answers(&home);
    // A complete release is accepted.
    fs::write(home.lit(), &whole).unwrap();
    home.gem(&["rollback", "runtime"]).ok();
    assert_eq!(state(&home)["version"], "v9");
    assert_answers(&home);
}

#[cfg(unix)]
#[test]
fn rollback_tries_the_previous_release_first() {
    let home = Home::installed();
    let broken = home.beside("broken");
    let text = String::from_utf8(executable()).unwrap();
    // It works until the machine changes.
    let lit = text.replacen("exec", &format!("[ -e '{}' ] && exit 3\nexec", broken.display()), 1);
    home.release("v10", lit.as_bytes());
    upgrade(&home, "v10").ok();
    home.release("v11", &release("eleven"));
    upgrade(&home, "v11").ok();
    home.write(&broken, "");
    let run = home.gem(&["rollback", "runtime"]).ends(7);
    assert_says(
        &run.stderr,
        &[
            "the previous runtime `lit` v10",
            "nothing was switched",
            "gem-setup upgrade",
        ],
    );
    assert_eq!(state(&home)["version"], "v11");
}

#[cfg(unix)]
#[test]
fn a_server_that_cannot_start_a_release_is_not_waited_for() {
    let home = Home::serving();
    let (tried, old) = (home.beside("tried"), home.lit());
    let text = String::from_utf8(executable()).unwrap();
    // The new release works only in its trial, and damages the old one.
    let lit = text.replacen(
        "exec",
        &format!(
            "if [ \"$1\" = serve ]; then if [ -e '{tried}' ]; then echo '#' >>'{old}'; exit 3; fi; touch '{tried}'; fi\nexec",
            tried = tried.display(),
            old = old.display()
        ),
        1,
    );
    home.release("v10", lit.as_bytes());
    let run = upgrade(&home, "v10").ends(7);
    assert_says(&run.stderr, &["did not return to it", "its SHA-256 is"]);
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

/// Removes the model.
fn lose_model(home: &Home) {
    fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
}

#[test]
fn an_upgrade_without_the_model_switches_nothing() {
    let home = Home::serving();
    let before = (state(&home), running(&home));
    lose_model(&home);
    home.release("v10", &release("ten"));
    let run = upgrade(&home, "v10").ends(7);
    assert_says(
        &run.stderr,
        &["nothing was switched", &format!("gem-setup pull {MODEL}")],
    );
    assert_eq!((state(&home), running(&home)), before);
    // The advised command works.
    home.gem(&["pull", MODEL]).ok();
    upgrade(&home, "v10").ok();
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
    // A release that worked may become current without a prompt, and a server without its model is not waited for.
    lose_model(&home);
    wait_until("the server misses its model", || {
        let record = ServerRecord::read(&home.layout().server_file()).unwrap().unwrap();
        record.engine.unwrap().blocked.is_some()
    });
    let run = home.gem(&["rollback", "runtime", "--json"]).ok();
    assert_says(&run.stdout, &["without a prompt", MODEL]);
    assert_eq!(state(&home)["version"], "v9");
    assert_eq!(home.doctor().check("server.process")["status"], "ok");
}

#[test]
fn install_pulls_a_missing_model_before_a_trial() {
    let home = Home::serving();
    lose_model(&home);
    let good = home.release("v10", &release("ten"));
    let run = home
        .gem(&["install", "--json", "--mirror", &home.mirror.url(), "--catalog"])
        .arg(good)
        .ok();
    assert_eq!(run.step("runtime"), "changed");
    assert_eq!(state(&home)["version"], "v10");
    assert!(home.layout().models().join(MODEL).exists());
    assert_answers(&home);
    assert_eq!(home.doctor().faults(), [""; 0]);
}

#[cfg(unix)]
#[test]
fn a_release_that_pulls_the_model_is_still_tried() {
    let home = Home::serving();
    let before = state(&home);
    lose_model(&home);
    let bad = home.release("v11", script("errors").as_bytes());
    let run = home
        .gem(&["install", "--mirror", &home.mirror.url(), "--catalog"])
        .arg(bad)
        .ends(7);
    assert_says(&run.stderr, &["does not work here, nothing was switched"]);
    assert_eq!(state(&home), before);
    // The server looks for its model every few seconds.
    wait_until("the server has its model", || {
        let record = ServerRecord::read(&home.layout().server_file()).unwrap().unwrap();
        record.engine.is_some_and(|engine| engine.blocked.is_none())
    });
    assert_answers(&home);
}

#[test]
fn a_model_that_was_left_out_is_not_waited_for() {
    let home = Home::new();
    home.install_unaccepted(&["--no-model"]).ok();
    home.release("v10", &release("ten"));
    let run = upgrade(&home, "v10").ok();
    assert_says(&run.stdout, &["started it on a spare port, without a prompt"]);
    assert_eq!(state(&home)["version"], "v10");
    let next = home.release("v11", &release("eleven"));
    let run = home
        .gem(&[
            "install",
            "--json",
            "--no-model",
            "--mirror",
            &home.mirror.url(),
            "--catalog",
        ])
        .arg(next)
        .ok();
    assert_says(&run.stdout, &["without a prompt"]);
    assert_eq!(state(&home)["version"], "v11");
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

#[cfg(unix)]
#[test]
fn requests_are_held_during_a_slow_switch() {
    const MANY: usize = 200;

    let home = Home::serving();
    home.release("v10", script("slow-start=2500").as_bytes());
    let child = upgrade(&home, "v10").spawn();
    let is_between = || {
        let status = home.gem(&["status", "--json"]).run().json();
        ["starting", "restarting"].contains(&status["child"]["state"].as_str().unwrap_or_default())
    };
    wait_until("there is no engine", is_between);
    let begun = std::time::Instant::now();
    let answered_by: Vec<String> = std::thread::scope(|scope| {
        let port = home.port;
        let clients = (0..MANY).map(|number| {
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, move || match number % 2 {
                    0 => classify(port, &format!("rename {number}")),
                    _ => generate(port, &format!("say {number}")),
                })
                .unwrap()
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let by_model = answered_by.iter().filter(|by| *by == "model").count();
    println!(
        "{by_model} of {MANY} by the model, all within {} ms",
        begun.elapsed().as_millis()
    );
    let run = finish(child);
    assert_eq!(run.status, 0, "{run:#?}");
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
}

/// Asks the local model, which must always answer.
#[cfg(unix)]
fn generate(port: u16, text: &str) -> String {
    use gem_platform::process::Owner;
    use gem_setup::runtime::local::{self, Peer};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = format!("/v1beta/models/{}:generateContent", MODEL);
    let body = serde_json::json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
    let within = std::time::Duration::from_secs(60);
    let posted = local::post(
        Peer::new(port, Owner::User),
        &path,
        Some(body.to_string().into()),
        within,
    );
    let answer = runtime.block_on(posted).unwrap();
    assert_eq!(answer.status, 200, "{text}: {answer:?}");
    "model".to_owned()
}

/// Runs `gem` repeatedly, killed with SIGKILL a little later each time, until it ends by itself.
#[cfg(unix)]
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

#[cfg(unix)]
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

#[cfg(unix)]
#[test]
fn a_cleanup_killed_at_any_time_deletes_nothing_in_use_and_is_completed_by_the_next() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let layout = home.layout();
    let fill = || {
        for number in 0..60 {
            let folder = layout.versions().join(format!("lit-v{number}-00000000"));
            (0..20).for_each(|file| home.write(&folder.join(file.to_string()), "x"));
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
    assert_eq!(folders(&home).len(), 1, "the release in use");
    home.gem(&["rollback", "runtime"]).ok();
    assert_answers(&home);
}

#[cfg(unix)]
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
fn a_deleted_release_can_be_upgraded_to_again() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let program = home.lit_in_use();
    fs::remove_file(&program).unwrap();
    assert_eq!(upgrade(&home, "v10").ok().changed(), ["runtime"]);
    assert!(program.exists());
    // The folder contained the copy of the release's catalog.
    fs::remove_dir_all(program.parent().unwrap()).unwrap();
    home.gem(&["versions"]).ok();
    home.gem(&["rollback", "runtime"]).ok();
    assert_eq!(state(&home)["version"], "v9");
    assert_answers(&home);
    let versions = home.gem(&["versions"]).ok();
    assert!(!versions.stdout.contains("v10"), "{versions:#?}");
    let run = home.gem(&["rollback", "runtime"]).ends(7);
    assert_says(&run.stderr, &["cannot roll the runtime back", "is gone"]);
    assert_eq!(state(&home)["version"], "v9");
    upgrade(&home, "v10").ok();
    assert_answers(&home);
}

#[cfg(unix)]
#[test]
fn a_server_stopped_during_an_upgrade_is_no_failure() {
    for command in ["stop", "restart"] {
        let home = Home::serving();
        home.release("v10", script("slow-start=700").as_bytes());
        let child = upgrade(&home, "v10").spawn();
        wait_until("the release is current", || home.lit_in_use() != home.lit());
        home.gem(&[command]).ok();
        let run = finish(child);
        assert_eq!(run.status, 0, "{run:#?}");
        assert_eq!(state(&home)["version"], "v10");
        home.gem(&["start"]).ok();
        assert_answers(&home);
    }
}

#[test]
fn a_server_on_another_port_takes_up_a_release() {
    let home = Home::serving();
    let port = super::harness::free_port().to_string();
    home.gem(&["restart", "--port", &port]).ok();
    let elsewhere = format!("the server is running on port {port}");
    assert_says(
        &home.gem(&["smoke"]).ends(7).stderr,
        &[&elsewhere, "gem-setup install --port"],
    );
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    assert_eq!(running(&home), ProgramStamp::of(&home.lit_in_use()));
    home.gem(&["rollback", "runtime"]).ok();
    assert_eq!(state(&home)["version"], "v9");
    // A new port and a new release in one command.
    let mirror = home.mirror.url();
    let gem = home.gem(&["install", "--port", &port, "--mirror", &mirror, "--catalog"]);
    gem.arg(home.beside("catalog-v10.toml")).ok();
    assert_eq!(state(&home)["version"], "v10");
    assert_answers(&home);
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

#[cfg(unix)]
#[test]
fn a_command_that_waited_for_an_upgrade_does_not_undo_it() {
    for command in [&["install", "--force"][..], &["pull", MODEL, "--force"]] {
        let home = Home::serving();
        home.release("v10", script("slow-start=3000").as_bytes());
        let upgrading = upgrade(&home, "v10").spawn();
        wait_until("the release is tried", || STEPS[3].1(&home));
        let run = home.gem(command).ends(9);
        assert_says(&run.stderr, &["another gem-setup changed", "run the command again"]);
        assert_eq!(finish(upgrading).status, 0);
        assert_eq!(state(&home)["version"], "v10");
        home.gem(command).ok();
        assert_eq!(state(&home)["version"], "v10");
    }
}

#[test]
fn the_settings_return_to_what_they_were() {
    let home = Home::new();
    let before = "{\n  // mine\n  \"vimMode\": true\n}\n";
    home.write(&home.settings(), before);
    home.install(&["--no-start"]).ok();
    assert_ne!(fs::read_to_string(home.settings()).unwrap(), before);
    home.gem(&["rollback", "settings"]).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), before);
    home.gem(&["rollback", "settings"]).ends(2);
    home.install(&["--no-start"]).ok();
    assert_ne!(fs::read_to_string(home.settings()).unwrap(), before);
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

/// A step of an upgrade, and whether it was reached.
#[cfg(unix)]
type Step = (&'static str, fn(&Home) -> bool);

#[cfg(unix)]
const STEPS: [Step; 6] = [
    ("begun", |_| true),
    ("locked", |home| home.layout().downloads().exists()),
    ("fetched", |home| !folders(home).is_empty()),
    ("tried", |home| {
        fs::metadata(home.layout().versions().join("trial.log")).is_ok_and(|log| log.len() > 0)
    }),
    ("switched", |home| home.lit_in_use() != home.lit()),
    ("handed over", |home| {
        home.lit_in_use() != home.lit() && running(home) == ProgramStamp::of(&home.lit_in_use())
    }),
];

#[cfg(unix)]
fn folders(home: &Home) -> Vec<fs::DirEntry> {
    let entries = fs::read_dir(home.layout().versions()).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join(home.lit().file_name().unwrap()).exists())
        .collect()
}

/// Starts an upgrade and kills it with SIGKILL once `step` is reached; returns whether it was still running.
#[cfg(unix)]
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
#[cfg(unix)]
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
#[cfg(unix)]
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

#[cfg(unix)]
#[test]
fn an_upgrade_killed_at_any_step_leaves_one_version_that_answers() {
    assert_survives(&release("ten"), 0);
}

#[cfg(unix)]
#[test]
fn a_slow_upgrade_killed_at_any_step_leaves_one_version_that_answers() {
    assert_survives(script("slow-start=700").as_bytes(), 0);
}

#[cfg(unix)]
#[test]
fn a_broken_upgrade_killed_at_any_step_leaves_the_old_version() {
    assert_survives(b"#!/bin/sh\nsleep 0.3\nexit 3\n", 7);
}

#[cfg(unix)]
#[test]
fn a_lying_upgrade_killed_at_any_step_leaves_the_old_version() {
    assert_survives(script("garbage,delay=100").as_bytes(), 7);
}

#[test]
fn two_hundred_classifications_are_answered_during_switches() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    let home = Home::serving();
    for version in ["v10", "v11"] {
        home.release(version, &release(version));
    }
    let (asked, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut by_model = 0;
                    while asked.load(Ordering::Relaxed) < 200 || !is_over.load(Ordering::Relaxed) {
                        let number = asked.fetch_add(1, Ordering::Relaxed);
                        // Different requests, so that none is answered from the cache.
                        by_model += usize::from(classify(home.port, &format!("rename file {number}")) == "model");
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    by_model
                })
            })
            .collect();
        upgrade(&home, "v10").ok();
        upgrade(&home, "v11").ok();
        home.gem(&["rollback", "runtime"]).ok();
        is_over.store(true, Ordering::Relaxed);
        let by_model: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        let asked = asked.load(Ordering::Relaxed);
        println!("{by_model} of {asked} were answered by the model");
        assert!(by_model > asked / 2, "{by_model} of {asked}");
    });
}

/// A copy of the program in a folder of its own, which may be replaced.
#[cfg(unix)]
struct Own<'h> {
    home: &'h Home,
    path: PathBuf,
}

#[cfg(unix)]
impl<'h> Own<'h> {
    fn new(home: &'h Home) -> Self {
        let path = home.beside("bin/gem-setup");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &path).unwrap();
        Self { home, path }
    }

    fn run(&self, args: &[&str]) -> Gem {
        self.home
            .program(&self.path)
            .arg("--home")
            .arg(self.home.path())
            .args(args)
    }

    /// Publishes `program` as gem-setup `version`; returns the catalog with it.
    fn publish(&self, version: &str, program: &[u8]) -> PathBuf {
        let path = format!("/x/gem-setup/releases/download/{version}/gem-setup");
        self.home.mirror.publish(&path, program.to_vec());
        let text = fs::read_to_string(self.home.catalog()).unwrap();
        let text = format!(
            "{text}\n[gem-setup]\nversion = \"{version}\"\n[[gem-setup.artifact]]\ntarget = \"{}\"\nurl = \"https://github.com{path}\"\nsha256 = \"{}\"\n",
            gem_platform::Target::host().unwrap(),
            sha256_hex(program)
        );
        let catalog = self.home.beside(&format!("own-{version}.toml"));
        fs::write(&catalog, text).unwrap();
        catalog
    }

    fn upgrade_to(&self, catalog: &Path) -> Gem {
        let mirror = self.home.mirror.url();
        self.run(&["upgrade", "--self", "--mirror", &mirror, "--catalog"])
            .arg(catalog)
    }

    #[track_caller]
    fn assert_is(&self, version: &str) {
        assert_says(&self.run(&["version"]).ok().stdout, &[version]);
    }

    fn kept(&self) -> PathBuf {
        self.home.layout().versions().join("self")
    }

    /// Keeps `program` as the previous executable, with `version`.
    fn keep(&self, version: &str, program: &[u8]) {
        use std::os::unix::fs::PermissionsExt;

        let path = self.kept().join(format!("gem-setup-{version}"));
        self.home.write(&path, "");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[cfg(unix)]
const CURRENT: &str = env!("CARGO_PKG_VERSION");

/// A program that prints gem-setup's `version` and routes requests.
#[cfg(unix)]
fn says(version: &str) -> Vec<u8> {
    let decision = r#"{"model":"m","tier":"flash"}"#;
    format!("#!/bin/sh\ncase \"$*\" in *' route '*) echo '{decision}' ;; *) echo gem-setup {version} ;; esac\n")
        .into_bytes()
}

/// The same, with a delay of a second.
#[cfg(unix)]
fn says_slowly(version: &str) -> Vec<u8> {
    [b"#!/bin/sh\nsleep 1\n", &*says(version)].concat()
}

#[cfg(unix)]
#[test]
fn gem_setup_upgrades_itself_and_rolls_back() {
    let home = Home::new();
    let own = Own::new(&home);
    // A program that does not print its version is refused.
    let lying = own.publish("9.9.8", b"#!/bin/sh\necho hello\n");
    assert_says(
        &own.upgrade_to(&lying).ends(7).stderr,
        &["nothing was replaced", "9.9.8 is expected"],
    );
    own.assert_is(CURRENT);
    // So is a program that does nothing else, or does not end.
    for (program, fault) in [
        ("echo gem-setup 9.9.7", "does not decide"),
        (
            "case $1 in version) echo gem-setup 9.9.7 ;; *) exit 1 ;; esac",
            "does not decide",
        ),
        ("exec yes gem-setup 9.9.7", "9.9.7 is expected"),
    ] {
        let lying = own.publish("9.9.7", format!("#!/bin/sh\n{program}\n").as_bytes());
        assert_says(&own.upgrade_to(&lying).ends(7).stderr, &["nothing was replaced", fault]);
        own.assert_is(CURRENT);
    }
    // So is an older one.
    own.upgrade_to(&own.publish("0.0.1", &says("0.0.1"))).ok();
    own.assert_is(CURRENT);
    let newer = own.publish("9.9.9", &says("9.9.9"));
    assert_says(&own.upgrade_to(&newer).ok().stdout, &["9.9.9"]);
    own.assert_is("9.9.9");
    assert_eq!(fs::read_dir(own.kept()).unwrap().count(), 1, "the one before is kept");
    // And back: from the real executable to the kept one.
    fs::remove_dir_all(own.kept()).unwrap();
    fs::remove_file(&own.path).unwrap();
    let own = Own::new(&home);
    own.keep("0.0.9", &says("0.0.9"));
    own.run(&["rollback", "self"]).ok();
    own.assert_is("0.0.9");
    assert!(own.kept().join(format!("gem-setup-{CURRENT}")).exists());
}

#[cfg(unix)]
#[test]
fn a_kept_executable_that_does_not_work_is_refused() {
    let home = Home::new();
    let own = Own::new(&home);
    let cut_off = fs::read(&own.path).unwrap()[..1000].to_vec();
    for program in [cut_off, b"#!/bin/sh\necho EVIL\n".to_vec(), says("0.0.8")] {
        own.keep("0.0.9", &program);
        let run = own.run(&["rollback", "self"]).ends(7);
        assert_says(
            &run.stderr,
            &["nothing was replaced", "gem-setup-0.0.9", "0.0.9 is expected"],
        );
        own.assert_is(CURRENT);
    }
}

#[cfg(unix)]
#[test]
fn two_replacements_at_once_keep_the_old_executable() {
    let home = Home::new();
    let own = Own::new(&home);
    let slow = own.publish("9.9.9", &says_slowly("9.9.9"));
    let both = [own.upgrade_to(&slow).spawn(), own.upgrade_to(&slow).spawn()].map(finish);
    for run in &both {
        assert_eq!(run.status, 0, "{both:#?}");
    }
    own.assert_is("9.9.9");
    let kept = own.kept().join(format!("gem-setup-{CURRENT}"));
    let real = fs::read(env!("CARGO_BIN_EXE_gem-setup")).unwrap();
    assert!(fs::read(kept).unwrap() == real, "the old executable is kept");
    // A rollback waits too, and finds another executable than its own.
    fs::remove_file(&own.path).unwrap();
    let own = Own::new(&home);
    own.keep("0.0.9", &says_slowly("0.0.9"));
    fs::remove_file(own.kept().join(format!("gem-setup-{CURRENT}"))).unwrap();
    let mut both = [
        own.run(&["rollback", "self"]).spawn(),
        own.run(&["rollback", "self"]).spawn(),
    ]
    .map(finish);
    both.sort_by_key(|run| run.status);
    assert_eq!(both[0].status, 0, "{both:#?}");
    assert_ne!(both[1].status, 0, "{both:#?}");
    own.assert_is("0.0.9");
    let kept = own.kept().join(format!("gem-setup-{CURRENT}"));
    assert!(fs::read(kept).unwrap() == real, "the old executable is kept");
}

#[cfg(target_os = "linux")]
#[test]
fn an_irreplaceable_executable_is_named_before_a_download() {
    let home = Home::new();
    let folder = home.beside("bin");
    let Some(mount) = Mount::on(folder.clone(), c"size=256m") else {
        return;
    };
    let own = folder.join("gem-setup");
    fs::copy(env!("CARGO_BIN_EXE_gem-setup"), &own).unwrap();
    mount.make_read_only();
    pin_own(&home, "9.9.9");
    let run = home.program(&own).arg("--home").arg(home.path());
    let run = run.args(["upgrade", "--self", "--catalog"]).arg(home.catalog()).ends(9);
    assert_says(
        &run.stderr,
        &[
            "nothing can be written to",
            folder.to_str().unwrap(),
            "owner of that folder",
        ],
    );
    home.assert_untouched();
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

/// Pins gem-setup itself at `version` in the catalog, with an unreachable address.
#[cfg(unix)]
fn pin_own(home: &Home, version: &str) {
    let target = gem_platform::Target::host().unwrap();
    let text = fs::read_to_string(home.catalog()).unwrap();
    let entry = format!(
        "{text}\n[gem-setup]\nversion = \"{version}\"\n[[gem-setup.artifact]]\ntarget = \"{target}\"\nurl = \"https://github.com/x\"\nsha256 = \"{}\"\n",
        sha256_hex(b"")
    );
    fs::write(home.catalog(), entry).unwrap();
}

#[cfg(unix)]
#[test]
fn a_package_managers_executable_is_not_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    pin_own(&home, "9.9.9");
    let program = fs::read(env!("CARGO_BIN_EXE_gem-setup")).unwrap();
    for (path, record, owner) in [
        ("lib/node_modules/gem-setup/bin", "lib/package.json", "npm owns it"),
        (
            ".npm/_npx/0f/node_modules/gem-setup/bin",
            ".npm/package.json",
            "npx owns it",
        ),
        (".cache/uv/archive-v0/x/bin", ".cache/uv/CACHEDIR.TAG", "uvx owns it"),
        (
            "user/bin",
            "user/lib/python3.12/site-packages/gem_setup-0.2.0.dist-info/RECORD",
            "pip owns it",
        ),
        ("env/bin", "env/pyvenv.cfg", "pip owns it"),
        ("tools/bin", "tools/.crates.toml", "cargo owns it"),
    ] {
        let own = home.beside(path).join("gem-setup");
        home.write(
            &home.beside(record),
            "[v1]\n\"gem-setup 0.2.0 (registry)\" = [\"gem-setup\"]\n",
        );
        home.write(&own, "");
        fs::write(&own, &program).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        let run = home.program(&own).arg("--home").arg(home.path());
        let run = run.args(["upgrade", "--self", "--catalog"]).arg(home.catalog()).ends(9);
        assert_says(&run.stderr, &[owner, "hint: run `"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hanging_package_manager_is_not_waited_for() {
    use std::os::unix::fs::PermissionsExt;

    for answer in ["sleep 3600", "yes"] {
        let home = Home::new();
        let own = Own::new(&home);
        let tools = home.beside("tools");
        let tool = tools.join("dpkg-query");
        home.write(&tool, &format!("#!/bin/sh\necho asked > \"$0.asked\"\nexec {answer}\n"));
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let run = own.upgrade_to(&own.publish("9.9.9", &says("9.9.9"))).env("PATH", path);
        run.ok();
        assert!(tools.join("dpkg-query.asked").exists());
        own.assert_is("9.9.9");
    }
}

#[test]
fn a_previous_release_without_its_catalog_is_named() {
    let home = Home::installed();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let catalog = home.layout().own().join("catalog.toml");
    fs::remove_file(&catalog).unwrap();
    let before = state(&home);
    let run = home.gem(&["rollback", "runtime"]).ends(7);
    let gone = format!("cannot roll the runtime back: `{}` is gone", catalog.display());
    assert_says(&run.stderr, &[&gone, "gem-setup doctor"]);
    assert!(!run.stderr.contains("--catalog"), "{run:#?}");
    assert_eq!(state(&home), before);
}
