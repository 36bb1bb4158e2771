//! Builds the Python environment and fills it.
//!
//! Every file of the catalog is checked against its hash, and nothing is built from source.

use std::io;
use std::path::Path;

use gem_platform::process::{Guard, Program};

use super::error::{Error, Task};
use super::installer::{Installer, pip_sources};
use super::venv::Venv;
use super::{PROGRAM, version_of};
use crate::environment::Environment;
use crate::error::chain;
use crate::progress::Progress;
use crate::runtime::child::{self, Ended};
use crate::runtime::command::describe;

/// The id of the step under which progress is reported.
const STEP: &str = "runtime";

/// An environment to build.
pub struct Build<'a> {
    /// The tool that builds it.
    pub installer: &'a Installer,
    /// The environment's place.
    pub venv: &'a Venv,
    /// The requirements, in pip's format.
    pub requirements: &'a str,
    /// The directory with the wheels; `None` to download them.
    pub wheels: Option<&'a Path>,
    /// The version of `litert-lm` in the requirements.
    pub version: &'a str,
    /// The variables and the search path.
    pub environment: &'a Environment,
    /// Ends the tools if this process is killed.
    pub guard: &'a Guard,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
}

impl Build<'_> {
    /// Builds the environment.
    ///
    /// This can be killed at any moment: an environment counts only when its marker has been written, and the former
    /// environment returns if the new one fails.
    ///
    /// # Errors
    /// When a tool fails, or the installed program does not run.
    pub async fn run(&self) -> Result<(), Error> {
        self.in_directory(self.venv.vacate())?;
        self.progress.begin(STEP, &format!("{PROGRAM} {}", self.version), None);
        let filled = self.fill().await;
        self.progress.finish(STEP);
        match filled {
            Ok(()) => self.in_directory(self.venv.finish(self.requirements)),
            Err(error) => {
                self.in_directory(self.venv.restore())?;
                Err(error)
            }
        }
    }

    pub(super) fn in_directory<T>(&self, done: io::Result<T>) -> Result<T, Error> {
        done.map_err(|source| Error::Directory {
            path: self.venv.root().to_owned(),
            source,
        })
    }

    async fn fill(&self) -> Result<(), Error> {
        // Killed tools leave files in the environment; they are deleted with it.
        let scratch = self.venv.root().join("tmp");
        let file = self.venv.begun();
        self.in_directory(std::fs::create_dir_all(&scratch))?;
        self.in_directory(std::fs::write(&file, self.requirements))?;
        let has_hashes = self.requirements.contains("--hash=");
        let [create, mut install] = self
            .installer
            .commands(self.venv, &file, self.wheels, has_hashes, self.environment)
            .map(|program| in_scratch(program, &scratch));
        self.run_tool(Task::Create, &create).await?;
        if matches!(self.installer, Installer::Python(_)) && self.wheels.is_none() {
            install
                .env
                .extend(pip_sources(&self.venv.python(), self.environment).await);
        }
        self.run_tool(Task::Install, &install).await?;
        confirm(&self.venv.program(), self.version).await
    }

    pub(super) async fn run_tool(&self, task: Task, command: &Program) -> Result<(), Error> {
        let ended = child::run(command, self.guard, |line| {
            if is_news(line) {
                self.progress.wait(STEP, line.trim());
            }
        });
        let command = describe(command);
        ended.await.map_err(|ended| match ended {
            Ended::Lost(source) => Error::Start { command, source },
            Ended::Badly { outcome, tail } => Error::Tool {
                task,
                command,
                outcome,
                tail,
            },
            Ended::Silent { limit, tail } => {
                let outcome = format!("silence for {} s", limit.as_secs());
                Error::Tool {
                    task,
                    command,
                    outcome,
                    tail,
                }
            }
        })
    }
}

pub(super) fn in_scratch(mut program: Program, scratch: &Path) -> Program {
    program
        .env
        .extend(["TMPDIR", "TMP", "TEMP"].map(|name| (name.into(), scratch.into())));
    program
}

/// Whether a line of pip or uv reports progress that a person should see.
fn is_news(line: &str) -> bool {
    ["Downloading ", "Installing ", "Installed "]
        .iter()
        .any(|start| line.trim_start().starts_with(start))
}

async fn confirm(program: &Path, version: &str) -> Result<(), Error> {
    let unusable = |reason| Error::Unusable {
        program: program.to_owned(),
        reason,
    };
    match version_of(program).await {
        Ok(Some(found)) if found == version => Ok(()),
        Ok(found) => {
            let found = found.unwrap_or_else(|| "unknown".to_owned());
            Err(unusable(format!("its version is {found}, not {version}")))
        }
        Err(error) => Err(unusable(chain(&error))),
    }
}
