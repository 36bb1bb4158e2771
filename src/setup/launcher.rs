//! The launcher: the file that Gemini CLI starts, named by its `binaryPath`.
//!
//! Gemini CLI's own setup overwrites that file, and deletes it when the download is not the expected one (docs/facts.md
//! section 3). So the file must be one that can be lost. On Unix it is a script that starts the installed gem-setup; a
//! link would pass a write on to the executable. Windows does not run a script without a shell, so there it is a copy
//! of the executable. A hard link would share the executable's content.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::Os;
use gem_platform::file::{Readers, is_executable, is_mount_point, make_program, rewrite, write_atomic};

use super::check::{Check, Fix, Subject};
use super::program::{beside, copy_program};
use super::{Setup, shown};
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::place;
use crate::settings::{self, Places};
use crate::shell;

const CHECK: Subject = Subject::new("client.launcher", "what Gemini CLI starts");
/// The beginning of every launcher script, of this version and of others.
const HEAD: &[u8] = b"#!/bin/sh
# Starts gem-setup for Gemini CLI. Written by `gem-setup install`, which also restores it.
program=";
const TAIL: &str = r#"
# The home is where this script is, so that it can be moved.
self=$0
if [ -h "$self" ]; then
    self=$(readlink -f "$self")
fi
case $self in
    */*) directory=${self%/*} ;;
    *) directory=. ;;
esac
home=$(CDPATH= cd -- "$directory/../.." && pwd && printf x) || exit 127
# What was printed keeps a line feed at the end of the name.
GEM_SETUP_HOME=${home%?x}
export GEM_SETUP_HOME
if [ -f "$program" ] && [ -x "$program" ]; then
    exec "$program" "$@"
fi
# gem-setup has moved: any other on the PATH will do, but not this script.
found=$(command -v gem-setup) || found=
if [ -n "$found" ] && ! [ "$found" -ef "$0" ]; then
    exec "$found" "$@"
fi
printf 'error: cannot start `%s`: it is gone, and no other gem-setup is on the PATH\n' "$program" >&2
printf 'hint: install gem-setup again, then run `gem-setup install`\n' >&2
exit 127
"#;

/// The launcher of a home.
#[derive(Clone, Debug)]
pub struct Launcher {
    path: PathBuf,
    program: PathBuf,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Script(Vec<u8>),
    Copy,
}

/// The kinds of things at the launcher's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// The launcher of this program.
    Right,
    /// A launcher that starts another existing gem-setup.
    Other(String),
    /// Anything that does not start a gem-setup.
    Wrong(String),
}

impl Launcher {
    /// The launcher in the home of `layout` that starts `program`, an absolute path.
    #[must_use]
    pub fn new(layout: &Layout, os: Os, program: &Path) -> Self {
        Self {
            path: layout.launcher(os),
            program: program.to_owned(),
            form: match os {
                Os::Windows => Form::Copy,
                Os::Linux | Os::Macos => Form::Script(script(program)),
            },
        }
    }

    /// The launcher's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the launcher is in place and starts this program.
    pub(super) fn is_right(&self) -> bool {
        self.look() == Found::Right
    }

    /// Writes the launcher unless it is in place.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn restore(&self) -> Result<(), Failure> {
        if self.is_right() {
            return Ok(());
        }
        self.write().map_err(|error| {
            let message = format!("cannot write the launcher {}: {error}", shown(&self.path));
            Failure::new(Kind::Settings, message).with_hint(
                "check that the directory belongs to you and has space, and move any directory of that name somewhere \
                else; then run the command again",
            )
        })?;
        if is_executable(&self.path).unwrap_or(false) {
            return Ok(());
        }
        let message = format!(
            "Gemini CLI cannot start {}: its file system does not allow programs",
            shown(&self.path)
        );
        Err(Failure::new(Kind::Settings, message).with_hint("mount its file system without `noexec`"))
    }

    fn write(&self) -> io::Result<()> {
        match &self.form {
            // No file can be renamed over one that is mounted by itself.
            Form::Script(text) if is_mount_point(&self.path) => rewrite(&self.path, text)?,
            Form::Script(text) => write_atomic(&self.path, text, Readers::Usual)?,
            Form::Copy => copy_program(&self.program, &self.path)?,
        }
        make_program(&self.path)
    }

    fn look(&self) -> Found {
        let path = shown(&self.path);
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Wrong(format!("{path} is missing")),
            Err(error) => Found::Wrong(format!("{path} cannot be read: {error}")),
            Ok(metadata) if !metadata.is_file() => Found::Wrong(format!("{path} is not a regular file")),
            Ok(metadata) => match (&self.form, is_executable(&self.path)) {
                (_, Ok(false) | Err(_)) => Found::Wrong(format!("{path} is not executable for you")),
                (Form::Script(text), Ok(true)) => self.look_at_script(text, &metadata),
                (Form::Copy, Ok(true)) => self.look_at_copy(&metadata),
            },
        }
    }

    fn look_at_script(&self, expected: &[u8], metadata: &Metadata) -> Found {
        // A program in place of the launcher is large; a launcher is not.
        let is_small = metadata.len() < 1 << 16;
        let text = is_small.then(|| place::read(&self.path).ok()).flatten();
        let path = shown(&self.path);
        match text.as_deref().and_then(started_by) {
            _ if text.as_deref() == Some(expected) => Found::Right,
            Some(program) if program == self.program => Found::Wrong(format!(
                "{path} has been changed: this gem-setup writes another content"
            )),
            Some(other) if other.is_file() => Found::Other(format!(
                "{path} starts {}, but this gem-setup is {}",
                shown(&other),
                shown(&self.program)
            )),
            Some(other) => Found::Wrong(format!("{path} starts {}, which is gone", shown(&other))),
            None => Found::Wrong(format!("{path} has been overwritten: it does not start gem-setup")),
        }
    }

    fn look_at_copy(&self, metadata: &Metadata) -> Found {
        if place::is_one_file(&self.path, &self.program).unwrap_or(false) {
            return Found::Right;
        }
        let has_size = fs::metadata(&self.program).is_ok_and(|program| program.len() == metadata.len());
        let is_copy = has_size && super::kept::is_kept(&self.program, &self.path);
        if is_copy {
            return Found::Right;
        }
        let detail = format!("{} is not a copy of {}", shown(&self.path), shown(&self.program));
        Found::Wrong(detail)
    }
}

/// Whether the user's settings name this home's launcher as the program to start.
pub(super) fn starts_own(layout: &Layout, places: &Places) -> bool {
    let names = [Os::Linux, Os::Windows].map(|os| layout.launcher(os));
    let mut names = names.iter().filter_map(|path| path.strip_prefix(layout.home()).ok());
    names.any(|name| settings::starts(places.user(), name))
}

/// What an installation does with the launcher, and what `doctor` reports about it.
pub(super) struct Inspected {
    pub(super) check: Check,
    /// The plan of `install`.
    pub(super) plan: Option<String>,
}

pub(super) fn inspect(setup: &Setup<'_>) -> Inspected {
    let launcher = Launcher::new(&setup.site.layout, setup.site.os(), &setup.site.program);
    let plan = Some(format!("write {}", shown(launcher.path())));
    if !setup.site.is_for_this_machine() {
        let check = skipped("cannot be known for another machine");
        return Inspected { check, plan };
    }
    match launcher.look() {
        Found::Right => Inspected {
            check: CHECK.ok(shown(launcher.path())),
            plan: None,
        },
        Found::Other(detail) => Inspected {
            check: CHECK.warn(detail, Fix::repair()),
            plan,
        },
        Found::Wrong(detail) => Inspected {
            check: CHECK.fail(detail, Fix::repair()),
            plan,
        },
    }
}

/// For the reason `reason`, no launcher is needed.
pub(super) fn not_needed(reason: &str) -> Inspected {
    Inspected {
        check: skipped(reason),
        plan: None,
    }
}

pub(super) fn skipped(reason: &str) -> Check {
    CHECK.skip(reason)
}

/// The launcher of `layout` in any form, and the remains of an interrupted download over it.
pub(super) fn remains(layout: &Layout) -> Vec<PathBuf> {
    let launchers = [Os::Linux, Os::Windows].map(|os| layout.launcher(os));
    let beside = launchers
        .iter()
        .flat_map(|path| ["downloading", "new", "old"].map(|name| beside(path, name)));
    launchers.iter().cloned().chain(beside).collect()
}

fn script(program: &Path) -> Vec<u8> {
    [HEAD, &shell::posix_bytes(program.as_os_str()), TAIL.as_bytes()].concat()
}

/// The program that a launcher script starts; `None` if `text` is not such a script.
fn started_by(text: &[u8]) -> Option<PathBuf> {
    let mut rest = text.strip_prefix(HEAD)?.strip_prefix(b"'")?;
    let mut program = Vec::new();
    loop {
        let end = memchr::memchr(b'\'', rest)?;
        program.extend(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(br"\''") {
            Some(more) => {
                program.push(b'\'');
                rest = more;
            }
            None => return Some(gem_platform::file::path_from(program)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_of(program: &[u8]) -> (tempfile::TempDir, PathBuf, Launcher) {
        let home = tempfile::tempdir().unwrap();
        let executable = home.path().join("program.exe");
        fs::write(&executable, program).unwrap();
        make_program(&executable).unwrap();
        let layout = Layout::new(home.path(), home.path());
        let launcher = Launcher::new(&layout, Os::Windows, &executable);
        (home, executable, launcher)
    }

    fn detail(launcher: &Launcher) -> String {
        match launcher.look() {
            Found::Right => "right".to_owned(),
            Found::Other(detail) | Found::Wrong(detail) => detail,
        }
    }

    #[test]
    fn a_copy_shares_nothing_with_the_executable() {
        let (_home, executable, launcher) = copy_of(b"gem-setup");
        assert!(detail(&launcher).contains("is missing"));
        launcher.restore().unwrap();
        assert_eq!(launcher.look(), Found::Right);
        fs::write(launcher.path(), "lit").unwrap();
        assert_eq!(fs::read(&executable).unwrap(), b"gem-setup");
        assert!(detail(&launcher).contains("is not a copy of"));
        launcher.restore().unwrap();
        assert_eq!(fs::read(launcher.path()).unwrap(), b"gem-setup");
    }

    #[test]
    fn a_copy_is_renewed_after_an_upgrade() {
        let (_home, executable, launcher) = copy_of(b"gem-setup 1");
        launcher.restore().unwrap();
        fs::write(&executable, "gem-setup 2").unwrap();
        assert!(detail(&launcher).contains("is not a copy of"));
        launcher.restore().unwrap();
        assert_eq!(launcher.look(), Found::Right);
        let directory = launcher.path().parent().unwrap();
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_copy_that_runs_is_its_own_launcher() {
        let (home, _executable, launcher) = copy_of(b"gem-setup");
        launcher.restore().unwrap();
        let layout = Layout::new(home.path(), home.path());
        let itself = Launcher::new(&layout, Os::Windows, launcher.path());
        assert_eq!(itself.look(), Found::Right);
    }

    #[test]
    fn a_script_names_the_program_it_starts() {
        for program in ["/usr/bin/gem-setup", "/it's/'quoted'/\n gem-setup", "/'"] {
            let text = script(Path::new(program));
            assert_eq!(started_by(&text).as_deref(), Some(Path::new(program)));
        }
        for other in [b"".as_slice(), b"#!/bin/sh\nexec lit\n", HEAD, b"\x7fELF"] {
            assert_eq!(started_by(other), None);
        }
    }
}
