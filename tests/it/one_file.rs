//! A workspace's settings that are the user's own, by a link or because the workspace is the home, are the user's.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::harness::{Home, assert_says};

const INSTALL: [&str; 5] = ["install", "--runtime", "builtin", "--no-start", "--no-smoke"];
const MINE: &str = "{\n  // mine\n  \"vimMode\": true\n}\n";

/// Makes the workspace's file another name of the user's.
type Link = fn(&Path, &Path);

#[test]
fn one_settings_file_is_written_once_as_the_user_s() {
    let links: [Link; 3] = [
        |user, workspace| symlink(user, workspace).unwrap(),
        |user, workspace| fs::hard_link(user, workspace).unwrap(),
        |user, workspace| {
            fs::remove_dir(workspace.parent().unwrap()).unwrap();
            symlink(user.parent().unwrap(), workspace.parent().unwrap()).unwrap();
        },
    ];
    for link in links {
        let home = Home::new();
        home.write(&home.settings(), MINE);
        let workspace = home.work().join(".gemini/settings.json");
        fs::create_dir_all(workspace.parent().unwrap()).unwrap();
        link(&home.settings(), &workspace);
        assert_installs(&home, &home.work());
        assert_eq!(fs::read_to_string(&workspace).unwrap(), MINE);
    }
}

#[test]
fn the_home_as_workspace_needs_no_trust() {
    let home = Home::new();
    home.write(&home.settings(), MINE);
    assert_installs(&home, &home.path());
}

/// `install --scope workspace` in `directory` and `doctor` succeed, and `uninstall` restores the user's file.
#[track_caller]
fn assert_installs(home: &Home, directory: &Path) {
    let port = home.port.to_string();
    let install = home.gem(&INSTALL).args(["--scope", "workspace", "--port", &port]);
    let run = install.within(directory).ok();
    assert_says(&run.stderr, &["~/.gemini/settings.json"]);
    assert!(!run.stderr.contains("trust"), "{run:#?}");
    let text = fs::read_to_string(home.settings()).unwrap();
    assert_says(&text, &["// mine", "classifier", "binaryPath"]);
    let doctor = home.doctor_command().within(directory).run();
    assert_eq!(doctor.faults(), ["server.process"]);
    home.gem(&["uninstall"]).within(directory).ok();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), MINE);
}

#[test]
fn text_that_only_json_parse_reads_is_kept() {
    for text in [
        "{\"a\": \"\\ud800\", \"b\": [1e999, -1e400]}",
        "{\"\\udc00\": \"\\uD800x\", \"experimental\": {\"gemmaModelRouter\": {\"enabled\": false}}}\n",
        "{} /* never closed",
    ] {
        let home = Home::new();
        home.write(&home.settings(), text);
        home.gem(&["settings", "apply"]).ok();
        let applied = fs::read_to_string(home.settings()).unwrap();
        for mark in ["\\ud800", "1e999", "-1e400", "\\udc00", "\\uD800x", "/* never closed"] {
            assert_eq!(applied.contains(mark), text.contains(mark), "{applied}");
        }
        assert_eq!(home.gem(&["settings", "apply", "--json"]).ok().json()["changed"], false);
        home.gem(&["uninstall"]).ok();
        assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);
    }
}

#[test]
fn the_advice_for_an_empty_file_works() {
    let home = Home::new();
    home.write(&home.settings(), " \n");
    let run = home.gem(&INSTALL).ends(8);
    assert_says(
        &run.stderr,
        &["contains no value", "write `{}` into `~/.gemini/settings.json`"],
    );
    fs::write(home.settings(), "{}").unwrap();
    home.gem(&INSTALL).ok();
}
