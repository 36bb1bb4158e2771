//! Regular files, and what else can lie where one is expected.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::os;

/// Fails unless `kind` is a regular file's.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a directory, [`io::ErrorKind::InvalidInput`] for a pipe, a socket or a device; the
/// text names it.
pub fn check_regular(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let text = format!("it is {}, not a regular file", os::name_of(kind));
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Whether `kind` is a character device, such as `/dev/null`.
#[must_use]
pub fn is_character_device(kind: FileType) -> bool {
    os::is_character_device(kind)
}

/// Opens the regular file that `path` leads to. Never waits: a pipe without a writer is refused like every other thing that is
/// not a regular file.
///
/// # Errors
/// As [`check_regular`], and when the file cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Opening a device can have effects, so its kind comes first.
    check_regular(std::fs::metadata(path)?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true);
    os::never_wait(&mut options);
    let file = options.open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Fails if the file at `path` can have content of someone else's: if it is not a regular file, or a symbolic link, or a file
/// with other names (hard links). A missing file is fine.
///
/// # Errors
/// As [`check_regular`], [`io::ErrorKind::InvalidInput`] for a link too; and when the file cannot be looked at.
pub fn check_own(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => check_sole(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn check_sole(metadata: &Metadata) -> io::Result<()> {
    let refuse = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if metadata.is_symlink() {
        return refuse("it is a symbolic link");
    }
    check_regular(metadata.file_type())?;
    if os::name_count(metadata) > 1 {
        return refuse("it is a hard link: the file has other names too");
    }
    Ok(())
}

/// Opens a file that is this program's alone, which only its owner can read and write. Nothing is truncated, nothing waited for.
///
/// # Errors
/// As [`check_own`], and when the file cannot be opened.
pub fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    check_own(path)?;
    os::never_follow(options);
    let file = os::open_private(options, path)?;
    check_sole(&file.metadata()?)?;
    Ok(file)
}

/// Reads the regular file that `path` leads to.
///
/// # Errors
/// As [`open_regular`], and when the file cannot be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes `bytes` into the existing regular file `path` without replacing the file, for one that cannot be renamed over or that
/// has other names. A reader may see a mixture while this runs; if the disk is full, the old content stays.
///
/// # Errors
/// When the file is not a regular one or cannot be written.
pub fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    check_regular(std::fs::metadata(path)?.file_type())?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let old = file.metadata()?.len();
    let at = usize::try_from(old).map_or(bytes.len(), |old| old.min(bytes.len()));
    // What the file grows by comes first: only this part needs room on the disk.
    let grown = file
        .seek(SeekFrom::Start(at as u64))
        .and_then(|_| file.write_all(&bytes[at..]))
        .and_then(|()| file.sync_all());
    if let Err(error) = grown {
        file.set_len(old)?;
        return Err(error);
    }
    file.rewind()?;
    file.write_all(&bytes[..at])?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_file_holds_the_new_bytes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for (old, new) in [("short", "much longer"), ("much longer", "short"), ("", "x"), ("x", "")] {
            std::fs::write(&path, old).unwrap();
            rewrite(&path, new.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
        }
    }

    #[test]
    fn a_directory_is_not_read_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_regular(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_ours_is_opened_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let [theirs, ours] = ["theirs", "ours"].map(|name| dir.path().join(name));
        std::fs::write(&theirs, "precious").unwrap();
        let open = || open_own(OpenOptions::new().write(true).create(true), &ours);
        for link in [
            |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to),
            |from: &Path, to: &Path| std::fs::hard_link(from, to),
        ] {
            link(&theirs, &ours).unwrap();
            assert!(open().unwrap_err().to_string().contains("link"));
            std::fs::remove_file(&ours).unwrap();
        }
        open().unwrap();
        open().unwrap();
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "precious");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_or_socket_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, name) in [(&pipe, "a named pipe"), (&socket, "a socket")] {
            for error in [read_regular(path).unwrap_err(), rewrite(path, b"x").unwrap_err()] {
                assert!(error.to_string().contains(name), "{error}");
            }
        }
    }
}
