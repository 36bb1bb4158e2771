//! Files on Windows.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION};

/// The system's error for links in a circle: `ERROR_CANT_RESOLVE_FILENAME`.
pub(super) const LINK_LOOP: i32 = 1921;

pub(super) fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn identity(_: &Path) -> Option<u64> {
    None
}

pub(super) fn make_executable(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map(|_| ())
}

/// A running program cannot be replaced, but it can be moved away.
pub(super) fn replace_own_program(_: &Path, new: &Path) -> io::Result<()> {
    self_replace::self_replace(new)
}

pub(super) fn replace_program(new: &Path, to: &Path, old: &Path) -> io::Result<()> {
    let _ = std::fs::remove_file(old);
    match std::fs::rename(to, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if let Err(error) = super::replace(new, to) {
        let _ = std::fs::rename(old, to);
        return Err(error.into());
    }
    let _ = std::fs::remove_file(old);
    Ok(())
}

pub(super) fn make_program(path: &Path) -> io::Result<()> {
    make_executable(path)
}

pub(super) fn make_readable(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path)
}

pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

pub(super) fn is_exposed(_: &Metadata) -> bool {
    false
}

pub(super) fn is_roots_alone(_: &Metadata) -> bool {
    true
}

pub(super) fn is_hidden_from_users(_: &Metadata) -> bool {
    false
}

pub(super) fn keep_new_files_ours() {}

pub(super) fn is_executable(path: &Path) -> io::Result<bool> {
    let is_program = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("exe"));
    Ok(std::fs::metadata(path)?.is_file() && is_program)
}

pub(super) fn path_from(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

pub(super) fn quarantine(path: &Path) -> io::Result<Option<String>> {
    std::fs::metadata(path).map(|_| None)
}

pub(super) fn strip_quarantine(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}

pub(super) fn is_locked(path: &Path) -> bool {
    // Exclusive access is granted only to a file that no program has open, runs or has loaded.
    let exclusive = OpenOptions::new().read(true).write(true).share_mode(0).open(path);
    exclusive.is_err_and(|error| matches!(code(&error), Some(ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION)))
}

/// A rename over a running program or a loaded library fails as "access denied", one over an open file as "in use".
pub(super) fn is_use_conflict(error: &io::Error) -> bool {
    matches!(
        code(error),
        Some(ERROR_ACCESS_DENIED | ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION)
    )
}

fn code(error: &io::Error) -> Option<u32> {
    error.raw_os_error().and_then(|code| u32::try_from(code).ok())
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    std::fs::metadata(path).map(|_| ())
}

pub(super) fn keep_access(model: &Path, file: &File) -> io::Result<()> {
    file.set_permissions(std::fs::metadata(model)?.permissions())
}

#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub(super) fn give_to_owner(_dir: &Path, _file: &File) -> io::Result<()> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub(super) fn give_to_root(_dir: &Path) -> io::Result<()> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix")]
pub(super) fn publish(_path: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn may_write(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    // On a directory the attribute has another meaning.
    if metadata.is_file() && metadata.permissions().readonly() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

pub(super) fn unmark_command(_path: &Path) -> Option<&'static str> {
    None
}

pub(super) fn is_mount_point(_path: &Path) -> bool {
    false
}

pub(super) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

pub(super) fn check_sticky(_path: &Path, _metadata: &Metadata) -> io::Result<()> {
    Ok(())
}

pub(super) fn name_count(_metadata: &Metadata) -> u64 {
    1
}

pub(super) fn is_own(_metadata: &Metadata) -> bool {
    true
}

pub(super) fn owner(_metadata: &Metadata) -> Option<u32> {
    None
}

pub(super) fn size_limit() -> Option<u64> {
    None
}

pub(super) fn is_character_device(_kind: FileType) -> bool {
    false
}

pub(super) fn name_of(_kind: FileType) -> &'static str {
    "something else"
}

pub(super) fn never_follow(_options: &mut OpenOptions) {}

pub(super) fn never_wait(_options: &mut OpenOptions) {}

pub(super) fn is_pipe(_kind: FileType) -> bool {
    false
}

pub(super) fn wait_for_bytes(_file: &File) -> io::Result<()> {
    Ok(())
}
