//! The checks that every runtime has, with their ids and titles.

use crate::setup::check::Subject;

pub(super) const BINARY: Subject = Subject::new("runtime.binary", "runtime installed");
pub(super) const CHECKSUM: Subject = Subject::new("runtime.checksum", "runtime unchanged");
pub(super) const EXECUTABLE: Subject = Subject::new("runtime.executable", "runtime executable");
pub(super) const LOADER: Subject = Subject::new("runtime.loader", "system libraries");
