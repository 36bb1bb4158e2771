//! The router's settings: their keys, the values in effect, and the origin of each value.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::load::{ScopeFile, Settings};
use super::read::type_name;
use super::scope::Scope;

/// A setting that decides about local routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Whether the router is on.
    #[serde(rename = "experimental.gemmaModelRouter.enabled")]
    Enabled,
    /// Whether Gemini CLI starts the server by itself.
    #[serde(rename = "experimental.gemmaModelRouter.autoStartServer")]
    AutoStartServer,
    /// The program that Gemini CLI starts.
    #[serde(rename = "experimental.gemmaModelRouter.binaryPath")]
    BinaryPath,
    /// Where the server is.
    #[serde(rename = "experimental.gemmaModelRouter.classifier.host")]
    ClassifierHost,
    /// Which model classifies.
    #[serde(rename = "experimental.gemmaModelRouter.classifier.model")]
    ClassifierModel,
    /// The model asked for; anything but an alias overrides the router.
    #[serde(rename = "model.name")]
    ModelName,
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

    /// The objects that lead to the value, and last its own name.
    pub(super) const fn path(self) -> &'static [&'static str] {
        match self {
            Self::Enabled => &["experimental", "gemmaModelRouter", "enabled"],
            Self::AutoStartServer => &["experimental", "gemmaModelRouter", "autoStartServer"],
            Self::BinaryPath => &["experimental", "gemmaModelRouter", "binaryPath"],
            Self::ClassifierHost => &["experimental", "gemmaModelRouter", "classifier", "host"],
            Self::ClassifierModel => &["experimental", "gemmaModelRouter", "classifier", "model"],
            Self::ModelName => &["model", "name"],
        }
    }

    /// Whether `scope` counts: only the user's file says whether a program is started and which (docs/facts.md section 3).
    const fn is_heeded_in(self, scope: Scope) -> bool {
        !matches!(self, Self::BinaryPath | Self::AutoStartServer) || matches!(scope, Scope::User)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().join("."))
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Gemini CLI's own default.
    Default,
    /// A scope's file.
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
    /// Where it comes from.
    pub origin: Origin,
    /// The file it comes from.
    pub path: Option<PathBuf>,
    /// Weaker scopes whose value is overridden; the weakest first.
    pub shadowed: Vec<Setting>,
    /// Scopes whose value is ignored: an untrusted workspace, or a key that counts in the user's file only.
    pub ignored: Vec<Setting>,
}

/// One scope's value of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Which scope.
    pub scope: Scope,
    /// Its file.
    pub path: PathBuf,
    /// Its value.
    pub value: Value,
}

/// A value of a kind that Gemini CLI does not expect; it hides the weaker scopes' values, and the default is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// The dotted key: the setting's own or that of an object around it.
    pub key: String,
    /// In which scope.
    pub scope: Scope,
    /// In which file.
    pub path: PathBuf,
    /// The expected type of value.
    pub expected: &'static str,
    /// The value found.
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
    /// Where the server is.
    #[serde(rename = "classifier.host")]
    pub classifier_host: Effective<String>,
    /// Which model classifies.
    #[serde(rename = "classifier.model")]
    pub classifier_model: Effective<String>,
    /// The model asked for, if one is.
    #[serde(rename = "model.name")]
    pub model_name: Effective<Option<String>>,
    /// Values of an unexpected kind.
    pub malformed: Vec<Malformed>,
}

impl Settings {
    /// The values in effect, as far as the files can be read.
    #[must_use]
    pub fn router(&self) -> RouterSettings {
        let mut malformed = Vec::new();
        let mut merge = Merge {
            settings: self,
            malformed: &mut malformed,
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
            malformed,
        }
    }
}

impl Settings {
    /// The value at `path` in the strongest scope that has one and counts.
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
    malformed: &'a mut Vec<Malformed>,
}

impl Merge<'_> {
    /// Goes from the weakest scope to the strongest; each one that sets `key` shadows those before it.
    fn effective<T>(
        &mut self,
        key: Key,
        default: T,
        expected: &'static str,
        accept: impl Fn(&Value) -> Option<T>,
    ) -> Effective<T> {
        let mut set: Vec<Setting> = Vec::new();
        let mut ignored = Vec::new();
        let mut winner = None;
        for file in &self.settings.scopes {
            let Some((value, depth)) = file.value().and_then(|root| lookup(root, key.path())) else {
                continue;
            };
            let setting = setting(file, value);
            if !key.is_heeded_in(file.scope) || (file.scope == Scope::Workspace && !self.settings.trust.is_trusted()) {
                if depth == key.path().len() {
                    ignored.push(setting);
                }
                continue;
            }
            winner = accept(value).filter(|_| depth == key.path().len());
            if winner.is_none() {
                self.report(file, &key.path()[..depth], expected, value, depth == key.path().len());
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
        // An object that is none is met once for each key in it.
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

/// The value at `path`, or the value that blocks the way to it, with the number of keys that lead there.
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
