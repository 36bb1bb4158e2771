//! Errors of a fetch, as the user sees them.

use std::io;
use std::path::PathBuf;

use gem_platform::file::ReplaceError;

use crate::error::{Explain, Kind};
use crate::net::{self, SafeUrl};
use crate::sha256::Sha256;

/// Why a file could not be fetched; the exit status of each is in [`Explain::kind`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A URL that is neither https, nor file, nor http on this machine. Exit status 2.
    #[error("cannot use the URL `{url}`: only https:, file: and http: on this machine are accepted")]
    UnacceptableUrl {
        /// Which URL.
        url: SafeUrl,
    },
    /// Only mirrors may be asked and there is none. Exit status 2.
    #[error("cannot download from mirrors only: no mirror is given")]
    NoMirror,
    /// The network cannot be used as it is set up.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// A thread of the download ended early. Exit status 1.
    #[error("cannot finish the download: one of its threads stopped early")]
    Stopped,
    /// Every source failed. Exit status 5.
    #[error("cannot download `{label}`: {}", tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unobtainable {
        /// What was wanted.
        label: String,
        /// What each source said, in the order they were asked.
        tried: Vec<Tried>,
    },
    /// The file has another size than the catalog says. Exit status 6.
    #[error("cannot verify `{url}`: expected {expected} bytes, the server offers {found}")]
    Size {
        /// From where.
        url: SafeUrl,
        /// The size in the catalog, in bytes.
        expected: u64,
        /// The size offered, in bytes, or a lower bound of it.
        found: u64,
    },
    /// The file has another hash than the catalog says. Exit status 6.
    #[error("cannot verify `{url}`: expected sha256 `{expected}`, found `{found}`")]
    Hash {
        /// From where.
        url: SafeUrl,
        /// The hash in the catalog.
        expected: Sha256,
        /// The hash of what came.
        found: Sha256,
    },
    /// A directory lies where the file should be. Exit status 5.
    #[error("cannot put a file at `{}`: a directory is there", path.display())]
    Occupied {
        /// The place.
        path: PathBuf,
    },
    /// The disk is full. Exit status 5.
    #[error("cannot write `{}`: the disk is full", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Bytes that were still to be written, if known.
        missing: Option<u64>,
        /// The system's word.
        source: io::Error,
    },
    /// A local file or directory cannot be used. Exit status 5.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A running program uses the file that must be replaced (Windows only). Exit status 9.
    #[error("cannot replace `{}`: another program holds it open", path.display())]
    InUse {
        /// The file, still as it was.
        path: PathBuf,
    },
    /// Another process downloads the same file. Exit status 9.
    #[error("cannot lock `{}`: another gem-setup downloads the same file", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
}

/// One source and why it did not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}`: {reason}")]
pub struct Tried {
    /// The source.
    pub url: SafeUrl,
    /// Why it did not serve.
    pub reason: String,
    /// The remedy, if the reason suggests one.
    pub advice: Option<&'static str>,
}

impl Error {
    /// Whether what came is not what was expected, so that nothing of it may be kept.
    pub(super) const fn is_about_content(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Hash { .. })
    }

    /// A finished file that could not be moved to its place.
    pub(super) fn replace(error: ReplaceError) -> Self {
        match error {
            ReplaceError::InUse { path, .. } => Self::InUse { path },
            ReplaceError::Move { to, source, .. } => Self::file("move the download to", to, source, None),
            ReplaceError::Write { path, source } => Self::file("write", path, source, None),
        }
    }

    /// An error of the file system while `action` was done to `path`; `missing` bytes were still to be written.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
        missing: Option<u64>,
    ) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, missing, source },
            _ => Self::File { action, path, source },
        }
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(error) => error.kind(),
            Self::UnacceptableUrl { .. } | Self::NoMirror => Kind::Usage,
            Self::Stopped => Kind::Unexpected,
            Self::Unobtainable { .. } | Self::Occupied { .. } | Self::DiskFull { .. } | Self::File { .. } => {
                Kind::Download
            }
            Self::Size { .. } | Self::Hash { .. } => Kind::Verification,
            Self::InUse { .. } | Self::Busy { .. } => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnacceptableUrl { .. } => "use the https: address of the same file, or a copy on disk as file:///…",
            Self::NoMirror => "add `--mirror URL`, or leave out `--mirror-only`",
            Self::Network(error) => return error.hint(),
            Self::Stopped => "run the same command again: it continues where it stopped",
            Self::Unobtainable { tried, .. } => {
                return Some(
                    tried
                        .iter()
                        .rev()
                        .find_map(|source| source.advice)
                        .unwrap_or_else(|| advice(tried))
                        .to_owned(),
                );
            }
            Self::Size { .. } | Self::Hash { .. } => {
                "the file was not kept; ask the mirror's owner if you use one, or compare the catalog with the publisher's checksums"
            }
            Self::Occupied { .. } => "move the directory out of the way and run the same command again",
            Self::DiskFull { path, missing, .. } => {
                let directory = path.parent().unwrap_or(path);
                let amount = missing.map_or_else(
                    || "space".to_owned(),
                    |bytes| format!("at least {} MB", bytes.div_ceil(1_000_000)),
                );
                return Some(format!(
                    "free {amount} on the disk of `{}` and run the same command again: it continues where it stopped",
                    directory.display()
                ));
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "make the path writable for your account, or choose another directory with `--home`"
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "the file system is mounted read-only: choose another directory with `--home`"
            }
            Self::File { .. } => "see to the path and run the same command again",
            Self::InUse { .. } => {
                "end the program that uses it (`gem-setup stop` if it is the server), then run the same command again"
            }
            Self::Busy { .. } => "wait for the other gem-setup to end, then run the same command again",
        };
        Some(hint.to_owned())
    }
}

const RETRY: &str =
    "check the network (`gem-setup doctor --network`) and run the same command again: it continues where it stopped";

/// What helps where no source says itself what would.
fn advice(tried: &[Tried]) -> &'static str {
    if !tried.is_empty() && tried.iter().all(|source| source.url.expose().scheme() == "file") {
        "check that the file is there: a mirror on disk has the files where the artifacts' URLs have them"
    } else {
        RETRY
    }
}
