//! Extended attributes of a file, by name. macOS keeps its quarantine mark in one. The name is a parameter so that
//! Linux can test the same code: users there may only set names that begin with `user.`.

use std::io;
use std::path::Path;

/// The attribute's value as text, with invalid bytes replaced.
pub(super) fn read(path: &Path, name: &str) -> io::Result<Option<String>> {
    let value = xattr::get_deref(path, name)?;
    Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Removes the attribute; `true` if the file had it.
pub(super) fn remove(path: &Path, name: &str) -> io::Result<bool> {
    if xattr::get_deref(path, name)?.is_none() {
        return Ok(false);
    }
    match xattr::remove_deref(path, name) {
        Ok(()) => Ok(true),
        // Another process has removed it first, which is fine.
        Err(_) if matches!(xattr::get_deref(path, name), Ok(None)) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "user.gem-setup.quarantine";
    const MARK: &[u8] = b"0083;5f2b1c00;Safari;";

    /// A file with the mark, in whichever directory's file system has such attributes.
    fn marked() -> (tempfile::TempDir, std::path::PathBuf) {
        let roots = [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()];
        roots
            .into_iter()
            .find_map(|root| {
                let dir = tempfile::tempdir_in(root).unwrap();
                let path = dir.path().join("lit");
                std::fs::write(&path, "program").unwrap();
                xattr::set(&path, NAME, MARK).ok()?;
                Some((dir, path))
            })
            .expect("a file system with user extended attributes")
    }

    #[test]
    fn a_mark_is_read_then_removed_once_and_the_content_stays() {
        let (_dir, path) = marked();
        assert_eq!(read(&path, NAME).unwrap().unwrap().as_bytes(), MARK);
        assert!(remove(&path, NAME).unwrap());
        assert_eq!(read(&path, NAME).unwrap(), None);
        assert!(!remove(&path, NAME).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "program");
    }

    #[test]
    fn the_mark_of_a_linked_file_is_the_files_own() {
        let (dir, path) = marked();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(remove(&link, NAME).unwrap());
        assert_eq!(read(&path, NAME).unwrap(), None);
    }

    #[test]
    fn a_missing_file_is_an_error_and_not_an_unmarked_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&dir.path().join("gone"), NAME).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
