//! Files on macOS.

use std::io;
use std::path::Path;

use super::attribute;
pub(super) use super::unix::{
    is_character_device, is_executable, is_locked, is_use_conflict, keep_access, keep_new_files_ours, make_executable,
    make_program, may_write, name_count, name_of, never_follow, never_wait, open_private, owner, path_from,
    private_dir, sync_dir,
};

/// Set by the program that downloaded a file, read by Gatekeeper when the file is first run.
const QUARANTINE: &str = "com.apple.quarantine";

pub(super) fn quarantine(path: &Path) -> io::Result<Option<String>> {
    attribute::read(path, QUARANTINE)
}

pub(super) fn strip_quarantine(path: &Path) -> io::Result<bool> {
    attribute::remove(path, QUARANTINE)
}

/// A single file cannot be mounted here.
pub(super) fn is_mount_point(_path: &Path) -> bool {
    false
}
