use std::path::PathBuf;

use super::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lit.exe");
    std::fs::write(&path, "old").unwrap();
    (dir, path)
}

#[test]
fn a_file_made_executable_is_executable() {
    let (_dir, path) = scratch();
    make_executable(&path).unwrap();
    assert!(is_executable(&path).unwrap());
    make_executable(&path).unwrap();
}

#[test]
fn a_missing_file_is_an_error_for_every_question() {
    let (dir, _) = scratch();
    let gone = dir.path().join("gone.exe");
    assert!(make_executable(&gone).is_err());
    assert!(is_executable(&gone).is_err());
    assert!(quarantine(&gone).is_err());
    assert!(strip_quarantine(&gone).is_err());
}

#[test]
fn a_directory_is_not_executable() {
    assert!(!is_executable(tempfile::tempdir().unwrap().path()).unwrap());
}

#[cfg(unix)]
#[test]
fn execution_is_given_to_those_who_may_read() {
    use std::os::unix::fs::PermissionsExt;

    let (_dir, path) = scratch();
    for (before, after) in [(0o644, 0o755), (0o600, 0o700), (0o640, 0o750)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(before)).unwrap();
        assert!(!is_executable(&path).unwrap(), "{before:o}");
        make_executable(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, after);
    }
}

#[cfg(not(target_os = "macos"))]
#[test]
fn only_macos_has_a_quarantine() {
    let (_dir, path) = scratch();
    assert_eq!(quarantine(&path).unwrap(), None);
    assert!(!strip_quarantine(&path).unwrap());
}

#[test]
fn a_file_goes_over_another_one() {
    let (dir, path) = scratch();
    let new = dir.path().join("new");
    std::fs::write(&new, "new").unwrap();
    replace(&new, &path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert!(!new.exists());
}

#[test]
fn a_move_of_nothing_names_both_paths_and_leaves_the_target() {
    let (dir, path) = scratch();
    let error = replace(&dir.path().join("gone"), &path).unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("lit.exe"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
}

/// A file that the system keeps open is either replaced or reported as in use, and is whole in both cases.
#[test]
fn a_file_held_open_is_replaced_or_reported_and_never_torn() {
    let (dir, path) = scratch();
    let new = dir.path().join("new");
    std::fs::write(&new, "new").unwrap();
    let mut options = OpenOptions::new();
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 1);
    let held = options.read(true).open(&path).unwrap();
    assert_eq!(is_locked(&path), cfg!(windows));
    assert_eq!(wait_until_free(&path).is_err(), cfg!(windows));
    let outcome = replace(&new, &path);
    drop(held);
    let content = std::fs::read_to_string(&path).unwrap();
    if cfg!(windows) {
        assert!(matches!(outcome, Err(ReplaceError::InUse { .. })), "{outcome:?}");
        assert_eq!(content, "old");
        wait_until_free(&path).unwrap();
        replace(&new, &path).unwrap();
    } else {
        outcome.unwrap();
        assert_eq!(content, "new");
    }
}

#[test]
fn a_temporary_file_that_cannot_be_put_in_place_leaves_no_scrap() {
    let (dir, path) = scratch();
    let taken = dir.path().join("directory");
    std::fs::create_dir(&taken).unwrap();
    let temporary = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
    let error = io::Error::from(persist(temporary, &taken).unwrap_err());
    assert!(error.to_string().contains("directory"), "{error}");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        2,
        "{path:?} and the directory"
    );
}

#[test]
fn writing_makes_directories_and_leaves_no_scraps() {
    let (dir, _) = scratch();
    let path = dir.path().join("Ünï côdé").join("deep").join("unit.service");
    write_atomic(&path, b"one", Readers::Usual).unwrap();
    write_atomic(&path, b"two", Readers::Usual).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_path_longer_than_windows_old_limit_can_be_written_and_replaced() {
    let (dir, _) = scratch();
    let path = (0..12)
        .fold(dir.path().to_owned(), |path, _| {
            path.join("a directory with a long name")
        })
        .join("lit.exe");
    assert!(path.as_os_str().len() > 260);
    write_atomic(&path, b"one", Readers::Usual).unwrap();
    write_atomic(&path, b"two", Readers::Usual).unwrap();
    make_executable(&path).unwrap();
    assert!(is_executable(&path).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
}

#[test]
fn a_directory_that_is_not_there_cannot_be_synced() {
    let (dir, _) = scratch();
    sync_dir(dir.path()).unwrap();
    sync_dir(&dir.path().join("missing")).unwrap_err();
}

#[test]
fn permissions_are_those_of_the_model() {
    let (dir, model) = scratch();
    let mut permissions = std::fs::metadata(&model).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&model, permissions.clone()).unwrap();
    let path = dir.path().join("file");
    keep_access(&model, &File::create(&path).unwrap()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions(), permissions);
}

#[cfg(unix)]
#[test]
fn a_private_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let (_dir, path) = scratch();
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    let path = path.with_extension("private");
    let file = open_private(&mut options, &path).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_directory_that_several_make_at_once_is_there_for_each() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let path = dir.path().join(format!("{round}/inner"));
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    private_dir(&path).unwrap();
                });
            }
        });
    }
}
