//! Reads the files of all scopes. An unusable file does not affect the others.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::expand::Variables;
use super::read::{Content, read};
use super::scope::{Places, Scope};
use super::trust::Trust;
use crate::environment::Environment;
use crate::error::Failure;

/// The files of all scopes, weakest first.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// The files. In the home directory there is none for the workspace.
    pub scopes: Vec<ScopeFile>,
    /// Whether the workspace's file is used.
    pub trust: Trust,
}

/// The file of a scope.
#[derive(Debug, Serialize)]
pub struct ScopeFile {
    /// The scope.
    pub scope: Scope,
    /// The path of the file, whether or not it exists.
    pub path: PathBuf,
    /// The content.
    #[serde(flatten)]
    pub content: Content,
}

/// Reads every scope's file at `places`.
#[must_use]
pub fn load(places: &Places, environment: &Environment) -> Settings {
    let variables = Variables::new(environment, places.os);
    let scopes: Vec<_> = Scope::ALL
        .into_iter()
        .filter_map(|scope| {
            let path = places.file(scope)?;
            Some(ScopeFile {
                scope,
                path: path.to_owned(),
                content: read(path, Some(variables)),
            })
        })
        .collect();
    let trust = Trust::of_workspace(places, environment, asks_for_trust(&scopes));
    Settings { scopes, trust }
}

impl Settings {
    /// The unusable files with the reasons, including the file of trusted folders.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        let files = self.scopes.iter().filter_map(|file| match &file.content {
            Content::Broken(error) => Some(error),
            Content::Absent | Content::Parsed(_) => None,
        });
        let trust = match &self.trust {
            Trust::Broken(error) => Some(error),
            _ => None,
        };
        files.chain(trust)
    }

    /// Why Gemini CLI refuses to start with these files: unusable ones, and those that only Gemini CLI refuses.
    #[must_use]
    pub fn refused(&self) -> Vec<(PathBuf, Failure)> {
        let refused = self.scopes.iter().filter_map(|file| match &file.content {
            Content::Parsed(document) => Some(Error::Refused {
                path: file.path.clone(),
                refusal: document.refused.clone()?,
            }),
            Content::Absent | Content::Broken(_) => None,
        });
        let unusable = self.errors().map(|error| (error.path().to_owned(), Failure::of(error)));
        unusable
            .chain(refused.map(|error| (error.path().to_owned(), Failure::of(&error))))
            .collect()
    }
}

impl ScopeFile {
    /// The settings, if there are any.
    pub(super) fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Parsed(document) => Some(&document.value),
            Content::Absent | Content::Broken(_) => None,
        }
    }
}

/// `security.folderTrust.enabled` from every file except the workspace's; on by default.
fn asks_for_trust(scopes: &[ScopeFile]) -> bool {
    scopes
        .iter()
        .rev()
        .filter(|file| file.scope != Scope::Workspace)
        .filter_map(|file| file.value()?.pointer("/security/folderTrust/enabled")?.as_bool())
        .next()
        .unwrap_or(true)
}
