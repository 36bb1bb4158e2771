//! The machine on which the steps work: its paths, its platform and the artifacts published for it.

use std::path::{Path, PathBuf};

use gem_platform::process::Program;
use gem_platform::{Os, Target};

use super::release;
use super::state::State;
use super::verify::check_with;
use super::wanted::Chosen;
use crate::catalog::{Catalog, Model};
use crate::environment::Environment;
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::runtime::gate::needs_no_terms;
use crate::runtime::litert_lm::{self, Venv};
use crate::runtime::{Builtin, Lit, LitertLm, LocalModelName, ModelGate, ProgramCheck, Runtime, RuntimeName};
use crate::settings::Places;

/// gem-setup's hidden subcommand that runs next to a server or an installer and ends its orphans.
pub const GUARD: &str = "__guard";

/// A machine, and a home on it.
pub struct Site<'a> {
    /// The paths of the home.
    pub layout: Layout,
    /// The environment variables and the current directory.
    pub environment: &'a Environment,
    /// gem-setup's own executable, by the path with which the user calls it.
    pub program: PathBuf,
    /// The configuration file given with `--config`.
    pub config: Option<PathBuf>,
    /// The global options for suggested commands, each after a space; empty if the defaults apply.
    pub globals: String,
    /// The options of this `install` for suggested commands, as `--name value`; used while nothing is recorded.
    pub given: Vec<String>,
    /// The platform.
    pub target: Target,
    /// The artifacts that can be installed.
    pub catalog: Catalog,
    /// The directory of the runtime's release, if it has its own.
    pub directory: Option<PathBuf>,
    /// The workspace, if that is not the current directory.
    pub workspace: Option<PathBuf>,
}

impl Site<'_> {
    /// The operating system of the target.
    #[must_use]
    pub const fn os(&self) -> Os {
        self.target.os
    }

    /// Whether the target is this machine.
    #[must_use]
    pub fn is_for_this_machine(&self) -> bool {
        Target::host() == Some(self.target)
    }

    /// The directory of the workspace.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        self.workspace.as_deref().unwrap_or(self.environment.current_dir())
    }

    /// The path of `lit`; `None` without a build for the platform in the catalog.
    #[must_use]
    pub fn lit_path(&self) -> Option<PathBuf> {
        let artifact = self.catalog.runtime("lit")?.artifact(self.target)?;
        Some(self.runtime_directory().join(artifact.file_name()))
    }

    /// The directory of `lit` and its companions.
    #[must_use]
    pub fn runtime_directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| self.layout.lit_bin())
    }

    /// Chooses the directory for the catalog's release of `runtime`: a separate one if it differs from the current release
    /// in `state`.
    pub fn place_release(&mut self, runtime: RuntimeName, state: &State) {
        self.directory = self
            .is_for_this_machine()
            .then(|| release::directory(&self.layout, state, &self.catalog, runtime, self.target))
            .flatten();
    }

    /// The Python environment for `litert-lm`.
    #[must_use]
    pub fn litert_lm_env(&self) -> Venv {
        let (root, aside) = match &self.directory {
            Some(directory) => (directory.join("env"), directory.join("env.old")),
            None => (self.layout.litert_lm_env(), self.layout.litert_lm_old_env()),
        };
        Venv::new(root, aside, self.os())
    }

    /// The path of `litert-lm`: the recorded one, else the one in its own environment.
    #[must_use]
    pub fn litert_lm_program(&self, state: &State) -> PathBuf {
        let found = state.litert_lm.clone();
        found.unwrap_or_else(|| self.litert_lm_env().program())
    }

    /// The command that ends the children of a killed gem-setup.
    #[must_use]
    pub fn guard(&self) -> Program {
        Program {
            path: self.program.clone(),
            args: vec![GUARD.into()],
            ..Program::default()
        }
    }

    /// The check of the runtime's executable before each run.
    #[must_use]
    pub fn program_check(&self) -> ProgramCheck {
        let artifact = self.catalog.runtime("lit").and_then(|lit| lit.artifact(self.target));
        let pinned = self.lit_path().zip(artifact.map(|artifact| artifact.sha256));
        check_with(self.layout.state_file(), pinned, self.globals.clone())
    }

    /// Runs [`Self::program_check`] once, if the runtime of `chosen` is an executable that gem-setup downloads.
    ///
    /// # Errors
    /// When the executable's hash differs from the catalog's.
    pub fn check_executable(&self, chosen: &Chosen) -> Result<(), Failure> {
        match self.lit_path().filter(|_| chosen.runtime == RuntimeName::Lit) {
            Some(path) => self.program_check().run(&path),
            None => Ok(()),
        }
    }

    /// The chosen runtime.
    ///
    /// # Errors
    /// When the catalog has no build of it for this platform.
    pub fn runtime(&self, chosen: &Chosen, state: &State) -> Result<Box<dyn Runtime>, Failure> {
        match chosen.runtime {
            RuntimeName::Builtin => Ok(Box::new(Builtin::new(chosen.model.as_str()))),
            RuntimeName::Lit => {
                let path = self.lit_path().ok_or_else(|| self.unsupported(chosen.runtime))?;
                let lit = Lit::new(path);
                Ok(Box::new(lit.checked_by(self.program_check())))
            }
            RuntimeName::LitertLm => {
                let (program, models) = (self.litert_lm_program(state), self.layout.models());
                Ok(Box::new(LitertLm::new(program, models, self.guard())))
            }
        }
    }

    /// The chosen runtime, which `purpose` needs.
    ///
    /// # Errors
    /// When it is not installed, or there is no build of it for this platform.
    pub fn installed_runtime(
        &self,
        purpose: &str,
        chosen: &Chosen,
        state: &State,
    ) -> Result<Box<dyn Runtime>, Failure> {
        let runtime = self.runtime(chosen, state)?;
        let Some(program) = runtime.program().filter(|program| !program.exists()) else {
            return Ok(runtime);
        };
        let (name, program) = (runtime.name(), program.display());
        let message = format!("cannot {purpose}: the runtime `{name}` is not installed: `{program}` is missing");
        let command = match name == state.chosen.runtime {
            true => "gem-setup install".to_owned(),
            // A plain `install` keeps the recorded runtime.
            false => format!("gem-setup install --runtime {name}"),
        };
        Err(Failure::new(Kind::Runtime, message).with_hint(format!("run `{command}` first")))
    }

    /// The gate of the chosen runtime's engine; `None` for a runtime without an engine.
    ///
    /// # Errors
    /// When the catalog has no build of the runtime for this platform.
    pub fn gate(&self, chosen: &Chosen, state: &State) -> Result<Option<ModelGate>, Failure> {
        if !chosen.runtime.has_models() {
            return Ok(None);
        }
        let model = self.model(&chosen.model);
        let has_file = chosen.model_file.is_some();
        let terms = (!needs_no_terms(chosen.runtime, &model, has_file)).then(|| self.layout.terms_file());
        let runtime = self.runtime(chosen, state)?;
        Ok(Some(ModelGate::new(runtime, model, &self.layout.models(), terms)))
    }

    /// The model `name` in the catalog. The addresses of terms and the size of an unknown model are unknown.
    #[must_use]
    pub fn model(&self, name: &LocalModelName) -> Model {
        self.catalog.model(name.as_str()).cloned().unwrap_or_else(|| Model {
            name: name.to_string(),
            terms: Vec::new(),
            size: 0,
            huggingface: None,
        })
    }

    /// Gemini CLI's settings files.
    #[must_use]
    pub fn places(&self) -> Places {
        let environment = self.environment.within(self.workspace());
        let places = Places::new(self.os(), &environment, self.layout.home());
        if self.layout.is_of_system() {
            // Root's own files do not show what the users have.
            return places.for_all_users();
        }
        places
    }

    /// The failure for a platform without a published build of `runtime`.
    pub(super) fn unsupported(&self, runtime: RuntimeName) -> Failure {
        let target = self.target;
        let other = if runtime != RuntimeName::LitertLm && litert_lm::is_published(target) {
            "use `--runtime litert-lm` (Google's successor, from PyPI) or `--runtime builtin` (no model needed); \
             `--runtime auto` chooses for you"
        } else {
            "use `--runtime builtin`, which needs neither a download nor a model"
        };
        let is_unpinned = runtime == RuntimeName::Lit && target.to_string() == "linux-arm64";
        let (message, hint) = if is_unpinned {
            (
                format!("the catalog has no checksum for the build of `{runtime}` for {target}"),
                format!("pass a catalog that pins it with `--catalog FILE`, or {other}"),
            )
        } else {
            let message = format!("no build of the runtime `{runtime}` is published for {target}");
            (message, other.to_owned())
        };
        Failure::new(Kind::Unsupported, message).with_hint(hint)
    }
}
