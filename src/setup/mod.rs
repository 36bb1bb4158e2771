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
mod journal;
mod kept;
mod launcher;
mod needs;
mod network;
mod repair;
mod site;
mod smoke;
mod spec;
mod state;
mod step;
mod step_id;
mod steps;
mod uninstall;
mod verdict;
mod verify;
mod wanted;

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;
use url::Url;

pub use advice::defer;
pub use bundle::{Bundle, BundleRequest, BundledFile, create_bundle};
pub use check::{Check, Command, Fix, Status};
pub use client::next_steps;
pub use converge::{Observer, StepsReport, install, plan, pull};
pub use doctor::{Examination, Extras, RECORDS, examine};
pub use journal::{apply_settings, clear_settings};
pub use kept::{GivenFiles, adopt_recorded};
pub use launcher::Launcher;
pub use repair::repair;
pub use site::{GUARD, Site};
pub use smoke::{Probe, Smoke, smoke};
pub use spec::{FOREGROUND, KEEPER, ServerSpec};
pub use state::{PlacedFile, SmokeRecord, State};
pub use step::{Condition, Inspection, StepState};
pub use step_id::StepId;
pub use steps::refused_model;
pub use uninstall::{Removal, Uninstalled, removal, uninstall};
pub use verdict::{Verdict, verdict};
pub use verify::check_executable;
pub use wanted::{Chosen, Wanted};

use crate::catalog::Model;
use crate::error::{Failure, chain};
use crate::fetch::Fetcher;
use crate::net::{SafeUrl, without_secrets};
use crate::progress::Progress;
use crate::runtime::{Closed, Runtime, litert_lm};
use crate::settings::RouterValues;

/// Asks about a model's terms.
pub trait AskTerms: Sync {
    /// Whether the terms of `model` are accepted; `None` without a terminal.
    fn ask(&self, model: &Model) -> Option<bool>;
}

/// The means of a change.
pub struct Tools<'a> {
    /// Downloads files.
    pub fetcher: Fetcher,
    /// Shows progress.
    pub progress: &'a dyn Progress,
    /// Asks about terms.
    pub ask: &'a dyn AskTerms,
}

/// The subject of the steps: a machine, the wish, the record, and the means.
pub struct Setup<'a> {
    /// The machine.
    pub site: Site<'a>,
    /// The choices of this call.
    pub wanted: Wanted,
    /// The record, as read or as last written.
    pub state: State,
    /// The files that the choices name.
    pub given: GivenFiles,
    /// The means.
    pub tools: Tools<'a>,
    /// The runtime's list of models.
    pub listing: Listing,
}

/// What the runtime answers, or the reason why it does not; asked for once.
#[derive(Debug, Default)]
pub struct Listing {
    models: Mutex<Option<Result<String, String>>>,
    version: Mutex<Option<Result<Option<String>, String>>>,
}

impl Setup<'_> {
    /// The chosen runtime.
    ///
    /// # Errors
    /// When the catalog lacks a build of it for this platform.
    pub fn runtime(&self) -> Result<Box<dyn Runtime>, Failure> {
        self.site.runtime(&self.wanted.chosen, &self.state)
    }

    /// Why nothing may be sent to the chosen runtime's engine; `None` if requests may be sent.
    pub(crate) async fn closed(&self) -> Option<Closed> {
        let gate = self.site.gate(&self.wanted.chosen, &self.state).ok()??;
        gate.open().await.err()
    }

    /// The path of `litert-lm`, whether it is installed or not.
    fn litert_lm_program(&self) -> PathBuf {
        self.site.litert_lm_program(&self.state)
    }

    /// The chosen model in the catalog.
    fn model(&self) -> Model {
        self.site.model(&self.wanted.chosen.model)
    }

    /// The failure of a platform for which no build of the chosen runtime is published.
    fn unsupported(&self) -> Failure {
        self.site.unsupported(self.wanted.chosen.runtime)
    }

    /// The first source of a file that is published at `url`.
    fn first_source(&self, url: &Url) -> SafeUrl {
        let first = self.tools.fetcher.sources(url).into_iter().next();
        first.unwrap_or_else(|| url.clone()).into()
    }

    /// The runtime's list of models, asked for at most once until [`Self::forget_listing`].
    async fn listing(&self) -> Result<String, String> {
        let mut known = self.listing.models.lock().await;
        if let Some(listing) = &*known {
            return listing.clone();
        }
        let listing = match self.runtime() {
            Ok(runtime) => runtime.list(false).await.map_err(|error| chain(&error)),
            Err(failure) => Err(failure.message),
        };
        known.insert(listing).clone()
    }

    /// The version that `litert-lm` reports, `None` if its answer holds none; asked for at most once until
    /// [`Self::forget_listing`].
    async fn litert_lm_version(&self) -> Result<Option<String>, String> {
        let mut known = self.listing.version.lock().await;
        if let Some(version) = &*known {
            return version.clone();
        }
        let version = litert_lm::version_of(&self.litert_lm_program()).await;
        known.insert(version.map_err(|error| chain(&error))).clone()
    }

    /// The runtime or its models have changed.
    fn forget_listing(&mut self) {
        self.listing = Listing::default();
    }

    /// The pinned version of the chosen runtime.
    fn version(&self) -> Option<&str> {
        let entry = self.site.catalog.runtime(self.wanted.chosen.runtime.as_str())?;
        Some(&entry.version)
    }

    /// The combination that a smoke test tries: another one must be tried again.
    fn subject(&self) -> String {
        let Chosen {
            runtime, model, port, ..
        } = &self.wanted.chosen;
        let without = if self.wanted.with_model { "" } else { " without model" };
        format!("{runtime} {} {model} {port}{without}", self.version().unwrap_or("-"))
    }

    /// Whether a smoke test of this combination has passed.
    fn is_tried(&self) -> bool {
        let record = self.state.smoke.as_ref();
        record.is_some_and(|record| record.subject == self.subject())
    }

    /// The router's settings for Gemini CLI.
    fn router_values(&self) -> RouterValues {
        RouterValues {
            port: self.wanted.chosen.port,
            model: self.wanted.chosen.model.to_string(),
            binary: self.site.layout.launcher(self.site.os()),
        }
    }

    /// The record of the current choices.
    fn chosen(&self) -> State {
        let (chosen, layout) = (&self.wanted.chosen, &self.site.layout);
        let chosen = Chosen {
            catalog: chosen.catalog.as_ref().map(|_| layout.catalog_file()),
            ca_cert: chosen.ca_cert.as_ref().map(|_| layout.ca_cert_file()),
            // Logins belong in `.netrc`: people attach the state to bug reports.
            mirrors: chosen.mirrors.iter().map(without_secrets).collect(),
            ..chosen.clone()
        };
        State {
            version: self.version().map(str::to_owned),
            chosen,
            ..self.state.clone()
        }
    }

    /// Whether the current choices are recorded.
    fn is_on_record(&self) -> bool {
        let recorded = State::read(&self.site.layout.state_file());
        recorded.is_ok_and(|state| state == Some(self.chosen()))
            && self
                .given_files()
                .iter()
                .all(|(given, copy)| kept::is_kept(given, copy))
    }

    /// The files that the choices name, each with the path of its copy.
    fn given_files(&self) -> Vec<(PathBuf, PathBuf)> {
        let Chosen { catalog, ca_cert, .. } = &self.wanted.chosen;
        let layout = &self.site.layout;
        let catalog = catalog.clone().map(|file| (file, layout.catalog_file()));
        let ca_cert = ca_cert.clone().map(|file| (file, layout.ca_cert_file()));
        catalog.into_iter().chain(ca_cert).collect()
    }

    /// Records the current choices, with copies of the files that they name. The caller holds the home's lock.
    ///
    /// # Errors
    /// When a copy or the state cannot be written.
    fn record(&mut self) -> Result<(), Failure> {
        for (given, copy) in self.given_files() {
            self.given.keep(&given, &copy)?;
        }
        self.state = self.chosen();
        Ok(self.state.write(&self.site.layout.state_file())?)
    }
}

/// Writes a path the way messages do.
fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}
