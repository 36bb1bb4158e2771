//! Regular files, and what to do when something else is in their place.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::os;

/// The largest file that is read as a whole. Settings, records and lists are far smaller, but a repository can contain
/// a file of any size.
pub const LARGEST_FILE: u64 = 4_000_000;

/// Fails unless `kind` is a regular file.
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

/// Fails unless `kind` is a directory.
///
/// # Errors
/// [`io::ErrorKind::NotADirectory`]; the text names what it is.
pub fn check_directory(kind: FileType) -> io::Result<()> {
    if kind.is_dir() {
        return Ok(());
    }
    let found = if kind.is_file() { "a file" } else { os::name_of(kind) };
    let text = format!("it is {found}, not a directory");
    Err(io::Error::new(io::ErrorKind::NotADirectory, text))
}

/// Whether `kind` is a character device, such as `/dev/null`.
#[must_use]
pub fn is_character_device(kind: FileType) -> bool {
    os::is_character_device(kind)
}

/// Like [`std::fs::metadata`], with a clear error for links in a circle.
///
/// # Errors
/// Like [`std::fs::metadata`]; [`io::ErrorKind::InvalidInput`] for links in a circle.
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    std::fs::metadata(path).map_err(|error| {
        let Some(link) = circle(path) else {
            return error;
        };
        let text = if link == path {
            "it is a link that leads in a circle".to_owned()
        } else {
            format!("`{}` is a link that leads in a circle", link.display())
        };
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// The link in `path`, or `path` itself, that leads in a circle.
#[must_use]
pub fn circle(path: &Path) -> Option<&Path> {
    let leads_in_circle = |path: &&Path| {
        let found = std::fs::metadata(path);
        found.is_err_and(|error| error.raw_os_error() == Some(os::LINK_LOOP))
    };
    path.ancestors().take_while(leads_in_circle).last()
}

/// Opens the regular file that `path` leads to. Never waits: anything but a regular file is refused, also a pipe
/// without a writer.
///
/// # Errors
/// Like [`check_regular`], and when the file cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Checked before the file is opened, because opening a device can have effects.
    check_regular(metadata(path)?.file_type())?;
    let mut options = OpenOptions::new();
    options.read(true);
    os::never_wait(&mut options);
    let file = options.open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Opens the file, pipe or device `path`, which a user names, to read it. Waits for the bytes of a pipe, as with the
/// shell's `<(…)`, but not for a program that opens the pipe to write.
///
/// # Errors
/// When it cannot be opened, or no program has the pipe open.
pub fn open_given(path: &Path) -> io::Result<impl Read> {
    metadata(path)?;
    let mut options = OpenOptions::new();
    options.read(true);
    os::never_wait(&mut options);
    let mut file = options.open(path)?;
    let mut begin = Vec::new();
    if os::is_pipe(file.metadata()?.file_type()) {
        begin.resize(4096, 0);
        match file.read(&mut begin) {
            Ok(0) if !is_anonymous(path) => {
                let text = "it is a pipe into which no program writes";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            Ok(read) => begin.truncate(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => begin.clear(),
            Err(error) => return Err(error),
        }
    }
    os::wait_for_bytes(&file)?;
    Ok(io::Cursor::new(begin).chain(file))
}

/// Whether the pipe at `path` has no name of its own, like the shell's `<(…)`. No other program can open it later.
fn is_anonymous(path: &Path) -> bool {
    path.starts_with("/dev") || path.canonicalize().is_err()
}

/// Checks that the device `path` can be opened to write. Does not wait.
///
/// # Errors
/// The system's reason.
pub fn check_device(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true);
    os::never_wait(&mut options);
    options.open(path).map(drop)
}

/// Fails if another user can control the content of the file at `path`: if it is not a regular file, is a symbolic
/// link, has other names (hard links), or belongs to another user (unless this user is root). A missing file is fine.
///
/// # Errors
/// Like [`check_regular`]; [`io::ErrorKind::InvalidInput`] also for a link; and when the metadata cannot be read.
pub fn check_own(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => check_sole(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(metadata(path).err().unwrap_or(error)),
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
    if !os::is_own(metadata) {
        return refuse("it belongs to another user");
    }
    Ok(())
}

/// Opens a file that only this program uses, readable and writable for its owner alone. Does not truncate it and never
/// waits.
///
/// # Errors
/// Like [`check_own`], and when the file cannot be opened.
pub fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    check_own(path)?;
    os::never_follow(options);
    let file = os::open_private(options, path)?;
    check_sole(&file.metadata()?)?;
    Ok(file)
}

/// Reads the regular file that `path` leads to, up to [`LARGEST_FILE`] bytes.
///
/// # Errors
/// Like [`open_regular`] and [`read_bounded`].
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(open_regular(path)?, LARGEST_FILE)
}

/// Reads `input` to its end, which must come within `limit` bytes.
///
/// # Errors
/// When it cannot be read; [`io::ErrorKind::FileTooLarge`] if it has more bytes.
pub fn read_bounded(input: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(limit + 1).read_to_end(&mut bytes)?;
    check_within(read as u64, limit)?;
    Ok(bytes)
}

/// Checks that a file of `length` bytes can be read as a whole.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it has more than [`LARGEST_FILE`] bytes.
pub fn check_length(length: u64) -> io::Result<()> {
    check_within(length, LARGEST_FILE)
}

fn check_within(length: u64, limit: u64) -> io::Result<()> {
    if length <= limit {
        return Ok(());
    }
    let text = format!("it has more than {} MB", limit / 1_000_000);
    Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
}

/// Writes `bytes` into the existing regular file `path` without replacing it: for a file that has other names, or over
/// which no file can be renamed. A reader may see a mixture meanwhile. If the disk is full, the old content stays.
///
/// # Errors
/// When the file is not a regular one or cannot be written.
pub fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    check_regular(metadata(path)?.file_type())?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let old = file.metadata()?.len();
    let at = usize::try_from(old).map_or(bytes.len(), |old| old.min(bytes.len()));
    // The file grows first: only this part needs space on the disk.
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

    #[test]
    fn what_is_read_whole_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = File::create(&path).unwrap();
        for (length, kind) in [
            (LARGEST_FILE, None),
            (LARGEST_FILE + 1, Some(io::ErrorKind::FileTooLarge)),
        ] {
            file.set_len(length).unwrap();
            assert_eq!(read_regular(&path).err().map(|error| error.kind()), kind);
        }
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
    fn a_link_in_a_circle_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        std::os::unix::fs::symlink(&a, &b).unwrap();
        std::os::unix::fs::symlink(&b, &a).unwrap();
        let error = read_regular(&a).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("circle"), "{error}");
        let below = read_regular(&a.join("file")).unwrap_err().to_string();
        assert!(below.contains(&format!("`{}`", a.display())), "{below}");
        assert_eq!(circle(&a.join("file")), Some(&*a));
    }

    #[cfg(unix)]
    #[test]
    fn a_given_pipe_is_read_if_a_program_writes_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let error = open_given(&path).err().unwrap();
        assert!(error.to_string().contains("no program writes"), "{error}");
        // Opened for both, so that opening does not wait.
        let mut pipe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let late = path.clone();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            open_given(&late).unwrap().take(4).read_to_string(&mut text).unwrap();
            text
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        pipe.write_all(b"late").unwrap();
        assert_eq!(reader.join().unwrap(), "late");
    }

    #[cfg(unix)]
    #[test]
    fn an_anonymous_pipe_may_be_empty() {
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let mut text = String::new();
        open_given(Path::new(&path)).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
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
