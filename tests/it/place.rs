//! Symbolic links and modes, which only some systems have.
#![cfg(unix)]

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gem_platform::Os;
use gem_setup::environment::Environment;
use gem_setup::place::{write_atomic, write_own};
use gem_setup::router::{DecisionLog, DecisionRecord, Source};
use gem_setup::settings::{self, Destination, Outcome, Places, RouterValues};

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o7777)
}

#[test]
fn a_file_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for bits in [0o600, 0o640, 0o666] {
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(mode(&path).unwrap(), bits);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dotfiles")).unwrap();
    let target = dir.path().join("dotfiles/settings.json");
    fs::write(&target, "old").unwrap();
    symlink("dotfiles/settings.json", dir.path().join("middle")).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("middle"), &link).unwrap();

    write_atomic(&link, b"new").unwrap();

    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(fs::read_link(&link).unwrap(), dir.path().join("middle"));
    assert!(fs::symlink_metadata(&target).unwrap().is_file());
}

#[test]
fn a_dangling_link_gets_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink("later/file", &link).unwrap();
    write_atomic(&link, b"new").unwrap();
    assert_eq!(fs::read(dir.path().join("later/file")).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn links_in_a_circle_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    assert!(write_atomic(&dir.path().join("a"), b"new").is_err());
}

#[test]
fn a_link_in_place_of_our_file_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    fs::write(&theirs, "precious").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o444)).unwrap();
    for target in [&theirs, &dir.path().join("none")] {
        symlink(target, &ours).unwrap();
        write_own(&ours, b"new").unwrap();
        assert!(!ours.is_symlink());
        assert_eq!(fs::read(&ours).unwrap(), b"new");
        fs::remove_file(&ours).unwrap();
    }
    assert_eq!(fs::read(&theirs).unwrap(), b"precious");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_link_is_appended_to_only_if_it_leads_to_a_device() {
    let dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
    fs::write(&theirs, "precious").unwrap();
    let before = fs::metadata(&theirs).unwrap().permissions();
    let lost = || {
        let log = DecisionLog::start(ours.clone()).unwrap();
        log.record(DecisionRecord::new(Source::Default, "m"));
        log.flush();
        log.lost()
    };
    for link in [
        |from: &Path, to: &Path| symlink(from, to),
        |from: &Path, to: &Path| fs::hard_link(from, to),
    ] {
        link(&theirs, &ours).unwrap();
        assert_eq!(lost(), 1);
        fs::remove_file(&ours).unwrap();
    }
    symlink("/dev/null", &ours).unwrap();
    assert_eq!(lost(), 0);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "precious");
    assert_eq!(fs::metadata(&theirs).unwrap().permissions(), before);
}

#[test]
fn every_user_can_read_the_machines_settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/settings.json");
    let variable = "GEMINI_CLI_SYSTEM_SETTINGS_PATH".to_owned();
    let environment = Environment::new([(variable, path.display().to_string())], dir.path(), dir.path());
    let places = Places::new(Os::Linux, &environment, dir.path());
    let (backups, now) = (dir.path().join("backups"), jiff::Timestamp::UNIX_EPOCH);
    settings::apply(&places, &environment, Destination::System, &values(), &backups, now).unwrap();
    assert_eq!(mode(&path).unwrap() & 0o444, 0o444);
    assert_eq!(mode(path.parent().unwrap()).unwrap() & 0o555, 0o555);
}

fn values() -> RouterValues {
    RouterValues {
        port: 9379,
        model: "m".to_owned(),
        binary: "/opt/gem-setup".into(),
    }
}

#[test]
fn secret_settings_stay_secret_linked_and_restorable() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir_all(home.join(".gemini")).unwrap();
    let target = dir.path().join("dotfiles.json");
    fs::write(&target, "{ \"secret\": 1 }").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    let link = home.join(".gemini/settings.json");
    symlink(&target, &link).unwrap();

    let environment = Environment::new([], dir.path(), &home);
    let places = Places::new(Os::Linux, &environment, &home);
    let backups = dir.path().join("backups");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let applied = settings::apply(&places, &environment, Destination::User, &values(), &backups, now).unwrap();

    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("binaryPath"));
    assert_eq!(mode(&target).unwrap(), 0o600);
    assert_eq!(
        mode(applied.files[0].backup.as_ref().unwrap()).unwrap(),
        0o600,
        "the backup is as secret as the file"
    );

    let removed = settings::remove(&applied, &backups, now).unwrap();
    assert_eq!(removed[0].outcome, Outcome::Restored);
    assert_eq!(fs::read_to_string(&target).unwrap(), "{ \"secret\": 1 }");
    assert_eq!(mode(&target).unwrap(), 0o600);
}
