//! The `lit` executable (docs/facts.md section 2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gem_platform::process::Program;

use super::command::describe;
use super::pull::{PullOutput, pull_with};
use super::surroundings::RUNTIME;
use super::{CommandLine, Error, Runtime, RuntimeName, is_listed};
use crate::catalog::Model;
use crate::progress::Progress;

/// As long as Gemini CLI waits for `list` (docs/facts.md section 2).
pub(super) const LIST_LIMIT: Duration = Duration::from_secs(10);
const TOKEN_VARIABLE: &str = "HUGGING_FACE_HUB_TOKEN";

/// `lit` at a place on disk.
#[derive(Clone, Debug)]
pub struct Lit {
    program: PathBuf,
    secrets: Vec<String>,
}

impl Lit {
    /// The `lit` at `program`; `token` is the Hugging Face token it will inherit, kept out of every message.
    pub fn new(program: impl Into<PathBuf>, token: Option<&str>) -> Self {
        Self {
            program: program.into(),
            secrets: token.map(str::to_owned).into_iter().collect(),
        }
    }
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
        output_of(program(&self.program, args), LIST_LIMIT).boxed()
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
            let output = PullOutput::new(model, &self.secrets, progress);
            let command = Program {
                path: self.program.clone(),
                args: vec!["pull".into(), (&model.name).into()],
                inherit: RUNTIME,
                ..Program::default()
            };
            pull_with(&command, output).await?;
            if is_listed(&self.list(false).await?, &model.name) {
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

/// Runs `program` to its end and returns its standard output.
pub(super) async fn output_of(program: Program, limit: Duration) -> Result<String, Error> {
    let command = describe(&program);
    let child = tokio::process::Command::from(program.command())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(limit, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => {
            return Err(Error::Start {
                program: program.path,
                source,
            });
        }
        Err(_) => {
            return Err(Error::TimedOut {
                command,
                seconds: limit.as_secs(),
                tail: String::new(),
            });
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed {
        command,
        outcome: output.status.to_string(),
        tail: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The Hugging Face token in `environment`, passed on by inheritance and never shown.
#[must_use]
pub fn token(environment: &crate::environment::Environment) -> Option<&str> {
    environment.var(TOKEN_VARIABLE)
}
