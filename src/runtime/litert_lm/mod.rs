//! The `litert-lm` package from PyPI (docs/facts.md section 5): used where it is found, else installed into its own
//! environment.
//!
//! ```
//! let catalog = gem_setup::catalog::Catalog::built_in()?;
//! let entry = catalog.runtime("litert-lm").ok_or("no litert-lm")?;
//! let requirements = gem_setup::runtime::litert_lm::requirements(entry);
//! assert!(requirements.lines().all(|line| line.contains(" --hash=sha256:")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod installer;
mod process;
mod requirements;
mod venv;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gem_platform::process::{Guard, Program};
use gem_platform::{Arch, Os, Target};

pub use installer::{Error as InstallError, Installer, create};
pub use requirements::requirements;
pub use venv::Venv;

use super::lit::{self, LIST_LIMIT, output_of};
use super::surroundings::RUNTIME;
use super::{CommandLine, Error, Runtime, RuntimeName, is_listed};
use crate::catalog::{HuggingFace, Model};
use crate::environment::Environment;
use crate::progress::Progress;

/// What the package's executable is called, without the suffix of the platform.
pub const PROGRAM: &str = "litert-lm";
/// The variable from which it takes a Hugging Face token, and the one that `lit` knows (docs/facts.md section 2).
const TOKEN_VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
/// The id under which a pull reports its progress.
const STEP: &str = "model";
/// How often the growth of a download is looked at.
const GROWTH_INTERVAL: Duration = Duration::from_millis(500);
/// Starting Python and loading the native library takes long on a cold disk.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// Whether PyPI holds a wheel of the engine for `target`.
#[must_use]
pub const fn is_published(target: Target) -> bool {
    match target.os {
        Os::Linux => true,
        Os::Macos => matches!(target.arch, Arch::Arm64),
        Os::Windows => matches!(target.arch, Arch::X86_64),
    }
}

/// `litert-lm` at a place on disk.
#[derive(Clone, Debug)]
pub struct LitertLm {
    program: PathBuf,
    models: PathBuf,
    guard: Program,
    tokens: Vec<(&'static str, String)>,
}

impl LitertLm {
    /// The `litert-lm` at `program`, which keeps its models in `models`; `guard` is gem-setup's own subcommand that ends
    /// children of a killed parent. The Hugging Face tokens in `environment` are passed on and kept out of every message.
    #[must_use]
    pub fn new(program: PathBuf, models: PathBuf, guard: Program, environment: &Environment) -> Self {
        let tokens = TOKEN_VARIABLES.into_iter();
        let tokens = tokens.filter_map(|name| Some((name, environment.var(name)?.to_owned())));
        Self {
            program,
            models,
            guard,
            tokens: tokens.collect(),
        }
    }

    /// The command that gets `model`: from `file`, else from where the catalog says.
    fn import(&self, model: &Model, file: Option<&Path>) -> Result<Program, Error> {
        let mut args = vec!["import".into()];
        match (file, &model.huggingface) {
            (Some(file), _) => args.push(file.into()),
            (None, Some(HuggingFace { repo, file })) => {
                args.extend([format!("--from-huggingface-repo={repo}").into(), file.into()]);
            }
            (None, None) => {
                return Err(Error::Unsuitable {
                    runtime: RuntimeName::LitertLm,
                    reason: format!(
                        "needs an address for the model `{}`, and the catalog has none",
                        model.name
                    ),
                });
            }
        }
        args.push((&model.name).into());
        // It reads the first variable; the one for `lit` means the same.
        let token = self
            .tokens
            .first()
            .map(|(_, token)| (TOKEN_VARIABLES[0].into(), token.into()));
        Ok(Program {
            path: self.program.clone(),
            args,
            env: token.into_iter().chain([unbuffered()]).collect(),
            inherit: RUNTIME,
        })
    }

    async fn run_import(&self, model: &Model, file: Option<&Path>, progress: &dyn Progress) -> Result<(), Error> {
        if let Some(file) = file {
            check_model_file(file)?;
        }
        let command = self.import(model, file)?;
        progress.begin(STEP, &model.name, None);
        let secrets: Vec<&str> = self.tokens.iter().map(|(_, token)| token.as_str()).collect();
        let guard = Guard::new(self.guard.clone());
        let ended = tokio::select! {
            ended = process::run(&command, &guard, &secrets, |_| ()) => ended,
            never = report_growth(self.models.with_file_name("downloading"), progress) => match never {},
        };
        progress.finish(STEP);
        ended.map_err(|error| error.into_runtime_error(&command))?;
        if !self.is_present(&model.name) && !is_listed(&self.list(false).await?, &model.name) {
            return Err(Error::NotListed {
                runtime: RuntimeName::LitertLm,
                model: model.name.clone(),
            });
        }
        if file.is_none()
            && let Some(source) = &model.huggingface
        {
            self.drop_cached(source, &model.name);
        }
        Ok(())
    }

    fn model_file(&self, id: &str) -> PathBuf {
        self.models.join(id).join("model.litertlm")
    }

    fn is_present(&self, id: &str) -> bool {
        self.model_file(id).is_file()
    }

    /// The download cache holds a hard link to the imported file, which would keep the disk full after the model is deleted.
    fn drop_cached(&self, source: &HuggingFace, id: &str) {
        let cached = self
            .models
            .with_file_name("cache")
            .join("huggingface")
            .join(&source.repo)
            .join(&source.file);
        if same_file::is_same_file(&cached, self.model_file(id)).unwrap_or(false) {
            // A cached file that stays costs room and nothing else.
            let _ = std::fs::remove_file(cached);
        }
    }

    /// The imported models, without the second that it takes to start Python.
    fn imported(&self) -> Vec<(String, u64)> {
        let Ok(entries) = std::fs::read_dir(&self.models) else {
            return Vec::new();
        };
        let mut models: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok()?;
                let metadata = std::fs::metadata(self.model_file(&id)).ok()?;
                metadata.is_file().then_some((id, metadata.len()))
            })
            .collect();
        models.sort();
        models
    }
}

impl Runtime for LitertLm {
    fn name(&self) -> RuntimeName {
        RuntimeName::LitertLm
    }

    fn program(&self) -> Option<&Path> {
        Some(&self.program)
    }

    fn serve(&self) -> Option<CommandLine> {
        let line = CommandLine::new(&self.program)
            .arg("serve")
            .arg("--api")
            .arg("gemini")
            .arg("--host")
            .arg("127.0.0.1")
            .arg("--port");
        let (name, value) = unbuffered();
        Some(line.port_arg("").arg("--verbose").env(name, value))
    }

    fn prints_requests(&self) -> bool {
        true
    }

    fn list(&self, _all: bool) -> BoxFuture<'_, Result<String, Error>> {
        async {
            let models = self.imported();
            if models.is_empty() {
                return output_of(lit::program(&self.program, &["list"]), LIST_LIMIT).await;
            }
            Ok(models.iter().fold(String::new(), |mut text, (id, bytes)| {
                let _ = writeln!(text, "{id}  {:.1} MB", f64_of(*bytes) / 1e6);
                text
            }))
        }
        .boxed()
    }

    /// Asking the program would take the second that it takes to start Python.
    fn has_model<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async move { Ok(self.is_present(name)) }.boxed()
    }

    fn pull<'a>(
        &'a self,
        model: &'a Model,
        file: Option<&'a Path>,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.run_import(model, file, progress).boxed()
    }
}

/// Python buffers its output to a pipe by default.
fn unbuffered() -> (std::ffi::OsString, std::ffi::OsString) {
    ("PYTHONUNBUFFERED".into(), "1".into())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
const fn f64_of(bytes: u64) -> f64 {
    bytes as f64
}

/// Whether `file` can be imported.
///
/// # Errors
/// When it is no file or cannot be read.
pub fn check_model_file(file: &Path) -> Result<(), Error> {
    let failed = |source| Error::ModelFile {
        path: file.to_owned(),
        source,
    };
    let opened = std::fs::File::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if metadata.is_file() {
        Ok(())
    } else {
        Err(failed(std::io::Error::other("it is not a file")))
    }
}

/// The version that the `litert-lm` at `program` says it is, `None` when it says something else.
///
/// # Errors
/// When it cannot be started, or fails, or does not end.
pub async fn version_of(program: &Path) -> Result<Option<String>, Error> {
    let said = output_of(lit::program(program, &["--version"]), VERSION_LIMIT).await?;
    Ok(version_in(&said).map(str::to_owned))
}

/// The version in a text such as `litert-lm, version 0.18.1`.
fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

/// Reports the growing size of `folder`, for a program that prints no progress.
async fn report_growth(folder: PathBuf, progress: &dyn Progress) -> Infallible {
    loop {
        tokio::time::sleep(GROWTH_INTERVAL).await;
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let newest = entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .max_by_key(|metadata| metadata.modified().ok());
        if let Some(metadata) = newest {
            progress.advance(STEP, metadata.len(), None);
        }
    }
}
