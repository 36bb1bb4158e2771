//! Files and directories of another user: the advice works, and changes no owners outside gem-setup's own files.

use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::harness::{Gem, Home, assert_says};

/// An account without a name.
const ACCOUNT: u32 = 61_018;

/// A home whose directory belongs to the account; `None` without root, which alone can change owners.
fn home() -> Option<Home> {
    let home = Home::new();
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: takes root");
        return None;
    }
    set_permissions(home.path().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    for path in [home.path(), home.work()] {
        give(&path);
    }
    Some(home)
}

fn give(path: &Path) {
    chown(path, Some(ACCOUNT), Some(ACCOUNT)).unwrap();
}

/// Makes a directory of root in a home of the account.
fn keep(home: &Home, directory: &Path, mode: u32) {
    fs::create_dir_all(directory).unwrap();
    set_permissions(directory, Permissions::from_mode(mode)).unwrap();
    let own = directory.ancestors().skip(1).take_while(|path| *path != home.path());
    own.for_each(give);
}

/// Runs gem-setup as that account.
fn gem(home: &Home, args: &[&str]) -> Gem {
    let account = ACCOUNT.to_string();
    home.program("setpriv")
        .args(["--reuid", &account, "--regid", &account, "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_gem-setup"))
        .args(args)
        .env("GEM_SETUP_PORT", home.port.to_string())
}

const DRY_RUN: [&str; 4] = ["install", "--dry-run", "--runtime", "builtin"];

#[test]
fn a_missing_home_gets_no_advice_to_change_owners() {
    let Some(home) = home() else { return };
    let missing = home.beside("nobody");
    for args in [DRY_RUN.as_slice(), &["install", "--runtime", "builtin"], &["doctor"]] {
        let run = gem(&home, args).env("HOME", &missing).run();
        assert_ne!(run.status, 0, "{run:#?}");
        let text = format!("{}{}", run.stdout, run.stderr);
        assert_says(&text, &["does not exist", "create the home", "--home DIR"]);
        assert!(!text.contains("chown"), "{text}");
    }
    for (args, words) in [
        (["settings", "apply"].as_slice(), "create the home"),
        (&["serve", "--runtime", "builtin"], "the home exists"),
    ] {
        let run = gem(&home, args).env("HOME", &missing).run();
        assert_says(&run.stderr, &[words, "--home DIR"]);
        assert!(!run.stderr.contains("sudo"), "{run:#?}");
    }
}

#[test]
fn advice_for_anothers_home_is_a_directory_inside() {
    let Some(home) = home() else { return };
    chown(home.path(), Some(0), Some(0)).unwrap();
    let run = gem(&home, &DRY_RUN).ends(8);
    let directory = home.layout().gemini();
    let command = format!("sudo install -d -o \"$(id -un)\" {}", directory.display());
    assert_says(&run.stderr, &[&command, "--home DIR"]);
    assert!(!run.stderr.contains("chown"), "{}", run.stderr);
    // After the advised command, nothing blocks the installation.
    fs::create_dir(&directory).unwrap();
    give(&directory);
    gem(&home, &DRY_RUN).ok();
}

#[test]
fn an_inaccessible_directory_is_named() {
    let Some(home) = home() else { return };
    let closed = home.layout().models().parent().unwrap().to_owned();
    keep(&home, &closed, 0o700);
    let catalog = home.catalog();
    let args = [
        "install",
        "--dry-run",
        "--runtime",
        "lit",
        "--accept-terms",
        "--catalog",
    ];
    let run = gem(&home, &args).arg(&catalog).ends(7);
    let command = format!("sudo chown -R \"$(id -un)\" {}`", closed.display());
    assert_says(&run.stderr, &["belongs to root", &command]);
}

#[test]
fn obstacles_of_several_kinds_are_all_named() {
    let Some(home) = home() else { return };
    let directories = [home.layout().backups(), home.layout().lit_bin()];
    for directory in &directories {
        keep(&home, directory, 0o755);
    }
    home.write(&home.settings(), "{}");
    give(&home.settings());
    give(&home.layout().gemini());
    for args in [["install", "--dry-run"].as_slice(), &["install"]] {
        let run = gem(&home, args)
            .args(["--runtime", "lit", "--accept-terms", "--catalog"])
            .arg(home.catalog())
            .ends(10);
        for directory in &directories {
            assert_says(
                &run.stderr,
                &[&format!("sudo chown -R \"$(id -un)\" {}", directory.display())],
            );
        }
    }
}

#[test]
fn settings_of_another_user_get_chown_advice() {
    let Some(home) = home() else { return };
    home.write(&home.settings(), "{}");
    set_permissions(home.settings(), Permissions::from_mode(0o600)).unwrap();
    give(&home.layout().gemini());
    let run = gem(&home, &["settings", "show"]).run();
    let command = format!("sudo chown \"$(id -un)\" {}", home.settings().display());
    assert_says(&run.stderr, &["belongs to another user", &command]);
}

#[test]
fn a_closed_directory_of_roots_is_named_by_every_command() {
    let Some(home) = home() else { return };
    let own = home.layout().own();
    keep(&home, &own, 0o700);
    fs::write(own.join("state.json"), "{}").unwrap();
    let command = format!("sudo chown -R \"$(id -un)\" {}", own.display());
    for args in [
        ["status"].as_slice(),
        &["stop"],
        &["start"],
        &["install", "--runtime", "builtin"],
        &["uninstall"],
        &["doctor"],
    ] {
        let run = gem(&home, args).run();
        assert_ne!(run.status, 0, "{run:#?}");
        assert_says(&format!("{}{}", run.stdout, run.stderr), &[&command]);
    }
}

#[test]
fn files_of_the_server_that_cannot_be_read_are_foreseen() {
    let Some(home) = home() else { return };
    let files = [home.layout().server_file(), home.layout().pid_file()];
    for file in &files {
        home.write(file, "{}");
        set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        let directory = file.parent().unwrap();
        directory
            .ancestors()
            .take_while(|path| *path != home.path())
            .for_each(give);
    }
    let run = gem(&home, &DRY_RUN).ends(7);
    let doctor = gem(&home, &["doctor"]).ends(10);
    for file in &files {
        let shown = home.shown(file);
        assert_says(&run.stderr, &[&format!("`{shown}` cannot be read: it belongs to root")]);
        assert_eq!(
            doctor.stdout.matches(&format!("`{shown}` cannot be read")).count(),
            1,
            "{doctor:#?}"
        );
    }
    assert!(!doctor.stdout.contains("Permission denied"), "{doctor:#?}");
    files.iter().for_each(|file| give(file));
    gem(&home, &DRY_RUN).ok();
}

#[test]
fn uninstall_looks_at_its_lock_and_settings_before_it_stops_the_server() {
    let Some(home) = home() else { return };
    gem(&home, &["install", "--runtime", "builtin"]).ok();
    let is_running = || gem(&home, &["status", "--json"]).run().json()["running"] == true;
    let lock = home.layout().lock_file();
    set_permissions(&lock, Permissions::from_mode(0o444)).unwrap();
    let run = gem(&home, &["uninstall"]).ends(1);
    assert_says(&run.stderr, &["cannot begin", &home.shown(&lock), "chmod u+rw"]);
    assert!(is_running());
    set_permissions(&lock, Permissions::from_mode(0o600)).unwrap();

    // A file of root behind a link, in a directory of root.
    let real = home.beside("roots/settings.json");
    home.write(&real, &fs::read_to_string(home.settings()).unwrap());
    fs::remove_file(home.settings()).unwrap();
    std::os::unix::fs::symlink(&real, home.settings()).unwrap();
    let run = gem(&home, &["uninstall"]).ends(8);
    assert_says(&run.stderr, &["cannot begin", "roots", "belongs to root"]);
    assert!(is_running());
    give(&real);
    give(real.parent().unwrap());
    gem(&home, &["uninstall"]).ok();
}
