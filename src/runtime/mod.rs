//! Runtimes: the trait, and the three implementations.
//!
//! ```
//! use gem_setup::runtime::{Builtin, Runtime, RuntimeName};
//!
//! let runtime = Builtin::new("gemma3-1b-gpu-custom");
//! assert_eq!(runtime.name(), RuntimeName::Builtin);
//! assert!(runtime.program().is_none() && runtime.serve().is_none());
//! ```

mod activity;
mod blocked;
mod builtin;
mod child;
mod command;
mod endpoint;
mod engine;
pub mod gate;
mod instance;
mod lit;
pub mod litert_lm;
pub mod local;
mod model_name;
mod program_check;
mod pull;
mod pull_terminal;
mod stamp;
mod surroundings;
pub mod terms;

use std::fmt::Display;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gem_platform::process::start_remedy;
use serde::{Deserialize, Serialize};

pub use activity::{Busy, EngineActivity};
pub use blocked::if_blocked;
pub(crate) use blocked::{if_blocked_here, if_refused};
pub use builtin::Builtin;
pub(crate) use child::output_of;
pub use command::CommandLine;
pub use endpoint::Endpoint;
pub use engine::{EngineReport, EngineState, EngineStatus};
pub use gate::{Closed, ModelGate};
pub(crate) use instance::TOKEN;
pub use instance::{Instance, OwnerToken};
pub use lit::Lit;
pub use litert_lm::LitertLm;
pub use model_name::{LocalModelName, ParseLocalModelNameError, is_listed};
pub use program_check::ProgramCheck;
pub use stamp::{ProgramStamp, Stamp};
pub(crate) use surroundings::TRIAL;

use crate::catalog::Model;
use crate::error::{Explain, Failure, Kind};
use crate::progress::Progress;
use crate::text::{aligned, words};

words! {
    /// The name of a runtime.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum RuntimeName {
        /// Google's `lit` executable (docs/facts.md section 2).
        Lit = "lit",
        /// The `litert-lm` package from PyPI (docs/facts.md section 5).
        LitertLm = "litert-lm",
        /// The classifier inside gem-setup.
        Builtin = "builtin",
    }
}

/// Why a command that needs a model cannot use the runtime `builtin`.
pub const NO_MODEL: &str = "the runtime `builtin` has no model";

impl RuntimeName {
    /// Whether the runtime needs a model.
    #[must_use]
    pub const fn has_models(self) -> bool {
        !matches!(self, Self::Builtin)
    }

    /// Refuses `action`, which needs a model, if this runtime has none; `hint` says what to do instead.
    ///
    /// # Errors
    /// When the runtime is `builtin`.
    pub fn require_model(self, action: impl Display, hint: &str) -> Result<(), Failure> {
        if self.has_models() {
            return Ok(());
        }
        Err(Failure::new(Kind::Usage, format!("cannot {action}: {NO_MODEL}")).with_hint(hint))
    }
}

/// A runtime on this machine, installed or not.
pub trait Runtime: Send + Sync {
    /// The runtime's name.
    fn name(&self) -> RuntimeName;

    /// The runtime's executable; `None` for the runtime inside gem-setup.
    fn program(&self) -> Option<&Path>;

    /// The command line that serves on a loopback port; `None` for the runtime inside gem-setup.
    fn serve(&self) -> Option<CommandLine>;

    /// Whether the runtime prints every request and answer to its standard output.
    fn prints_requests(&self) -> bool {
        false
    }

    /// The output of the runtime's own `list`: the pulled models or, with `all`, those of its registry.
    fn list(&self, all: bool) -> BoxFuture<'_, Result<String, Error>>;

    /// Whether the runtime has the model `name`.
    fn has_model<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async move { Ok(is_listed(&self.list(false).await?, name)) }.boxed()
    }

    /// Pulls `model`, whose terms must have been accepted. If `file` is given, imports that model file instead.
    fn pull<'a>(
        &'a self,
        model: &'a Model,
        file: Option<&'a Path>,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

/// Why a runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The executable cannot be started or waited for.
    #[error("cannot run the runtime `{}`{}", program.display(), without_interpreter(program, source))]
    Start {
        /// The executable.
        program: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The executable failed.
    #[error("`{command}` ended with {outcome}{}", tail_of(tail))]
    Failed {
        /// The command line.
        command: String,
        /// The exit status or signal.
        outcome: String,
        /// The last lines of its output.
        tail: String,
    },
    /// The executable did not end in time.
    #[error("`{command}` did not answer within {seconds} s{}", tail_of(tail))]
    TimedOut {
        /// The command line.
        command: String,
        /// The time limit.
        seconds: u64,
        /// The last lines of its output.
        tail: String,
    },
    /// The runtime says it pulled the model, but does not list it.
    #[error("the runtime `{runtime}` pulled the model `{model}` but does not list it")]
    NotListed {
        /// The runtime.
        runtime: RuntimeName,
        /// The model.
        model: String,
    },
    /// The model file cannot be imported.
    #[error("cannot import the model file `{}`", path.display())]
    ModelFile {
        /// The model file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The executable differs from the installed one.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The runtime does not support the request.
    #[error("the runtime `{runtime}` {reason}")]
    Unsuitable {
        /// The runtime.
        runtime: RuntimeName,
        /// The missing ability.
        reason: String,
    },
}

/// The cause of a failed pull, read from its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The model's host requires a token.
    Gated,
    /// The disk is full.
    Full,
    /// A system library is missing.
    Library,
    /// The network failed; another attempt may succeed.
    Network,
    Unknown,
}

/// Parts of a program's last output that reveal each cause, the most reliable first.
const SIGNS: [(Cause, &[&str]); 4] = [
    (Cause::Gated, &["hugging_face_hub_token", "401", "http 403", "gated"]),
    (
        Cause::Full,
        &["no space left", "disk full", "not enough space", "quota exceeded"],
    ),
    (Cause::Library, &["shared librar"]),
    (
        Cause::Network,
        &[
            "connection",
            "timed out",
            "timeout",
            "temporary failure",
            "resolve host",
            "network",
            "unexpected eof",
            "429",
            "500",
            "502",
            "503",
            "504",
        ],
    ),
];

/// The cause that a program's last output reveals.
fn cause_of(tail: &str) -> Cause {
    let tail = tail.to_lowercase();
    let is_meant = |signs: &[&str]| signs.iter().any(|sign| tail.contains(sign));
    let found = SIGNS.iter().find(|(_, signs)| is_meant(signs));
    found.map_or(Cause::Unknown, |(cause, _)| *cause)
}

/// The output of `list` with these `rows`: a model's name, and a remark.
fn listing(rows: &[[String; 2]]) -> String {
    let mut listing = aligned(rows, 2).lines.join("\n");
    listing.push('\n');
    listing
}

/// The reason if `program` is there, but not what runs it.
fn without_interpreter(program: &Path, source: &std::io::Error) -> &'static str {
    match source.kind() == std::io::ErrorKind::NotFound && program.is_file() {
        true => ", whose interpreter or loader is missing",
        false => "",
    }
}

fn tail_of(tail: &str) -> String {
    if tail.is_empty() {
        String::new()
    } else {
        format!("; last output:\n{tail}")
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsuitable { .. } | Self::ModelFile { .. } => Kind::Usage,
            Self::Refused(failure) => failure.kind,
            _ => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        let blocked = match self {
            Self::Start { source, .. } => if_refused(source),
            Self::Failed { outcome, .. } => if_blocked_here(outcome),
            _ => None,
        };
        if let Some(hint) = blocked {
            return Some(hint.to_owned());
        }
        let hint = match self {
            Self::Refused(failure) => return failure.hint.clone(),
            Self::Start { source, .. } => {
                start_remedy(source).unwrap_or("run `gem-setup doctor` to see why the runtime cannot start")
            }
            Self::Failed { tail, .. } if cause_of(tail) == Cause::Gated => {
                "the model is gated: set HUGGING_FACE_HUB_TOKEN to a token that may read it, then run the command again"
            }
            Self::Failed { tail, .. } if cause_of(tail) == Cause::Full => {
                "free disk space for `~/.litert-lm`, then run the command again"
            }
            Self::Failed { tail, .. } if cause_of(tail) == Cause::Library => {
                "a system library is missing: run `gem-setup doctor` to see its package"
            }
            Self::Failed { tail, .. } if cause_of(tail) == Cause::Network => {
                "check the network (`gem-setup doctor --network`), then run the command again"
            }
            Self::Failed { .. } | Self::TimedOut { .. } | Self::NotListed { .. } => {
                "run the command again; `gem-setup doctor` checks the runtime's requirements"
            }
            Self::ModelFile { .. } => "run `gem-setup install --model-file FILE` with a readable `.litertlm` file",
            Self::Unsuitable { runtime, .. } => match runtime {
                RuntimeName::Lit => "choose another runtime with `--runtime litert-lm`",
                RuntimeName::LitertLm => "choose another runtime with `--runtime lit` or `--runtime builtin`",
                RuntimeName::Builtin => "choose another runtime with `--runtime lit` or `--runtime litert-lm`",
            },
        };
        Some(hint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_pull_tell_causes_apart() {
        for (tail, cause) in [
            ("Error: 401 Unauthorized: set HUGGING_FACE_HUB_TOKEN", Cause::Gated),
            ("write failed: No space left on device (os error 28)", Cause::Full),
            ("error while loading shared libraries: libvulkan.so.1", Cause::Library),
            ("Error: connection reset by peer (os error 104)", Cause::Network),
            ("HTTP 503 Service Unavailable", Cause::Network),
            ("model 'x' is not in the registry", Cause::Unknown),
        ] {
            assert_eq!(cause_of(tail), cause, "{tail}");
        }
    }
}
