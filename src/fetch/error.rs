//! Errors of a fetch, as the user sees them.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file::{RAISE_SIZE_LIMIT, ReplaceError, is_limit_of_size, size_limit_reached};

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
    /// `HF_ENDPOINT`, or a file's name in the catalog, does not give a valid address. Exit status 2.
    #[error("cannot use `{shown}` as an address of the model hub")]
    Endpoint {
        /// The value without its secrets.
        shown: String,
    },
    /// Neither catalog nor hub states the file's hash. Exit status 6.
    #[error("cannot verify `{url}`: the catalog does not state its SHA-256, and {reason}")]
    Unstated {
        /// The file, at the server that was asked.
        url: SafeUrl,
        /// Why the hub does not state it.
        reason: String,
    },
    /// Only mirrors may be used, but none is given. Exit status 2.
    #[error("cannot download from mirrors only: no mirror is given")]
    NoMirror,
    /// The network settings cannot be used.
    #[error(transparent)]
    Network(#[from] net::Error),
    /// A thread of the download ended early. Exit status 1.
    #[error("cannot finish the download: one of its threads stopped early")]
    Stopped,
    /// Every source failed. Exit status 5.
    #[error("cannot download `{label}`: {}", tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unobtainable {
        /// The wanted file.
        label: String,
        /// Each source's failure, in the order of the requests.
        tried: Vec<Tried>,
        /// Whether a part of the file was received and is kept.
        has_part: bool,
    },
    /// The file's size differs from the catalog's. Exit status 6.
    #[error("cannot verify `{url}`: expected {expected} bytes, the server offers {found}")]
    Size {
        /// The URL that was asked.
        url: SafeUrl,
        /// The size in the catalog, in bytes.
        expected: u64,
        /// The size offered, in bytes, or a lower bound of it.
        found: u64,
    },
    /// The file's hash differs from the catalog's. Exit status 6.
    #[error("cannot verify `{url}`: expected sha256 `{expected}`, found `{found}`")]
    Hash {
        /// The URL that was asked.
        url: SafeUrl,
        /// The hash in the catalog.
        expected: Sha256,
        /// The hash of the received bytes.
        found: Sha256,
    },
    /// A directory is in the file's place. Exit status 5.
    #[error("cannot put a file at `{}`: a directory is there", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The catalog does not give the file's size, and the file exceeds the limit. Exit status 6.
    #[error("cannot download to `{}`: the file is longer than {longest} bytes", path.display())]
    TooLong {
        /// The partial download.
        path: PathBuf,
        /// The limit, in bytes.
        longest: u64,
    },
    /// The disk is full, or almost full. Exit status 5.
    #[error("cannot write `{}`: the disk is full", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Bytes that were still to be written, if known.
        missing: Option<u64>,
        /// The system's error.
        source: io::Error,
    },
    /// The file is larger than this process may write. Exit status 5.
    #[error("cannot write `{}`: {}", path.display(), size_limit_reached())]
    FileLimit {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A local file or directory cannot be used. Exit status 5.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// The operation.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
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

/// One source, and why it did not deliver the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}`: {reason}")]
pub struct Tried {
    /// The source.
    pub url: SafeUrl,
    /// Why it did not deliver the file.
    pub reason: String,
    /// The remedy, if the reason suggests one.
    pub advice: Option<Cow<'static, str>>,
}

impl Error {
    /// `text` makes no address of the hub.
    pub(super) fn endpoint(text: &str) -> Self {
        let shown = SafeUrl::redact(text);
        Self::Endpoint { shown }
    }

    /// Whether the received bytes belong to a wrong file and must be discarded.
    pub(super) const fn is_about_content(&self) -> bool {
        matches!(self, Self::Size { .. } | Self::Hash { .. })
    }

    /// Whether the disk is full: the received part of a file of unknown length then only takes up room.
    pub(super) const fn is_about_room(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::DiskFull { .. })
    }

    /// The error for a finished file that could not be moved to its place.
    pub(super) fn replace(error: ReplaceError) -> Self {
        match error {
            ReplaceError::InUse { path, .. } => Self::InUse { path },
            ReplaceError::Move { to, source, .. } => Self::file("move the download to", to, source, None),
            ReplaceError::Write { path, source } => Self::file("write", path, source, None),
        }
    }

    /// The error of the file system in `action` on `path`; `missing` bytes were still to be written.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
        missing: Option<u64>,
    ) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, missing, source },
            _ if is_limit_of_size(&source) => Self::FileLimit { path, source },
            _ => Self::File { action, path, source },
        }
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network(error) => error.kind(),
            Self::UnacceptableUrl { .. } | Self::NoMirror | Self::Endpoint { .. } => Kind::Usage,
            Self::Stopped => Kind::Unexpected,
            Self::Unobtainable { .. }
            | Self::Occupied { .. }
            | Self::DiskFull { .. }
            | Self::FileLimit { .. }
            | Self::File { .. } => Kind::Download,
            Self::Size { .. } | Self::Hash { .. } | Self::TooLong { .. } | Self::Unstated { .. } => Kind::Verification,
            Self::InUse { .. } | Self::Busy { .. } => Kind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnacceptableUrl { .. } => "use the https: address of the same file, or a copy on disk as file:///…",
            Self::Endpoint { .. } => {
                "set HF_ENDPOINT to an https: address, or unset it; in the catalog, `huggingface` names `repo` and `file`"
            }
            Self::Unstated { .. } => {
                "name the file's `sha256` in the catalog (`huggingface = { repo = …, file = …, sha256 = … }`); without it the hub must be asked"
            }
            Self::NoMirror => "add `--mirror URL`, or leave out `--mirror-only`",
            Self::Network(error) => return error.hint(),
            Self::Stopped => CONTINUE,
            Self::Unobtainable { tried, has_part, .. } => {
                let own = tried.iter().rev().find_map(|source| source.advice.as_deref());
                let hint = own.unwrap_or_else(|| advice(tried));
                return Some(match has_part {
                    true => hint.to_owned(),
                    false => hint.replace(CONTINUES, ""),
                });
            }
            Self::Size { .. } | Self::Hash { .. } => {
                "the file was not kept; ask the mirror's owner if you use one, or compare the catalog with the publisher's checksums"
            }
            Self::TooLong { .. } => {
                "nothing was kept; if the file is really that long, give its `size` in the catalog (`--catalog FILE`)"
            }
            Self::Occupied { .. } => "move the directory out of the way and run the same command again",
            Self::DiskFull { path, missing, .. } => return Some(free(path, *missing)),
            Self::FileLimit { .. } => RAISE_SIZE_LIMIT,
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "make the path writable for your account, or choose another directory with `--home`"
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                "the file system is mounted read-only: choose another directory with `--home`"
            }
            Self::File { .. } => "check the path and its disk, then run the same command again",
            Self::InUse { .. } => {
                "end the program that uses it (`gem-setup stop` if it is the server), then run the same command again"
            }
            Self::Busy { .. } => "wait for the other gem-setup to end, then run the same command again",
        };
        Some(hint.to_owned())
    }
}

/// Advice if the disk of `path` is full and `missing` bytes were still to be written.
fn free(path: &Path, missing: Option<u64>) -> String {
    let directory = path.parent().unwrap_or(path).display();
    match missing.map(|bytes| bytes.div_ceil(1_000_000)) {
        Some(megabytes) => {
            format!("free at least {megabytes} MB on the disk of `{directory}` and {CONTINUE}")
        }
        None => format!("free space on the disk of `{directory}` and run the same command again"),
    }
}

/// What advice says of a download of which a part is kept.
const CONTINUES: &str = ": it continues where it stopped";
const CONTINUE: &str = "run the same command again: it continues where it stopped";
const RETRY: &str =
    "check the network (`gem-setup doctor --network`) and run the same command again: it continues where it stopped";

/// Advice if no source's failure has its own.
fn advice(tried: &[Tried]) -> &'static str {
    if !tried.is_empty() && tried.iter().all(|source| source.url.expose().scheme() == "file") {
        "check that the file exists: a mirror on disk has the paths of the artifacts' URLs"
    } else {
        RETRY
    }
}
