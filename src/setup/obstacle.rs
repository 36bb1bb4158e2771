//! Looks at the paths that a step needs, and says why one cannot be used and what to do about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gem_platform::process::{check_null, null_remedy};
use gem_platform::{Os, file, probe};

use super::shown;
use crate::error::Failure;
use crate::layout::Layout;
use crate::lock;
use crate::place::{self, Unfit};
use crate::progress::Size;
use crate::sha256::Sha256;
use crate::shell;

/// Advice for an installation that has not begun.
pub(super) const ELSEWHERE: &str = ", or choose a home elsewhere with `--home`";

/// Records and settings are smaller; in bytes.
const USUAL_SIZE: u64 = 64 << 10;

/// An operation that must be possible at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The path is a directory, or can be created as one.
    Home,
    /// Files are created in the directory, which is itself created if missing.
    Directory,
    /// The file, which is gem-setup's own, is read and written; a link is replaced.
    File,
    /// A finished file is moved over the path.
    Replace,
    /// The directory, if it exists, is moved away.
    Move,
    /// The file's permissions are set.
    Permit,
    /// The file is opened to write; only gem-setup uses it.
    Open,
    /// The user's file is written; its other names stay.
    Settings,
    /// The file is deleted.
    Delete,
    /// The file is appended to; a device such as `/dev/null` is allowed.
    Append,
    /// The file is locked.
    Lock,
    /// A program at the path is run.
    Run,
    /// The null device is read and written.
    Null,
    /// Files of the usual size are written.
    Size,
}

/// The needs of the partial download of a file with the hash `sha256`.
pub(super) fn download_needs(layout: &Layout, sha256: Sha256) -> Vec<(PathBuf, Use)> {
    let downloads = layout.downloads();
    vec![
        (downloads.join(format!("{sha256}.lock")), Use::Lock),
        (downloads.join(format!("{sha256}.part")), Use::Open),
        (downloads.join(format!("{sha256}.json")), Use::Replace),
        (downloads.join(format!("{sha256}.json.new")), Use::Open),
    ]
}

/// Why a path cannot be used, and a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) detail: String,
    pub(super) hint: String,
}

/// The obstacles of `needs` combined into one, without repetitions.
pub(super) fn join(layout: &Layout, needs: impl IntoIterator<Item = (PathBuf, Use)>) -> Option<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    for (path, needed) in needs {
        if let Some(obstacle) = look(layout, &path, needed).filter(|obstacle| !found.contains(obstacle)) {
            found.push(obstacle);
        }
    }
    let join = |part: fn(&Obstacle) -> &str| {
        let mut parts: Vec<_> = found.iter().map(part).collect();
        parts.dedup();
        parts.join("; ")
    };
    let (detail, hint) = (join(|obstacle| &obstacle.detail), join(|obstacle| &obstacle.hint));
    (!found.is_empty()).then_some(Obstacle { detail, hint })
}

/// Why `path` cannot be used in this way, as far as that is visible.
fn look(layout: &Layout, path: &Path, needed: Use) -> Option<Obstacle> {
    let explain = |unfit: &Unfit| explain(layout, path, needed, unfit);
    match needed {
        Use::Home => Some(look_at_home(path)),
        Use::Directory => place::check_directory(path).err().map(|unfit| explain(&unfit)),
        Use::Append if is_device(path) => {
            let opened = file::check_device(path).map_err(|source| Unfit::new(path, source));
            opened.err().map(|unfit| explain(&unfit))
        }
        Use::Append | Use::Open => check_own(path).err().map(|unfit| explain(&unfit)),
        Use::File => place::check_own(path).err().map(|unfit| explain(&unfit)),
        Use::Replace => place::check_replaceable(path).err().map(|unfit| explain(&unfit)),
        Use::Move => place::check_movable(path).err().map(|unfit| explain(&unfit)),
        Use::Permit => file::may_permit(path)
            .map_err(|source| Unfit::new(path, source))
            .err()
            .map(|unfit| explain(&unfit)),
        Use::Settings => place::check_shared(path).err().map(|unfit| explain(&unfit)),
        Use::Delete => place::check_deletable(path).err().map(|unfit| explain(&unfit)),
        Use::Lock => match check_own(path) {
            Err(unfit) => Some(explain(&unfit)),
            Ok(()) => look_at_lock(path),
        },
        Use::Null => look_at_null(),
        Use::Size => look_at_size(),
        Use::Run => is_no_exec(path).then(|| Obstacle {
            detail: format!(
                "no program can be run at {}: its file system is mounted `noexec`",
                shown(path)
            ),
            hint: format!(
                "mount {} without `noexec`{ELSEWHERE}",
                // Several paths of one file system have one remedy.
                shown(
                    path.ancestors()
                        .take_while(|above| is_no_exec(above))
                        .last()
                        .unwrap_or(path)
                )
            ),
        }),
    }
}

/// Describes the fault of the home `path`, which is missing and cannot be created, or is not a directory.
fn look_at_home(path: &Path) -> Obstacle {
    let other = "name another with `--home DIR`, or set HOME";
    match place::check_directory(path) {
        Err(unfit) if !path.exists() => Obstacle {
            detail: format!(
                "the home {} does not exist, and {}",
                shown(path),
                fault(&unfit.path, &unfit)
            ),
            hint: format!("create the home, or {other}"),
        },
        _ => Obstacle {
            detail: format!("the home {} is not a directory", shown(path)),
            hint: other.to_owned(),
        },
    }
}

/// Every started program gets the null device, and scripts write to it.
fn look_at_null() -> Option<Obstacle> {
    let error = check_null().err()?;
    Some(Obstacle {
        detail: plain(&error),
        hint: null_remedy().to_owned(),
    })
}

/// Every change writes records, and copies of settings.
fn look_at_size() -> Option<Obstacle> {
    let limit = file::size_limit().filter(|limit| *limit < USUAL_SIZE)?;
    Some(Obstacle {
        detail: format!("no file may have more than {} here (`ulimit -f`)", Size(limit)),
        hint: file::RAISE_SIZE_LIMIT.to_owned(),
    })
}

fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| file::is_character_device(metadata.file_type()))
}

fn is_no_exec(path: &Path) -> bool {
    probe::volume(path).is_ok_and(|volume| volume.no_exec)
}

/// Checks that `path` can be written and belongs only to this program.
fn check_own(path: &Path) -> Result<(), Unfit> {
    match file::check_own(path) {
        // Then the directory is the fault.
        Err(source) if !file::is_absence(&source) && source.kind() != ErrorKind::PermissionDenied => {
            Err(Unfit::new(path, source))
        }
        _ => place::check_open(path),
    }
}

fn look_at_lock(path: &Path) -> Option<Obstacle> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let error = lock::check(existing).err()?;
    let failure = Failure::from(error);
    Some(Obstacle {
        detail: failure.message,
        hint: failure.hint.unwrap_or_default(),
    })
}

/// What prevents the use `needed` of the path `wanted`.
fn explain(layout: &Layout, wanted: &Path, needed: Use, unfit: &Unfit) -> Obstacle {
    let path = match unfit.source.kind() {
        ErrorKind::ReadOnlyFilesystem => mount(layout, &unfit.path),
        _ => visible(&unfit.path),
    };
    let real = place::resolve(path).unwrap_or_else(|_| path.to_owned());
    let hint = match unfit.source.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            format!("mount the file system of {} writable{ELSEWHERE}", shown(path))
        }
        ErrorKind::PermissionDenied => match (file::unmark_command(&real), other_owner(&real)) {
            (Some(command), _) => format!("run `sudo {command} {}`", word(&real)),
            (None, Some(_)) => hand_over(layout, wanted, needed, path, &real),
            (None, None) => permit(&real),
        },
        ErrorKind::ResourceBusy => format!("unmount {}, or mount the directory above it instead", shown(path)),
        ErrorKind::NotFound => format!("remove the link {}, or create what it names", shown(path)),
        _ => format!("move {} somewhere else", shown(path)),
    };
    Obstacle {
        detail: fault(path, unfit),
        hint,
    }
}

/// Describes the fault of `path`, because of `unfit`.
fn fault(path: &Path, unfit: &Unfit) -> String {
    let real = place::resolve(path).unwrap_or_else(|_| path.to_owned());
    let link = if real == *path {
        String::new()
    } else {
        format!(" (a link to {})", shown(&real))
    };
    let is_denied = unfit.source.kind() == ErrorKind::PermissionDenied;
    let reason = match other_owner(&real).filter(|_| is_denied) {
        Some(owner) => {
            let is_hidden = real.is_file() && file::open_regular(&real).is_err();
            let use_ = if is_hidden { "read" } else { "written" };
            format!("cannot be {use_}: it belongs to {}, not to you", user(owner))
        }
        None => format!("cannot be used: {}", plain(&unfit.source)),
    };
    format!("{}{link} {reason}", shown(path))
}

/// `path`, or the directory above it, at most the home, with which the read-only file system begins.
fn mount<'a>(layout: &Layout, path: &'a Path) -> &'a Path {
    let is_read_only = |path: &&Path| {
        let found = file::may_write(path);
        found.is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem)
    };
    let is_ours = |above: &&Path| above.starts_with(layout.home()) == path.starts_with(layout.home());
    let found = path.ancestors().skip_while(|path| !path.exists());
    found
        .take_while(is_read_only)
        .take_while(is_ours)
        .last()
        .unwrap_or(path)
}

/// `path`, or the directory above it that hides it from this user.
fn visible(path: &Path) -> &Path {
    let is_hidden = |path: &Path| {
        let found = path.symlink_metadata();
        found.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    path.ancestors().find(|path| !is_hidden(path)).unwrap_or(path)
}

/// The reason without the number at the end of the system's errors.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    plain.to_owned()
}

pub(super) fn owner_of(path: &Path) -> Option<u32> {
    file::owner(&path.metadata().ok()?)
}

fn other_owner(path: &Path) -> Option<u32> {
    owner_of(path).filter(|owner| *owner != gem_platform::service::user_id())
}

fn word(path: &Path) -> String {
    shell::word(Os::Linux, path.as_os_str())
}

/// How to get the use `needed` of the path `wanted`, although `fault` (or `real`, to which it leads) belongs to another
/// user. Nothing is given to this
/// user that may contain files of others: at most a part of the home.
fn hand_over(layout: &Layout, wanted: &Path, needed: Use, fault: &Path, real: &Path) -> String {
    let models = layout.models();
    let is_in_home = real.starts_with(layout.home()) && real != layout.home();
    if is_in_home || fault == wanted || models.parent().is_some_and(|own| real.starts_with(own)) {
        return format!("run `sudo chown -R \"$(id -un)\" {}`", word(real));
    }
    let directory = if needed == Use::Directory {
        wanted
    } else {
        place::parent(wanted)
    };
    let missing = directory.ancestors().take_while(|path| *path != fault).last();
    match missing {
        Some(missing) => format!(
            "run `sudo install -d -o \"$(id -un)\" {}`, or name a home of your own with `--home DIR`",
            word(missing)
        ),
        None => format!("run `sudo chown \"$(id -un)\" {}`", word(real)),
    }
}

/// How to make the user's own `path` writable.
fn permit(path: &Path) -> String {
    let generated = "if another program generates it (such as home-manager), make the change there";
    if path.is_dir() {
        format!("run `chmod u+rwx {}`", word(path))
    } else if Os::HOST == Os::Windows {
        format!("make {} writable; {generated}", shown(path))
    } else {
        format!("run `chmod u+rw {}`; {generated}", word(path))
    }
}

pub(super) fn user(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        id => format!("user {id}"),
    }
}
