//! The router's settings: their keys, the values in effect, and the origin of each value.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::load::{ScopeFile, Settings};
use super::read::type_name;
use super::scope::Scope;
use crate::text::words;

words! {
    /// A setting that affects local routing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Key {
        /// Whether the router is on.
        Enabled = "experimental.gemmaModelRouter.enabled",
        /// Whether Gemini CLI starts the server by itself.
        AutoStartServer = "experimental.gemmaModelRouter.autoStartServer",
        /// The program that Gemini CLI starts.
        BinaryPath = "experimental.gemmaModelRouter.binaryPath",
        /// The server's address.
        ClassifierHost = "experimental.gemmaModelRouter.classifier.host",
        /// The model that classifies.
        ClassifierModel = "experimental.gemmaModelRouter.classifier.model",
        /// The requested model; anything but an alias overrides the router.
        ModelName = "model.name",
    }
}

impl Key {
    /// The keys of the router itself.
    pub const ROUTER: [Self; 5] = [
        Self::Enabled,
        Self::AutoStartServer,
        Self::BinaryPath,
        Self::ClassifierHost,
        Self::ClassifierModel,
    ];

    /// The names of the objects that contain the value, followed by its own name.
    pub(super) fn path(self) -> Vec<&'static str> {
        self.as_str().split('.').collect()
    }

    /// Whether `scope` can set this key: only the user's file decides whether a program is started, and which
    /// (docs/facts.md section 3).
    const fn is_heeded_in(self, scope: Scope) -> bool {
        !matches!(self, Self::BinaryPath | Self::AutoStartServer) || matches!(scope, Scope::User)
    }
}

/// The source of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Gemini CLI's own default.
    Default,
    /// The file of a scope.
    Scope(Scope),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Scope(scope) => scope.fmt(f),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The value in effect for one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effective<T> {
    /// The value.
    pub value: T,
    /// The source of the value.
    pub origin: Origin,
    /// The file that contains the value.
    pub path: Option<PathBuf>,
    /// Values of weaker scopes that are overridden, weakest first.
    pub shadowed: Vec<Setting>,
    /// Ignored values: those of an untrusted workspace, and keys that are used only in the user's file.
    pub ignored: Vec<Setting>,
}

/// The value that a scope has for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The scope.
    pub scope: Scope,
    /// Its file.
    pub path: PathBuf,
    /// Its value.
    pub value: Value,
}

/// A value whose type Gemini CLI does not expect. It overrides the values of weaker scopes, and the default takes effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// The dotted key of the setting or of an object around it.
    pub key: String,
    /// The scope.
    pub scope: Scope,
    /// The file.
    pub path: PathBuf,
    /// The expected type of value.
    pub expected: &'static str,
    /// The type of the found value.
    pub found: &'static str,
}

/// The value in effect for each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouterSettings {
    /// Whether the router is on.
    pub enabled: Effective<bool>,
    /// Whether Gemini CLI starts the server by itself.
    #[serde(rename = "autoStartServer")]
    pub auto_start_server: Effective<bool>,
    /// The program that Gemini CLI starts; empty for its own copy of `lit`.
    #[serde(rename = "binaryPath")]
    pub binary_path: Effective<String>,
    /// The server's address.
    #[serde(rename = "classifier.host")]
    pub classifier_host: Effective<String>,
    /// The model that classifies.
    #[serde(rename = "classifier.model")]
    pub classifier_model: Effective<String>,
    /// The requested model, if there is one.
    #[serde(rename = "model.name")]
    pub model_name: Effective<Option<String>>,
    /// Values of an unexpected type.
    pub malformed: Vec<Malformed>,
}

impl Settings {
    /// The values in effect, as far as the files are readable.
    #[must_use]
    pub fn router(&self) -> RouterSettings {
        let mut merge = Merge {
            settings: self,
            malformed: Vec::new(),
        };
        // The defaults of Gemini CLI 0.61 (docs/facts.md section 3).
        RouterSettings {
            enabled: merge.effective(Key::Enabled, false, "a boolean", Value::as_bool),
            auto_start_server: merge.effective(Key::AutoStartServer, true, "a boolean", Value::as_bool),
            binary_path: merge.effective(Key::BinaryPath, String::new(), "a string", text),
            classifier_host: merge.effective(
                Key::ClassifierHost,
                "http://localhost:9379".to_owned(),
                "a string",
                text,
            ),
            classifier_model: merge.effective(
                Key::ClassifierModel,
                "gemma3-1b-gpu-custom".to_owned(),
                "a string",
                text,
            ),
            model_name: merge.effective(Key::ModelName, None, "a string", |value| text(value).map(Some)),
            malformed: merge.malformed,
        }
    }

    /// The value at `path` in the strongest scope that sets it and is used.
    #[must_use]
    pub fn effective(&self, path: &[&str]) -> Option<&Value> {
        let counts = |file: &&ScopeFile| file.scope != Scope::Workspace || self.trust.is_trusted();
        self.scopes.iter().rev().filter(counts).find_map(|file| {
            let (value, depth) = lookup(file.value()?, path)?;
            (depth == path.len()).then_some(value)
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

struct Merge<'a> {
    settings: &'a Settings,
    malformed: Vec<Malformed>,
}

impl Merge<'_> {
    /// Visits the scopes from the weakest to the strongest. Each scope that sets `key` overrides those before it.
    fn effective<T>(
        &mut self,
        key: Key,
        default: T,
        expected: &'static str,
        accept: impl Fn(&Value) -> Option<T>,
    ) -> Effective<T> {
        let path = key.path();
        let mut set: Vec<Setting> = Vec::new();
        let mut ignored = Vec::new();
        let mut winner = None;
        for file in &self.settings.scopes {
            let Some((value, depth)) = file.value().and_then(|root| lookup(root, &path)) else {
                continue;
            };
            let setting = setting(file, value);
            if !key.is_heeded_in(file.scope) || (file.scope == Scope::Workspace && !self.settings.trust.is_trusted()) {
                if depth == path.len() {
                    ignored.push(setting);
                }
                continue;
            }
            winner = accept(value).filter(|_| depth == path.len());
            if winner.is_none() {
                self.report(file, &path[..depth], expected, value, depth == path.len());
            }
            set.push(setting);
        }
        let last = winner.is_some().then(|| set.pop()).flatten();
        Effective {
            value: winner.unwrap_or(default),
            origin: last
                .as_ref()
                .map_or(Origin::Default, |setting| Origin::Scope(setting.scope)),
            path: last.map(|setting| setting.path),
            shadowed: set,
            ignored,
        }
    }

    fn report(&mut self, file: &ScopeFile, keys: &[&str], expected: &'static str, found: &Value, is_leaf: bool) {
        let malformed = Malformed {
            key: keys.join("."),
            scope: file.scope,
            path: file.path.clone(),
            expected: if is_leaf { expected } else { "an object" },
            found: type_name(found),
        };
        // A value in place of an object is found once for each key inside, but reported once.
        if !self.malformed.contains(&malformed) {
            self.malformed.push(malformed);
        }
    }
}

fn setting(file: &ScopeFile, value: &Value) -> Setting {
    Setting {
        scope: file.scope,
        path: file.path.clone(),
        value: value.clone(),
    }
}

/// The value at `path`, or the value that is in place of an object on this path, with the number of keys that lead to
/// it.
fn lookup<'a>(root: &'a Value, path: &[&str]) -> Option<(&'a Value, usize)> {
    let mut value = root;
    for (depth, key) in path.iter().enumerate() {
        match value {
            Value::Object(members) => value = members.get(*key)?,
            obstacle => return Some((obstacle, depth)),
        }
    }
    Some((value, path.len()))
}
