//! What renaming a file into place needs from the operating system.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes a rename inside the directory `path` outlast a power cut.
///
/// Windows opens no directory for this and keeps the order of such changes itself; file systems that know no such request
/// (some network and user-space ones) answer that they don't, which is no failure of the rename.
///
/// # Errors
/// When the directory is not there or the device reports a fault.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
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

/// Gives `file` the permission bits of the file at `model` and, where this process may, its owner.
///
/// # Errors
/// When `model` is not there or `file` does not take the permission bits.
pub fn keep_access(model: &Path, file: &File) -> io::Result<()> {
    let metadata = std::fs::metadata(model)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};

        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
            // Only root can give a file away; anybody else keeps the file as their own.
            let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
        }
    }
    file.set_permissions(metadata.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_an_error_where_it_can_be_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sync_dir(dir.path()).is_ok());
        assert_eq!(sync_dir(&dir.path().join("missing")).is_ok(), cfg!(windows));
    }

    #[test]
    fn permissions_are_those_of_the_model() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        std::fs::write(&model, "").unwrap();
        let mut permissions = std::fs::metadata(&model).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&model, permissions.clone()).unwrap();
        let path = dir.path().join("file");
        keep_access(&model, &File::create(&path).unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions(), permissions);
    }
}
