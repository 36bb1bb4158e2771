//! Files on macOS.

use std::io;
use std::path::Path;

use super::attribute;
pub(super) use super::unix::{
    LINK_LOOP, exchange, give_to_owner, give_to_root, identity, is_character_device, is_executable, is_exposed,
    is_hidden_from_users, is_locked, is_own, is_pipe, is_roots_alone, is_use_conflict, keep_access,
    keep_new_files_ours, make_executable, make_program, make_readable, may_write, name_count, name_of, never_follow,
    never_wait, open_private, owner, path_from, private_dir, publish, replace_own_program, size_limit, sync_dir,
    wait_for_bytes,
};

/// The program that downloads a file sets this attribute; Gatekeeper reads it when the file is first run.
const QUARANTINE: &str = "com.apple.quarantine";

pub(super) fn quarantine(path: &Path) -> io::Result<Option<String>> {
    attribute::read(path, QUARANTINE)
}

pub(super) fn strip_quarantine(path: &Path) -> io::Result<bool> {
    attribute::remove(path, QUARANTINE)
}

/// macOS cannot mount a single file.
pub(super) fn is_mount_point(_path: &Path) -> bool {
    false
}

/// The marks are flags of the file (chflags(1)).
pub(super) fn unmark_command(path: &Path) -> Option<&'static str> {
    use std::os::macos::fs::MetadataExt;

    const MARKS: u32 = libc::UF_IMMUTABLE | libc::UF_APPEND | libc::SF_IMMUTABLE | libc::SF_APPEND;
    let flags = std::fs::metadata(path).ok()?.st_flags();
    (flags & MARKS != 0).then_some("chflags nouchg,nouappnd,noschg,nosappnd")
}
