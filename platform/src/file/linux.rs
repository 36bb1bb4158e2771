//! Files on Linux.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

pub(super) use super::unix::{
    LINK_LOOP, exchange, give_to_owner, give_to_root, identity, is_character_device, is_executable, is_exposed,
    is_hidden_from_users, is_locked, is_own, is_pipe, is_roots_alone, is_use_conflict, keep_access,
    keep_new_files_ours, make_executable, make_program, make_readable, may_write, name_count, name_of, never_follow,
    never_wait, open_private, owner, path_from, private_dir, publish, replace_own_program, size_limit, sync_dir,
    wait_for_bytes,
};

pub(super) fn quarantine(path: &Path) -> io::Result<Option<String>> {
    std::fs::metadata(path).map(|_| None)
}

pub(super) fn strip_quarantine(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}

pub(super) fn is_mount_point(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

pub(super) fn unmark_command(path: &Path) -> Option<&'static str> {
    let marks = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty()).ok()?;
    found.stx_attributes.intersects(marks).then_some("chattr -i -a")
}
