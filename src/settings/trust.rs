//! Whether the workspace's settings are used: Gemini CLI uses them only in trusted folders.
//!
//! The rules are those of Gemini CLI 0.61, without the trust that an editor can grant.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::read::{Content, Document, read};
use super::scope::{Places, comparable};
use crate::environment::Environment;

/// Whether the workspace's settings are used, and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// `GEMINI_CLI_TRUST_WORKSPACE` is `true`.
    TrustedByVariable,
    /// `security.folderTrust.enabled` is `false`: every directory is trusted.
    NotAsked,
    /// `trustedFolders.json` trusts the directory or one above it.
    Trusted,
    /// `GEMINI_CLI_TRUST_WORKSPACE` is `false` or `GEMINI_RESTRICTED_MODE` is `true`.
    RefusedByVariable,
    /// `trustedFolders.json` distrusts the directory or one above it.
    Refused,
    /// `trustedFolders.json` does not name the directory, so it is not trusted until the user decides.
    Unknown,
    /// `trustedFolders.json` cannot be used; Gemini CLI refuses to start.
    Broken(#[serde(serialize_with = "super::text::as_text")] Error),
}

impl Trust {
    /// Whether the workspace's settings are used.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        matches!(self, Self::TrustedByVariable | Self::NotAsked | Self::Trusted)
    }

    /// The trust in the current directory; `asked` says whether folder trust is enabled.
    pub(super) fn of_workspace(places: &Places, environment: &Environment, asked: bool) -> Self {
        let is = |name, value| environment.var(name) == Some(value);
        if is("GEMINI_RESTRICTED_MODE", "true") || is("GEMINI_CLI_TRUST_WORKSPACE", "false") {
            return Self::RefusedByVariable;
        }
        if is("GEMINI_CLI_TRUST_WORKSPACE", "true") {
            return Self::TrustedByVariable;
        }
        if !asked {
            return Self::NotAsked;
        }
        match read(&places.trusted_folders, None) {
            Content::Absent => Self::Unknown,
            Content::Broken(error) => Self::Broken(error),
            Content::Parsed(Document {
                refused: Some(refusal), ..
            }) => Self::Broken(Error::Refused {
                path: places.trusted_folders.clone(),
                refusal,
            }),
            Content::Parsed(document) => Self::by_rules(places, &document.value),
        }
    }

    /// The rule with the longest path that contains the current directory decides.
    fn by_rules(places: &Places, rules: &Value) -> Self {
        let unknown = rules
            .as_object()
            .into_iter()
            .flatten()
            .find(|(_, level)| !matches!(level.as_str(), Some("TRUST_FOLDER" | "TRUST_PARENT" | "DO_NOT_TRUST")));
        if let Some((directory, level)) = unknown {
            return Self::Broken(Error::TrustLevel {
                path: places.trusted_folders.clone(),
                directory: directory.clone(),
                level: level.to_string(),
            });
        }
        let directory = comparable(places.os, &places.workspace_dir);
        rules
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(path, level)| covers(places, path, level, &directory))
            // If two paths have the same length, Gemini CLI uses the first one, and `max_by_key` the last one.
            .rev()
            .max_by_key(|(path, _)| path.chars().count())
            .map_or(Self::Unknown, |(_, level)| match level.as_str() {
                Some("TRUST_FOLDER" | "TRUST_PARENT") => Self::Trusted,
                _ => Self::Refused,
            })
    }
}

fn covers(places: &Places, rule: &str, level: &Value, directory: &Path) -> bool {
    let rule: PathBuf = places.workspace_dir.join(rule);
    let covered = if level == "TRUST_PARENT" {
        rule.parent().unwrap_or(&rule)
    } else {
        &rule
    };
    directory.starts_with(comparable(places.os, covered))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gem_platform::Os;
    use tempfile::TempDir;

    use super::*;

    /// A home and, in it, the directory `a/b` as the current directory.
    fn trust(variables: &[(&str, &str)], asked: bool, rules: Option<&dyn Fn(&Path) -> String>) -> Trust {
        let home = TempDir::new().unwrap();
        let directory = home.path().join("a/b");
        fs::create_dir_all(&directory).unwrap();
        if let Some(rules) = rules {
            let path = home.path().join(".gemini/trustedFolders.json");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, rules(home.path())).unwrap();
        }
        let environment = Environment::of(variables, &directory, home.path());
        let places = Places::new(Os::Linux, &environment, home.path());
        Trust::of_workspace(&places, &environment, asked)
    }

    fn ruled(rules: &[(&str, &str)]) -> Trust {
        trust(
            &[],
            true,
            Some(&|home| {
                let rules: serde_json::Map<_, _> = rules
                    .iter()
                    .map(|(path, level)| (home.join(path).display().to_string(), Value::from(*level)))
                    .collect();
                Value::Object(rules).to_string()
            }),
        )
    }

    #[test]
    fn a_directory_that_nobody_spoke_of_is_not_trusted() {
        assert!(matches!(trust(&[], true, None), Trust::Unknown));
        assert!(!trust(&[], true, None).is_trusted());
        assert!(matches!(
            ruled(&[("c", "TRUST_FOLDER"), ("a/bb", "TRUST_FOLDER")]),
            Trust::Unknown
        ));
    }

    #[test]
    fn without_folder_trust_every_directory_is_trusted() {
        assert!(trust(&[], false, None).is_trusted());
    }

    #[test]
    fn variables_win_over_everything() {
        let trusted = [("GEMINI_CLI_TRUST_WORKSPACE", "true")];
        assert!(trust(&trusted, true, None).is_trusted());
        for variable in [
            ("GEMINI_CLI_TRUST_WORKSPACE", "false"),
            ("GEMINI_RESTRICTED_MODE", "true"),
        ] {
            assert!(matches!(trust(&[variable], false, None), Trust::RefusedByVariable));
        }
    }

    #[test]
    fn a_rule_covers_what_is_below_its_directory() {
        assert!(ruled(&[("a", "TRUST_FOLDER")]).is_trusted());
        assert!(ruled(&[("a/b", "TRUST_FOLDER")]).is_trusted());
        assert!(ruled(&[("a/x", "TRUST_PARENT")]).is_trusted());
        assert!(!ruled(&[("a/x", "TRUST_FOLDER")]).is_trusted());
    }

    #[test]
    fn the_longest_rule_decides() {
        assert!(matches!(
            ruled(&[("a/b", "DO_NOT_TRUST"), ("a", "TRUST_FOLDER")]),
            Trust::Refused
        ));
        assert!(ruled(&[("a", "DO_NOT_TRUST"), ("a/b", "TRUST_FOLDER")]).is_trusted());
    }

    #[test]
    fn rules_that_gemini_cli_refuses_are_broken() {
        for text in [
            "{\"/x\": \"TRUST_FOLDER\",}",
            "{\"/x\": \"trust_folder\"}",
            "{\"/x\": 1}",
        ] {
            let trust = trust(&[], true, Some(&|_| text.to_owned()));
            assert!(matches!(&trust, Trust::Broken(_)), "{text}: {trust:?}");
        }
    }

    #[test]
    fn a_broken_file_of_rules_trusts_nothing() {
        let trust = trust(&[], true, Some(&|_| "{".to_owned()));
        assert!(matches!(&trust, Trust::Broken(error) if error.path().ends_with("trustedFolders.json")));
        assert!(!trust.is_trusted());
    }
}
