//! Sets up working routing on a machine: the steps, their inspection and application (docs/architecture.md).
//!
//! ```
//! use gem_setup::setup::{State, StepId};
//!
//! let order: Vec<&str> = StepId::ALL.iter().map(|step| step.as_str()).collect();
//! assert_eq!(order[..3], ["platform", "space", "runtime"]);
//!
//! let directory = tempfile::tempdir()?;
//! let nothing_installed = State::read(&directory.path().join("state.json"))?;
//! assert_eq!(nothing_installed, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod advice;
mod auto;
mod bundle;
mod bundled_model;
mod check;
mod client;
mod converge;
mod current;
mod doctor;
mod journal;
mod kept;
mod launcher;
mod mirrors;
mod model_file;
mod needs;
mod network;
mod obstacle;
mod offers;
mod port;
mod program;
mod records;
mod release;
mod reopen;
mod repair;
mod salvage;
mod service;
mod site;
mod smoke;
mod spec;
mod state;
mod step;
mod step_id;
mod steps;
mod tidy;
mod uninstall;
mod upgrade;
mod verdict;
mod verify;
mod versions;
mod wanted;

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;
use url::Url;

pub use advice::defer;
pub use auto::{Automatic, installable, is_offered, offered};
pub use bundle::{
    Bundle, BundleRequest, BundleTools, BundledFile, BundledTarget, CheckedBundle, ModelRequest, OpenBundle,
    SUMS as BUNDLE_LIST, check_bundle, create_bundle,
};
pub use check::{Check, Command, Fix, Status, Subject};
pub use client::{NextStep, next_steps};
pub use converge::{Observer, StepsReport, install, lock_home, plan, pull, settle_swap};
pub use current::current_command;
pub use doctor::{Examination, Extras, RECORDS, examine};
pub use journal::{apply_settings, clear_settings, roll_back_settings};
pub use kept::{GivenFiles, adopt_recorded};
pub use launcher::Launcher;
pub use needs::{check_plan, check_removal, check_server};
pub use offers::{Offer, known_offers, offers, unpack_signed};
pub use port::{taken_port, unusable_port};
pub use program::{keep_program, lasting_program, typed_again};
pub use records::{PlacedFile, Release, SignedCatalog, SmokeFault, SmokeRecord};
pub use release::{recorded_catalog, way_back};
pub use repair::repair;
use service::check_machine_service;
pub use service::{
    SERVICE, is_hidden_from_service, machine_service, service_account, service_definition, service_failure,
    service_kind,
};
pub use site::{GUARD, Site};
pub use smoke::{Probe, Smoke, sample_request, smoke};
pub use spec::{FOREGROUND, REAPER, STARTED_IN, ServerSpec};
pub use state::State;
pub use step::{Condition, Inspection, StepState};
pub use step_id::StepId;
pub use steps::refused_model;
pub use uninstall::{Removal, Uninstalled, removal, uninstall, wait_for_downloads};
pub use upgrade::{
    NewHostedModels, Upgraded, check_model_upgrade, check_not_older, installable_hosted_models, new_hosted_models,
    offer_of_hub, roll_back_hosted_models, roll_back_model, roll_back_runtime, roll_back_self, upgrade_hosted_models,
    upgrade_model, upgrade_runtime, upgrade_self,
};
pub use verdict::{Verdict, verdict};
pub use versions::{Version, discard, garbage, size_of, versions};
pub use wanted::{Chosen, Wanted};

use crate::catalog::Model;
use crate::error::{Failure, chain};
use crate::fetch::Fetcher;
use crate::net::SafeUrl;
use crate::place;
use crate::progress::Progress;
use crate::runtime::litert_lm::{self, Installer};
use crate::runtime::{Closed, Runtime, RuntimeName};
use crate::settings::RouterValues;

/// Asks about a model's terms.
pub trait AskTerms: Sync {
    /// Whether the user accepts the terms of `model`; `None` without a terminal.
    fn ask(&self, model: &Model) -> Option<bool>;

    /// Whether there is a terminal to ask at.
    fn can_ask(&self) -> bool;
}

/// The tools for changes.
pub struct Tools<'a> {
    /// Downloads files.
    pub fetcher: Fetcher,
    /// Shows progress.
    pub progress: &'a dyn Progress,
    /// Asks about terms.
    pub ask: &'a dyn AskTerms,
}

/// The input of the steps: the machine, the user's choices, the record, and the tools.
pub struct Setup<'a> {
    /// The machine.
    pub site: Site<'a>,
    /// The choices of this call.
    pub wanted: Wanted,
    /// The record as it was last read or written.
    pub state: State,
    /// The files that the choices name.
    pub given: GivenFiles,
    /// The tools for changes.
    pub tools: Tools<'a>,
    /// The runtime's list of models.
    pub listing: Listing,
    /// Why the recorded bundle could not be opened again.
    pub bundle_fault: Option<Failure>,
    /// Why a server with the options of this home would not start.
    pub server_fault: Option<Failure>,
}

/// The runtime's list of models, or the reason why the runtime gave none, and other answers of programs. Each is
/// requested only once.
#[derive(Debug, Default)]
pub struct Listing {
    installer: Mutex<Option<Result<Installer, Failure>>>,
    models: Mutex<Option<Result<String, String>>>,
    version: Mutex<Option<Result<Option<String>, String>>>,
    version_on_path: Mutex<Option<Result<Option<String>, String>>>,
}

impl Setup<'_> {
    /// The chosen runtime.
    ///
    /// # Errors
    /// When the catalog has no build of it for this platform.
    pub fn runtime(&self) -> Result<Box<dyn Runtime>, Failure> {
        self.site.runtime(&self.wanted.chosen, &self.state)
    }

    /// Why no request may be sent to the chosen runtime's engine; `None` if requests are allowed.
    pub(crate) async fn closed(&self) -> Option<Closed> {
        let gate = self.site.gate(&self.wanted.chosen, &self.state).ok()??;
        gate.open().await.err()
    }

    /// The path of `litert-lm`, whether or not it is installed.
    fn litert_lm_program(&self) -> PathBuf {
        self.site.litert_lm_program(&self.state)
    }

    /// The chosen model, as the catalog describes it.
    fn model(&self) -> Model {
        self.site.model(&self.wanted.chosen.model)
    }

    /// The failure for a platform without a published build of the chosen runtime.
    fn unsupported(&self) -> Failure {
        self.site.unsupported(self.wanted.chosen.runtime)
    }

    /// The first source of a file that is published at `url`.
    fn first_source(&self, url: &Url) -> SafeUrl {
        let first = self.tools.fetcher.sources(url).into_iter().next();
        first.unwrap_or_else(|| url.clone()).into()
    }

    /// The runtime's list of models; requested only once until [`Self::forget_listing`].
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

    /// The version that `litert-lm` reports; `None` if its output contains none. Requested only once until
    /// [`Self::forget_listing`].
    async fn litert_lm_version(&self) -> Result<Option<String>, String> {
        let mut known = self.listing.version.lock().await;
        if let Some(version) = &*known {
            return version.clone();
        }
        let version = litert_lm::version_of(&self.litert_lm_program()).await;
        known
            .insert(version.map_err(|error| litert_lm::without_traceback(&chain(&error))))
            .clone()
    }

    /// The version of the `litert-lm` at `program`, which is on the PATH. Requested only once, because it may hang.
    async fn version_on_path(&self, program: &Path) -> Result<Option<String>, String> {
        let mut known = self.listing.version_on_path.lock().await;
        if let Some(version) = &*known {
            return version.clone();
        }
        let version = litert_lm::version_of(program).await;
        known.insert(version.map_err(|error| chain(&error))).clone()
    }

    /// The tool that installs `litert-lm`. Looked for only once, because a program on the PATH may hang.
    async fn installer(&self) -> Result<Installer, Failure> {
        let mut known = self.listing.installer.lock().await;
        if let Some(installer) = &*known {
            return installer.clone();
        }
        let found = Installer::find(self.site.environment).await;
        known.insert(found.map_err(Failure::from)).clone()
    }

    /// Forgets the lists, because the runtime or its models have changed.
    fn forget_listing(&mut self) {
        let Listing {
            installer,
            version_on_path,
            ..
        } = std::mem::take(&mut self.listing);
        self.listing = Listing {
            installer,
            version_on_path,
            ..Listing::default()
        };
    }

    /// The pinned version of the chosen runtime.
    fn version(&self) -> Option<&str> {
        let entry = self.site.catalog.runtime(self.wanted.chosen.runtime.as_str())?;
        Some(&entry.version)
    }

    /// Identifies the combination that a smoke test covers. Another combination must be tested again.
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

    /// The record with the current choices.
    fn chosen(&self) -> State {
        let (chosen, layout) = (&self.wanted.chosen, &self.site.layout);
        let chosen = Chosen {
            catalog: chosen.catalog.as_ref().map(|_| self.catalog_copy()),
            ca_cert: chosen.ca_cert.as_ref().map(|_| layout.ca_cert_file()),
            ..chosen.clone()
        };
        let is_same_runtime = chosen.runtime == self.state.chosen.runtime;
        State {
            version: self.version().map(str::to_owned),
            release: self.release(),
            is_beside: self.site.directory.is_some(),
            previous: self.state.previous.clone().filter(|_| is_same_runtime),
            chosen,
            in_use: None,
            ..self.state.clone()
        }
    }

    /// Whether the wanted model is the recorded one, for the recorded runtime.
    fn is_model_in_use(&self) -> bool {
        let (wanted, recorded) = (&self.wanted.chosen, &self.state.chosen);
        (wanted.runtime, &wanted.model) == (recorded.runtime, &recorded.model)
    }

    /// Records the source of the newly installed model.
    fn note_model(&mut self) {
        let is_own_file = self.wanted.chosen.model_file.is_some();
        let is_from_catalog = self.wanted.chosen.runtime == RuntimeName::LitertLm && !is_own_file;
        self.state.model_source = is_from_catalog.then(|| self.model());
    }

    /// The name of the chosen runtime's release in the catalog.
    fn release(&self) -> Option<String> {
        let runtime = self.wanted.chosen.runtime.as_str();
        self.site.catalog.release(runtime, self.site.target)
    }

    /// Whether the catalog's release of the chosen runtime differs from the current one.
    fn replaces_release(&self) -> bool {
        let site = &self.site;
        let runtime = self.wanted.chosen.runtime;
        site.is_for_this_machine() && release::replaces(&site.layout, &self.state, &site.catalog, runtime, site.target)
    }

    /// The path for the copy of the chosen catalog: in the directory of its release, if the release has its own.
    fn catalog_copy(&self) -> PathBuf {
        let layout = &self.site.layout;
        match self.release().filter(|_| self.site.directory.is_some()) {
            Some(name) => release::catalog_copy(layout, &name),
            None => layout.catalog_file(),
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
        let catalog = catalog.clone().map(|file| (file, self.catalog_copy()));
        let ca_cert = ca_cert.clone().map(|file| (file, layout.ca_cert_file()));
        catalog.into_iter().chain(ca_cert).collect()
    }

    /// The copies that [`record`](Self::record) would write.
    fn pending_copies(&self) -> Vec<PathBuf> {
        let is_pending = |(given, copy): &(PathBuf, PathBuf)| !kept::is_kept(given, copy);
        let given = self.given_files().into_iter().filter(is_pending).map(|(_, copy)| copy);
        given.chain(self.pending_built_in()).collect()
    }

    /// Records the current choices and copies the files that they name. The caller holds the home's lock.
    ///
    /// # Errors
    /// When a copy or the state cannot be written.
    fn record(&mut self) -> Result<(), Failure> {
        self.keep_given()?;
        self.keep_built_in()?;
        self.state = self.chosen();
        Ok(self.state.write(&self.site.layout.state_file())?)
    }

    /// Takes the choices of a first installation into the record before its first change, so that they count even if the process is
    /// killed. Those of a later one are recorded with its first step: until then, the installation is as it was.
    ///
    /// # Errors
    /// When a copy cannot be written.
    fn choose_first(&mut self) -> Result<(), Failure> {
        if self.state.is_of_settings_alone() {
            self.keep_given()?;
            self.state.chosen = self.chosen().chosen;
        }
        Ok(())
    }

    fn keep_given(&self) -> Result<(), Failure> {
        for (given, copy) in self.given_files() {
            self.given.keep(&given, &copy)?;
        }
        Ok(())
    }
}

impl Setup<'_> {
    /// The path for the copy of the release's built-in catalog, if it is missing.
    fn pending_built_in(&self) -> Option<PathBuf> {
        let name = self.release().filter(|_| self.wanted.chosen.catalog.is_none())?;
        let copy = release::catalog_copy(&self.site.layout, &name);
        (!copy.exists()).then_some(copy)
    }

    /// Keeps a copy of the release's built-in catalog, because a later gem-setup will have another one.
    fn keep_built_in(&self) -> Result<(), Failure> {
        let Some(copy) = self.pending_built_in() else {
            return Ok(());
        };
        let text = self.site.catalog.to_toml()?;
        place::write_private(&copy, text.as_bytes())
            .map_err(|error| Failure::cannot_at("keep the catalog as", &copy, &error))
    }
}

/// The form in which messages show a path.
fn shown(path: &Path) -> String {
    format!("`{}`", path.display())
}
