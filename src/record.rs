//! Files that are read and written as a whole: gem-setup's own records in JSON, and TOML tables that users may replace.

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Explain, Kind};
use crate::net::{redact_in, toml_fault};
use crate::place;

/// A kind of record file, for error messages.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The kind's name.
    pub name: &'static str,
    /// The kind of failure if such a file is invalid.
    pub kind: Kind,
    /// The hint if such a file is invalid.
    pub remedy: &'static str,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the {} `{}`", of.name, path.display())]
    Read {
        /// The kind of file.
        of: &'static Record,
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The content is invalid.
    #[error("cannot use the {} `{origin}`: {reason}", of.name)]
    Unusable {
        /// The kind of file.
        of: &'static Record,
        /// The file's path, or another description of the text's source.
        origin: String,
        /// The reason, with the line.
        reason: String,
        /// The hint, if there is a better one than the kind's.
        hint: Option<String>,
    },
    /// The file cannot be written.
    #[error("cannot write the {} `{}`", of.name, path.display())]
    Write {
        /// The kind of file.
        of: &'static Record,
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// The same error, with the hint `better` if the content is invalid.
    pub fn with_hint(mut self, better: impl FnOnce() -> Option<String>) -> Self {
        if let Self::Unusable { hint, .. } = &mut self {
            *hint = better();
        }
        self
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read { of, .. } | Self::Unusable { of, .. } | Self::Write { of, .. } => of.kind,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unusable { hint: Some(hint), .. } => hint.as_str(),
            Self::Read { of, path, source } if of.kind == Kind::Unexpected => return Some(place::remedy(path, source)),
            Self::Write { source, .. } if file::is_limit_of_size(source) => file::RAISE_SIZE_LIMIT,
            Self::Read { of, .. } | Self::Unusable { of, .. } => of.remedy,
            Self::Write { .. } => {
                "check that the disk has space and that the directory belongs to you, then run the command again"
            }
        };
        Some(hint.to_owned())
    }
}

/// Whether there is a file at `path`, also one that this user may not look at.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    !path
        .symlink_metadata()
        .is_err_and(|error| absent.contains(&error.kind()))
}

/// Why the JSON `bytes` were refused, and where.
fn json_fault(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.trim_ascii().is_empty() {
        return "it is empty".to_owned();
    }
    if let Some(encoding) = place::other_encoding(bytes) {
        return format!("it is {encoding}, but must be UTF-8");
    }
    if error.is_eof() {
        return format!("it ends too early, at line {}, column {}", error.line(), error.column());
    }
    redact_in(&error.to_string())
}

impl Record {
    /// The error for an invalid record from `origin`.
    pub fn unusable(&'static self, origin: impl Into<String>, reason: impl ToString) -> Error {
        Error::Unusable {
            of: self,
            origin: origin.into(),
            reason: reason.to_string().trim_end().to_owned(),
            hint: None,
        }
    }

    /// The error for the record `path`, which cannot be read because of `source`.
    pub fn unread(&'static self, path: &Path, source: io::Error) -> Error {
        let (of, path) = (self, path.to_owned());
        Error::Read { of, path, source }
    }

    /// The error for the record `path`, which cannot be written because of `source`.
    pub fn unwritten(&'static self, path: &Path, source: io::Error) -> Error {
        let (of, path) = (self, path.to_owned());
        Error::Write { of, path, source }
    }

    /// Reads the JSON file `path`; `None` if it does not exist, or is mounted by itself and empty: `uninstall` cannot
    /// delete such a file.
    ///
    /// # Errors
    /// When the file exists but cannot be read or does not parse.
    pub fn read_json<T: DeserializeOwned>(&'static self, path: &Path) -> Result<Option<T>, Error> {
        let bytes = place::read_if_present(path).map_err(|source| self.unread(path, source))?;
        let bytes = bytes.filter(|bytes| !bytes.is_empty() || !file::is_mount_point(path));
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&bytes).map(Some);
        parsed.map_err(|error| self.unusable(path.to_string_lossy(), json_fault(&bytes, &error)))
    }

    /// Writes `value` to the JSON file `path`, which only its owner can read, unless the file already has this content.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&'static self, path: &Path, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(value);
        let mut text = text.map_err(|error| self.unusable(path.to_string_lossy(), error))?;
        text.push(b'\n');
        if place::read(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        place::write_private(path, &text).map_err(|source| self.unwritten(path, source))
    }

    /// The text of the file `path`, which the user named.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_text(&'static self, path: &Path) -> Result<String, Error> {
        place::read_text(path).map_err(|source| self.unread(path, source))
    }

    /// Parses the TOML `text`; `origin` names it in errors.
    ///
    /// # Errors
    /// When the text does not have the expected form.
    pub fn parse_toml<T: DeserializeOwned>(&'static self, text: &str, origin: &str) -> Result<T, Error> {
        toml::from_str(text).map_err(|error| self.unusable(origin, toml_fault(text, &error)))
    }

    /// Checks that `format`, read from the record `origin`, is the `known` one.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check_format(&'static self, origin: &str, format: u32, known: u32) -> Result<(), Error> {
        if format == known {
            return Ok(());
        }
        Err(self.unusable(
            origin,
            format!("key `format`: unknown value `{format}`, expected `{known}`"),
        ))
    }
}
