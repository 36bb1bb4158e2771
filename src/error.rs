//! Errors as the user sees them: a kind with its exit status, a message, a hint.
//!
//! Modules have typed errors of their own. Each implements [`Explain`], which provides its kind and hint, and becomes a
//! [`Failure`] where it leaves the module.
//!
//! ```
//! use gem_setup::error::{Failure, Kind};
//!
//! let failure = Failure::new(Kind::Conflict, "cannot listen on port 9379: it is taken").with_hint("choose another `--port`");
//! assert_eq!(failure.kind.exit_status(), 9);
//! assert_eq!(failure.to_string(), "cannot listen on port 9379: it is taken");
//! ```

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use gem_platform::file;
use serde::Serialize;

/// The kind of a failure that ended a command. The number is the exit status (docs/contract.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// Any other error.
    Unexpected = 1,
    /// The command line, the environment or the configuration file is not valid.
    Usage = 2,
    /// The model's terms have not been accepted.
    TermsNotAccepted = 3,
    /// No runtime is published for this platform.
    Unsupported = 4,
    /// A download could not be completed.
    Download = 5,
    /// A download has the wrong hash or signature.
    Verification = 6,
    /// The runtime failed: pull, serve or smoke.
    Runtime = 7,
    /// A settings file cannot be read or written.
    Settings = 8,
    /// A resource is in use: a port, the lock, a process that is not ours.
    Conflict = 9,
    /// `doctor` found a failure.
    Unhealthy = 10,
    /// Ctrl-C.
    Interrupted = 130,
    /// Another signal that ends programs.
    Terminated = 143,
}

impl Kind {
    /// The exit status of the process.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        self as u8
    }

    /// The kind of failure with which another gem-setup ended, if `status` is one of these numbers.
    #[must_use]
    pub fn of_exit_status(status: i32) -> Option<Self> {
        [
            Self::Unexpected,
            Self::Usage,
            Self::TermsNotAccepted,
            Self::Unsupported,
            Self::Download,
            Self::Verification,
            Self::Runtime,
            Self::Settings,
            Self::Conflict,
            Self::Unhealthy,
            Self::Interrupted,
            Self::Terminated,
        ]
        .into_iter()
        .find(|kind| i32::from(kind.exit_status()) == status)
    }
}

/// The properties of a module's error apart from its text: kind and hint.
pub trait Explain: StdError {
    /// The kind of failure for the user.
    fn kind(&self) -> Kind;

    /// The next step, if one is known.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, which determines the exit status.
    pub kind: Kind,
    /// Operation, path or URL, and value; lower case, no full stop.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
        }
    }

    /// The failure for an unexpected `error` in `action`.
    pub fn cannot(action: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(Kind::Unexpected, format!("cannot {action}: {error}"))
    }

    /// Like [`Self::cannot`] for the file or directory `path`, with a hint for the usual causes.
    #[must_use]
    pub fn cannot_at(action: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::cannot(format_args!("{action} `{}`", path.display()), error);
        match path.parent() {
            Some(directory) if error.kind() == io::ErrorKind::NotFound && !directory.as_os_str().is_empty() && !directory.exists() => failure
                .with_hint(format!("create the directory `{}`, then run the command again", directory.display())),
            _ if file::is_limit_of_size(error) => Self::new(failure.kind, format!("{failure}; {}", file::size_limit_reached()))
                .with_hint(file::RAISE_SIZE_LIMIT),
            _ => failure.with_hint(
                "check that it belongs to you and is not in use, and that the disk has space; then run the command again",
            ),
        }
    }

    /// Turns `error` into a failure.
    pub fn of(error: &impl Explain) -> Self {
        Self {
            kind: error.kind(),
            message: chain(error),
            hint: error.hint(),
        }
    }

    /// The same failure with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// The error's text, followed by the texts of its sources that it does not already contain.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_tells_the_kind_it_came_from() {
        for status in (1..=10).chain([130, 143]) {
            let kind = Kind::of_exit_status(status).unwrap();
            assert_eq!(i32::from(kind.exit_status()), status);
        }
        assert_eq!(Kind::of_exit_status(0), None);
        assert_eq!(Kind::of_exit_status(101), None);
    }
}
