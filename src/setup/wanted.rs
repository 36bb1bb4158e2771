//! The choices of `install`: those recorded in `state.json`, and those of a single call.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use super::records::SignedCatalog;
use crate::runtime::terms::How;
use crate::runtime::{LocalModelName, RuntimeName};
use crate::settings::Destination;

const DEFAULT_PORT: u16 = 9379;

/// The recorded choices, which later commands use without options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The runtime.
    pub runtime: RuntimeName,
    /// The port to which Gemini CLI connects.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// The local model.
    pub model: LocalModelName,
    /// The settings file to change.
    pub scope: Destination,
    /// The catalog; in the record, its copy.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// The source of a signed catalog.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedCatalog>,
    /// Additional certificates; in the record, their copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// The mirrors, in the order in which they are tried.
    #[serde(default)]
    pub mirrors: Vec<Url>,
    /// Whether only the mirrors may be used.
    #[serde(default)]
    pub mirror_only: bool,
    /// The bundle that contains the catalog and serves as the mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PathBuf>,
    /// A model file to import instead of downloading one.
    #[serde(default)]
    pub model_file: Option<PathBuf>,
    /// Whether the runtime itself listens on the port.
    #[serde(default)]
    pub direct: bool,
}

fn port<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    match u16::deserialize(value)? {
        0 => Err(D::Error::custom("`port` is 0")),
        port => Ok(port),
    }
}

impl Default for Chosen {
    /// The defaults of docs/contract.md section 1.
    fn default() -> Self {
        Self {
            runtime: RuntimeName::Lit,
            port: DEFAULT_PORT,
            model: LocalModelName::default(),
            scope: Destination::User,
            catalog: None,
            signed: None,
            ca_cert: None,
            mirrors: Vec::new(),
            mirror_only: false,
            bundle: None,
            model_file: None,
            direct: false,
        }
    }
}

impl Chosen {
    /// Forgets the bundle, and the mirror that was its directory: another catalog's files are not in it.
    pub fn leave_bundle(&mut self) {
        if self.bundle.take().is_some() {
            self.mirrors.clear();
            self.mirror_only = false;
        }
    }
}

/// The choices for a single call.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own (docs/contract.md section 1)"
)]
pub struct Wanted {
    /// The recorded choices.
    pub chosen: Chosen,
    /// How the model's terms were accepted, if this call accepts them.
    pub accepted: Option<How>,
    /// Repeat every step.
    pub force: bool,
    /// Hash every file in full, even if its size and time match the record.
    pub verify: bool,
    /// Compare the model file with the installed one, because this call names it.
    pub compare_file: bool,
    /// Allow a version older than the current one.
    pub allow_older: bool,
    /// Install the model and its terms.
    pub with_model: bool,
    /// Write the settings.
    pub with_settings: bool,
    /// Start the server.
    pub with_server: bool,
    /// Run the smoke test.
    pub with_smoke: bool,
}

impl From<Chosen> for Wanted {
    /// All parts, with the choices `chosen`.
    fn from(chosen: Chosen) -> Self {
        Self {
            chosen,
            accepted: None,
            force: false,
            verify: false,
            compare_file: false,
            allow_older: false,
            with_model: true,
            with_settings: true,
            with_server: true,
            with_smoke: true,
        }
    }
}
