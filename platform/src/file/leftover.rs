//! Temporary files left by processes that were killed while they wrote.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// The beginning and the end of every temporary file's name.
pub(super) const PREFIX: &str = ".gem-setup-";
pub(super) const SUFFIX: &str = ".tmp";

/// Whether `path` has the name of a temporary file.
#[must_use]
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Marks `file` as in use by this process. On a file system without locks it stays unmarked.
pub(super) fn mark(file: &File) {
    let _ = file.try_lock();
}

/// Deletes the temporary files in the directory `dir` whose writer has ended.
///
/// # Errors
/// When the directory cannot be read. A file that cannot be deleted is skipped.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if is_temporary(&entry.path()) && entry.file_type()?.is_file() && is_abandoned(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn is_abandoned(path: &Path) -> bool {
    let opened = OpenOptions::new().write(true).open(path);
    opened.is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_files_without_a_writer_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [abandoned, written, foreign] = [".gem-setup-a.tmp", ".gem-setup-b.tmp", "settings.json.tmp"].map(at);
        let writer = File::create(&written).unwrap();
        mark(&writer);
        for path in [&abandoned, &foreign] {
            std::fs::write(path, "x").unwrap();
        }
        sweep(dir.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(written.exists() && foreign.exists());
    }
}
