//! Writing the router's settings: plan what would change, then change it, and keep a record that can be taken back.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backup::back_up;
use super::edit::{self, KeyChange};
use super::error::Error;
use super::expand::Variables;
use super::read::{self, Settings, read_text};
use super::router::Key;
use super::scope::{Places, Scope};
use crate::environment::Environment;
use crate::place;
use crate::sha256::Sha256;

/// Which scope the router is set up in. `binaryPath` and `autoStartServer` are in the user's file either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// The user's file.
    #[default]
    User,
    /// The current directory's file; in the home directory that is the user's.
    Workspace,
}

/// What the router's settings should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterValues {
    /// The port of the local server.
    pub port: u16,
    /// The model that classifies.
    pub model: String,
    /// What Gemini CLI starts, an absolute path.
    pub binary: PathBuf,
}

impl RouterValues {
    /// The keys and values that belong in the user's file and in the destination's, in this order.
    pub(super) fn assignments(&self) -> Result<[Vec<(Key, Value)>; 2], Error> {
        let binary = self.binary.to_str().ok_or_else(|| Error::BinaryPath {
            path: self.binary.clone(),
        })?;
        Ok([
            vec![(Key::AutoStartServer, true.into()), (Key::BinaryPath, binary.into())],
            vec![
                (Key::Enabled, true.into()),
                (Key::ClassifierHost, format!("http://localhost:{}", self.port).into()),
                (Key::ClassifierModel, self.model.as_str().into()),
            ],
        ])
    }
}

/// What `apply` would do, file by file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The files that would change; none when everything is in place.
    pub files: Vec<FilePlan>,
}

/// What `apply` would do to one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilePlan {
    /// Which scope's file.
    pub scope: Scope,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it would be created.
    pub creates_file: bool,
    /// What would change in it.
    pub changes: Vec<KeyChange>,
    /// Marks that would be removed because Gemini CLI refuses them, each described.
    pub removed: Vec<String>,
    /// Objects that would be created around the keys.
    #[serde(skip)]
    created: Vec<String>,
    #[serde(skip)]
    before: Option<String>,
    #[serde(skip)]
    after: String,
}

/// What was done to the settings, to be kept until [`remove`](super::remove) takes it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The files that were changed; none when everything was in place.
    pub files: Vec<AppliedFile>,
}

/// What was done to one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedFile {
    /// Which scope's file.
    pub scope: Scope,
    /// Where it is.
    pub path: PathBuf,
    /// What was changed in it.
    pub changes: Vec<KeyChange>,
    /// The marks that were removed because Gemini CLI refuses them, each described.
    #[serde(default)]
    pub removed: Vec<String>,
    /// The objects that were created around the keys, dotted, the outermost first.
    pub created: Vec<String>,
    /// Whether the file's directory was created with it.
    pub created_dir: bool,
    /// What the file hashed to before; `None` when there was no file.
    pub before: Option<Sha256>,
    /// What it hashed to once it was written.
    pub after: Sha256,
    /// A copy of the file from before.
    pub backup: Option<PathBuf>,
}

/// Finds out what [`apply`] would change, changing nothing.
///
/// # Errors
/// When a file cannot be read, does not parse, holds marks that Gemini CLI refuses and that cannot be removed without loss, or has
/// something other than an object where the keys must go.
pub fn plan(
    places: &Places,
    environment: &Environment,
    destination: Destination,
    values: &RouterValues,
) -> Result<Plan, Error> {
    let [mut own, routing] = values.assignments()?;
    let variables = Variables::new(environment, places.os);
    let mut files = Vec::new();
    match places
        .file(Scope::Workspace)
        .filter(|_| destination == Destination::Workspace)
    {
        Some(workspace) => {
            files.extend(plan_file(Scope::User, places.user(), &own, variables)?);
            files.extend(plan_file(Scope::Workspace, workspace, &routing, variables)?);
        }
        None => {
            own.splice(0..0, routing);
            files.extend(plan_file(Scope::User, places.user(), &own, variables)?);
        }
    }
    Ok(Plan { files })
}

/// Writes the router's settings where they differ from `values`, with a backup of each changed file in `backups`.
///
/// # Errors
/// As [`plan`], and when a file or its backup cannot be written; no file is changed then.
pub fn apply(
    places: &Places,
    environment: &Environment,
    destination: Destination,
    values: &RouterValues,
    backups: &Path,
    now: Timestamp,
) -> Result<Applied, Error> {
    plan(places, environment, destination, values)?
        .prepare(backups, now)?
        .commit()
}

fn plan_file(
    scope: Scope,
    path: &Path,
    values: &[(Key, Value)],
    variables: Variables<'_>,
) -> Result<Option<FilePlan>, Error> {
    let before = read_text(path)?;
    let edited = edit::assign(path, before.as_deref().unwrap_or(edit::EMPTY), values, variables)?;
    Ok(
        (!edited.changes.is_empty() || !edited.removed.is_empty()).then(|| FilePlan {
            scope,
            path: path.to_owned(),
            creates_file: before.is_none(),
            changes: edited.changes,
            removed: edited.removed,
            created: edited.created,
            before,
            after: edited.text,
        }),
    )
}

impl Plan {
    /// Replaces the text `before` of one file by `after`.
    pub(super) fn of_text(scope: Scope, path: &Path, before: String, after: String) -> Self {
        let file = FilePlan {
            scope,
            path: path.to_owned(),
            creates_file: false,
            changes: Vec::new(),
            removed: Vec::new(),
            created: Vec::new(),
            before: Some(before),
            after,
        };
        Self { files: vec![file] }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The settings as they will be once the plan is carried out.
    #[must_use]
    pub fn preview(&self, places: &Places, environment: &Environment) -> Settings {
        let mut settings = read::load(places, environment);
        for file in &self.files {
            if let Some(found) = settings.scopes.iter_mut().find(|found| found.path == file.path) {
                let variables = Variables::new(environment, places.os);
                found.content = read::interpret(&file.path, &file.after, Some(variables));
            }
        }
        settings
    }

    /// Copies the files that will change into `backups`, and says what [`Prepared::commit`] will do.
    ///
    /// # Errors
    /// When a copy cannot be written.
    pub fn prepare(self, backups: &Path, now: Timestamp) -> Result<Prepared, Error> {
        let files = self.files.iter().map(|file| file.intent(backups, now));
        let applied = Applied {
            files: files.collect::<Result<_, _>>()?,
        };
        Ok(Prepared { plan: self, applied })
    }
}

/// A plan whose backups are made: to be recorded before it is carried out, so that nothing is forgotten if the process is killed.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    applied: Applied,
}

impl Prepared {
    /// The record of what will be done.
    #[must_use]
    pub const fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Writes all planned files, or none.
    ///
    /// # Errors
    /// When a file cannot be written, or has changed since the plan was made.
    pub fn commit(self) -> Result<Applied, Error> {
        let files = &self.plan.files;
        for (done, file) in files.iter().enumerate() {
            if let Err(error) = file.commit() {
                files[..done].iter().for_each(FilePlan::roll_back);
                return Err(error);
            }
        }
        Ok(self.applied)
    }
}

impl FilePlan {
    fn intent(&self, backups: &Path, now: Timestamp) -> Result<AppliedFile, Error> {
        let backup = self
            .before
            .as_ref()
            .map(|text| back_up(&self.path, text.as_bytes(), backups, now))
            .transpose()?;
        Ok(AppliedFile {
            scope: self.scope,
            path: self.path.clone(),
            changes: self.changes.clone(),
            removed: self.removed.clone(),
            created: self.created.clone(),
            created_dir: self.path.parent().is_some_and(|dir| !dir.exists()),
            before: self.before.as_deref().map(Sha256::of),
            after: Sha256::of(&self.after),
            backup,
        })
    }

    fn commit(&self) -> Result<(), Error> {
        if read_text(&self.path)? != self.before {
            return Err(Error::Changed {
                path: self.path.clone(),
            });
        }
        write(&self.path, &self.after)
    }

    /// Puts back what was there; the error that led here is the one to report, whether this works or not.
    fn roll_back(&self) {
        let _ = match &self.before {
            Some(text) => write(&self.path, text),
            None => delete(&self.path),
        };
    }
}

impl Applied {
    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Of what was intended, the files in which it happened: those that no longer hold what they held before.
    #[must_use]
    pub fn happened(mut self) -> Self {
        self.files.retain(|file| match read_text(&file.path) {
            Ok(text) => text.is_some() && text.as_deref().map(Sha256::of) != file.before,
            Err(_) => true,
        });
        self
    }

    /// The record without the file at `path`.
    #[must_use]
    pub fn without(mut self, path: &Path) -> Self {
        self.files.retain(|file| file.path != path);
        self
    }

    /// The record of this and then `later`: what must be taken back to return to before this.
    #[must_use]
    pub fn then(mut self, later: Self) -> Self {
        for file in later.files {
            match self.files.iter_mut().find(|earlier| earlier.path == file.path) {
                Some(earlier) => earlier.extend(file),
                None => self.files.push(file),
            }
        }
        self
    }
}

impl AppliedFile {
    fn extend(&mut self, later: Self) {
        if later.before.is_none() {
            // The file was gone in between, and with it all that was done to it.
            *self = later;
            return;
        }
        if later.before != Some(self.after) {
            // The file was edited in between: the first copy would undo that.
            self.backup = None;
        }
        for change in later.changes {
            match self.changes.iter_mut().find(|earlier| earlier.key == change.key) {
                Some(earlier) => {
                    if change.replaced().as_ref() != Some(&earlier.to) {
                        // Another value was chosen in between: return to that one.
                        earlier.from = change.from;
                    }
                    earlier.to = change.to;
                }
                None => self.changes.push(change),
            }
        }
        self.removed.extend(later.removed);
        let created = later.created.into_iter().filter(|name| !self.created.contains(name));
        let created: Vec<_> = created.collect();
        self.created.extend(created);
        self.created.sort();
        self.after = later.after;
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    place::write_shared(path, text.as_bytes()).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Deletes the file that `path` leads to.
pub(super) fn delete(path: &Path) -> Result<(), Error> {
    place::resolve(path)
        .and_then(fs::remove_file)
        .map_err(|source| Error::Delete {
            path: path.to_owned(),
            source,
        })
}
