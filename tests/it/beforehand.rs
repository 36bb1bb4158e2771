//! What a command must lock, read and write is looked at before anything is changed, and named by its own path.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::harness::{Home, Mount, assert_same, assert_says, free_port, tree, wait_until};

/// A home with the built-in runtime and a running server.
fn serving() -> Home {
    let home = Home::new();
    home.install(&["--runtime", "builtin"]).ok();
    home
}

/// `uninstall` and its plan end with `status` and say `words`; the server keeps running, and no file is changed.
#[track_caller]
fn assert_refused(home: &Home, status: i32, words: &[&str]) {
    let before = tree(&home.path(), &[]);
    for more in [["--dry-run"].as_slice(), &["--purge", "--yes"]] {
        let run = home.gem(&["uninstall"]).args(more).ends(status);
        assert_says(&run.stderr, words);
        assert!(!run.stderr.contains("--home"), "{run:#?}");
    }
    assert_same(&before, &tree(&home.path(), &[]));
    assert_eq!(home.gem(&["status", "--json"]).run().json()["running"], true);
}

/// Sets or clears a mark of `path`; `false` where the file system or this account cannot.
fn mark(path: &Path, change: &str) -> bool {
    let done = Command::new("chattr").arg(change).arg(path).output();
    done.is_ok_and(|done| done.status.success())
}

#[test]
fn uninstall_looks_for_immutable_settings_first() {
    let home = serving();
    if !mark(&home.settings(), "+i") {
        return;
    }
    assert_refused(&home, 8, &["~/.gemini/settings.json", "immutable", "chattr -i"]);
    assert!(mark(&home.settings(), "-i"));
    home.gem(&["uninstall"]).ok();
}

#[test]
fn uninstall_looks_for_a_read_only_mount_first_and_names_it_once() {
    let home = serving();
    let Some(frozen) = Mount::frozen(home.layout().gemini()) else {
        return;
    };
    let run = home.gem(&["uninstall"]).ends(8);
    assert_eq!(run.stderr.matches("Read-only").count(), 1, "{run:#?}");
    assert_refused(&home, 8, &["`~/.gemini` cannot be used", "mount the file system"]);
    let plan = home.gem(&["install", "--dry-run", "--runtime", "builtin", "--port", "1025"]);
    let plan = plan.run();
    assert_eq!(plan.stderr.matches("Read-only").count(), 1, "{plan:#?}");
    drop(frozen);
    home.gem(&["uninstall"]).ok();
}

/// `args` end with `status` and say `words`; no file but the lock is changed.
#[track_caller]
fn assert_looks(home: &Home, args: &[&str], status: i32, words: &[&str]) {
    let before = tree(&home.path(), &["lock"]);
    let run = home.gem(args).ends(status);
    assert_says(&run.stderr, words);
    assert!(!run.stderr.contains("--home"), "{run:#?}");
    assert_same(&before, &tree(&home.path(), &["lock"]));
}

/// Puts each kind of a wrong file in the place of `path`, and calls `check` with its name.
fn misplace(path: &Path, check: impl Fn(&str)) {
    fs::write(path, "precious").unwrap();
    check("file");
    fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    check("pipe");
    fs::remove_file(path).unwrap();
    symlink("/nowhere", path).unwrap();
    check("link");
    fs::remove_file(path).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_commands_for_settings_look_at_the_record_first() {
    let home = Home::new();
    home.gem(&["settings", "apply"]).ok();
    let record = home.layout().state_file();
    set_mode(&record, 0o444);
    for args in [["settings", "remove"], ["rollback", "settings"]] {
        assert_looks(&home, &args, 8, &["state.json", "read-only", "chmod u+rw"]);
    }
    home.write(&home.settings(), "{}");
    assert_looks(&home, &["settings", "apply"], 8, &["state.json", "read-only"]);
    set_mode(&record, 0o644);
    fs::create_dir(home.layout().mirrors_file()).unwrap();
    assert_looks(&home, &["settings", "apply"], 8, &["gem-setup/mirrors", "directory"]);
    fs::remove_dir(home.layout().mirrors_file()).unwrap();
    home.gem(&["settings", "apply"]).ok();
}

#[test]
fn settings_apply_looks_at_the_settings_first() {
    let home = Home::new();
    home.write(&home.settings(), "{}");
    set_mode(&home.settings(), 0o444);
    assert_looks(&home, &["settings", "apply"], 8, &["settings.json", "read-only"]);
    set_mode(&home.settings(), 0o644);
    misplace(&home.work().join(".gemini"), |what| {
        let words = ["work/.gemini`", what];
        assert_looks(&home, &["settings", "apply", "--scope", "workspace"], 8, &words);
    });
    assert!(!home.layout().own().exists());
}

#[test]
fn a_rollback_of_settings_reverts_all_files_or_none() {
    let home = Home::new();
    home.gem(&["settings", "apply", "--scope", "workspace"]).ok();
    let workspace = home.work().join(".gemini/settings.json");
    fs::remove_file(&workspace).unwrap();
    assert!(Command::new("mkfifo").arg(&workspace).status().unwrap().success());
    assert_looks(
        &home,
        &["rollback", "settings"],
        8,
        &["work/.gemini/settings.json", "named pipe"],
    );
    fs::remove_file(&workspace).unwrap();
    home.write(&workspace, "{}");
    set_mode(&workspace, 0o444);
    home.gem(&["rollback", "settings"]).ok();
}

#[test]
fn a_server_that_could_not_start_again_is_not_stopped() {
    let home = serving();
    let pid = || home.gem(&["status", "--json"]).run().json()["pid"].clone();
    let before = pid();
    let log = home.layout().log_file();
    fs::rename(&log, log.with_extension("aside")).unwrap();
    fs::create_dir(&log).unwrap();
    let run = home.gem(&["restart"]).ends(7);
    assert_says(&run.stderr, &["cannot begin", "litert-server.log", "directory"]);
    assert_eq!(pid(), before);
    fs::remove_dir(&log).unwrap();
    fs::rename(log.with_extension("aside"), &log).unwrap();
    let own = home.layout().own();
    if mark(&own, "+i") {
        let run = home.gem(&["restart"]).ends(7);
        assert!(mark(&own, "-i"));
        assert_says(&run.stderr, &["`~/.gemini/gem-setup` cannot be used", "chattr -i"]);
        assert_eq!(pid(), before);
    }
    home.gem(&["restart"]).ok();
    assert_ne!(pid(), before);
}

#[test]
fn uninstall_looks_at_the_directory_for_copies_and_at_the_servers_lock() {
    let home = serving();
    let backups = home.layout().backups();
    fs::rename(&backups, home.beside("backups")).ok();
    misplace(&backups, |what| assert_refused(&home, 8, &["gem-setup/backups", what]));
    let lock = home.layout().server_lock_file();
    fs::rename(&lock, home.beside("lock")).unwrap();
    fs::create_dir(&lock).unwrap();
    let before = tree(&home.path(), &[]);
    for more in [["--dry-run"].as_slice(), &[]] {
        let run = home.gem(&["uninstall"]).args(more).ends(1);
        assert_says(&run.stderr, &["gem-setup/server.lock", "directory"]);
    }
    assert_same(&before, &tree(&home.path(), &[]));
    fs::remove_dir(&lock).unwrap();
    fs::rename(home.beside("lock"), &lock).unwrap();
}

#[test]
fn a_repeated_step_looks_at_its_files_too() {
    let home = serving();
    let log = home.layout().log_file();
    fs::rename(&log, log.with_extension("aside")).unwrap();
    fs::create_dir(&log).unwrap();
    let pid = || home.gem(&["status", "--json"]).run().json()["pid"].clone();
    let before = pid();
    for more in [["--dry-run"].as_slice(), &[]] {
        let run = home.install(&["--runtime", "builtin", "--force"]).args(more).ends(7);
        assert_says(&run.stderr, &["cannot begin", "litert-server.log"]);
    }
    assert_eq!(pid(), before);
    fs::remove_dir(&log).unwrap();
}

#[test]
fn install_looks_at_the_trusted_folders_first() {
    let home = Home::new();
    let trusted = home.path().join(".gemini/trustedFolders.json");
    fs::create_dir_all(&trusted).unwrap();
    for more in [["--dry-run"].as_slice(), &[], &["--force"]] {
        let run = home.install(&["--runtime", "builtin"]).args(more).ends(8);
        assert_says(&run.stderr, &["trustedFolders.json", "directory"]);
    }
    assert!(!home.layout().own().exists());
}

#[test]
fn a_limit_on_file_sizes_is_found_before_anything_is_written() {
    let home = Home::new();
    let install = home.install(&["--runtime", "builtin"]);
    let run = install.under(&["sh", "-c", "ulimit -f 1; exec \"$0\" \"$@\""]).run();
    assert_ne!(run.status, 0);
    assert_says(&run.stderr, &["no file may have more than", "`ulimit -f unlimited`"]);
    home.assert_untouched();
}

#[test]
fn the_recorded_workspace_does_not_follow_the_current_directory() {
    let home = Home::new();
    let install = ["install", "--runtime", "builtin", "--no-start", "--scope", "workspace"];
    home.gem(&install).env("GEMINI_CLI_TRUST_WORKSPACE", "true").ok();
    let other = home.beside("other");
    fs::create_dir(&other).unwrap();
    let before = tree(&home.path(), &[]);
    for args in [
        ["install", "--no-start"].as_slice(),
        &["install", "--dry-run"],
        &["settings", "apply"],
        &["settings", "remove"],
    ] {
        let run = home.gem(args).within(&other).ends(2);
        assert_says(
            &run.stderr,
            &["work`", "recorded scope", "run the command in", "`--scope user`"],
        );
    }
    assert_same(&before, &tree(&home.path(), &[]));
    assert!(!other.join(".gemini").exists());
    let scope = home.gem(&["install", "--no-start", "--scope", "user"]).within(&other);
    scope.ok();
}

#[test]
fn uninstall_does_not_mind_settings_in_which_there_is_nothing_to_write() {
    let home = Home::new();
    home.write(&home.settings(), "{}");
    home.install(&["--runtime", "builtin", "--no-settings"]).ok();
    if !mark(&home.settings(), "+i") {
        return;
    }
    home.gem(&["uninstall"]).ok();
    assert!(mark(&home.settings(), "-i"));
}

#[test]
fn a_link_that_leads_in_a_circle_is_named_itself() {
    for name in [".gemini", ".gemini/gem-setup", ".gemini/tmp"] {
        let home = Home::new();
        let link = home.path().join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(&link, &link).unwrap();
        for command in [["install", "--dry-run", "--accept-terms"].as_slice(), &["doctor"]] {
            let run = home.gem(command).run();
            let said = run.stdout.clone() + &run.stderr;
            assert_says(
                &said,
                &["leads in a circle", &format!("move `~/{name}` somewhere else")],
            );
        }
    }
}

#[test]
fn uninstall_names_what_lies_in_place_of_its_directory() {
    let home = Home::new();
    let own = home.layout().own();
    home.write(&own, "precious");
    let words = |what: &str| format!("`~/.gemini/gem-setup` cannot be used: it is {what}, not a directory");
    let run = home.gem(&["uninstall"]).ends(1);
    assert_says(&run.stderr, &[&words("a file"), "move `~/.gemini/gem-setup`"]);
    fs::remove_file(&own).unwrap();
    assert!(Command::new("mkfifo").arg(&own).status().unwrap().success());
    let run = home.gem(&["uninstall"]).ends(1);
    assert_says(&run.stderr, &[&words("a named pipe")]);
}

#[test]
fn a_running_server_repairs_its_damaged_record() {
    let home = serving();
    let file = home.layout().server_file();
    let pid = home.gem(&["status", "--json"]).run().json()["pid"].clone();
    fs::write(&file, "{\"process\":").unwrap();
    wait_until("the record is whole again", || {
        let text = fs::read(&file).unwrap();
        serde_json::from_slice::<Value>(&text).is_ok_and(|record| record["process"]["pid"] == pid)
    });
    assert_says(&home.gem(&["start"]).ok().stdout, &["already running"]);
}

#[test]
fn no_option_waits_for_the_writer_of_a_pipe() {
    let home = Home::new();
    let pipe = home.beside("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let config = home.gem(&["install", "--config"]).arg(&pipe).ends(2);
    assert_says(&config.stderr, &["pipe", "into which no program writes"]);
    for option in ["--history", "--batch"] {
        let run = home.gem(&["route", option]).arg(&pipe).run();
        assert_says(&run.stderr, &["into which no program writes"]);
    }
    // The shell's `<(…)` has a writer.
    let script =
        "\"$0\" --home \"$1\" --config <(sleep 0.2; echo 'port = 4321') install --dry-run --runtime builtin -v";
    let run = home
        .program("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_gem-setup")]);
    let run = run.arg(home.path()).run();
    assert_says(&run.stderr, &["port 4321", "read `/dev/fd/"]);
}

#[test]
fn a_pipe_in_place_of_the_runtime_is_not_replaced() {
    let home = Home::installed();
    fs::remove_file(home.lit()).unwrap();
    assert!(Command::new("mkfifo").arg(home.lit()).status().unwrap().success());
    let run = home.install(&["--no-start"]).ends(5);
    assert_says(&run.result()["error"]["message"].to_string(), &["named pipe"]);
    let doctor = home.gem(&["doctor"]).ends(10);
    assert_eq!(doctor.stdout.matches("named pipe").count(), 1, "{doctor:#?}");
}

#[test]
fn inodes_for_a_new_home_suffice_after_the_lock_too() {
    let home = Home::new();
    let Some(_mounted) = Mount::on(home.layout().gemini(), c"size=16m,nr_inodes=17") else {
        return;
    };
    home.install(&["--runtime", "builtin", "--no-start", "--no-smoke"]).ok();
}

#[test]
fn a_python_that_hangs_is_asked_once() {
    let mut home = Home::new();
    let bin = home.beside("bin");
    fs::create_dir(&bin).unwrap();
    let python = bin.join("python3");
    let script = format!(
        "#!/bin/sh\necho asked >> '{0}/asked'\nexec /bin/sleep 1000\n",
        home.path().display()
    );
    fs::write(&python, script).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    home.set("PATH", bin.to_str().unwrap());
    fs::write(home.catalog(), "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n").unwrap();
    // Without a tool to install it, the runtime cannot be put in place.
    let run = home.install(&["--runtime", "litert-lm", "--no-model"]).ends(5);
    assert_says(run.result()["error"]["message"].as_str().unwrap(), &["did not answer"]);
    let asked = fs::read_to_string(home.path().join("asked")).unwrap();
    assert_eq!(asked.lines().count(), 1, "{asked}");
}

#[test]
fn a_runtime_that_does_not_run_is_one_fault() {
    let mut home = Home::new();
    let bin = home.beside("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("litert-lm");
    let write = |script: &str| {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("echo 'litert-lm, version 9.1'");
    home.set("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    fs::write(home.catalog(), "format = 1\n[runtime.litert-lm]\nversion = \"9.1\"\n").unwrap();
    home.install(&["--runtime", "litert-lm", "--no-model", "--no-start", "--no-smoke"])
        .ok();
    write("echo broken-somehow >&2; exit 3");
    let run = home.doctor();
    let named: Vec<String> = run
        .faults()
        .into_iter()
        .filter(|id| id.starts_with("runtime."))
        .collect();
    assert_eq!(named, ["runtime.binary"], "{run:#?}");
    assert_says(
        run.check("runtime.binary")["detail"].as_str().unwrap(),
        &["broken-somehow"],
    );
}

#[test]
fn faulty_options_of_the_server_are_found_first() {
    let home = Home::new();
    fs::write(home.beside("models.toml"), "broken").unwrap();
    let port = free_port().to_string();
    let upstream = format!("upstream = 'http://127.0.0.1:{port}'");
    let certificate = format!("tls_cert = '{}'", home.beside("models.toml").display());
    let models = format!("models = '{}'", home.beside("models.toml").display());
    let install = ["install", "--runtime", "builtin", "--port", &port];
    let config = home.layout().config_file();
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    for (line, says) in [
        ("listen = '0.0.0.0'", "not a loopback address"),
        ("token_file = '/nope'", "No such file"),
        (&certificate, "--tls-key"),
        ("account = 'vip'", "no-preview"),
        (&upstream, "this server itself"),
        (&models, "models.toml"),
    ] {
        fs::write(&config, line).unwrap();
        let before = tree(&home.path(), &[]);
        for more in [["--dry-run"].as_slice(), &[]] {
            let run = home.gem(&install).args(more).ends(2);
            assert_says(&run.stderr, &["cannot start the server", says]);
            assert!(!run.stderr.contains("ignored"), "{run:#?}");
        }
        assert_same(&before, &tree(&home.path(), &[]));
    }
    fs::remove_file(&config).unwrap();
    home.gem(&install).ok();
    fs::write(&config, "listen = '0.0.0.0'").unwrap();
    let says = ["warn server.options", "the next start will fail"];
    assert_says(&home.gem(&["doctor"]).ok().stdout, &says);
}
