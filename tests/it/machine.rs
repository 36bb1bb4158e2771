//! Obstacles on a machine: `install`, `--dry-run` and `doctor` name each of them before any change.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use gem_setup::sha256::Sha256;
use serde_json::{Value, json};

use super::harness::{Home, MODEL, assert_same, assert_says, tree, wait_until};

/// A path of a home.
type PathOf = fn(&Home) -> PathBuf;

/// `install` and its plan end with `status` and name `path` with `words`; `doctor` names them too; no file is changed.
#[track_caller]
fn assert_foreseen(home: &Home, status: i32, path: &Path, words: &[&str]) {
    let before = tree(&home.path(), &[]);
    for more in [["--dry-run", "--no-smoke"].as_slice(), &["--no-smoke"]] {
        let run = home.install(more).ends(status);
        let error = &run.result()["error"];
        let text = format!("{} {}", error["message"], error["hint"]);
        assert_says(&text, &[&[path.to_str().unwrap()], words].concat());
    }
    let said = home.doctor().stdout;
    assert_says(&said, &[&[path.to_str().unwrap()], words].concat());
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
    assert_same(&before, &tree(&home.path(), &[]));
}

/// `install` with `more` options and its plan refuse `path` with `words`; no file is changed.
#[track_caller]
fn assert_looked_at(home: &Home, more: &[&str], path: &Path, words: &[&str]) {
    let before = tree(&home.path(), &[]);
    for plan in [["--dry-run"].as_slice(), &[]] {
        let run = home.install(more).args(plan).run();
        assert_ne!(run.status, 0, "{run:#?}");
        let error = run.result()["error"].to_string();
        assert_says(&error, &[&["cannot begin", path.to_str().unwrap()], words].concat());
    }
    assert_eq!(home.mirror.asked(), Vec::<String>::new());
    assert_same(&before, &tree(&home.path(), &[]));
}

#[test]
fn files_that_a_step_will_write_are_looked_at_first() {
    let lit = b"#!/bin/sh";
    let sum = Sha256::of(lit);
    let partial = |home: &Home, ending: &str| home.layout().downloads().join(format!("{sum}.{ending}"));
    for path_in in [
        &|home: &Home| home.layout().catalog_file() as PathBuf,
        &|home: &Home| home.layout().model_file(MODEL),
        &|home: &Home| partial(home, "lock"),
        &|home: &Home| partial(home, "part"),
        &|home: &Home| home.launcher(),
    ] as [&dyn Fn(&Home) -> PathBuf; 5]
    {
        let home = Home::publishing(lit);
        let path = path_in(&home);
        fs::create_dir_all(&path).unwrap();
        assert_looked_at(&home, &["--runtime", "lit"], &path, &["it is a directory", "move"]);
    }
    let home = Home::publishing(lit);
    let model = home.layout().model_file(MODEL);
    let directory = model.parent().unwrap();
    fs::create_dir_all(directory.parent().unwrap()).unwrap();
    fs::write(directory, "precious").unwrap();
    assert_looked_at(&home, &["--runtime", "lit"], directory, &["not a directory"]);
    let home = Home::new();
    let pid = home.layout().pid_file();
    fs::create_dir_all(pid.parent().unwrap()).unwrap();
    fs::File::create(&pid).unwrap().set_len(5_000_000).unwrap();
    assert_looked_at(&home, &["--runtime", "builtin"], &pid, &["more than 4 MB", "move"]);
}

#[test]
fn copies_are_not_written_through_links() {
    let home = Home::new();
    let (real, copy) = (precious(&home), home.layout().catalog_file());
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    symlink(&real, &copy).unwrap();
    home.install(&["--runtime", "builtin", "--no-start", "--no-smoke"]).ok();
    assert_precious(&real);
    assert!(fs::symlink_metadata(&copy).unwrap().is_file());
}

fn make_pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_file_in_place_of_the_gemini_directory_is_foreseen() {
    let home = Home::new();
    let gemini = home.layout().gemini();
    fs::write(&gemini, "precious").unwrap();
    assert_foreseen(&home, 5, &gemini, &["not a directory", "move"]);
}

#[test]
fn a_file_in_place_of_the_directory_for_logs_is_one_fault() {
    let home = Home::new();
    let directory = home.layout().tmp();
    home.write(&directory, "precious");
    assert_foreseen(&home, 7, &directory, &["not a directory", "move"]);
    let hint = &home.install(&["--dry-run"]).ends(7).result()["error"]["hint"];
    assert!(!hint.as_str().unwrap().contains("litert-server"), "{hint}");
}

#[test]
fn a_gemini_link_that_leads_nowhere_is_foreseen() {
    let home = Home::new();
    let gemini = home.layout().gemini();
    symlink("/nowhere/at/all", &gemini).unwrap();
    assert_foreseen(&home, 5, &gemini, &["a link to a missing file", "remove the link"]);
}

#[test]
fn read_only_settings_are_foreseen_through_links() {
    let home = Home::new();
    let real = home.beside("store.json");
    fs::write(&real, "{}").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o444)).unwrap();
    fs::create_dir_all(home.layout().gemini()).unwrap();
    symlink(&real, home.settings()).unwrap();
    assert_foreseen(&home, 8, &real, &["read-only", "chmod u+rw"]);
}

#[test]
fn other_file_types_in_a_files_place_are_foreseen() {
    let of_layout: [(PathOf, i32); 7] = [
        (|home| home.layout().lock_file(), 5),
        (|home| home.layout().server_lock_file(), 7),
        (|home| home.layout().pid_file(), 7),
        (|home| home.layout().server_file(), 7),
        (|home| home.layout().log_file(), 7),
        (|home| home.launcher(), 8),
        (|home| home.layout().models(), 7),
    ];
    for (path_in, status) in of_layout {
        let home = Home::new();
        let path = path_in(&home);
        if path == home.layout().models() {
            home.write(&path, "a file in place of a directory");
        } else {
            fs::create_dir_all(path.join("precious")).unwrap();
        }
        assert_foreseen(&home, status, &path, &["move"]);
    }
}

#[test]
fn a_pipe_is_neither_waited_for_nor_replaced() {
    let of_layout: [(PathOf, &str); 7] = [
        (Home::settings, "named pipe"),
        (|home| home.layout().state_file(), "named pipe"),
        (|home| home.layout().pid_file(), "named pipe"),
        (|home| home.layout().server_file(), "named pipe"),
        (|home| home.layout().log_file(), "symbolic link"),
        (|home| home.layout().decisions_file(), "symbolic link"),
        (|home| home.layout().terms_file(), "named pipe"),
    ];
    for (path_in, words) in of_layout {
        let home = Home::new();
        let (path, pipe) = (path_in(&home), home.beside("pipe"));
        make_pipe(&pipe);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&pipe, &path).unwrap();
        let run = home.install(&["--no-smoke"]).run();
        assert_ne!(run.status, 0, "{run:#?}");
        assert_says(&run.stdout, &[path.to_str().unwrap(), words]);
        for command in ["status", "doctor", "stop"] {
            home.gem(&[command]).run();
        }
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo(), "{}", path.display());
        fs::remove_file(&path).unwrap();
    }
}

/// The locks of a home.
const LOCKS: [PathOf; 3] = [
    |home| home.layout().lock_file(),
    |home| home.layout().server_lock_file(),
    |home| home.layout().engine_lock_file(),
];

/// Makes the second path another name for the file at the first.
type Link = fn(&Path, &Path);

const LINKS: [Link; 2] = [
    |real, link| symlink(real, link).unwrap(),
    |real, link| fs::hard_link(real, link).unwrap(),
];

/// A file that links in the home lead to; it must not be changed.
fn precious(home: &Home) -> PathBuf {
    let real = home.beside("precious");
    fs::write(&real, "precious").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    real
}

#[track_caller]
fn assert_precious(real: &Path) {
    assert_eq!(fs::read_to_string(real).unwrap(), "precious");
    assert_eq!(fs::metadata(real).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn gem_setups_files_are_not_written_through_links() {
    let logs: [PathOf; 2] = [|home| home.layout().log_file(), |home| home.layout().decisions_file()];
    for (path_in, link) in LOCKS
        .iter()
        .chain(&logs)
        .flat_map(|path_in| LINKS.map(|link| (path_in, link)))
    {
        let home = Home::new();
        let (path, real) = (path_in(&home), precious(&home));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        link(&real, &path);
        let status = if path == home.layout().lock_file() { 5 } else { 7 };
        assert_foreseen(&home, status, &path, &["link", "move"]);
        for command in [["stop"].as_slice(), &["settings", "remove"], &["uninstall"]] {
            home.gem(command).run();
        }
        assert_precious(&real);
    }
}

#[test]
fn start_refuses_a_linked_log_and_replaces_a_linked_pid_file() {
    for link in LINKS {
        let home = Home::new();
        home.install(&["--runtime", "builtin", "--no-start"]).ok();
        let real = precious(&home);
        let (log, pid) = (home.layout().log_file(), home.layout().pid_file());
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        link(&real, &log);
        let refused = home.gem(&["start"]).run();
        assert_ne!(refused.status, 0, "{refused:#?}");
        assert_says(&refused.stderr, &[&home.shown(&log), "link", "hint: move"]);
        fs::remove_file(&log).unwrap();

        link(&real, &pid);
        home.gem(&["start"]).ok();
        assert!(fs::symlink_metadata(&pid).unwrap().is_file());
        assert_says(&fs::read_to_string(&pid).unwrap(), &["binaryPath"]);
        home.gem(&["stop"]).ok();
        assert_precious(&real);
    }
}

#[test]
fn a_pipe_as_a_lock_is_not_waited_for() {
    for path_in in LOCKS {
        let home = Home::new();
        let path = path_in(&home);
        make_pipe(&path);
        let status = if path == home.layout().lock_file() { 5 } else { 7 };
        let foreseen = home.install(&["--dry-run", "--no-smoke"]).ends(status);
        assert_says(&foreseen.result()["error"].to_string(), &["named pipe", "move"]);
        for command in [
            ["stop"].as_slice(),
            &["status"],
            &["settings", "remove"],
            &["uninstall"],
        ] {
            home.gem(command).run();
        }
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    }
}

#[test]
fn a_log_that_is_dev_null_stays_so() {
    let home = Home::new();
    let log = home.layout().log_file();
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    symlink("/dev/null", &log).unwrap();
    home.install(&["--runtime", "builtin"]).ok();
    assert_eq!(fs::read_link(&log).unwrap(), Path::new("/dev/null"));
    assert!(fs::metadata(&log).unwrap().file_type().is_char_device());
}

#[test]
fn settings_with_two_names_stay_one_file() {
    let home = Home::new();
    let other = home.beside("dotfiles.json");
    fs::write(&other, "{\n  \"ui\": {}\n}\n").unwrap();
    fs::create_dir_all(home.layout().gemini()).unwrap();
    fs::hard_link(&other, home.settings()).unwrap();
    home.gem(&["settings", "apply"]).ok();
    assert_says(&fs::read_to_string(&other).unwrap(), &["gemmaModelRouter"]);
    home.gem(&["uninstall"]).ok();
    assert_eq!(fs::read_to_string(&other).unwrap(), "{\n  \"ui\": {}\n}\n");
}

#[test]
fn a_hard_link_to_the_record_is_not_changed() {
    let home = Home::installed();
    let other = home.beside("snapshot.json");
    fs::hard_link(home.layout().state_file(), &other).unwrap();
    let before = fs::read_to_string(&other).unwrap();
    let port = (home.port + 1).to_string();
    home.gem(&["install", "--no-start", "--port", &port]).ok();
    assert_eq!(fs::read_to_string(&other).unwrap(), before);
    assert_says(&fs::read_to_string(home.layout().state_file()).unwrap(), &[&port]);
}

/// Changes the file at `path`, but not its size and modification time.
fn flip_last_byte(path: &Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn verify_and_start_find_a_flipped_byte() {
    let home = Home::installed();
    let file = home.lit();
    flip_last_byte(&file);
    let check = home.doctor().check("runtime.checksum");
    assert_says(&check.to_string(), &["fail", "doctor --fix --verify"]);
    let verified = home.gem(&["doctor", "--json", "--verify"]).run();
    assert_eq!(verified.check("runtime.checksum")["status"], "fail");
    let refused = home.gem(&["start"]).ends(6);
    assert_says(&refused.stderr, &[&home.shown(&file), "doctor --fix --verify"]);
    home.gem(&["doctor", "--fix", "--verify"]).ok();
    home.gem(&["status"]).ok();
}

#[test]
fn no_command_runs_an_altered_runtime() {
    let home = Home::installed();
    let state = fs::read_to_string(home.layout().state_file()).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let path = state["hashed"][0]["path"].as_str().unwrap();
    assert!(Path::new(path).is_relative(), "a moved home keeps its hashes: {path}");
    let mut without_hashes = state.clone();
    without_hashes["hashed"] = json!([]);
    for state in [state, without_hashes] {
        home.write(&home.layout().state_file(), &state.to_string());
        flip_last_byte(&home.lit());
        let runs = ["list", "pull", "serve"].map(|verb| home.invocations(verb));
        for args in [
            ["start"].as_slice(),
            &["serve"],
            &["list"],
            &["pull", MODEL, "--force", "--accept-terms"],
        ] {
            let run = home.gem(args).ends(6);
            assert_says(&run.stderr, &["the catalog has", "doctor --fix --verify"]);
        }
        assert_eq!(["list", "pull", "serve"].map(|verb| home.invocations(verb)), runs);
        flip_last_byte(&home.lit());
        home.gem(&["list"]).ok();
    }
}

#[cfg(unix)]
#[test]
fn an_altered_engine_is_not_restarted() {
    let home = Home::serving();
    let (file, altered) = (home.lit(), home.beside("altered"));
    let good = home.beside("good");
    fs::copy(&file, &good).unwrap();
    fs::write(&altered, [fs::read(&file).unwrap(), b"\n".to_vec()].concat()).unwrap();
    gem_platform::file::make_executable(&altered).unwrap();
    fs::rename(&altered, &file).unwrap();
    let runs = home.invocations("serve");
    gem_platform::process::kill(&home.processes()[0]).unwrap();
    let log = || fs::read_to_string(home.layout().log_file()).unwrap();
    wait_until("the altered engine is refused", || log().contains("the catalog has"));
    assert_eq!(home.invocations("serve"), runs);
    fs::rename(&good, &file).unwrap();
    home.gem(&["status", "--wait", "60"]).ok();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_runtime_from_elsewhere_is_run() {
    let home = Home::new();
    let file = home.layout().lit_bin().join("lit.linux_x86_64");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, [crate::harness::executable(), b"\n".to_vec()].concat()).unwrap();
    gem_platform::file::make_executable(&file).unwrap();
    home.gem(&["start", "--runtime", "lit"]).ok();
}

/// Needs an account that may mount file systems.
#[cfg(target_os = "linux")]
mod mounted {
    use super::*;
    use crate::harness::Mount;

    #[test]
    fn a_home_without_execution_is_foreseen() {
        let home = Home::new();
        let Some(_mounted) = Mount::no_exec(home.layout().gemini()) else {
            return;
        };
        assert_foreseen(&home, 5, &home.layout().lit_bin(), &["noexec", "--home"]);
    }

    #[test]
    fn a_home_without_free_inodes_is_foreseen() {
        let home = Home::new();
        let Some(_mounted) = Mount::on(home.layout().gemini(), c"size=16m,nr_inodes=4") else {
            return;
        };
        assert_foreseen(&home, 5, &home.layout().gemini(), &["more files", "df -i"]);
    }

    #[test]
    fn a_read_only_home_is_foreseen() {
        let home = Home::new();
        let Some(mounted) = Mount::on(home.layout().gemini(), c"size=16m") else {
            return;
        };
        mounted.make_read_only();
        assert_foreseen(&home, 5, &home.layout().gemini(), &["mount", "writable"]);
    }

    #[test]
    fn settings_mounted_by_themselves_are_written_in_place() {
        let home = Home::new();
        let real = home.beside("host.json");
        let text = "{\n  // of the host\n  \"ui\": {}\n}\n";
        fs::write(&real, text).unwrap();
        home.write(&home.settings(), "");
        let Some(_mounted) = Mount::file(&real, home.settings()) else {
            return;
        };
        home.install(&["--runtime", "builtin", "--no-start"]).ok();
        assert_says(
            &fs::read_to_string(&real).unwrap(),
            &["// of the host", "gemmaModelRouter"],
        );
        home.gem(&["uninstall"]).ok();
        assert_eq!(fs::read_to_string(&real).unwrap(), text);
    }
}
