//! The Python environment: where things are in it, and whether it was finished.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::Os;

use super::PROGRAM;
use crate::place;

/// The last thing written into an environment: the requirements that it satisfies.
const MARKER: &str = "installed.txt";
/// How often the deletion of a directory is tried while another process writes to it.
const DELETIONS: usize = 20;
const DELETION_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A Python environment for `litert-lm` alone.
///
/// It cannot be built elsewhere and moved, because its scripts name their interpreter by its path. So a finished one is set
/// aside while a new one is built in its place, and comes back if that fails.
#[derive(Clone, Debug)]
pub struct Venv {
    root: PathBuf,
    aside: PathBuf,
    os: Os,
}

impl Venv {
    /// The environment in the directory `root`; the previous one waits in `aside` while it is replaced.
    #[must_use]
    pub const fn new(root: PathBuf, aside: PathBuf, os: Os) -> Self {
        Self { root, aside, os }
    }

    /// Its directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its `litert-lm`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.executable(PROGRAM)
    }

    /// Its Python interpreter.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.executable("python")
    }

    fn executable(&self, name: &str) -> PathBuf {
        match self.os {
            Os::Windows => self.root.join("Scripts").join(format!("{name}.exe")),
            Os::Linux | Os::Macos => self.root.join("bin").join(name),
        }
    }

    /// The requirements that it satisfies; `None` when its installation never ended.
    #[must_use]
    pub fn installed(&self) -> Option<String> {
        place::read_text(&self.root.join(MARKER)).ok()
    }

    /// Says that it satisfies `requirements`.
    pub(super) fn finish(&self, requirements: &str) -> io::Result<()> {
        delete(&self.aside)?;
        place::write_atomic(&self.root.join(MARKER), requirements.as_bytes())
    }

    /// Makes room for a new one; a finished one is set aside.
    pub(super) fn vacate(&self) -> io::Result<()> {
        if self.installed().is_none() {
            // The old environment is still the last finished one.
            return delete(&self.root);
        }
        delete(&self.aside)?;
        std::fs::rename(&self.root, &self.aside)
    }

    /// Deletes the unfinished environment and puts the old one back.
    pub(super) fn restore(&self) -> io::Result<()> {
        delete(&self.root)?;
        match std::fs::rename(&self.aside, &self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Deletes the directory `path` if there is one. An installer that was killed a moment ago may still have been writing.
fn delete(path: &Path) -> io::Result<()> {
    for _ in 1..DELETIONS {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => std::thread::sleep(DELETION_PAUSE),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    std::fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn venv(dir: &Path) -> Venv {
        Venv::new(dir.join("env"), dir.join("env.old"), Os::Linux)
    }

    fn begin(venv: &Venv, content: &str) {
        std::fs::create_dir_all(venv.root()).unwrap();
        std::fs::write(venv.root().join("content"), content).unwrap();
    }

    fn content(venv: &Venv) -> Option<String> {
        std::fs::read_to_string(venv.root().join("content")).ok()
    }

    #[test]
    fn an_unfinished_environment_counts_for_nothing_and_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let venv = venv(dir.path());
        begin(&venv, "half");
        assert_eq!(venv.installed(), None);
        venv.vacate().unwrap();
        assert!(!venv.root().exists());
        assert!(!dir.path().join("env.old").exists());
    }

    #[test]
    fn a_finished_environment_comes_back_when_its_successor_fails() {
        let dir = tempfile::tempdir().unwrap();
        let venv = venv(dir.path());
        begin(&venv, "old");
        venv.finish("litert-lm==1").unwrap();
        venv.vacate().unwrap();
        begin(&venv, "half");
        venv.restore().unwrap();
        assert_eq!(content(&venv).as_deref(), Some("old"));
        assert_eq!(venv.installed().as_deref(), Some("litert-lm==1"));
    }

    #[test]
    fn a_finished_environment_survives_an_interrupted_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let venv = venv(dir.path());
        begin(&venv, "old");
        venv.finish("litert-lm==1").unwrap();
        venv.vacate().unwrap();
        begin(&venv, "half");
        // The process was killed here; this is the next one.
        venv.vacate().unwrap();
        venv.restore().unwrap();
        assert_eq!(content(&venv).as_deref(), Some("old"));
    }

    #[test]
    fn nothing_stays_aside_once_the_successor_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let venv = venv(dir.path());
        begin(&venv, "old");
        venv.finish("litert-lm==1").unwrap();
        venv.vacate().unwrap();
        begin(&venv, "new");
        venv.finish("litert-lm==2").unwrap();
        assert_eq!(content(&venv).as_deref(), Some("new"));
        assert_eq!(venv.installed().as_deref(), Some("litert-lm==2"));
        assert!(!dir.path().join("env.old").exists());
    }

    #[test]
    fn executables_are_where_the_platform_puts_them() {
        let at = |os| Venv::new("/e".into(), "/e.old".into(), os).program();
        assert_eq!(at(Os::Linux), Path::new("/e/bin/litert-lm"));
        assert_eq!(at(Os::Windows), Path::new("/e").join("Scripts").join("litert-lm.exe"));
    }
}
