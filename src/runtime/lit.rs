//! The `lit` executable (docs/facts.md section 2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gem_platform::Backoff;
use gem_platform::process::Program;

use super::child::output_of;
use super::pull::{PullOutput, pull_with};
use super::surroundings::RUNTIME;
use super::{Cause, CommandLine, Error, ProgramCheck, Runtime, RuntimeName, Stamp, cause_of};
use crate::catalog::Model;
use crate::net::TOKEN_VARIABLES;
use crate::progress::Progress;

/// How long Gemini CLI waits for `list` (docs/facts.md section 2).
pub(super) const LIST_LIMIT: Duration = Duration::from_secs(10);
/// The number of attempts to pull a model when the network fails, and the pauses between them.
const MOST_PULLS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A `lit` executable on disk.
#[derive(Clone, Debug)]
pub struct Lit {
    program: PathBuf,
    check: ProgramCheck,
    /// The stamp of the program when `check` last allowed it.
    checked: Arc<Mutex<Option<Stamp>>>,
}

impl Lit {
    /// The `lit` at `program`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            check: ProgramCheck::default(),
            checked: Arc::default(),
        }
    }

    /// The same `lit`, which runs only if `check` allows it.
    #[must_use]
    pub fn checked_by(self, check: ProgramCheck) -> Self {
        Self { check, ..self }
    }

    /// The command with `args`, after the program has been checked. Later checks trust an unchanged size and time.
    async fn command(&self, args: &[&str]) -> Result<Program, Error> {
        let stamp = Stamp::of(&self.program);
        if stamp.is_none() || *self.checked.lock().unwrap_or_else(PoisonError::into_inner) != stamp {
            let (check, path) = (self.check.clone(), self.program.clone());
            if let Ok(allowed) = tokio::task::spawn_blocking(move || check.run(&path)).await {
                allowed.map_err(Error::Refused)?;
            }
            *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        }
        Ok(program(&self.program, args))
    }

    /// Runs `command`, which pulls `model`; repeats it if the network caused the failure.
    async fn pull_persistently(&self, command: &Program, model: &Model, progress: &dyn Progress) -> Result<(), Error> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let secrets = command.inherited(&TOKEN_VARIABLES);
        loop {
            let output = PullOutput::new(model, &secrets, progress);
            let tail = match pull_with(command, output).await {
                Err(Error::Failed { tail, .. }) if is_worth_another(&tail, backoff.failures()) => tail,
                ended => return ended,
            };
            let wait = backoff.fail(fastrand::f64());
            let reason = tail.lines().last().unwrap_or_default();
            progress.wait(
                "model",
                &format!("{reason}; pulling again in {:.1} s", wait.as_secs_f32()),
            );
            tokio::time::sleep(wait).await;
        }
    }
}

/// Whether a failed pull with this last output may succeed on another attempt, after `failures` earlier ones.
fn is_worth_another(tail: &str, failures: u32) -> bool {
    failures + 1 < MOST_PULLS && cause_of(tail) == Cause::Network
}

impl Runtime for Lit {
    fn name(&self) -> RuntimeName {
        RuntimeName::Lit
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.program)
    }

    fn serve(&self) -> Option<CommandLine> {
        let line = CommandLine::new(&self.program).arg("serve");
        Some(line.port_arg("--port=").arg("--verbose"))
    }

    fn list(&self, all: bool) -> BoxFuture<'_, Result<String, Error>> {
        let args: &[&str] = if all { &["list", "--show_all"] } else { &["list"] };
        async move { output_of(&self.command(args).await?, LIST_LIMIT).await }.boxed()
    }

    fn pull<'a>(
        &'a self,
        model: &'a Model,
        file: Option<&'a Path>,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if file.is_some() {
                return Err(Error::Unsuitable {
                    runtime: RuntimeName::Lit,
                    reason: "cannot import a model file".to_owned(),
                });
            }
            let command = self.command(&["pull", &model.name]).await?;
            self.pull_persistently(&command, model, progress).await?;
            if self.has_model(&model.name).await? {
                Ok(())
            } else {
                Err(Error::NotListed {
                    runtime: RuntimeName::Lit,
                    model: model.name.clone(),
                })
            }
        }
        .boxed()
    }
}

/// A runtime's executable with `args`.
pub(super) fn program(path: &Path, args: &[&str]) -> Program {
    Program {
        path: path.to_owned(),
        args: args.iter().map(OsString::from).collect(),
        inherit: RUNTIME,
        ..Program::default()
    }
}
