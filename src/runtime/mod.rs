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
mod builtin;
mod command;
mod endpoint;
mod engine;
pub mod gate;
mod instance;
mod lit;
pub mod litert_lm;
pub mod local;
mod model_name;
mod pull;
mod pull_terminal;
mod stamp;
mod surroundings;
pub mod terms;

use std::fmt;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use activity::{Busy, EngineActivity};
pub use builtin::Builtin;
pub use command::CommandLine;
pub use endpoint::Endpoint;
pub use engine::{EngineState, EngineStatus};
pub use gate::{Closed, ModelGate};
pub use instance::Instance;
pub use lit::{Lit, token};
pub use litert_lm::LitertLm;
pub use model_name::{LocalModelName, ParseLocalModelNameError, is_listed};
pub use stamp::Stamp;

use crate::catalog::Model;
use crate::error::{Explain, Kind};
use crate::progress::Progress;

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeName {
    /// Google's `lit` executable (docs/facts.md section 2).
    Lit,
    /// The `litert-lm` package from PyPI (docs/facts.md section 5).
    LitertLm,
    /// The classifier inside gem-setup.
    Builtin,
}

impl RuntimeName {
    /// The name used on the command line, in the catalog and in `state.json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lit => "lit",
            Self::LitertLm => "litert-lm",
            Self::Builtin => "builtin",
        }
    }
}

impl RuntimeName {
    /// Whether the runtime serves a model that has to be there.
    #[must_use]
    pub const fn has_models(self) -> bool {
        !matches!(self, Self::Builtin)
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A runtime on this machine, installed or not.
pub trait Runtime: Send + Sync {
    /// Which one.
    fn name(&self) -> RuntimeName;

    /// Its executable, `None` for the one inside gem-setup.
    fn program(&self) -> Option<&Path>;

    /// How it is served on a loopback port; `None` for the one inside gem-setup.
    fn serve(&self) -> Option<CommandLine>;

    /// Whether it prints every request and answer to its standard output.
    fn prints_requests(&self) -> bool {
        false
    }

    /// What its own `list` prints: the pulled models, or with `all` those it knows of.
    fn list(&self, all: bool) -> BoxFuture<'_, Result<String, Error>>;

    /// Whether it has the model `name`.
    fn has_model<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async move { Ok(is_listed(&self.list(false).await?, name)) }.boxed()
    }

    /// Gets `model`; its terms must have been accepted. `file` is a model file to import instead of a download.
    fn pull<'a>(
        &'a self,
        model: &'a Model,
        file: Option<&'a Path>,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>>;
}

/// What a runtime could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The executable cannot be started.
    #[error("cannot start the runtime `{}`", program.display())]
    Start {
        /// Which executable.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The executable ended badly.
    #[error("`{command}` ended with {outcome}{}", tail_of(tail))]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        outcome: String,
        /// The last lines of its output.
        tail: String,
    },
    /// The executable did not end in time.
    #[error("`{command}` did not answer within {seconds} s{}", tail_of(tail))]
    TimedOut {
        /// What was run.
        command: String,
        /// How long was waited.
        seconds: u64,
        /// The last lines of its output.
        tail: String,
    },
    /// The runtime says it pulled the model, but does not list it.
    #[error("the runtime `{runtime}` pulled the model `{model}` but does not list it")]
    NotListed {
        /// Which runtime.
        runtime: RuntimeName,
        /// Which model.
        model: String,
    },
    /// The model file cannot be imported.
    #[error("cannot import the model file `{}`", path.display())]
    ModelFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime does not support the request.
    #[error("the runtime `{runtime}` {reason}")]
    Unsuitable {
        /// Which runtime.
        runtime: RuntimeName,
        /// What it cannot do.
        reason: String,
    },
}

/// Whether the model's host asks for a token.
fn is_gated(tail: &str) -> bool {
    ["HUGGING_FACE_HUB_TOKEN", "401", "HTTP 403"]
        .iter()
        .any(|sign| tail.contains(sign))
}

fn tail_of(tail: &str) -> String {
    if tail.is_empty() {
        String::new()
    } else {
        format!("; its last words:\n{tail}")
    }
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsuitable { .. } | Self::ModelFile { .. } => Kind::Usage,
            _ => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Start { .. } => "run `gem-setup doctor` to see what keeps the runtime from starting",
            Self::Failed { tail, .. } if is_gated(tail) => {
                "the model is gated: set HUGGING_FACE_HUB_TOKEN to a token that may read it, then run the command again"
            }
            Self::Failed { tail, .. } if tail.contains("shared librar") => {
                "a system library is missing: `gem-setup doctor` names the package"
            }
            Self::Failed { .. } | Self::TimedOut { .. } | Self::NotListed { .. } => {
                "run the command again; `gem-setup doctor` checks what it needs"
            }
            Self::ModelFile { .. } => "give `--model-file` a `.litertlm` file that you may read",
            Self::Unsuitable { .. } => "choose another runtime with `--runtime lit` or `--runtime litert-lm`",
        };
        Some(hint.to_owned())
    }
}
