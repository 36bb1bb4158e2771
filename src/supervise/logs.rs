//! Reads the log: the last lines, and new ones as they arrive, across rotation, truncation and deletion.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::file::{is_absence, is_character_device, open_regular};
use same_file::Handle;

use crate::place;
use crate::rotation::rotated;

/// The maximum number of rotated files to read; the log itself keeps fewer.
const OLDEST: usize = 9;
const BLOCK: u64 = 64 << 10;
const POLL: Duration = Duration::from_millis(150);

/// The last `count` lines of the log at `path` and its rotated files, oldest first. A missing log has none.
///
/// # Errors
/// When a file cannot be read.
pub fn tail(path: &Path, count: usize) -> io::Result<Vec<String>> {
    tail_from(path, 0, count)
}

fn tail_from(path: &Path, youngest: usize, count: usize) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for age in youngest..=OLDEST {
        if lines.len() >= count {
            break;
        }
        let Some(mut file) = open(&rotated(path, age))? else {
            break;
        };
        let end = file.seek(SeekFrom::End(0))?;
        let mut older = last_lines(&mut file, end, count - lines.len())?;
        older.append(&mut lines);
        lines = older;
    }
    Ok(lines)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    // A log that is a device such as `/dev/null` keeps no lines.
    let is_device = path
        .metadata()
        .is_ok_and(|metadata| is_character_device(metadata.file_type()));
    match open_regular(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_device || is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last `count` lines before `end`, read backwards in blocks.
fn last_lines(file: &mut File, end: u64, count: usize) -> io::Result<Vec<String>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut found = 0;
    let mut start = end;
    // The newline at the very end closes the last line, so one more must be found to know where the first line begins.
    while start > 0 && found <= count {
        let length = start.min(BLOCK);
        start -= length;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.by_ref().take(length).read_to_end(&mut block)?;
        found += newlines(&block);
        blocks.push(block);
    }
    blocks.reverse();
    let bytes = blocks.concat();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    Ok(lines[skipped..].iter().map(|line| (*line).to_owned()).collect())
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Follows a log by polling, which works on every system and file system.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Handle>,
    position: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// Starts at the end of the log, and returns its last `count` lines. The log may still be missing.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn start(path: impl Into<PathBuf>, count: usize) -> io::Result<(Self, Vec<String>)> {
        let path = path.into();
        let Some(mut file) = open(&path)? else {
            let follower = Self {
                path,
                current: None,
                position: 0,
                partial: Vec::new(),
            };
            return Ok((follower, Vec::new()));
        };
        let position = file.seek(SeekFrom::End(0))?;
        let mut lines = last_lines(&mut file, position, count)?;
        if lines.len() < count {
            let mut older = tail_from(&path, 1, count - lines.len())?;
            older.append(&mut lines);
            lines = older;
        }
        let follower = Self {
            path,
            current: Some(Handle::from_file(file)?),
            position,
            partial: Vec::new(),
        };
        Ok((follower, lines))
    }

    /// Waits for new lines; never returns an empty list. Can be cancelled and called again.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next_lines(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.poll()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The lines added since the last call.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn poll(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let successor = self.successor();
            // The old file is read after checking for a successor, so that lines written before the rotation are not
            // missed.
            self.read(&mut lines)?;
            let Some(successor) = successor else {
                return Ok(lines);
            };
            if !self.partial.is_empty() {
                let rest = std::mem::take(&mut self.partial);
                lines.push(String::from_utf8_lossy(&rest).into_owned());
            }
            self.current = Some(successor);
            self.position = 0;
        }
    }

    /// The file that replaced the one being read, if that one was rotated or deleted.
    fn successor(&self) -> Option<Handle> {
        let newest = place::handle(&self.path).ok();
        let Some(current) = &self.current else {
            return newest;
        };
        if newest.as_ref() == Some(current) {
            return None;
        }
        let mut younger = newest;
        for age in 1..=OLDEST {
            let handle = place::handle(&rotated(&self.path, age)).ok();
            if handle.as_ref() == Some(current) {
                return younger;
            }
            if handle.is_none() {
                break;
            }
            younger = handle;
        }
        // The file was deleted, or rotated more than once since the last call: continue with the current file.
        place::handle(&self.path).ok()
    }

    fn read(&mut self, lines: &mut Vec<String>) -> io::Result<()> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let file = current.as_file_mut();
        if file.metadata()?.len() < self.position {
            self.position = 0;
            self.partial.clear();
        }
        file.seek(SeekFrom::Start(self.position))?;
        self.position += file.read_to_end(&mut self.partial)? as u64;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let complete: Vec<u8> = self.partial.drain(..=end).collect();
        lines.extend(String::from_utf8_lossy(&complete).lines().map(str::to_owned));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::rotation::append;

    fn add(path: &Path, text: &str) {
        append(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rotate(path: &Path) {
        let _ = fs::rename(rotated(path, 1), rotated(path, 2));
        fs::rename(path, rotated(path, 1)).unwrap();
    }

    #[test]
    fn the_last_lines_are_found_across_rotated_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        assert!(tail(&path, 5).unwrap().is_empty());
        add(&path, "1\n2\n");
        rotate(&path);
        add(&path, "3\n4\n");
        rotate(&path);
        add(&path, "5\n6");
        assert_eq!(tail(&path, 3).unwrap(), ["4", "5", "6"]);
        assert_eq!(tail(&path, 99).unwrap(), ["1", "2", "3", "4", "5", "6"]);
        assert!(tail(&path, 0).unwrap().is_empty());
    }

    #[test]
    fn a_long_log_is_read_from_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let text: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
        add(&path, &text);
        assert_eq!(tail(&path, 2).unwrap(), ["line 49998", "line 49999"]);
        assert_eq!(tail(&path, 20_000).unwrap()[0], "line 30000");
    }

    #[test]
    fn following_continues_across_several_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        add(&path, "old\n");
        let (mut follower, last) = Follower::start(&path, 10).unwrap();
        assert_eq!(last, ["old"]);
        add(&path, "a\nb");
        assert_eq!(follower.poll().unwrap(), ["a"]);
        add(&path, "b\nc\n");
        rotate(&path);
        add(&path, "d\n");
        rotate(&path);
        add(&path, "e\n");
        assert_eq!(follower.poll().unwrap(), ["bb", "c", "d", "e"]);
        assert!(follower.poll().unwrap().is_empty());
    }

    #[test]
    fn following_goes_on_after_deletion_and_truncation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let (mut follower, last) = Follower::start(&path, 10).unwrap();
        assert!(last.is_empty());
        add(&path, "first\n");
        assert_eq!(follower.poll().unwrap(), ["first"]);
        fs::remove_file(&path).unwrap();
        assert!(follower.poll().unwrap().is_empty());
        add(&path, "second, longer\n");
        assert_eq!(follower.poll().unwrap(), ["second, longer"]);
        File::create(&path).unwrap();
        add(&path, "third\n");
        assert_eq!(follower.poll().unwrap(), ["third"]);
    }

    #[test]
    fn a_line_longer_than_many_blocks_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let long = "x".repeat(3 * usize::try_from(BLOCK).unwrap() + 1);
        add(&path, &format!("first\n{long}\nlast\n"));
        assert_eq!(tail(&path, 2).unwrap(), [long.as_str(), "last"]);
    }
}
