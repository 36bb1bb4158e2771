//! Errors with settings files.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file;

use super::strict::Rejection;
use crate::error::{Explain, Kind};
use crate::place;

/// Why a settings file cannot be used. The file is unchanged after each of these errors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists but cannot be read.
    #[error("cannot read the settings file `{}`", path.display())]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The text is not JSON with comments.
    #[error("cannot parse the settings file `{}` at line {line}, column {column}: {reason}", path.display())]
    Parse {
        /// The file's path.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The parser's error.
        reason: String,
    },
    /// The text has nothing but white space and comments.
    #[error("cannot parse the settings file `{}`: the file contains no value", path.display())]
    Empty {
        /// The file's path.
        path: PathBuf,
    },
    /// The text is not UTF-8.
    #[error("cannot read the settings file `{}`: it is {encoding}, but must be UTF-8", path.display())]
    Encoding {
        /// The file's path.
        path: PathBuf,
        /// The encoding's name.
        encoding: &'static str,
    },
    /// Gemini CLI refuses to start with this file.
    #[error("Gemini CLI refuses the settings file `{}`: {refusal}", path.display())]
    Refused {
        /// The file's path.
        path: PathBuf,
        /// The reason and the position.
        refusal: Rejection,
    },
    /// Gemini CLI refuses to start with the file of trusted folders.
    #[error("Gemini CLI refuses `{}`: the trust level of `{directory}` is {level}", path.display())]
    TrustLevel {
        /// The file's path.
        path: PathBuf,
        /// The directory as the file names it.
        directory: String,
        /// The value in the file, as JSON.
        level: String,
    },
    /// There is something other than an object where the router's keys belong.
    #[error(
        "cannot use the settings file `{}`: {} is {found} at line {line}, column {column}, but must be an object",
        path.display(),
        subject(key)
    )]
    NotAnObject {
        /// The file's path.
        path: PathBuf,
        /// The dotted key; empty for the whole file.
        key: String,
        /// The type of the found value, with its article.
        found: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// The file cannot be written.
    #[error("cannot write the settings file `{}`", path.display())]
    Write {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file cannot be deleted.
    #[error("cannot delete the settings file `{}`", path.display())]
    Delete {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The previous text cannot be copied.
    #[error("cannot back up the settings file `{}` in `{}`", path.display(), backups.display())]
    Backup {
        /// The file's path.
        path: PathBuf,
        /// The directory of the copies.
        backups: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another program wrote the file between the read and the write.
    #[error("cannot write the settings file `{}`: it has changed since it was read", path.display())]
    Changed {
        /// The file's path.
        path: PathBuf,
    },
    /// The edited text does not have the intended values.
    #[error("cannot edit the settings file `{}` without changing other settings", path.display())]
    Unsafe {
        /// The file's path.
        path: PathBuf,
    },
    /// The path is not valid in JSON.
    #[error("cannot write `binaryPath`: `{}` is not valid Unicode", path.display())]
    BinaryPath {
        /// The path.
        path: PathBuf,
    },
    /// Gemini CLI would read another path.
    #[error("cannot write `binaryPath`: Gemini CLI replaces the variables in `{}`", path.display())]
    Expanded {
        /// The path.
        path: PathBuf,
    },
}

impl Error {
    /// The file or directory with which the error occurred.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Parse { path, .. }
            | Self::Empty { path }
            | Self::Encoding { path, .. }
            | Self::Refused { path, .. }
            | Self::TrustLevel { path, .. }
            | Self::NotAnObject { path, .. }
            | Self::Write { path, .. }
            | Self::Delete { path, .. }
            | Self::Backup { path, .. }
            | Self::Changed { path }
            | Self::Unsafe { path }
            | Self::BinaryPath { path }
            | Self::Expanded { path } => path,
        }
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Settings
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, source } if place::is_misplaced(source) && !has_usual_name(path) => {
                format!("correct the variable that names `{}`", path.display())
            }
            Self::Read { path, source } => place::remedy(path, source),
            Self::Empty { path } => unchanged(&format!("write `{{}}` into `{}`, or delete it", path.display())),
            Self::Encoding { path, .. } => unchanged(&format!("save `{}` as UTF-8", path.display())),
            Self::Parse { path, line, .. }
            | Self::Refused {
                path,
                refusal: Rejection { line, .. },
            } => unchanged(&format!("correct line {line} of `{}`", path.display())),
            Self::TrustLevel { path, directory, .. } => format!(
                "set `{directory}` to TRUST_FOLDER, TRUST_PARENT or DO_NOT_TRUST in `{}`",
                path.display()
            ),
            Self::NotAnObject { path, key, line, .. } if key.is_empty() => unchanged(&format!(
                "put the settings in `{}` between braces (line {line})",
                path.display()
            )),
            Self::NotAnObject { path, key, line, .. } => unchanged(&format!(
                "make `{key}` at line {line} of `{}` an object or remove it",
                path.display()
            )),
            Self::Write { path, source } | Self::Delete { path, source } => remedy(path, source),
            Self::Backup { backups, source, .. } => remedy(backups, source),
            Self::Changed { .. } => "run the command again when no other program changes that file".to_owned(),
            Self::Unsafe { path } => unchanged(&format!(
                "set `experimental.gemmaModelRouter` in `{}` by hand",
                path.display()
            )),
            Self::Expanded { .. } => {
                "unset GEM_SETUP_DOLLAR, or choose a home without `$` in its path with `--home DIR`".to_owned()
            }
            Self::BinaryPath { .. } => "move gem-setup to a path that is valid Unicode".to_owned(),
        })
    }
}

/// `advice` about a file in which nothing was changed.
fn unchanged(advice: &str) -> String {
    format!("{advice}; nothing in it was changed")
}

/// Whether a file at `path` is one that Gemini CLI would look for there by itself.
fn has_usual_name(path: &Path) -> bool {
    const NAMES: [&str; 3] = ["settings.json", "system-defaults.json", "trustedFolders.json"];
    NAMES.iter().any(|name| path.ends_with(name))
}

fn subject(key: &str) -> String {
    if key.is_empty() {
        "the file".to_owned()
    } else {
        format!("`{key}`")
    }
}

/// The hint for `source`, an error that occurred while `path` was written.
fn remedy(path: &Path, source: &io::Error) -> String {
    let path = path.display();
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!("make `{path}` and its directory writable for this user"),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("`{path}` is on a read-only file system: mount it writable or choose another `--home`")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("free space on the disk that holds `{path}`")
        }
        io::ErrorKind::IsADirectory => format!("move the directory `{path}` somewhere else"),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!("a part of `{path}` is a file instead of a directory: move that file somewhere else")
        }
        _ if file::is_limit_of_size(source) => file::RAISE_SIZE_LIMIT.to_owned(),
        _ => format!("check `{path}` and its disk"),
    }
}
