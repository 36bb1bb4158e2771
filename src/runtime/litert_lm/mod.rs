//! The `litert-lm` package from PyPI (docs/facts.md section 5). An installed one is used; otherwise it is installed
//! into its own environment.
//!
//! ```
//! let catalog = gem_setup::catalog::Catalog::built_in()?;
//! let entry = catalog.runtime("litert-lm").ok_or("no litert-lm")?;
//! let requirements = gem_setup::runtime::litert_lm::requirements(entry);
//! assert!(requirements.lines().all(|line| line.contains(" --hash=sha256:")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod build;
mod error;
mod index;
mod installer;
mod requirements;
mod venv;
mod wheels;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gem_platform::file::open_regular;
use gem_platform::process::{Guard, Program};
use gem_platform::{Arch, Os, Target};

pub use build::Build;
pub use error::Error as InstallError;
pub use index::{Indexes, PIP_PROXY};
pub use installer::Installer;
pub use requirements::requirements;
pub use venv::Venv;
pub use wheels::{WheelDirectories, download_wheels};

use super::child::{self, output_of};
use super::lit::{self, LIST_LIMIT};
use super::surroundings::RUNTIME;
use super::{CommandLine, Error, Runtime, RuntimeName, is_listed, listing};
use crate::catalog::Model;
use crate::progress::{Progress, Size};
use crate::text::printable_line;

/// The name of the package's executable, without the platform's suffix.
pub const PROGRAM: &str = "litert-lm";
/// The beginning of a `.litertlm` file, and that of a `.task` file, a zip archive.
const MODEL_MARK: &[u8] = b"LITERTLM";
const TASK_MARK: &[u8] = b"PK";
/// The id of the step under which a pull reports progress.
const STEP: &str = "model";
/// On a cold disk it takes long to start Python and load the native library.
const VERSION_LIMIT: Duration = Duration::from_secs(30);

/// Whether PyPI has a wheel of the engine for `target`.
#[must_use]
pub const fn is_published(target: Target) -> bool {
    match target.os {
        Os::Linux => true,
        Os::Macos => matches!(target.arch, Arch::Arm64),
        Os::Windows => matches!(target.arch, Arch::X86_64),
    }
}

/// A `litert-lm` executable on disk.
#[derive(Clone, Debug)]
pub struct LitertLm {
    program: PathBuf,
    models: PathBuf,
    guard: Program,
}

impl LitertLm {
    /// The `litert-lm` at `program`, which keeps its models in `models`. `guard` is gem-setup's own subcommand that
    /// ends the children of a killed parent.
    #[must_use]
    pub const fn new(program: PathBuf, models: PathBuf, guard: Program) -> Self {
        Self { program, models, guard }
    }

    /// The command that imports `file` under the name `id`.
    fn import(&self, id: &str, file: &Path) -> Program {
        Program {
            path: self.program.clone(),
            args: vec!["import".into(), file.into(), id.into()],
            env: vec![unbuffered()],
            inherit: RUNTIME,
            directory: None,
        }
    }

    async fn run_import(&self, id: &str, file: Option<&Path>, progress: &dyn Progress) -> Result<(), Error> {
        let file = file.ok_or_else(|| Error::Unsuitable {
            runtime: RuntimeName::LitertLm,
            reason: format!("needs an address for the model `{id}`, but the catalog has none"),
        })?;
        open_model(file)?;
        let command = self.import(id, file);
        progress.begin(STEP, id, None);
        let guard = Guard::new(self.guard.clone());
        let ended = child::run(&command, &guard, |_| ()).await;
        progress.finish(STEP);
        ended.map_err(|ended| ended.into_error(&command))?;
        if !self.is_present(id) && !is_listed(&self.list(false).await?, id) {
            return Err(Error::NotListed {
                runtime: RuntimeName::LitertLm,
                model: id.to_owned(),
            });
        }
        Ok(())
    }

    fn model_file(&self, id: &str) -> PathBuf {
        self.models.join(id).join("model.litertlm")
    }

    fn is_present(&self, id: &str) -> bool {
        self.model_file(id).is_file()
    }

    /// The imported models, found without starting Python, which takes a second.
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
                return output_of(&lit::program(&self.program, &["list"]), LIST_LIMIT).await;
            }
            let row = |(id, bytes): (String, u64)| [printable_line(&id), Size(bytes).to_string()];
            Ok(listing(&models.into_iter().map(row).collect::<Vec<_>>()))
        }
        .boxed()
    }

    /// The files are checked directly, because starting Python takes a second.
    fn has_model<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<bool, Error>> {
        async move { Ok(self.is_present(name)) }.boxed()
    }

    fn pull<'a>(
        &'a self,
        model: &'a Model,
        file: Option<&'a Path>,
        progress: &'a dyn Progress,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.run_import(&model.name, file, progress).boxed()
    }
}

/// Python buffers its output to a pipe by default.
fn unbuffered() -> (std::ffi::OsString, std::ffi::OsString) {
    ("PYTHONUNBUFFERED".into(), "1".into())
}

/// Checks that `file` can be imported and looks like a model: `litert-lm` imports any file, and then fails at each request.
///
/// # Errors
/// When it is not a file, cannot be read, or does not begin like a model.
pub fn check_model_file(file: &Path) -> Result<(), Error> {
    let mut beginning = Vec::new();
    let read = open_model(file)?
        .take(MODEL_MARK.len() as u64)
        .read_to_end(&mut beginning);
    read.map_err(|source| unusable_model(file, source))?;
    let reason = match &*beginning {
        [] => "it is empty".to_owned(),
        mark if mark == MODEL_MARK || mark.starts_with(TASK_MARK) => return Ok(()),
        other => {
            let other = String::from_utf8_lossy(other);
            format!(
                "it is not a LiteRT-LM model: it begins with `{}` instead of `LITERTLM`",
                other.escape_debug()
            )
        }
    };
    Err(unusable_model(file, io::Error::other(reason)))
}

fn open_model(file: &Path) -> Result<File, Error> {
    open_regular(file).map_err(|source| unusable_model(file, source))
}

fn unusable_model(file: &Path, source: io::Error) -> Error {
    Error::ModelFile {
        path: file.to_owned(),
        source,
    }
}

/// The version that the `litert-lm` at `program` prints; `None` if it prints something else.
///
/// # Errors
/// When the program cannot be started, fails or does not end.
pub async fn version_of(program: &Path) -> Result<Option<String>, Error> {
    let said = output_of(&lit::program(program, &["--version"]), VERSION_LIMIT).await?;
    Ok(version_in(&said).map(str::to_owned))
}

/// `text` with only the last line of a Python traceback, which says what was wrong.
#[must_use]
pub fn without_traceback(text: &str) -> String {
    let Some((before, trace)) = text.split_once("Traceback (most recent call last)") else {
        return text.to_owned();
    };
    let last = trace.lines().rev().find(|line| !line.trim().is_empty());
    format!("{} {}", before.trim_end(), last.unwrap_or_default().trim())
}

/// The version in a text such as `litert-lm, version 0.18.1`.
fn version_in(text: &str) -> Option<&str> {
    text.split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}
