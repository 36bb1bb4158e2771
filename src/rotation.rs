//! Appends to files and rotates them by size, so that the current and the rotated files are bounded in total.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file::{is_character_device, open_own};

/// The longest line of a log, in bytes.
pub(crate) const LONGEST_LINE: usize = 16 << 10;

/// Shortens `line` to the longest allowed line of a log, and marks the cut.
pub(crate) fn cut_line(line: &mut String) {
    if line.len() > LONGEST_LINE {
        let rest = line.len() - LONGEST_LINE;
        line.truncate(line.floor_char_boundary(LONGEST_LINE));
        line.push_str(&format!("… ({rest} more bytes)"));
    }
}

/// How large a growing file may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The size in bytes at which a file is rotated.
    pub(crate) file_size: u64,
    /// The number of files to keep: the current one, `.1`, `.2` and so on; at least two.
    pub(crate) files: usize,
}

impl Rotation {
    /// Opens `path` to append `room` bytes; creates its directory. Rotates the file first if it would grow too large.
    ///
    /// # Errors
    /// When it cannot be opened or created.
    pub(crate) fn open(&self, path: &Path, room: usize) -> io::Result<File> {
        let file = append(path)?;
        if file.metadata()?.len().saturating_add(room as u64) <= self.file_size {
            return Ok(file);
        }
        drop(file);
        if self.rotate(path).is_err() {
            // Another program prevents the rename; the file is emptied, so that its size stays bounded.
            open_own(OpenOptions::new().write(true), path)?.set_len(0)?;
        }
        append(path)
    }

    fn rotate(&self, path: &Path) -> io::Result<()> {
        let oldest = self.files.max(2) - 1;
        for age in (0..oldest).rev() {
            match fs::rename(rotated(path, age), rotated(path, age + 1)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}

/// Opens `path` to append, readable only for its owner; creates its directory.
///
/// # Errors
/// When it cannot be opened or created, or when another user can control its content: a link, or a file of another
/// user.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    let open = || match fs::metadata(path) {
        // Also through a link: a user who wants no log may link it to `/dev/null`.
        Ok(metadata) if is_character_device(metadata.file_type()) => OpenOptions::new().append(true).open(path),
        Ok(_) | Err(_) => open_own(OpenOptions::new().create(true).append(true), path),
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            open()
        }
        result => result,
    }
}

/// The name of the file after `age` rotations: `path`, `path.1`, `path.2`.
pub(crate) fn rotated(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_cannot_be_renamed_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        // A directory that is not empty acts like a file that a reader holds: nothing can be renamed over it.
        fs::create_dir_all(rotated(&path, 1).join("in the way")).unwrap();
        let rotation = Rotation {
            file_size: 100,
            files: 2,
        };
        for number in 0..20 {
            let line = format!("line {number:>4}\n");
            let mut file = rotation.open(&path, line.len()).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 100 && text.ends_with("line   19\n"), "{text}");
    }
}
