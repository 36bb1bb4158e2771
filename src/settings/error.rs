//! Errors with settings files.

use std::io;
use std::path::{Path, PathBuf};

use super::strict::Rejection;
use crate::error::{Explain, Kind};
use crate::place;

/// Why a settings file cannot be used; none of these leaves the file changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists but cannot be read.
    #[error("cannot read the settings file `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is no JSON with comments.
    #[error("cannot parse the settings file `{}` at line {line}, column {column}: {reason}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The parser's error.
        reason: String,
    },
    /// Gemini CLI does not start with the file.
    #[error("Gemini CLI refuses the settings file `{}`: {refusal}", path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Why, and where.
        refusal: Rejection,
    },
    /// Gemini CLI does not start with the folders' trust.
    #[error("Gemini CLI refuses `{}`: the trust of `{folder}` is {level}", path.display())]
    TrustLevel {
        /// Which file.
        path: PathBuf,
        /// The folder, as the file names it.
        folder: String,
        /// The value in the file, as JSON.
        level: String,
    },
    /// Something other than an object stands where the router's keys must go.
    #[error(
        "cannot use the settings file `{}`: {} holds {found} at line {line}, column {column} where an object is expected",
        path.display(),
        subject(key)
    )]
    NotAnObject {
        /// Which file.
        path: PathBuf,
        /// The dotted key; empty for the whole file.
        key: String,
        /// The type of the value there, with its article.
        found: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// The file cannot be written.
    #[error("cannot write the settings file `{}`", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be taken away.
    #[error("cannot delete the settings file `{}`", path.display())]
    Delete {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The copy of the previous text cannot be made.
    #[error("cannot back up the settings file `{}` in `{}`", path.display(), backups.display())]
    Backup {
        /// Which file.
        path: PathBuf,
        /// Where to.
        backups: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another program wrote the file between the read and the write.
    #[error("cannot write the settings file `{}`: it has changed since it was read", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// The edited text does not have the intended values.
    #[error("cannot edit the settings file `{}` without changing other settings", path.display())]
    Unsafe {
        /// Which file.
        path: PathBuf,
    },
    /// A path that JSON cannot hold.
    #[error("cannot write `binaryPath`: `{}` is not valid Unicode", path.display())]
    BinaryPath {
        /// Which path.
        path: PathBuf,
    },
}

impl Error {
    /// The file or directory the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::Parse { path, .. }
            | Self::Refused { path, .. }
            | Self::TrustLevel { path, .. }
            | Self::NotAnObject { path, .. }
            | Self::Write { path, .. }
            | Self::Delete { path, .. }
            | Self::Backup { path, .. }
            | Self::Changed { path }
            | Self::Unsafe { path }
            | Self::BinaryPath { path } => path,
        }
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        Kind::Settings
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, source } => place::remedy(path, source),
            Self::Parse { path, line, .. }
            | Self::Refused {
                path,
                refusal: Rejection { line, .. },
            } => {
                format!("correct line {line} of `{}`; nothing in it was changed", path.display())
            }
            Self::TrustLevel { path, folder, .. } => format!(
                "set `{folder}` to TRUST_FOLDER, TRUST_PARENT or DO_NOT_TRUST in `{}`",
                path.display()
            ),
            Self::NotAnObject { path, key, line, .. } if key.is_empty() => {
                format!(
                    "put the settings in `{}` between braces (line {line}); nothing in it was changed",
                    path.display()
                )
            }
            Self::NotAnObject { path, key, line, .. } => {
                format!(
                    "make `{key}` at line {line} of `{}` an object or remove it; nothing in it was changed",
                    path.display()
                )
            }
            Self::Write { path, source } | Self::Delete { path, source } => remedy(path, source),
            Self::Backup { backups, source, .. } => remedy(backups, source),
            Self::Changed { .. } => "run the command again once no other program changes it".to_owned(),
            Self::Unsafe { path } => {
                format!(
                    "set `experimental.gemmaModelRouter` in `{}` by hand; nothing in it was changed",
                    path.display()
                )
            }
            Self::BinaryPath { .. } => "move gem-setup to a path that is valid Unicode".to_owned(),
        })
    }
}

fn subject(key: &str) -> String {
    if key.is_empty() {
        "the file".to_owned()
    } else {
        format!("`{key}`")
    }
}

/// Advice against `source`, an error while `path` was written.
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
        io::ErrorKind::IsADirectory => format!("move the directory `{path}` away"),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            format!("a file stands where a directory on the way to `{path}` should be: move it away")
        }
        _ => format!("check `{path}` and the disk it is on"),
    }
}
