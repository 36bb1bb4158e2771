//! The path of gem-setup's own executable, and its name in advice.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use gem_setup::place;
use gem_setup::setup::typed_again;

/// The running executable, by the path with which it was called according to the command line `args`.
///
/// A package manager puts a link on the PATH, and the link survives the directory of one version; the system, however,
/// reports the file that the link leads to. A path counts only if it leads to the running file.
pub(crate) fn called(args: &[OsString]) -> io::Result<PathBuf> {
    let running = std::env::current_exe()?;
    let directory = std::env::current_dir().unwrap_or_default();
    let path = std::env::var_os("PATH");
    let name = args.first().map(OsString::as_os_str);
    let found = name.and_then(|name| find(name, path.as_deref(), &directory, &running));
    Ok(found.unwrap_or(running))
}

/// The path that leads from `name` to the file `running`; `name` is a path, or a name to look up in the directories of
/// `path`.
fn find(name: &OsStr, path: Option<&OsStr>, directory: &Path, running: &Path) -> Option<PathBuf> {
    let candidates = which::which_in_all(name, path, directory).ok()?;
    candidates
        .map(|candidate| directory.join(candidate))
        .find(|candidate| place::is_one_file(candidate, running).unwrap_or(false))
        .and_then(|candidate| std::path::absolute(candidate).ok())
}

/// What a person types to run gem-setup, if that is not its name: a package runner puts its cache on the PATH only for the
/// program that it runs.
pub(crate) fn typed() -> Option<String> {
    let again = typed_again(&std::env::current_exe().ok()?)?;
    let mut found = which::which_in_all("gem-setup", std::env::var_os("PATH"), "").ok()?;
    let is_lasting = found.any(|program| typed_again(&program).is_none());
    (!is_lasting).then_some(again)
}
