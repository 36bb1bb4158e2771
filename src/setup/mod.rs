//! Brings a machine to working routing: the steps, their inspection and application (docs/architecture.md).
//!
//! ```
//! use gem_setup::setup::{State, StepId};
//!
//! let order: Vec<&str> = StepId::ALL.iter().map(|step| step.as_str()).collect();
//! assert_eq!(order[..3], ["platform", "space", "runtime"]);
//!
//! let folder = tempfile::tempdir()?;
//! let nothing_installed = State::read(&folder.path().join("state.json"))?;
//! assert_eq!(nothing_installed, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod advice;
mod bundle;
mod bundled_model;
mod check;
mod client;
mod converge;
mod doctor;
mod env_file;
mod kept;
mod launcher;
mod network;
mod repair;
mod smoke;
mod state;
mod step;
mod steps;
mod uninstall;
mod verdict;

use std::path::{Path, PathBuf};

use gem_platform::process::Program;
use gem_platform::{Os, Target};
use tokio::sync::Mutex;
use url::Url;

pub use advice::defer;
pub use bundle::{Bundle, BundleRequest, BundledFile, create_bundle};
pub use check::{Check, Command, Fix, Status};
pub use client::next_steps;
pub use converge::{Observer, Outcome, install, plan, pull};
pub use doctor::{Examination, Extras, RECORDS, examine};
pub use kept::{GivenFiles, adopt_recorded};
pub use launcher::Launcher;
pub use repair::repair;
pub use smoke::{Probe, Smoke, smoke};
pub use state::{PlacedFile, SmokeRecord, State};
pub use step::{Condition, Inspection, StepId, StepState};
pub use steps::{FOREGROUND, KEEPER};
pub use uninstall::{Uninstalled, uninstall};
pub use verdict::{Verdict, verdict};

use crate::catalog::{Catalog, Model};
use crate::environment::Environment;
use crate::error::{Failure, Kind, chain};
use crate::fetch::Fetcher;
use crate::layout::Layout;
use crate::net::{SafeUrl, without_login};
use crate::progress::Progress;
use crate::runtime::gate::needs_no_terms;
use crate::runtime::litert_lm::{self, Venv};
use crate::runtime::terms::How;
use crate::runtime::{Builtin, Closed, Lit, LitertLm, LocalModelName, ModelGate, Runtime, RuntimeName, token};
use crate::settings::{Destination, Places, RouterValues};

/// gem-setup's hidden subcommand that runs beside a server or an installer and ends its orphans. No command for people.
pub const GUARD: &str = "__guard";

/// What the person asked of `install`.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own (docs/contract.md section 1)"
)]
pub struct Choices {
    /// The runtime.
    pub runtime: RuntimeName,
    /// A model file to import instead of a download.
    pub model_file: Option<PathBuf>,
    /// The port that Gemini CLI talks to.
    pub port: u16,
    /// The local model.
    pub model: LocalModelName,
    /// How the model's terms were accepted, if they were on the way here.
    pub accepted: Option<How>,
    /// Which settings file is changed.
    pub scope: Destination,
    /// The catalog that was given, for the record.
    pub catalog: Option<PathBuf>,
    /// The certificates that were given, for the record.
    pub ca_cert: Option<PathBuf>,
    /// The mirrors that were given, for the record.
    pub mirrors: Vec<Url>,
    /// Whether nothing may be fetched from elsewhere, for the record.
    pub mirror_only: bool,
    /// Whether the runtime itself listens on the port.
    pub direct: bool,
    /// Do every step again.
    pub force: bool,
    /// Whether terms and model are wanted.
    pub with_model: bool,
    /// Whether the settings are wanted.
    pub with_settings: bool,
    /// Whether the server is wanted.
    pub with_server: bool,
    /// Whether the smoke test is wanted.
    pub with_smoke: bool,
}

impl Choices {
    /// What was chosen when `state` was recorded.
    #[must_use]
    pub fn recorded(state: &State) -> Self {
        Self {
            runtime: state.runtime,
            model_file: state.model_file.clone(),
            port: state.port,
            model: state.model.clone(),
            accepted: None,
            scope: state.scope,
            catalog: state.catalog.clone(),
            ca_cert: state.ca_cert.clone(),
            mirrors: state.mirrors.clone(),
            mirror_only: state.mirror_only,
            direct: state.direct,
            force: false,
            with_model: true,
            with_settings: true,
            with_server: true,
            with_smoke: true,
        }
    }
}

/// Answers the question about a model's terms.
pub trait AskTerms: Sync {
    /// Whether the terms of `model` are accepted; `None` when nobody can be asked.
    fn ask(&self, model: &Model) -> Option<bool>;
}

/// Everything the steps work with.
pub struct Setup<'a> {
    /// The paths.
    pub layout: Layout,
    /// The surroundings.
    pub environment: &'a Environment,
    /// gem-setup's own executable, by the path that the user calls.
    pub program: PathBuf,
    /// The configuration file that was given, by which the server goes too.
    pub config: Option<PathBuf>,
    /// The global options that an advised command needs, with a space before each; empty where the defaults hold.
    pub globals: String,
    /// For which platform.
    pub target: Target,
    /// What can be installed.
    pub catalog: Catalog,
    /// What was asked for.
    pub choices: Choices,
    /// The files that the choices name.
    pub given: GivenFiles,
    /// What was recorded before; what is recorded afterwards.
    pub state: State,
    /// Gets files.
    pub fetcher: Fetcher,
    /// Hears of progress.
    pub progress: &'a dyn Progress,
    /// Asks about terms.
    pub ask: &'a dyn AskTerms,
    /// What the runtime lists, asked once.
    pub listing: Listing,
}

/// What the runtime's `list` printed, or why it printed nothing.
#[derive(Debug, Default)]
pub struct Listing(Mutex<Option<Result<String, String>>>);

impl Setup<'_> {
    /// The operating system of the target.
    #[must_use]
    pub const fn os(&self) -> Os {
        self.target.os
    }

    /// The chosen runtime on this machine.
    ///
    /// # Errors
    /// When the catalog has no executable of it for this platform.
    pub fn runtime(&self) -> Result<Box<dyn Runtime>, Failure> {
        match self.choices.runtime {
            RuntimeName::Builtin => Ok(Box::new(Builtin::new(self.choices.model.as_str()))),
            RuntimeName::Lit => {
                let path = self.lit_path().ok_or_else(|| self.unsupported())?;
                Ok(Box::new(Lit::new(path, token(self.environment))))
            }
            RuntimeName::LitertLm => {
                let (program, models) = (self.litert_lm_program(), self.layout.models());
                Ok(Box::new(LitertLm::new(program, models, self.guard(), self.environment)))
            }
        }
    }

    /// The gate before the chosen runtime's engine; `None` where the runtime has none.
    ///
    /// # Errors
    /// When the catalog has no executable of the runtime for this platform.
    pub fn gate(&self) -> Result<Option<ModelGate>, Failure> {
        let (runtime, model) = (self.choices.runtime, self.model());
        if !runtime.has_models() {
            return Ok(None);
        }
        let has_file = self.choices.model_file.is_some();
        let terms = (!needs_no_terms(runtime, &model, has_file)).then(|| self.layout.terms_file());
        let gate = ModelGate::new(self.runtime()?, model, &self.layout.models(), terms);
        Ok(Some(gate))
    }

    /// Why nothing may be sent to the chosen runtime's engine, if that is so.
    pub(crate) async fn closed(&self) -> Option<Closed> {
        self.gate().ok()??.open().await.err()
    }

    /// Where `lit` belongs, `None` where the catalog has none for the platform.
    #[must_use]
    pub fn lit_path(&self) -> Option<PathBuf> {
        let artifact = self.catalog.runtime("lit")?.artifact(self.target)?;
        Some(self.layout.lit_bin().join(artifact.file_name()))
    }

    /// The Python environment that `litert-lm` is installed into.
    #[must_use]
    pub fn litert_lm_env(&self) -> Venv {
        Venv::new(self.layout.litert_lm_env(), self.layout.litert_lm_old_env(), self.os())
    }

    /// Where `litert-lm` is, or will be once it is installed.
    #[must_use]
    pub fn litert_lm_program(&self) -> PathBuf {
        let found = self.state.litert_lm.clone();
        found.unwrap_or_else(|| self.litert_lm_env().program())
    }

    /// The command that ends the children of a killed gem-setup.
    #[must_use]
    pub fn guard(&self) -> Program {
        Program {
            path: self.program.clone(),
            args: vec![GUARD.into()],
            env: Vec::new(),
        }
    }

    /// The chosen model in the catalog; a model that it does not know has neither addresses of terms nor a known size.
    #[must_use]
    pub fn model(&self) -> Model {
        let name = &self.choices.model;
        self.catalog.model(name.as_str()).cloned().unwrap_or_else(|| Model {
            name: name.to_string(),
            terms: Vec::new(),
            size: 0,
            huggingface: None,
        })
    }

    /// Where a file that is published at `url` is asked for first.
    fn first_source(&self, url: &Url) -> SafeUrl {
        let first = self.fetcher.sources(url).into_iter().next();
        first.unwrap_or_else(|| url.clone()).into()
    }

    /// Whether the target is the machine this runs on.
    #[must_use]
    pub fn is_for_this_machine(&self) -> bool {
        Target::host() == Some(self.target)
    }

    /// What the runtime lists, asked at most once until [`Self::forget_listing`].
    async fn listing(&self) -> Result<String, String> {
        let mut known = self.listing.0.lock().await;
        if let Some(listing) = &*known {
            return listing.clone();
        }
        let listing = match self.runtime() {
            Ok(runtime) => runtime.list(false).await.map_err(|error| chain(&error)),
            Err(failure) => Err(failure.message),
        };
        known.insert(listing).clone()
    }

    /// The runtime or its models have changed.
    fn forget_listing(&mut self) {
        *self.listing.0.get_mut() = None;
    }

    /// The pinned version of the chosen runtime.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        let entry = self.catalog.runtime(self.choices.runtime.as_str())?;
        Some(&entry.version)
    }

    /// What a smoke test tests: another combination must be tested anew.
    fn subject(&self) -> String {
        let Choices {
            runtime, model, port, ..
        } = &self.choices;
        let without = if self.choices.with_model { "" } else { " without model" };
        format!("{runtime} {} {model} {port}{without}", self.version().unwrap_or("-"))
    }

    /// Whether a smoke test of this combination has passed.
    fn is_tried(&self) -> bool {
        let record = self.state.smoke.as_ref();
        record.is_some_and(|record| record.subject == self.subject())
    }

    /// What Gemini CLI's settings should say.
    #[must_use]
    pub fn router_values(&self) -> RouterValues {
        RouterValues {
            port: self.choices.port,
            model: self.choices.model.to_string(),
            binary: self.launcher().path().to_owned(),
        }
    }

    /// What Gemini CLI starts.
    #[must_use]
    pub fn launcher(&self) -> Launcher {
        Launcher::new(&self.layout, self.os(), &self.program)
    }

    /// The settings files of this machine.
    #[must_use]
    pub fn places(&self) -> Places {
        Places::new(self.os(), self.environment, self.layout.home())
    }

    /// There is no executable of the runtime for this platform.
    pub(crate) fn unsupported(&self) -> Failure {
        let target = self.target;
        let hint = if self.choices.runtime != RuntimeName::LitertLm && litert_lm::is_published(target) {
            "use `--runtime litert-lm` (Google's successor, from PyPI) or `--runtime builtin` (no model needed); \
             `--runtime auto` chooses for you"
        } else {
            "use `--runtime builtin`, which needs neither a download nor a model"
        };
        Failure::new(
            Kind::Unsupported,
            format!(
                "no build of the runtime `{}` is published for {target}",
                self.choices.runtime
            ),
        )
        .with_hint(hint)
    }

    /// The state with what was chosen now.
    fn chosen(&self) -> State {
        let choices = &self.choices;
        let mut state = self.state.clone();
        state.version = self.version().map(str::to_owned);
        state.runtime = choices.runtime;
        state.port = choices.port;
        state.model.clone_from(&choices.model);
        state.scope = choices.scope;
        state.catalog = choices.catalog.as_ref().map(|_| self.layout.catalog_file());
        state.ca_cert = choices.ca_cert.as_ref().map(|_| self.layout.ca_cert_file());
        // Logins are for `.netrc`, not for a file that people attach to their bug reports.
        state.mirrors = choices.mirrors.iter().map(without_login).collect();
        state.mirror_only = choices.mirror_only;
        state.model_file.clone_from(&choices.model_file);
        state.direct = choices.direct;
        state
    }

    /// Whether what was chosen is on record already.
    fn is_on_record(&self) -> bool {
        let recorded = State::read(&self.layout.state_file());
        recorded.is_ok_and(|state| state == Some(self.chosen()))
            && self
                .given_files()
                .iter()
                .all(|(given, copy)| kept::is_kept(given, copy))
    }

    /// The files that were given, each with the place of its copy.
    fn given_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let Choices { catalog, ca_cert, .. } = &self.choices;
        let catalog = catalog.clone().map(|file| (file, self.layout.catalog_file()));
        let ca_cert = ca_cert.clone().map(|file| (file, self.layout.ca_cert_file()));
        catalog.into_iter().chain(ca_cert).collect()
    }

    /// Records what was chosen, with copies of the files that were given, so that later commands go by it. Only who holds the
    /// lock on the home may.
    ///
    /// # Errors
    /// When a copy or the state cannot be written.
    pub fn record(&mut self) -> Result<(), Failure> {
        for (given, copy) in self.given_files() {
            self.given.keep(&given, &copy)?;
        }
        self.state = self.chosen();
        Ok(self.state.write(&self.layout.state_file())?)
    }
}

/// `value` as one word of a shell's command line.
#[must_use]
pub fn quoted(os: Os, value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c) || (c == '\\' && os == Os::Windows);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    match os {
        Os::Windows => format!("\"{value}\""),
        Os::Linux | Os::Macos => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// Writes a path the way messages do.
fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}
