//! The trial of a release before it becomes current.

use std::fs;

use gem_setup::supervise::ServerRecord;

#[cfg(unix)]
use super::script;
use super::{assert_answers, release, running, state, upgrade};
#[cfg(unix)]
use crate::harness::executable;
use crate::harness::{Home, MODEL, assert_says, wait_until};

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
