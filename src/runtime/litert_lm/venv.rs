//! The Python environment: its files, and whether it is complete.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::Os;
use gem_platform::file::move_directory;

use super::PROGRAM;
use crate::place;

/// The last file written into an environment; it lists the requirements that are installed.
const MARKER: &str = "installed.txt";
/// The first file written into an environment. It stays until the environment is complete.
const BEGUN: &str = "tmp/requirements.txt";
/// How many times a directory is deleted while another process writes to it.
const DELETIONS: usize = 20;
const DELETION_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A Python environment that contains only `litert-lm`.
///
/// It cannot be built elsewhere and moved, because its scripts name their interpreter by its path. So the former
/// environment is moved aside while a new one is built in its place; if that fails, it is moved back.
#[derive(Clone, Debug)]
pub struct Venv {
    root: PathBuf,
    aside: PathBuf,
    os: Os,
}

impl Venv {
    /// The environment in the directory `root`. The previous one is in `aside` while it is replaced.
    #[must_use]
    pub const fn new(root: PathBuf, aside: PathBuf, os: Os) -> Self {
        Self { root, aside, os }
    }

    /// Whether gem-setup began to make the environment in `root`; a directory of anybody else is not touched.
    #[must_use]
    pub fn is_begun(root: &Path) -> bool {
        [MARKER, BEGUN].iter().any(|name| root.join(name).is_file())
    }

    /// Fails if the environment's directory has content that is not of an environment.
    ///
    /// # Errors
    /// `InvalidInput` if so; others when the directory cannot be read.
    pub fn check_place(root: &Path) -> io::Result<()> {
        let is_empty = match std::fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if is_empty || Self::is_begun(root) {
            return Ok(());
        }
        let text = "it has content that gem-setup did not put there";
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// The file whose existence says that the environment is being made.
    pub(super) fn begun(&self) -> PathBuf {
        self.root.join(BEGUN)
    }

    /// The environment's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The environment's `litert-lm`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.executable(PROGRAM)
    }

    /// The environment's Python interpreter.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.executable("python")
    }

    /// The Python of another environment that the environment's `litert-lm` names: its home was copied.
    #[must_use]
    pub fn other_python(&self) -> Option<PathBuf> {
        let named = interpreter_in(&place::read(&self.program()).ok()?)?;
        let directory = named.parent()?.canonicalize().ok()?;
        let is_own = self.program().parent()?.canonicalize().ok()? == directory;
        (!is_own).then_some(named)
    }

    fn executable(&self, name: &str) -> PathBuf {
        match self.os {
            Os::Windows => self.root.join("Scripts").join(format!("{name}.exe")),
            Os::Linux | Os::Macos => self.root.join("bin").join(name),
        }
    }

    /// The installed requirements; `None` if the installation is incomplete.
    #[must_use]
    pub fn installed(&self) -> Option<String> {
        place::read_text(&self.root.join(MARKER)).ok()
    }

    /// Marks the environment as complete, with `requirements` installed.
    pub(super) fn finish(&self, requirements: &str) -> io::Result<()> {
        delete(&self.aside)?;
        place::write_atomic(&self.root.join(MARKER), requirements.as_bytes())?;
        self.begun().parent().map_or(Ok(()), delete)
    }

    /// Makes room for a new environment: moves a complete one aside, deletes any other.
    pub(super) fn vacate(&self) -> io::Result<()> {
        Self::check_place(&self.root)?;
        if self.installed().is_none() {
            // The environment in `aside` is still the last complete one.
            return delete(&self.root);
        }
        delete(&self.aside)?;
        move_directory(&self.root, &self.aside)
    }

    /// Deletes the incomplete environment and moves the old one back.
    pub(super) fn restore(&self) -> io::Result<()> {
        delete(&self.root)?;
        match move_directory(&self.aside, &self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The Python that a `script` names in its first line, or in its second one if its path is too long for the first.
fn interpreter_in(script: &[u8]) -> Option<PathBuf> {
    let start = String::from_utf8_lossy(script.get(..2048).unwrap_or(script));
    let mut lines = start.lines();
    let first = lines.next()?.strip_prefix("#!")?;
    let path = match first.trim() {
        "/bin/sh" => lines
            .next()?
            .strip_prefix("'''exec' ")?
            .strip_suffix(" \"$0\" \"$@\"")?,
        path => path,
    };
    let path = PathBuf::from(path.trim_matches(['\'', '"']));
    let is_python = path.file_name()?.to_str()?.starts_with("python");
    is_python.then_some(path)
}

/// Deletes the directory `path` if it exists. An installer that was just killed may still be writing to it.
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
        std::fs::create_dir_all(venv.root().join("tmp")).unwrap();
        std::fs::write(venv.begun(), "").unwrap();
        std::fs::write(venv.root().join("content"), content).unwrap();
    }

    fn content(venv: &Venv) -> Option<String> {
        std::fs::read_to_string(venv.root().join("content")).ok()
    }

    #[test]
    fn a_directory_of_somebody_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let venv = venv(dir.path());
        std::fs::create_dir_all(venv.root()).unwrap();
        venv.vacate().unwrap();
        std::fs::create_dir_all(venv.root()).unwrap();
        std::fs::write(venv.root().join("content"), "theirs").unwrap();
        assert_eq!(venv.vacate().unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(content(&venv).as_deref(), Some("theirs"));
    }

    #[test]
    fn the_interpreter_of_a_script_is_found() {
        for (script, expected) in [
            ("#!/old/bin/python\nimport sys", Some("/old/bin/python")),
            (
                "#!/bin/sh\n'''exec' '/a b/bin/python3' \"$0\" \"$@\"\n",
                Some("/a b/bin/python3"),
            ),
            (
                "#!/bin/sh\n'''exec' \"/a b/bin/python3\" \"$0\" \"$@\"\n",
                Some("/a b/bin/python3"),
            ),
            ("#!/bin/sh\necho 1.2", None),
            ("#!/usr/bin/env bash\n", None),
            ("", None),
        ] {
            assert_eq!(
                interpreter_in(script.as_bytes()).as_deref(),
                expected.map(Path::new),
                "{script}"
            );
        }
    }

    #[test]
    fn an_unfinished_environment_is_deleted_and_not_counted() {
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
