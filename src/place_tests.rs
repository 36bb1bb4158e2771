//! Files in their places: written, refused and found beforehand.

use gem_platform::Os;

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_and_its_directories_are_created() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/file");
    check(&path).unwrap();
    assert_eq!(names(dir.path()), [""; 0], "looking changes nothing");
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(path.parent().unwrap()), ["file"], "no temporary file stays");
}

#[test]
fn a_new_file_has_the_permissions_of_any_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    let path = dir.path().join("file");
    write_atomic(&path, b"new").unwrap();
    let permissions = |path: &Path| fs::metadata(path).unwrap().permissions();
    assert_eq!(permissions(&path), permissions(&plain));
}

#[test]
fn a_directory_in_place_of_the_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::create_dir(&path).unwrap();
    for error in [
        check(&path).unwrap_err().source,
        write_atomic(&path, b"new").unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn a_read_only_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    for error in [
        check(&path).unwrap_err().source,
        write_atomic(&path, b"new").unwrap_err(),
    ] {
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_file_where_the_directory_should_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "").unwrap();
    let path = dir.path().join("a/file");
    assert_eq!(check(&path).unwrap_err().path, dir.path().join("a"));
    assert!(write_atomic(&path, b"new").is_err());
    assert_eq!(names(dir.path()), ["a"]);
}

#[test]
fn hard_links_are_kept_for_shared_files_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [file, other] = ["file", "other"].map(|name| dir.path().join(name));
    fs::write(&file, "old").unwrap();
    fs::hard_link(&file, &other).unwrap();
    write_shared(&file, b"shared").unwrap();
    if Os::HOST != Os::Windows {
        assert_eq!(fs::read(&other).unwrap(), b"shared");
    }
    let before = fs::read(&other).unwrap();
    write_atomic(&file, b"own").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"own");
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn a_copy_never_replaces_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let error = write_new_like(&path, &path, b"new").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}
