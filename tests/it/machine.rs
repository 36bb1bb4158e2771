//! What a machine can put in the way: each obstacle is named by `install`, `--dry-run` and `doctor` before anything is changed.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Home, assert_same, assert_says, tree};

/// A path of a home.
type PathOf = fn(&Home) -> PathBuf;

/// `install` and its plan end with `status` and name `path` with `words`; `doctor` names them too; nothing is changed.
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
fn a_gemini_link_that_leads_nowhere_is_foreseen() {
    let home = Home::new();
    let gemini = home.layout().gemini();
    symlink("/nowhere/at/all", &gemini).unwrap();
    assert_foreseen(&home, 5, &gemini, &["leads nowhere", "remove the link"]);
}

#[test]
fn read_only_settings_are_foreseen_through_links() {
    let home = Home::new();
    let real = home.beside("store.json");
    fs::write(&real, "{}").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o444)).unwrap();
    fs::create_dir_all(home.layout().gemini()).unwrap();
    symlink(&real, home.settings()).unwrap();
    assert_foreseen(&home, 8, &real, &["read-only", "chmod u+w"]);
}

#[test]
fn every_other_thing_in_a_files_place_is_foreseen() {
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
    let of_layout: [PathOf; 7] = [
        Home::settings,
        |home| home.layout().state_file(),
        |home| home.layout().pid_file(),
        |home| home.layout().server_file(),
        |home| home.layout().log_file(),
        |home| home.layout().decisions_file(),
        |home| home.layout().terms_file(),
    ];
    for path_in in of_layout {
        let home = Home::new();
        let (path, pipe) = (path_in(&home), home.beside("pipe"));
        make_pipe(&pipe);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&pipe, &path).unwrap();
        let run = home.install(&["--no-smoke"]).run();
        assert_ne!(run.status, 0, "{run:#?}");
        assert_says(&run.stdout, &[path.to_str().unwrap(), "named pipe"]);
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

#[test]
fn no_lock_overwrites_a_file_through_a_link() {
    let ways: [fn(&Path, &Path); 2] = [
        |real, link| symlink(real, link).unwrap(),
        |real, link| fs::hard_link(real, link).unwrap(),
    ];
    for (path_in, way) in LOCKS.iter().flat_map(|path_in| ways.map(|way| (path_in, way))) {
        let home = Home::new();
        let (path, real) = (path_in(&home), home.beside("precious"));
        fs::write(&real, "precious").unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        way(&real, &path);
        let status = if path == home.layout().lock_file() { 5 } else { 7 };
        assert_foreseen(&home, status, &path, &["link", "move"]);
        for command in [["stop"].as_slice(), &["settings", "remove"], &["uninstall"]] {
            home.gem(command).run();
        }
        assert_eq!(fs::read_to_string(&real).unwrap(), "precious");
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
fn a_file_of_ours_with_two_names_leaves_the_other_alone() {
    let home = Home::installed();
    let other = home.beside("snapshot.json");
    fs::hard_link(home.layout().state_file(), &other).unwrap();
    let before = fs::read_to_string(&other).unwrap();
    let port = (home.port + 1).to_string();
    home.gem(&["install", "--no-start", "--port", &port]).ok();
    assert_eq!(fs::read_to_string(&other).unwrap(), before);
    assert_says(&fs::read_to_string(home.layout().state_file()).unwrap(), &[&port]);
}

#[test]
fn a_flipped_byte_is_found_by_verify_and_by_start() {
    let home = Home::installed();
    let file = home.lit();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    assert_eq!(home.doctor().check("runtime.checksum")["status"], "ok");
    let verified = home.gem(&["doctor", "--json", "--verify"]).run();
    assert_eq!(verified.check("runtime.checksum")["status"], "fail");
    let refused = home.gem(&["start"]).ends(6);
    assert_says(&refused.stderr, &[file.to_str().unwrap(), "doctor --fix --verify"]);
    home.gem(&["doctor", "--fix", "--verify"]).ok();
    home.gem(&["status"]).ok();
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
    fn a_home_that_takes_no_more_files_is_foreseen() {
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
