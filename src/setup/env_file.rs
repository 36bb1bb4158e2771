//! The `.env` file that Gemini CLI reads, and what it takes from it. The rules are those of Gemini CLI 0.61.

use std::path::{Path, PathBuf};

use super::Setup;
use crate::settings::{Settings, Trust};

/// The variables that count in a folder that is not trusted.
const ALWAYS_READ: [&str; 4] = [
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
];

/// A variable as Gemini CLI sees it.
pub(super) struct Variable {
    pub(super) value: String,
    /// The `.env` file it comes from; `None` for the environment itself.
    pub(super) file: Option<PathBuf>,
}

/// The variable `name` as Gemini CLI sees it, if it has a value; the environment goes before the file.
pub(super) fn variable(setup: &Setup<'_>, settings: &Settings, name: &str) -> Option<Variable> {
    let set = setup.site.environment.vars().find(|(known, _)| *known == name);
    let found = match set {
        Some((_, value)) => Variable {
            value: value.to_owned(),
            file: None,
        },
        None => in_file(setup, settings, name)?,
    };
    (!found.value.is_empty()).then_some(found)
}

fn in_file(setup: &Setup<'_>, settings: &Settings, name: &str) -> Option<Variable> {
    let may_be_trusted = may_be_trusted(&settings.trust);
    if !may_be_trusted && !ALWAYS_READ.contains(&name) {
        return None;
    }
    let file = find(setup, settings, may_be_trusted)?;
    let is_of_project = !file.components().any(|part| part.as_os_str() == ".gemini");
    if is_of_project && is_excluded(settings, name) {
        return None;
    }
    let text = std::fs::read_to_string(&file).ok()?;
    let value = value_of(&text, name)?;
    Some(Variable {
        value,
        file: Some(file),
    })
}

/// Whether Gemini CLI treats the folder as trusted, now or once it has asked: it asks at its first start there.
const fn may_be_trusted(trust: &Trust) -> bool {
    trust.is_trusted() || matches!(trust, Trust::Unknown)
}

/// The one file that counts: the nearest, going up from the current directory, else that of the home.
fn find(setup: &Setup<'_>, settings: &Settings, is_trusted: bool) -> Option<PathBuf> {
    let home = setup.site.layout.home();
    let ignores_local = settings.effective(&["advanced", "ignoreLocalEnv"]) == Some(&true.into());
    let above = setup.site.environment.current_dir().ancestors();
    above.chain([home]).find_map(|dir: &Path| {
        let own = is_trusted.then(|| dir.join(".gemini").join(".env"));
        let plain = (!ignores_local || dir == home).then(|| dir.join(".env"));
        own.into_iter().chain(plain).find(|file| file.exists())
    })
}

fn is_excluded(settings: &Settings, name: &str) -> bool {
    settings
        .effective(&["advanced", "excludedEnvVars"])
        .and_then(|value| value.as_array())
        .is_some_and(|names| names.iter().any(|excluded| excluded == name))
}

/// What `text` sets the variable `name` to; the last line that does counts.
fn value_of(text: &str, name: &str) -> Option<String> {
    text.trim_start_matches('\u{feff}').lines().rev().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let rest = line.strip_prefix(name)?.trim_start();
        let value = rest.strip_prefix('=').or_else(|| rest.strip_prefix(": "))?.trim();
        Some(unquoted(value).to_owned())
    })
}

/// A value without its quotes, or without the comment behind it.
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
    use super::value_of;

    #[test]
    fn a_line_sets_a_variable_as_dotenv_reads_it() {
        for (text, value) in [
            ("A=1", Some("1")),
            ("\u{feff}A=1", Some("1")),
            ("export  A = \"x # y\" # z", Some("x # y")),
            ("A='x'\nA=auto # not fixed", Some("auto")),
            ("A: x", Some("x")),
            ("AB=1\n# A=1\n  A=", Some("")),
            ("AB=1", None),
        ] {
            assert_eq!(value_of(text, "A").as_deref(), value, "{text:?}");
        }
    }
}
