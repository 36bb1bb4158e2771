//! gem-setup's own executable: replaced by the catalog's, unless a package manager owns it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gem_platform::file::replace_own_program;
use gem_platform::service::{Runner as _, Tools};

use super::own_trial::{check_works, version_of};
use super::run::Upgraded;
use crate::error::{Failure, Kind};
use crate::fetch::Request;
use crate::layout::Layout;
use crate::place;
use crate::progress::Progress;
use crate::setup::converge::lock_home;
use crate::setup::program::{lies_in, runner};
use crate::setup::tidy::{self, SELF};
use crate::setup::{Setup, shown};
use crate::version::is_newer;

/// The time for a package manager to name the owner of a file; dpkg reads the lists of all packages.
const OWNER_LIMIT: Duration = Duration::from_secs(10);
const CURRENT: &str = env!("CARGO_PKG_VERSION");
/// The beginning of the previous executable's name; its version follows.
const KEPT: &str = "gem-setup-";

/// The directory of the previous executable.
fn directory(layout: &Layout) -> PathBuf {
    layout.versions().join(SELF)
}

fn entries(layout: &Layout) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory(layout)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The previous executable: its version and its path. A copy of the running version is left over from a failed replacement.
/// After a replacement that was killed, the copy that was made last counts.
pub(in crate::setup) fn previous_self(layout: &Layout) -> Option<(String, PathBuf)> {
    let kept = entries(layout).filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let version = name.strip_prefix(KEPT)?.trim_end_matches(".exe").to_owned();
        let made = path.symlink_metadata().ok()?.modified().ok()?;
        (version != CURRENT).then_some((made, version, path))
    });
    kept.max().map(|(_, version, path)| (version, path))
}

/// The files next to the previous executable, left by a replacement that failed or was killed.
pub(in crate::setup) fn leftovers_of_self(layout: &Layout) -> Vec<PathBuf> {
    let previous = previous_self(layout).map(|(_, path)| path);
    entries(layout).filter(|path| Some(path) != previous.as_ref()).collect()
}

/// Replaces gem-setup's executable with the catalog's. The previous one is kept for `rollback self`.
///
/// # Errors
/// When the catalog lacks an executable for this platform, a package manager owns the present one, or the new one does not work.
pub async fn upgrade_self(setup: &Setup<'_>) -> Result<Upgraded, Failure> {
    let entry = setup.site.catalog.own();
    let offered = entry.map(|entry| entry.version.clone());
    let Some(entry) = entry.filter(|entry| is_newer(&entry.version, CURRENT)) else {
        let detail = match &offered {
            None => format!("gem-setup stays at {CURRENT}: the catalog has no version of it"),
            Some(to) if to != CURRENT => format!("gem-setup {CURRENT} is newer than the catalog's {to}"),
            Some(_) => unchanged(CURRENT).detail,
        };
        return Ok(Upgraded {
            to: offered,
            detail,
            ..unchanged(CURRENT)
        });
    };
    let executable = executable()?;
    check_replaceable(&executable)?;
    let Some(artifact) = entry.artifact(setup.site.target) else {
        let message = format!(
            "cannot upgrade gem-setup: the catalog has no build of {} for {}",
            entry.version, setup.site.target
        );
        return Err(
            Failure::new(Kind::Unsupported, message).with_hint("build it from its source, or use another catalog")
        );
    };
    // Two replacements at once would keep the new executable as the previous one.
    let _lock = lock_home(&setup.site.layout, SELF, setup.tools.progress).await?;
    // The lock's last owner may have replaced the executable.
    if version_of(&executable).await.as_deref() == Some(&entry.version) {
        return Ok(unchanged(&entry.version));
    }
    let new = directory(&setup.site.layout).join("new").join(artifact.file_name());
    let request = Request {
        id: SELF.to_owned(),
        label: artifact.file_name().to_owned(),
        url: artifact.url.clone(),
        sha256: artifact.sha256,
        size: artifact.size,
        place: new.clone(),
    };
    setup.tools.fetcher.fetch(&request, setup.tools.progress).await?;
    gem_platform::file::make_executable(&new).map_err(|error| cannot("make executable", &new, &error))?;
    let hint = "the one in use stays; report the fault to the catalog's publisher";
    check_works(&new, "the new gem-setup", &entry.version, hint).await?;
    replace(&setup.site.layout, &executable, &new).await?;
    Ok(done(CURRENT, &entry.version))
}

/// Puts the previous executable back in place, and keeps the present one.
///
/// # Errors
/// When none is kept, it does not work, or another gem-setup is at work.
pub async fn roll_back_self(layout: &Layout, progress: &dyn Progress) -> Result<Upgraded, Failure> {
    let executable = executable()?;
    let _lock = lock_home(layout, SELF, progress).await?;
    let Some((version, previous)) = previous_self(layout) else {
        let failure = Failure::new(Kind::Usage, "cannot roll gem-setup back: no previous version is kept");
        return Err(failure.with_hint("`gem-setup versions` lists the kept versions"));
    };
    check_replaceable(&executable)?;
    let what = format!("the kept gem-setup {}", shown(&previous));
    let hint = format!("the one in use stays; install {version} from where gem-setup came from");
    check_works(&previous, &what, &version, &hint).await?;
    replace(layout, &executable, &previous).await?;
    Ok(done(CURRENT, &version))
}

fn unchanged(version: &str) -> Upgraded {
    Upgraded {
        from: Some(version.to_owned()),
        to: Some(version.to_owned()),
        changed: false,
        detail: format!("gem-setup {version} is the catalog's version"),
    }
}

fn done(from: &str, to: &str) -> Upgraded {
    Upgraded {
        from: Some(from.to_owned()),
        to: Some(to.to_owned()),
        changed: true,
        detail: "replaced gem-setup's executable; a running server keeps the old one until `gem-setup restart`"
            .to_owned(),
    }
}

/// The path of the running executable, symbolic links resolved.
fn executable() -> Result<PathBuf, Failure> {
    let found = std::env::current_exe().and_then(|path| path.canonicalize());
    found.map_err(|error| {
        Failure::new(
            Kind::Unexpected,
            format!("cannot find gem-setup's own executable: {error}"),
        )
    })
}

/// Puts `new` in place of `executable`. A copy of `executable` that was tried becomes the previous one.
async fn replace(layout: &Layout, executable: &Path, new: &Path) -> Result<(), Failure> {
    let [kept, partial] = [format!("{KEPT}{CURRENT}"), "partial".to_owned()]
        .map(|name| directory(layout).join(name + std::env::consts::EXE_SUFFIX));
    let copied = fs::create_dir_all(directory(layout)).and_then(|()| place::copy_afresh(executable, &partial));
    copied.map_err(|error| cannot("keep a copy of", executable, &error))?;
    let what = format!("the copy of {} that was made to keep it", shown(executable));
    let hint = "another command may have replaced it meanwhile: run `gem-setup version`, then the command again";
    check_works(&partial, &what, CURRENT, hint).await?;
    fs::rename(&partial, &kept).map_err(|error| cannot("keep a copy of", executable, &error))?;
    replace_own_program(executable, new).map_err(|error| cannot("replace gem-setup with", new, &error))?;
    for other in entries(layout).filter(|path| *path != kept) {
        // A file that cannot be deleted now is left to `cleanup`.
        let _ = tidy::delete(&other);
    }
    Ok(())
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", shown(path));
    Failure::new(Kind::Unexpected, message)
        .with_hint("check that its directory is yours and has room, then run the command again")
}

/// Refuses an executable that a package manager owns, or whose directory is not writable. Called before anything is downloaded.
fn check_replaceable(executable: &Path) -> Result<(), Failure> {
    refuse_owned(executable)?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    tempfile::tempfile_in(directory).map(drop).map_err(|error| {
        let message = format!(
            "cannot replace {}: nothing can be written to {}: {error}",
            shown(executable),
            shown(directory)
        );
        Failure::new(Kind::Conflict, message).with_hint(
            "run the command as the owner of that directory, or move gem-setup to one of your own, such as `~/.local/bin`",
        )
    })
}

/// Refuses an executable that a package manager owns, and names that manager's command.
fn refuse_owned(executable: &Path) -> Result<(), Failure> {
    let Some((manager, command)) = owner(executable) else {
        return Ok(());
    };
    let message = format!("cannot replace `{}`: {manager} owns it", executable.display());
    Err(Failure::new(Kind::Conflict, message).with_hint(format!("run `{command}`")))
}

/// Directory names in a path that show a package manager, and its command.
const OWNERS: [(&[&str], &str, &str); 9] = [
    (&["Cellar"], "Homebrew", "brew upgrade gem-setup"),
    (&["node_modules"], "npm", "npm update -g gem-setup"),
    (&["uv", "tools"], "uv", "uv tool upgrade gem-setup"),
    (&["pipx", "venvs"], "pipx", "pipx upgrade gem-setup"),
    (&["site-packages"], "pip", "pip install --upgrade gem-setup"),
    (&[".cargo", "bin"], "cargo", "cargo install gem-setup --force"),
    (&["scoop", "apps"], "Scoop", "scoop update gem-setup"),
    (&["WinGet", "Packages"], "winget", "winget upgrade gem-setup"),
    (&["nix", "store"], "Nix", "nix profile upgrade gem-setup"),
];

fn owner(executable: &Path) -> Option<(&'static str, &'static str)> {
    if let Some(found) = runner(executable) {
        return Some(found);
    }
    let by_path = OWNERS.iter().find(|(names, ..)| lies_in(executable, names));
    if let Some((_, manager, command)) = by_path {
        return Some((manager, command));
    }
    if is_of_pip(executable) {
        return Some(("pip", "pip install --upgrade gem-setup"));
    }
    if is_of_cargo(executable) {
        return Some(("cargo", "cargo install gem-setup --force"));
    }
    if is_in_dpkg(executable) {
        return Some(("dpkg", "sudo apt-get install --only-upgrade gem-setup"));
    }
    let is_of_system = executable.starts_with("/usr/bin") || executable.starts_with("/usr/lib");
    is_of_system.then_some((
        "the system's package manager",
        "your package manager's upgrade of gem-setup",
    ))
}

/// Whether the file belongs to a Python environment, or pip has recorded it in the packages next to it.
fn is_of_pip(executable: &Path) -> bool {
    let Some(root) = executable.parent().and_then(Path::parent) else {
        return false;
    };
    root.join("pyvenv.cfg").exists() || packages(root).iter().any(|directory| names_gem_setup(directory))
}

/// The directories of Python packages below `root`, by the names that the systems use.
fn packages(root: &Path) -> Vec<PathBuf> {
    let versions = fs::read_dir(root.join("lib")).into_iter().flatten().flatten();
    let versions = versions.map(|entry| entry.path()).chain([root.join("Lib")]);
    versions
        .flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name)))
        .collect()
}

fn names_gem_setup(packages: &Path) -> bool {
    let mut names = fs::read_dir(packages)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    names.any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("gem_setup-") && name.ends_with(".dist-info")
    })
}

/// Whether `cargo install --root` installed the file.
fn is_of_cargo(executable: &Path) -> bool {
    let list = executable
        .parent()
        .and_then(Path::parent)
        .map(|root| root.join(".crates.toml"));
    list.and_then(|list| fs::read_to_string(list).ok())
        .is_some_and(|text| text.contains("\"gem-setup "))
}

/// Whether the file belongs to a package of dpkg.
fn is_in_dpkg(executable: &Path) -> bool {
    let found = Tools.run("dpkg-query", &["--search".into(), executable.into()], OWNER_LIMIT);
    found.is_ok_and(|output| output.code == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_kept_executables_the_last_copy_counts() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path(), home.path());
        fs::create_dir_all(directory(&layout)).unwrap();
        let now = std::time::SystemTime::now();
        // In either order of their names.
        for (newest, other) in [("0.0.1", "0.0.2"), ("0.0.2", "0.0.1")] {
            for (version, age) in [(newest, 0), (other, 60)] {
                let file = fs::File::create(directory(&layout).join(format!("{KEPT}{version}"))).unwrap();
                file.set_modified(now - Duration::from_secs(age)).unwrap();
            }
            assert_eq!(previous_self(&layout).unwrap().0, newest);
        }
    }

    #[test]
    fn the_owner_of_an_executable_is_known_by_its_path() {
        for (path, manager) in [
            ("/opt/homebrew/Cellar/gem-setup/1.0/bin/gem-setup", Some("Homebrew")),
            ("/usr/lib/node_modules/gem-setup/bin/gem-setup", Some("npm")),
            (
                "/home/a/.npm/_npx/0f/node_modules/@gem-setup/linux-x64/bin/gem-setup",
                Some("npx"),
            ),
            ("/home/a/.local/share/uv/tools/gem-setup/bin/gem-setup", Some("uv")),
            ("/home/a/.cache/uv/archive-v0/x/bin/gem-setup", Some("uvx")),
            ("/home/a/.cargo/bin/gem-setup", Some("cargo")),
            ("/home/a/.local/bin/gem-setup", None),
            ("/home/a/src/uv-tools/gem-setup", None),
        ] {
            assert_eq!(owner(Path::new(path)).map(|(manager, _)| manager), manager, "{path}");
        }
    }
}
