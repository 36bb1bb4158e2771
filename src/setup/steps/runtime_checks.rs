//! The checks that every runtime has: id and title.

pub(super) const BINARY: (&str, &str) = ("runtime.binary", "runtime installed");
pub(super) const CHECKSUM: (&str, &str) = ("runtime.checksum", "runtime unchanged");
pub(super) const EXECUTABLE: (&str, &str) = ("runtime.executable", "runtime may be run");
pub(super) const LOADER: (&str, &str) = ("runtime.loader", "system libraries");
