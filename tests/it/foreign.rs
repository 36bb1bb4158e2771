//! What others put where gem-setup's files belong: `uninstall` leaves it, names it, and undoes everything else.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Home, MODEL, Mount, assert_says, on_a_terminal};

const KEPT: &str = "no record of installing";

/// A directory of somebody else in place of `path`, and the file in it.
fn occupy(path: &Path) -> PathBuf {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path).unwrap();
    let mine = path.join("mine");
    fs::write(&mine, "mine").unwrap();
    mine
}

#[track_caller]
fn assert_mine(files: &[PathBuf]) {
    for file in files {
        assert_eq!(
            fs::read_to_string(file).ok().as_deref(),
            Some("mine"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn a_directory_in_place_of_a_runtime_that_was_never_installed_stays() {
    for more in [[].as_slice(), &["--purge", "--yes"]] {
        let home = Home::new();
        let layout = home.layout();
        let mine = [layout.litert_lm_env(), layout.litert_lm_old_env()].map(|directory| occupy(&directory));
        home.install(&["--runtime", "lit", "--no-start"]).ok();
        let planned = home
            .gem(&["uninstall", "--dry-run", "--json"])
            .args(&more[..more.len().min(1)])
            .ok()
            .json();
        assert!(!planned["delete"].to_string().contains("bin/litert-lm"), "{planned}");
        let run = home.gem(&["uninstall"]).args(more).ok();
        assert_says(&run.stdout, &[KEPT, "bin/litert-lm` ", "bin/litert-lm.old` "]);
        assert_mine(&mine);
        assert!(!home.lit().exists());
    }
}

#[test]
fn a_directory_or_a_pipe_in_place_of_a_file_stays() {
    for more in [[].as_slice(), &["--purge", "--yes"]] {
        let home = Home::installed();
        let layout = home.layout();
        let mine = [
            home.lit(),
            home.launcher(),
            layout.log_file(),
            layout.decisions_file(),
            layout.own().join("notes"),
        ]
        .map(|path| occupy(&path));
        let pipe = layout.tmp().join("litert-server.log.1");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let run = home.gem(&["uninstall"]).args(more).ok();
        assert_mine(&mine);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let (_, foreign) = run.stdout.split_once(KEPT).unwrap();
        for name in [
            "litert-server.log",
            "litert-server.log.1",
            "gem-setup/gem-setup",
            "decisions.jsonl",
            "notes",
        ] {
            assert_says(foreign, &[&format!("{name}` ")]);
        }
        assert!(!layout.state_file().exists(), "everything else is undone");
    }
}

#[test]
fn an_environment_is_not_made_over_a_directory_of_somebody_else() {
    let home = Home::new();
    let catalog = format!(
        "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n[[model]]\nname = \"{MODEL}\"\nterms = []\n\
         huggingface = {{ repo = \"owner/name\", file = \"m.litertlm\" }}\n"
    );
    fs::write(home.catalog(), catalog).unwrap();
    let env = home.layout().litert_lm_env();
    let mine = occupy(&env);
    for more in [["--dry-run"].as_slice(), &[]] {
        let run = home.install(&["--runtime", "litert-lm"]).args(more).ends(5);
        let error = run.result()["error"].to_string();
        assert_says(&error, &[env.to_str().unwrap(), "did not put there", "move "]);
    }
    assert_mine(&[mine]);
}

#[test]
fn a_file_that_is_mounted_by_itself_is_written_in_place_and_emptied() {
    let home = Home::new();
    let builtin = ["--runtime", "builtin", "--no-start"];
    home.install(&builtin).ok();
    let real = home.beside("launcher");
    fs::write(&real, "of the host").unwrap();
    let Some(_mounted) = Mount::file(&real, home.launcher()) else {
        return;
    };
    let run = home.install(&builtin).ok();
    assert_eq!(run.step("settings"), "changed", "{run:#?}");
    assert_says(&fs::read_to_string(&real).unwrap(), &["#!/bin/sh", "gem-setup"]);
    assert_ne!(fs::metadata(&real).unwrap().permissions().mode() & 0o100, 0);
    let run = home.gem(&["uninstall"]).ok();
    assert_says(&run.stdout, &["emptied `", "gem-setup/gem-setup`", "mounted"]);
    assert_eq!(fs::read_to_string(&real).unwrap(), "");
    assert!(!home.layout().state_file().exists() && !home.settings().exists());
}

#[test]
fn a_record_that_is_mounted_by_itself_is_emptied_and_counts_as_none() {
    let home = Home::new();
    let builtin = ["--runtime", "builtin", "--no-start"];
    home.install(&builtin).ok();
    let (real, state) = (home.beside("state.json"), home.layout().state_file());
    fs::copy(&state, &real).unwrap();
    let Some(_mounted) = Mount::file(&real, state) else {
        return;
    };
    assert_says(&home.gem(&["uninstall"]).ok().stdout, &["emptied `", "state.json`"]);
    home.install(&builtin).ok();
    assert_ne!(fs::read_to_string(&real).unwrap(), "");
}

#[test]
fn what_cannot_be_deleted_is_named_after_everything_else_is_undone() {
    let home = Home::installed();
    let downloads = home.layout().downloads();
    fs::create_dir_all(downloads.join("kept")).unwrap();
    fs::write(downloads.join("kept/file"), "").unwrap();
    let Some(_mounted) = Mount::frozen(downloads.join("kept")) else {
        return;
    };
    let run = home.gem(&["uninstall"]).ends(1);
    assert_says(&run.stderr, &["everything is undone but this", "downloads"]);
    assert!(!home.layout().state_file().exists() && !home.lit().exists());
}

#[test]
fn the_question_says_that_the_server_is_stopped() {
    let home = Home::new();
    home.install(&["--runtime", "builtin", "--no-smoke"]).ok();
    let run = on_a_terminal(home.gem(&["uninstall", "--purge"]), "permanently", "n\n");
    let pid = home.processes()[0].pid;
    assert_says(&run.stdout, &[&format!("would stop the server (pid {pid})")]);
    home.gem(&["status"]).ok();
}
