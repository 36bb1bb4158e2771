//! The gate in front of the engine: open while the model is present and its terms are accepted (docs/contract.md
//! section 4).
//!
//! An engine without its model downloads it at the first request (docs/facts.md section 2). So everything that reaches
//! the engine passes through here: the supervisor before it starts an engine and before each probe, the gateway before
//! each request.
//!
//! ```
//! use gem_setup::catalog::Catalog;
//! use gem_setup::runtime::{Builtin, Closed, ModelGate};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let model = Catalog::built_in()?.model("gemma3-1b-gpu-custom").ok_or("no model")?.clone();
//! let runtime = Box::new(Builtin::new(model.name.clone()));
//! let gate = ModelGate::new(runtime, model, directory.path(), Some(directory.path().join("terms.json")));
//! assert!(matches!(gate.open().await, Err(Closed::Terms { .. })));
//! # Ok(())
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stamp::Stamp;
use super::terms::Terms;
use super::{Runtime, RuntimeName};
use crate::catalog::Model;
use crate::error::{Explain, Kind, chain};

/// The interval between two looks at the files while the gate is closed.
const LOOK: Duration = Duration::from_millis(500);
/// After this time the runtime is asked again even if no file has changed, because it may keep its models in another
/// place.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Why no request may be sent to the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The record of accepted terms does not cover the model.
    #[error("the terms of the model `{model}` have not been accepted")]
    Terms {
        /// The model.
        model: String,
    },
    /// The record of accepted terms cannot be used.
    #[error("{reason}")]
    Record {
        /// The file and the reason.
        reason: String,
    },
    /// The runtime does not have the model.
    #[error("the model `{model}` is not installed")]
    Model {
        /// The model.
        model: String,
    },
}

impl Explain for Closed {
    fn kind(&self) -> Kind {
        match self {
            Self::Terms { .. } => Kind::TermsNotAccepted,
            Self::Record { .. } => Kind::Unexpected,
            Self::Model { .. } => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Terms { .. } => "run `gem-setup install --accept-terms`".to_owned(),
            Self::Record { .. } => "move that file away, then run `gem-setup install --accept-terms`".to_owned(),
            Self::Model { model } => format!("run `gem-setup pull {model}`"),
        })
    }
}

impl Closed {
    /// The missing item and the remedy, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let hint = self.hint().unwrap_or_default();
        format!("{self}; {hint}")
    }
}

/// The files' state when the runtime was last asked.
#[derive(Clone, Debug)]
struct Opened {
    /// Whether the model was found in its usual place.
    has_directory: bool,
    terms: Option<Stamp>,
}

/// The gate of one model.
pub struct ModelGate {
    runtime: Box<dyn Runtime>,
    model: Model,
    /// The directory in which runtimes usually keep the model.
    directory: PathBuf,
    /// `None` if there are no terms to accept.
    terms_file: Option<PathBuf>,
    state: Mutex<Result<Opened, Closed>>,
}

impl std::fmt::Debug for ModelGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelGate")
            .field("model", &self.model.name)
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}

impl ModelGate {
    /// The closed gate of `model`, which `runtime` usually keeps under `models`. `terms_file` records accepted terms;
    /// `None` if there are none to accept.
    #[must_use]
    pub fn new(runtime: Box<dyn Runtime>, model: Model, models: &Path, terms_file: Option<PathBuf>) -> Self {
        let closed = Closed::Model {
            model: model.name.clone(),
        };
        Self {
            directory: models.join(&model.name),
            runtime,
            model,
            terms_file,
            state: Mutex::new(Err(closed)),
        }
    }

    /// Reads the record of terms and asks the runtime for the model. Opens the gate if both are in place.
    ///
    /// # Errors
    /// The missing item.
    pub async fn open(&self) -> Result<(), Closed> {
        let found = self.look().await;
        let outcome = found.as_ref().map(|_| ()).map_err(Clone::clone);
        *self.state() = found;
        outcome
    }

    /// Checks whether the gate is open, using only the files that opened it.
    ///
    /// # Errors
    /// The missing item. The gate is then closed until [`Self::open`] succeeds.
    pub fn check(&self) -> Result<(), Closed> {
        let mut state = self.state();
        let opened = state.as_mut().map_err(|closed| closed.clone())?;
        match self.refresh(opened) {
            Ok(()) => Ok(()),
            Err(closed) => {
                *state = Err(closed.clone());
                Err(closed)
            }
        }
    }

    /// Waits until another [`Self::open`] may succeed.
    pub async fn changed(&self) {
        let before = self.stamps();
        let deadline = Instant::now() + ASK_AGAIN;
        while Instant::now() < deadline {
            sleep(LOOK).await;
            if self.stamps() != before {
                return;
            }
        }
    }

    /// Waits until the gate is closed.
    pub async fn closed(&self) -> Closed {
        loop {
            if let Err(closed) = self.check() {
                return closed;
            }
            sleep(LOOK).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, Result<Opened, Closed>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<Opened, Closed> {
        let terms = self.read_terms()?;
        let has_directory = self.directory.exists();
        // A runtime that cannot list its models cannot pull one either. The supervisor will report the reason.
        let has_model = self.runtime.has_model(&self.model.name).await.unwrap_or(has_directory);
        if has_model {
            Ok(Opened { has_directory, terms })
        } else {
            Err(self.no_model())
        }
    }

    fn refresh(&self, opened: &mut Opened) -> Result<(), Closed> {
        if opened.has_directory && !self.directory.exists() {
            return Err(self.no_model());
        }
        if self.terms_file.as_deref().and_then(Stamp::of) != opened.terms {
            opened.terms = self.read_terms()?;
        }
        Ok(())
    }

    fn no_model(&self) -> Closed {
        Closed::Model {
            model: self.model.name.clone(),
        }
    }

    /// The stamp of the record of accepted terms, if the record covers the model.
    fn read_terms(&self) -> Result<Option<Stamp>, Closed> {
        let Some(file) = &self.terms_file else {
            return Ok(None);
        };
        // Taken before reading, so that a write in between causes another read.
        let stamp = Stamp::of(file);
        match Terms::read(file) {
            Ok(terms) if terms.cover(&self.model) => Ok(stamp),
            Ok(_) => Err(Closed::Terms {
                model: self.model.name.clone(),
            }),
            Err(error) => Err(Closed::Record { reason: chain(&error) }),
        }
    }

    fn stamps(&self) -> [Option<Stamp>; 4] {
        let terms = self.terms_file.as_deref().and_then(Stamp::of);
        let models = self.directory.parent().and_then(Stamp::of);
        [
            terms,
            models,
            Stamp::of(&self.directory),
            Stamp::of(&self.directory.join("model.litertlm")),
        ]
    }

    /// An open gate, for tests of the code behind it.
    #[cfg(test)]
    pub(crate) fn of_builtin(model: &str) -> std::sync::Arc<Self> {
        let runtime = Box::new(super::Builtin::new(model));
        let model = Model {
            name: model.to_owned(),
            terms: Vec::new(),
            size: 0,
            huggingface: None,
        };
        let gate = Self::new(runtime, model, Path::new("/nowhere"), None);
        *gate.state() = Ok(Opened {
            has_directory: false,
            terms: None,
        });
        gate.into()
    }
}

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> Self {
        Self::other(closed)
    }
}

/// Whether there are no terms to accept, because nothing is pulled: the user has given a model file of a model for
/// which the catalog has no terms. If the same model is pulled, it may have terms.
#[must_use]
pub fn needs_no_terms(runtime: RuntimeName, model: &Model, has_model_file: bool) -> bool {
    !runtime.has_models() || (has_model_file && model.terms.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::FutureExt;
    use jiff::Timestamp;

    use super::*;
    use crate::progress::Progress;
    use crate::runtime::terms::How;
    use crate::runtime::{CommandLine, Error};

    /// A runtime whose models are the directories in one directory.
    struct Directories(PathBuf);

    impl Runtime for Directories {
        fn name(&self) -> RuntimeName {
            RuntimeName::Lit
        }

        fn program(&self) -> Option<&Path> {
            None
        }

        fn serve(&self) -> Option<CommandLine> {
            None
        }

        fn list(&self, _all: bool) -> futures_util::future::BoxFuture<'_, Result<String, Error>> {
            let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
            let names: Vec<_> = entries.map(|entry| entry.file_name().display().to_string()).collect();
            async move { Ok(names.join("\n")) }.boxed()
        }

        fn pull<'a>(
            &'a self,
            _model: &'a Model,
            _file: Option<&'a Path>,
            _progress: &'a dyn Progress,
        ) -> futures_util::future::BoxFuture<'a, Result<(), Error>> {
            async { Ok(()) }.boxed()
        }
    }

    struct Scene {
        directory: tempfile::TempDir,
        model: Model,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                model: Model {
                    name: "m".to_owned(),
                    terms: vec!["https://ai.google.dev/gemma/terms".parse().unwrap()],
                    size: 0,
                    huggingface: None,
                },
            }
        }

        fn models(&self) -> PathBuf {
            self.directory.path().join("models")
        }

        fn terms(&self) -> PathBuf {
            self.directory.path().join("terms.json")
        }

        fn gate(&self) -> ModelGate {
            let runtime = Box::new(Directories(self.models()));
            ModelGate::new(runtime, self.model.clone(), &self.models(), Some(self.terms()))
        }

        fn accept(&self) {
            let mut terms = Terms::default();
            terms
                .accept(&self.terms(), &self.model, Timestamp::now(), How::Flag)
                .unwrap();
        }

        fn pull(&self) {
            fs::create_dir_all(self.models().join("m")).unwrap();
        }
    }

    #[tokio::test]
    async fn the_gate_opens_for_an_accepted_model_alone() {
        let scene = Scene::new();
        let gate = scene.gate();
        assert_eq!(gate.open().await.unwrap_err().kind(), Kind::TermsNotAccepted);
        scene.pull();
        assert_eq!(gate.open().await.unwrap_err().kind(), Kind::TermsNotAccepted);
        fs::remove_dir_all(scene.models()).unwrap();
        scene.accept();
        assert_eq!(gate.open().await.unwrap_err().kind(), Kind::Runtime);
        scene.pull();
        assert!(gate.check().is_err(), "nobody has looked yet");
        gate.open().await.unwrap();
        gate.check().unwrap();
    }

    #[tokio::test]
    async fn the_gate_closes_when_the_model_or_the_acceptance_goes() {
        let scene = Scene::new();
        let gate = scene.gate();
        scene.accept();
        scene.pull();
        gate.open().await.unwrap();
        fs::remove_file(scene.terms()).unwrap();
        assert_eq!(gate.check().unwrap_err().kind(), Kind::TermsNotAccepted);
        scene.accept();
        gate.open().await.unwrap();
        fs::remove_dir_all(scene.models()).unwrap();
        let closed = gate.check().unwrap_err();
        assert!(closed.in_words().contains("gem-setup pull m"), "{closed}");
        scene.pull();
        assert_eq!(gate.check(), Err(closed), "closed until it is opened");
    }

    #[tokio::test]
    async fn an_unreadable_record_of_terms_keeps_the_gate_closed() {
        let scene = Scene::new();
        scene.pull();
        fs::write(scene.terms(), "{").unwrap();
        let closed = scene.gate().open().await.unwrap_err();
        assert!(closed.to_string().contains("terms.json"), "{closed}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_files_is_noticed() {
        let scene = Scene::new();
        let gate = scene.gate();
        let (changed, ()) = tokio::join!(tokio::time::timeout(ASK_AGAIN / 2, gate.changed()), async {
            sleep(LOOK / 2).await;
            scene.pull();
        });
        changed.unwrap();
    }
}
