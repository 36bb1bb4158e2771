//! Files on macOS.

use std::io;
use std::path::Path;

use super::attribute;
pub(super) use super::unix::*;

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
