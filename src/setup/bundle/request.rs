//! The order for a bundle, and the answer.

use std::path::PathBuf;

use gem_platform::Target;
use gem_platform::process::Program;
use serde::Serialize;

use super::targets::BundledTarget;
use crate::catalog::Catalog;
use crate::environment::Environment;
use crate::fetch::Fetcher;
use crate::layout::Layout;
use crate::progress::Progress;
use crate::runtime::terms::How;
use crate::runtime::{LocalModelName, RuntimeName};
use crate::sha256::Sha256;

/// The contents of a bundle to create.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// The directory to make, or the file, whose name then ends in `.tar`.
    pub place: PathBuf,
    /// For which platforms.
    pub targets: Vec<Target>,
    /// The runtime for all of them; `None` = for each the preferred one, else the one that `auto` chooses.
    pub runtime: Option<RuntimeName>,
    /// The runtime that is taken where it can be had.
    pub preferred: Option<RuntimeName>,
    /// The model to take along.
    pub model: Option<ModelRequest>,
    /// The releases that can be installed.
    pub catalog: Catalog,
    /// gem-setup's executables by platform: those that the user gave, and then this one.
    pub programs: Vec<(Target, PathBuf)>,
    /// The secret key to sign with.
    pub key: Option<PathBuf>,
}

/// A model for a bundle.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// Its name.
    pub name: LocalModelName,
    /// A file of the user's own to take for it.
    pub file: Option<PathBuf>,
    /// How its terms are accepted, if this call accepts them.
    pub accepted: Option<How>,
}

/// The means of making a bundle.
pub struct BundleTools<'a> {
    /// The home, for pulled models and the record of terms.
    pub layout: &'a Layout,
    /// The environment of the package installers.
    pub environment: &'a Environment,
    /// Downloads files.
    pub fetcher: &'a Fetcher,
    /// The command that ends the children of a killed gem-setup.
    pub guard: Program,
    /// Shows progress.
    pub progress: &'a dyn Progress,
}

/// A bundle on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// The directory or file.
    pub bundle: PathBuf,
    /// The content for each platform.
    pub targets: Vec<BundledTarget>,
    /// The key that verifies its signature.
    pub public_key: Option<String>,
    /// Every file, relative to the bundle.
    pub files: Vec<BundledFile>,
}

/// One file of a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct BundledFile {
    /// Where, relative to the bundle.
    pub path: String,
    /// Its SHA-256.
    pub sha256: Sha256,
}
