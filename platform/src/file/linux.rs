//! Files on Linux.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

pub(super) use super::unix::*;

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
