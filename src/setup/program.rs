//! A lasting path of gem-setup's own executable.
//!
//! `npx`, `uvx` and similar programs run an executable from a cache, where it will be deleted sooner or later. An
//! installation records the executable's path and starts it again, so the home keeps a copy of it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file::replace_program;

use super::kept::is_kept;
use crate::error::Failure;
use crate::layout::Layout;
use crate::place;

/// The directories of programs that run others from a cache, the name of each program, and its command that runs the newest
/// gem-setup.
const RUNNERS: [(&[&str], &str, &str); 8] = [
    (&["_npx"], "npx", "npx gem-setup@latest install"),
    (&["dlx"], "pnpm", "pnpm dlx gem-setup@latest install"),
    (&["dlx-*"], "yarn", "yarn dlx gem-setup@latest install"),
    (&["bunx-*"], "bunx", "bunx gem-setup@latest install"),
    (&["archive-v*"], "uvx", "uvx gem-setup@latest install"),
    (&["environments-v*"], "uvx", "uvx gem-setup@latest install"),
    (&[".cache", "pipx"], "pipx", "pipx run --no-cache gem-setup install"),
    (&["Caches", "pipx"], "pipx", "pipx run --no-cache gem-setup install"),
];
/// Names of directories whose content may be deleted at any time.
const CACHES: [&str; 4] = [".cache", "Caches", "cache", "Cache"];
/// The file that marks a directory as a cache (<https://bford.info/cachedir/>).
const TAG: &str = "CACHEDIR.TAG";

/// Whether the path of `executable` contains directories with these names, one inside the other. A name that ends in `*`
/// matches every name with this prefix.
pub(super) fn lies_in(executable: &Path, names: &[&str]) -> bool {
    let directories: Vec<_> = executable.iter().map(OsStr::to_string_lossy).collect();
    let fits = |(directory, name): (&Cow<'_, str>, &&str)| match name.strip_suffix('*') {
        Some(start) => directory.starts_with(start),
        None => directory == name,
    };
    let mut places = directories.windows(names.len());
    places.any(|directories| directories.iter().zip(names).all(fits))
}

/// The program that ran `executable` from its cache, and its command that runs the newest gem-setup.
pub(super) fn runner(executable: &Path) -> Option<(&'static str, &'static str)> {
    let found = RUNNERS.iter().find(|(names, ..)| lies_in(executable, names));
    found.map(|(_, runner, command)| (*runner, *command))
}

/// What starts gem-setup again if a package runner ran `executable` from its cache, as in `npx gem-setup`.
#[must_use]
pub fn typed_again(executable: &Path) -> Option<String> {
    let (_, command) = runner(executable)?;
    let command = command.strip_suffix(" install").unwrap_or(command);
    Some(command.replace("@latest", "").replace("--no-cache ", ""))
}

/// Whether `executable` may be deleted at any time.
fn is_in_cache(executable: &Path) -> bool {
    runner(executable).is_some()
        || CACHES.iter().any(|name| lies_in(executable, &[name]))
        || executable.ancestors().skip(1).any(is_tagged)
}

/// Whether `directory` is marked as a cache. Cargo marks its build directory too, but a developer keeps that one.
fn is_tagged(directory: &Path) -> bool {
    place::read_text(&directory.join(TAG)).is_ok_and(|text| !text.contains("cargo"))
}

/// The lasting path of `running`, gem-setup's executable: the copy in the home if `running` is in a cache and was
/// copied, else `running`.
#[must_use]
pub fn lasting_program(layout: &Layout, running: PathBuf) -> PathBuf {
    let copy = layout.program();
    let is_copied = copy.exists() && is_temporary(&running) && is_kept(&running, &copy);
    if is_copied { copy } else { running }
}

fn is_temporary(running: &Path) -> bool {
    is_in_cache(&running.canonicalize().unwrap_or_else(|_| running.to_owned()))
}

/// The files that [`keep_program`] writes: the copy and its new version; `None` if it writes nothing.
pub(super) fn pending_copy(layout: &Layout, running: &Path) -> Option<[PathBuf; 2]> {
    let copy = layout.program();
    let is_pending = running != copy && is_temporary(running) && !is_kept(running, &copy);
    is_pending.then(|| [beside(&copy, "new"), copy])
}

/// Copies `running` into the home if it is in a cache; returns the lasting path.
///
/// # Errors
/// When it cannot be copied.
pub fn keep_program(layout: &Layout, running: &Path) -> Result<PathBuf, Failure> {
    let copy = layout.program();
    if !is_temporary(running) {
        return Ok(running.to_owned());
    }
    if !is_kept(running, &copy) {
        copy_program(running, &copy).map_err(|error| Failure::cannot_at("copy gem-setup itself to", &copy, &error))?;
    }
    Ok(copy)
}

/// Copies the executable `from` to `to`.
pub(super) fn copy_program(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    replace_program(from, to, &beside(to, "old"))
}

/// The path of `path` with a suffix added to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_starts_gem_setup_again() {
        let again = |path: &str| typed_again(Path::new(path));
        assert_eq!(
            again("/a/.npm/_npx/0f/node_modules/x/gem-setup").unwrap(),
            "npx gem-setup"
        );
        assert_eq!(
            again("/a/.cache/uv/archive-v0/x/bin/gem-setup").unwrap(),
            "uvx gem-setup"
        );
        assert_eq!(again("/a/.cache/pipx/x/bin/gem-setup").unwrap(), "pipx run gem-setup");
        assert_eq!(again("/usr/local/bin/gem-setup"), None);
    }

    #[test]
    fn programs_of_package_runners_are_temporary() {
        for path in [
            "/home/a/.npm/_npx/0f/node_modules/@gem-setup/linux-x64/bin/gem-setup",
            "/srv/npm/_npx/0f/node_modules/@gem-setup/linux-x64/bin/gem-setup",
            "/home/a/.cache/uv/archive-v0/x/bin/gem-setup",
            "/srv/uv/archive-v1/x/bin/gem-setup",
            "/home/a/Library/Caches/pipx/1b/bin/gem-setup",
            "/home/a/.local/pipx/.cache/1b/bin/gem-setup",
            "/tmp/bunx-0-gem-setup@latest/node_modules/@gem-setup/linux-x64/bin/gem-setup",
            "/tmp/xfs-1/dlx-2/node_modules/@gem-setup/linux-x64/bin/gem-setup",
        ] {
            assert!(is_in_cache(Path::new(path)), "{path}");
        }
        for path in [
            "/usr/bin/gem-setup",
            "/home/a/.local/bin/gem-setup",
            "/home/a/.local/share/uv/tools/gem-setup/bin/gem-setup",
            "/home/a/project/node_modules/@gem-setup/linux-x64/bin/gem-setup",
            "/opt/hostedtoolcache/gem-setup/bin/gem-setup",
        ] {
            assert!(!is_in_cache(Path::new(path)), "{path}");
        }
    }

    #[test]
    #[cfg_attr(windows, ignore = "Windows moves a program away before the new one takes its place")]
    fn a_replaced_program_is_never_missing() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "program").unwrap();
        copy_program(&from, &to).unwrap();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        let missing = std::thread::scope(|scope| {
            let look = || {
                let mut missing = 0;
                while !is_over.load(order) {
                    missing += usize::from(!to.exists());
                }
                missing
            };
            let looking = scope.spawn(look);
            (0..500).for_each(|_| copy_program(&from, &to).unwrap());
            is_over.store(true, order);
            looking.join().unwrap()
        });
        assert_eq!(missing, 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    #[cfg_attr(windows, ignore = "Windows moves a program away before the new one takes its place")]
    fn a_program_can_be_copied_several_times_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "program").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| copy_program(&from, &to).unwrap()));
            }
        });
        assert_eq!(fs::read_to_string(&to).unwrap(), "program");
    }

    #[test]
    fn a_marked_directory_is_a_cache_unless_cargo_builds_there() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("bin/gem-setup");
        assert!(!is_in_cache(&program));
        let tag = directory.path().join(TAG);
        fs::write(&tag, "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
        assert!(is_in_cache(&program));
        fs::write(&tag, "# This file is a cache directory tag created by cargo.\n").unwrap();
        assert!(!is_in_cache(&program));
    }
}
