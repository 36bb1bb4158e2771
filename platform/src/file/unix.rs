//! The common part of Linux and macOS.

use std::ffi::OsString;
use std::fs::{File, FileType, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags, RenameFlags, access, fcntl_getfl, fcntl_setfl, renameat_with};
use rustix::io::Errno;
use rustix::process::{Uid, umask};

/// The system's error for links in a circle.
pub(super) const LINK_LOOP: i32 = libc::ELOOP;

pub(super) fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        // The file system or the kernel does not support it.
        // An overlay cannot exchange directories of its lower layer.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP | Errno::XDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn identity(path: &Path) -> Option<u64> {
    Some(std::fs::symlink_metadata(path).ok()?.ino())
}

pub(super) fn make_executable(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    // Everyone who can read may execute: 0644 becomes 0755, 0600 becomes 0700. The owner always may: 0000 becomes 0500.
    let wanted = mode | 0o500 | ((mode & 0o444) >> 2);
    if wanted == mode {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(wanted))
}

pub(super) fn replace_own_program(executable: &Path, new: &Path) -> io::Result<()> {
    Ok(super::write_atomic(
        executable,
        &std::fs::read(new)?,
        super::Readers::Usual,
    )?)
}

pub(super) fn replace_program(new: &Path, to: &Path, old: &Path) -> io::Result<()> {
    super::replace(new, to)?;
    // Left by a version that moved the program away here too.
    let _ = std::fs::remove_file(old);
    Ok(())
}

pub(super) fn make_program(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

pub(super) fn make_readable(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o644))
}

pub(super) fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && is_ours_and_open_to_others(&metadata) {
        file.set_permissions(Permissions::from_mode(metadata.mode() & OWNER_ONLY))?;
    }
    Ok(file)
}

pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    let mut created = builder.create(path);
    if let (Err(error), Some(above)) = (&created, path.parent())
        && error.kind() == io::ErrorKind::NotFound
    {
        std::fs::create_dir_all(above)?;
        created = builder.create(path);
    }
    match created {
        // Another process may have created it meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = std::fs::metadata(path)?;
            if metadata.is_dir() && is_ours_and_open_to_others(&metadata) {
                std::fs::set_permissions(path, Permissions::from_mode(metadata.mode() & OWNER_ONLY))?;
            }
            Ok(())
        }
        done => done,
    }
}

const OWNER_ONLY: u32 = 0o7700;

fn is_ours_and_open_to_others(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 != 0
}

pub(super) fn is_exposed(metadata: &Metadata) -> bool {
    metadata.mode() & 0o027 != 0
}

pub(super) fn is_roots_alone(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && metadata.mode() & 0o022 == 0
}

pub(super) fn is_hidden_from_users(metadata: &Metadata) -> bool {
    let for_users = if metadata.is_dir() { 0o011 } else { 0o044 };
    metadata.mode() & for_users == 0
}

pub(super) fn keep_new_files_ours() {
    let others_write = Mode::WGRP | Mode::WOTH;
    let before = umask(others_write);
    umask((before | others_write) - Mode::RWXU);
}

pub(super) fn is_executable(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.is_file() && access(path, Access::EXEC_OK).is_ok())
}

pub(super) fn path_from(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

pub(super) fn is_locked(_path: &Path) -> bool {
    false
}

/// Unix renames over a file in use: the programs that have it open keep the old content.
pub(super) fn is_use_conflict(_error: &io::Error) -> bool {
    false
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path).and_then(|dir| dir.sync_all()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

pub(super) fn keep_access(model: &Path, file: &File) -> io::Result<()> {
    let (theirs, ours) = (std::fs::metadata(model)?, file.metadata()?);
    if (ours.uid(), ours.gid()) != (theirs.uid(), theirs.gid()) {
        // Only root can change the owner; for other users the file stays their own.
        let _ = fchown(file, Some(theirs.uid()), Some(theirs.gid()));
    }
    file.set_permissions(theirs.permissions())
}

pub(super) fn give_to_owner(dir: &Path, file: &File) -> io::Result<()> {
    let theirs = std::fs::metadata(dir)?;
    if rustix::process::geteuid().is_root() && theirs.uid() != 0 {
        fchown(file, Some(theirs.uid()), Some(theirs.gid()))?;
    }
    Ok(())
}

pub(super) fn give_to_root(dir: &Path) -> io::Result<()> {
    fchown(File::open(dir)?, Some(0), Some(0))
}

pub(super) fn publish(path: &Path) -> io::Result<()> {
    let allow = |path: &Path, bits| {
        let mode = std::fs::metadata(path)?.permissions().mode();
        std::fs::set_permissions(path, Permissions::from_mode(mode | bits))
    };
    allow(path, 0o444)?;
    path.parent().map_or(Ok(()), |dir| allow(dir, 0o555))
}

pub(super) fn may_write(path: &Path) -> io::Result<()> {
    let needed = if std::fs::metadata(path)?.is_dir() {
        Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::WRITE_OK
    };
    Ok(access(path, needed)?)
}

pub(super) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// In a sticky directory only the owner of a file, the directory's owner and root may move it.
pub(super) fn check_sticky(path: &Path, metadata: &Metadata) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => std::fs::metadata(".")?,
        Some(dir) => std::fs::metadata(dir)?,
        None => return Ok(()),
    };
    if may_move((dir.mode(), dir.uid()), metadata.uid(), rustix::process::geteuid()) {
        return Ok(());
    }
    let text = "only its owner may move it, because its directory is sticky";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Whether `user` may move a file of `owner` out of a directory with this mode and owner, if it may write there.
fn may_move((mode, directory): (u32, u32), owner: u32, user: Uid) -> bool {
    const STICKY: u32 = 0o1000;
    mode & STICKY == 0 || is_for(directory, user) || is_for(owner, user)
}

pub(super) fn name_count(metadata: &Metadata) -> u64 {
    metadata.nlink()
}

pub(super) fn is_own(metadata: &Metadata) -> bool {
    is_for(metadata.uid(), rustix::process::geteuid())
}

/// Whether `user` may write a file of `owner`. Root may write everybody's files.
fn is_for(owner: u32, user: Uid) -> bool {
    user.is_root() || owner == user.as_raw()
}

pub(super) fn owner(metadata: &Metadata) -> Option<u32> {
    Some(metadata.uid())
}

pub(super) fn size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

pub(super) fn is_character_device(kind: FileType) -> bool {
    kind.is_char_device()
}

pub(super) fn is_pipe(kind: FileType) -> bool {
    kind.is_fifo()
}

pub(super) fn name_of(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

pub(super) fn never_follow(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
}

pub(super) fn never_wait(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NONBLOCK);
}

/// Ends the effect of [`never_wait`] on `file`.
pub(super) fn wait_for_bytes(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags - OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_for_its_owner_and_root() {
        let [root, ada] = [Uid::ROOT, Uid::from_raw(1000)];
        assert!(is_for(1000, ada) && is_for(1000, root));
        assert!(!is_for(1001, ada) && !is_for(0, ada));
    }

    #[test]
    fn sticky_directories_keep_files_of_others() {
        let (ada, sticky, plain) = (Uid::from_raw(1000), 0o41777, 0o40777);
        for (directory, owner, expected) in [
            ((plain, 0), 0, true),
            ((sticky, 0), 1000, true),
            ((sticky, 1000), 0, true),
            ((sticky, 0), 0, false),
        ] {
            assert_eq!(may_move(directory, owner, ada), expected, "{directory:?} {owner}");
        }
    }
}
