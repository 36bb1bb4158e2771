//! The request for a bundle, and its result.

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
    /// The directory to create, or a file whose name ends in `.tar`.
    pub place: PathBuf,
    /// The platforms.
    pub targets: Vec<Target>,
    /// The runtime for all platforms. `None`: for each platform the preferred one, else the one that `auto` selects.
    pub runtime: Option<RuntimeName>,
    /// The runtime to prefer where it is available.
    pub preferred: Option<RuntimeName>,
    /// The model to include.
    pub model: Option<ModelRequest>,
    /// The releases that can be installed.
    pub catalog: Catalog,
    /// gem-setup's executables by platform: those that the user gave, followed by this one.
    pub programs: Vec<(Target, PathBuf)>,
    /// The secret key for the signature.
    pub key: Option<PathBuf>,
}

/// A model for a bundle.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// The model's name.
    pub name: LocalModelName,
    /// The user's own file to use as the model.
    pub file: Option<PathBuf>,
    /// How its terms are accepted, if this call accepts them.
    pub accepted: Option<How>,
}

/// The tools for making a bundle.
pub struct BundleTools<'a> {
    /// The home, for pulled models and the record of terms.
    pub layout: &'a Layout,
    /// The environment of the package installers.
    pub environment: &'a Environment,
    /// Downloads files.
    pub fetcher: &'a Fetcher,
    /// The command that ends gem-setup's child processes if gem-setup is killed.
    pub guard: Program,
    /// Shows progress.
    pub progress: &'a dyn Progress,
}

/// A bundle on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// The path of the directory or file.
    pub bundle: PathBuf,
    /// The content for each platform.
    pub targets: Vec<BundledTarget>,
    /// The public key that verifies its signature.
    pub public_key: Option<String>,
    /// All files, with paths relative to the bundle.
    pub files: Vec<BundledFile>,
}

/// A file of a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct BundledFile {
    /// The path relative to the bundle.
    pub path: String,
    /// The file's SHA-256.
    pub sha256: Sha256,
}
