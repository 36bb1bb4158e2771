//! The `.env` file that Gemini CLI reads, and the variables that it uses from it. The rules are those of Gemini CLI
//! 0.61.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Settings, Trust};
use crate::environment::Environment;
use crate::place;

/// The variables that Gemini CLI reads even in an untrusted folder.
const ALWAYS_READ: [&str; 4] = [
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
];

/// The variables from the `.env` file that Gemini CLI uses; empty if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
    fault: Option<String>,
}

/// A variable as Gemini CLI sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its value, never empty.
    pub value: String,
    /// The `.env` file that sets the variable; `None` for the environment itself.
    pub file: Option<PathBuf>,
}

impl EnvFile {
    /// Reads the `.env` file that Gemini CLI uses in the current directory of `environment` with the home `home`.
    #[must_use]
    pub fn read(settings: &Settings, environment: &Environment, home: &Path) -> Self {
        let is_trusted = may_be_trusted(&settings.trust);
        let Some(path) = find(settings, environment, home, is_trusted) else {
            return Self::default();
        };
        let is_of_project = !path.components().any(|part| part.as_os_str() == ".gemini");
        let excluded = excluded(settings);
        let counts =
            |name: &str| (is_trusted || ALWAYS_READ.contains(&name)) && !(is_of_project && excluded.contains(name));
        let (text, fault) = match place::read_text(&path) {
            Ok(text) => (text, None),
            Err(error) => (String::new(), Some(place::at(&path, &error).to_string())),
        };
        let mut values = parse(&text);
        values.retain(|name, _| counts(name));
        Self { path, values, fault }
    }

    /// The file and why it cannot be read; `None` if it was read or if there is none.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The variable `name`. The environment wins over the file, even with an empty value.
    #[must_use]
    pub fn variable(&self, environment: &Environment, name: &str) -> Option<Variable> {
        let (value, file) = match environment.text(name) {
            Some(value) => (value, None),
            None => (self.values.get(name)?.as_str(), Some(self.path.clone())),
        };
        (!value.is_empty()).then(|| Variable {
            value: value.to_owned(),
            file,
        })
    }

    /// `environment` plus the variables that only the file sets.
    #[must_use]
    pub fn under(self, environment: &Environment) -> Environment {
        let set = environment
            .vars()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let variables = self.values.into_iter().chain(set);
        Environment::new(variables, environment.current_dir(), environment.user_home())
    }
}

/// Whether Gemini CLI trusts the directory now or may trust it after asking; it asks when it first starts in a directory.
const fn may_be_trusted(trust: &Trust) -> bool {
    trust.is_trusted() || matches!(trust, Trust::Unknown)
}

/// The file that Gemini CLI uses: the nearest one in the current directory or above it, else the one in the home.
fn find(settings: &Settings, environment: &Environment, home: &Path, is_trusted: bool) -> Option<PathBuf> {
    let ignores_local = settings.effective(&["advanced", "ignoreLocalEnv"]) == Some(&true.into());
    let above = environment.current_dir().ancestors();
    above.chain([home]).find_map(|dir: &Path| {
        let own = is_trusted.then(|| dir.join(".gemini").join(".env"));
        let plain = (!ignores_local || dir == home).then(|| dir.join(".env"));
        own.into_iter().chain(plain).find(|file| file.exists())
    })
}

/// The variables that are ignored in a project's file.
fn excluded(settings: &Settings) -> BTreeSet<&str> {
    let names = settings
        .effective(&["advanced", "excludedEnvVars"])
        .and_then(|value| value.as_array());
    names.into_iter().flatten().filter_map(|name| name.as_str()).collect()
}

/// The variables that `text` sets, parsed like dotenv. If a variable occurs several times, the last one wins.
fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "_.-".contains(c)))?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').or_else(|| rest.strip_prefix(": "))?.trim();
    (!name.is_empty()).then(|| (name.to_owned(), unquoted(value).to_owned()))
}

/// A value without its quotes or the comment after it.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\'', '`'] {
        if let Some(inside) = value.strip_prefix(quote).and_then(|rest| rest.split(quote).next()) {
            return inside;
        }
    }
    value.split('#').next().unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lines_are_read_as_dotenv_reads_them() {
        for (text, value) in [
            ("A=1", Some("1")),
            ("\u{feff}A=1", Some("1")),
            ("export  A = \"x # y\" # z", Some("x # y")),
            ("A='x'\nA=auto # not fixed", Some("auto")),
            ("A: x", Some("x")),
            ("AB=1\n# A=1\n  A=", Some("")),
            ("AB=1", None),
        ] {
            assert_eq!(parse(text).get("A").map(String::as_str), value, "{text:?}");
        }
    }
}
