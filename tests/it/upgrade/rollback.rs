//! Rollbacks to the previous release, and of the settings.

use std::fs;

#[cfg(unix)]
use super::running;
use super::{assert_answers, release, state, upgrade};
#[cfg(unix)]
use crate::harness::executable;
use crate::harness::{Home, assert_says};

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

#[test]
fn a_deleted_release_can_be_upgraded_to_again() {
    let home = Home::serving();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let program = home.lit_in_use();
    fs::remove_file(&program).unwrap();
    assert_eq!(upgrade(&home, "v10").ok().changed(), ["runtime"]);
    assert!(program.exists());
    // The directory contained the copy of the release's catalog.
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
fn a_previous_release_without_its_catalog_is_named() {
    let home = Home::installed();
    home.release("v10", &release("ten"));
    upgrade(&home, "v10").ok();
    let catalog = home.layout().own().join("catalog.toml");
    fs::remove_file(&catalog).unwrap();
    let before = state(&home);
    let run = home.gem(&["rollback", "runtime"]).ends(7);
    let gone = format!("cannot roll the runtime back: `{}` is gone", home.shown(&catalog));
    assert_says(&run.stderr, &[&gone, "gem-setup doctor"]);
    assert!(!run.stderr.contains("--catalog"), "{run:#?}");
    assert_eq!(state(&home), before);
}
