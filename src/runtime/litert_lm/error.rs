//! Errors of building the Python environment.

use std::io;
use std::path::PathBuf;

use crate::error::{Explain, Kind};
use crate::runtime::surroundings::pip_variable;

const CANNOT_INSTALL: &str = "cannot install `litert-lm`: ";

/// Why the Python environment could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No program on the PATH can build one.
    #[error("{CANNOT_INSTALL}neither uv nor a usable Python was found{}", reasons(rejected))]
    NoPython {
        /// The programs that were found, and why each cannot be used.
        rejected: Vec<String>,
    },
    /// The directory cannot be prepared or finished.
    #[error("cannot set up the Python environment `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A tool cannot be run.
    #[error("cannot run `{command}` for the Python environment")]
    Start {
        /// The command.
        command: String,
        /// The reason.
        source: io::Error,
    },
    /// A tool failed.
    #[error("cannot {}: {}", task.in_words(), why(command, outcome, tail))]
    Tool {
        /// The tool's task.
        task: Task,
        /// The command.
        command: String,
        /// How it ended.
        outcome: String,
        /// The last lines of its output.
        tail: String,
    },
    /// The installed program does not work.
    #[error("`{}` was installed but does not run: {reason}", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// The task of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Creates the empty environment.
    Create,
    /// Installs the packages.
    Install,
}

impl Task {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Create => "create the Python environment",
            Self::Install => "install `litert-lm`",
        }
    }
}

impl Error {
    /// Why `litert-lm` cannot be installed, as a clause.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = self.to_string();
        text.strip_prefix(CANNOT_INSTALL)
            .map_or_else(|| text.clone(), str::to_owned)
    }
}

/// Why a tool failed: its last output, or the network's fault that is behind it.
fn why(command: &str, outcome: &str, tail: &str) -> String {
    network_fault(tail).unwrap_or_else(|| format!("`{command}` ended with {outcome}; last output:\n{tail}"))
}

/// The network's fault in pip's output. After it pip says that it found no version of a package, which misleads.
fn network_fault(tail: &str) -> Option<String> {
    if !tail.contains("(from versions: none)") || is_hash_mismatch(tail) {
        return None;
    }
    let mut retries = tail.lines().filter(|line| line.starts_with("WARNING: Retrying ("));
    let (_, cause) = retries.next_back()?.split_once("connection broken by ")?;
    let (cause, _) = cause.rsplit_once(": /")?;
    let cause = cause.trim_matches(['\'', '"']);
    let who = if cause.starts_with("ProxyError") {
        "the proxy"
    } else {
        "the package index"
    };
    let detail = cause.rsplit_once(">: ").map_or(cause, |(_, detail)| detail);
    Some(format!(
        "{who} cannot be reached: {}",
        detail.trim_end_matches(['\'', '"', ')'])
    ))
}

fn reasons(rejected: &[String]) -> String {
    if rejected.is_empty() {
        String::new()
    } else {
        format!(" ({})", rejected.join("; "))
    }
}

/// Whether the tool refused a file because of its hash. pip and uv have different messages for that.
fn is_hash_mismatch(tail: &str) -> bool {
    let tail = tail.to_lowercase();
    ["do not match the hashes", "hash mismatch", "expected sha256"]
        .iter()
        .any(|words| tail.contains(words))
}

/// The option of pip that has a wrong value in a variable or a configuration file.
fn wrong_option(tail: &str) -> Option<&str> {
    let (_, named) = tail.split_once("An error occurred during configuration: option ")?;
    Some(named.split_once(':')?.0)
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoPython { .. } => Kind::Download,
            Self::Directory { .. } => Kind::Unexpected,
            Self::Tool { task, tail, .. } if *task == Task::Install => {
                if is_hash_mismatch(tail) {
                    Kind::Verification
                } else if wrong_option(tail).is_some() {
                    Kind::Usage
                } else {
                    Kind::Download
                }
            }
            Self::Start { .. } | Self::Tool { .. } | Self::Unusable { .. } => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        if let Self::Tool { tail, .. } = self
            && let Some(option) = wrong_option(tail)
        {
            let variable = pip_variable(option);
            return Some(format!(
                "correct or unset {variable} (or `{option}` in pip's configuration)"
            ));
        }
        let hint = match self {
            Self::NoPython { .. } => {
                "install Python 3.10 or newer with venv (Debian and Ubuntu: `sudo apt-get install python3-venv`; macOS: \
                 `brew install python`; Windows: `winget install Python.Python.3.13`) or uv, then run the command again; \
                 `--runtime builtin` needs neither"
            }
            Self::Directory { .. } => {
                "check that the directory belongs to you and the disk has space, stop a running server with \
                `gem-setup stop`, then \
                 run the command again"
            }
            Self::Tool { task, tail, .. } if *task == Task::Install => {
                if is_hash_mismatch(tail) {
                    "the package index has different files than the catalog expects: use another index (PIP_INDEX_URL, \
                     UV_DEFAULT_INDEX), or a catalog of your own with `--catalog`"
                } else if tail.contains("No space left") {
                    "free disk space, then run the command again"
                } else {
                    "check the connection to the package index (`gem-setup doctor --network`; PIP_INDEX_URL, \
                     UV_DEFAULT_INDEX and HTTPS_PROXY are respected), then run the command again"
                }
            }
            Self::Start { .. } | Self::Tool { .. } => "check that Python works, then run the command again",
            Self::Unusable { .. } => {
                "the package needs a 64-bit system with glibc 2.27, macOS 12 or Windows 10; `--runtime builtin` runs everywhere"
            }
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_fault_is_named_without_what_follows_from_it() {
        let retry = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by ";
        let end = "ERROR: Could not find a version that satisfies the requirement a==1 (from versions: none)";
        for (cause, expected) in [
            (
                "'ProxyError('Cannot connect to proxy.', NewConnectionError('<x object at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused'))': /simple/a/",
                "the proxy cannot be reached: Failed to establish a new connection: [Errno 111] Connection refused",
            ),
            (
                "'NameResolutionError(\"<x object at 0x7f>: Failed to resolve 'pypi.org' ([Errno -2] Name or service not known)\")': /simple/a/",
                "the package index cannot be reached: Failed to resolve 'pypi.org' ([Errno -2] Name or service not known",
            ),
        ] {
            assert_eq!(
                network_fault(&format!("{retry}{cause}\n{end}")).as_deref(),
                Some(expected)
            );
        }
        assert_eq!(network_fault(end), None);
        assert_eq!(network_fault(&format!("{retry}'x': /simple/a/\nERROR: no space")), None);
    }

    #[test]
    fn a_refused_hash_is_a_failed_verification_and_everything_else_a_failed_download() {
        let kind = |tail: &str| {
            let error = Error::Tool {
                task: Task::Install,
                command: "pip".to_owned(),
                outcome: "exit status: 1".to_owned(),
                tail: tail.to_owned(),
            };
            error.kind()
        };
        assert_eq!(
            kind("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."),
            Kind::Verification
        );
        assert_eq!(
            kind("  × Failed to download\n  ╰─▶ Hash mismatch for `click`"),
            Kind::Verification
        );
        assert_eq!(
            kind("An error occurred during configuration: option retries: invalid integer value: 'abc'"),
            Kind::Usage
        );
        assert_eq!(
            kind("ERROR: No matching distribution found for litert-lm==0.18.1"),
            Kind::Download
        );
    }
}
