//! Writes the router's settings: plans the change, applies it, and returns a record with which it can be reverted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file::publish;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::backup::back_up;
use super::edit::{self, KeyChange};
use super::error::Error;
use super::expand::Variables;
use super::load::{Settings, load};
use super::read::{self, read_text};
use super::router::Key;
use super::scope::{Places, Scope};
use crate::environment::Environment;
use crate::place;
use crate::sha256::Sha256;

/// The scope in which the router is set up. `binaryPath` and `autoStartServer` are used only in the user's file, so
/// they are written there; if the router is set up for the whole machine, they are not written at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// The user's file.
    #[default]
    User,
    /// The current directory's file; this can be the user's file, as in the home directory.
    Workspace,
    /// The machine's file, which wins over all others.
    System,
}

impl Destination {
    /// The scope of the router's own keys, and its file.
    #[must_use]
    pub fn file(self, places: &Places) -> (Scope, &Path) {
        let scope = match self {
            Self::User => Scope::User,
            Self::Workspace => Scope::Workspace,
            Self::System => Scope::System,
        };
        places
            .file(scope)
            .map_or_else(|| (Scope::User, places.user()), |path| (scope, path))
    }
}

/// The wanted values of the router's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterValues {
    /// The port of the local server.
    pub port: u16,
    /// The model that classifies.
    pub model: String,
    /// The program that Gemini CLI starts, an absolute path.
    pub binary: PathBuf,
}

impl RouterValues {
    /// The keys and values for the user's file, and those for the destination's file.
    pub(super) fn assignments(&self, variables: Variables<'_>) -> Result<[Vec<(Key, Value)>; 2], Error> {
        let binary = self.binary.to_str().ok_or_else(|| Error::BinaryPath {
            path: self.binary.clone(),
        })?;
        let binary = variables.guarded(binary).ok_or_else(|| Error::Expanded {
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

/// The planned changes of `apply`, grouped by file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The files that would change; empty if everything is in place.
    pub files: Vec<FilePlan>,
}

/// The plan for one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilePlan {
    /// The file's scope.
    pub scope: Scope,
    /// The file's path.
    pub path: PathBuf,
    /// Whether it would be created.
    pub creates_file: bool,
    /// The planned changes.
    pub changes: Vec<KeyChange>,
    /// Descriptions of the marks that would be removed because Gemini CLI refuses them.
    pub removed: Vec<String>,
    /// The objects that would be created for the keys.
    #[serde(skip)]
    created: Vec<String>,
    #[serde(skip)]
    before: Option<String>,
    #[serde(skip)]
    after: String,
}

/// The record of changes to settings files, until [`remove`](super::remove) reverts them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The changed files; empty if everything was in place.
    pub files: Vec<AppliedFile>,
}

/// The record of changes to one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedFile {
    /// The file's scope.
    pub scope: Scope,
    /// The file's path.
    pub path: PathBuf,
    /// The changes.
    pub changes: Vec<KeyChange>,
    /// Descriptions of the marks that were removed because Gemini CLI refuses them.
    #[serde(default)]
    pub removed: Vec<String>,
    /// The dotted names of the objects that were created for the keys, outermost first.
    pub created: Vec<String>,
    /// Whether the file's directory was created with it.
    pub created_dir: bool,
    /// The file's former hash; `None` if there was no file.
    pub before: Option<Sha256>,
    /// The file's new hash.
    pub after: Sha256,
    /// A copy of the former file.
    pub backup: Option<PathBuf>,
}

impl Applied {
    /// The same record in a home that was moved: the user's file is `user`, and the copies are in `backups`.
    #[must_use]
    pub fn in_home(mut self, user: &Path, backups: &Path) -> Self {
        for file in &mut self.files {
            if file.scope == Scope::User {
                user.clone_into(&mut file.path);
            }
            if let Some(name) = file.backup.as_deref().and_then(Path::file_name) {
                file.backup = Some(backups.join(name));
            }
        }
        self
    }
}

/// Plans what [`apply`] would change.
///
/// # Errors
/// When a file cannot be read or parsed, contains marks that Gemini CLI refuses and that cannot be removed without
/// loss, or has something other than an object where the keys belong.
pub fn plan(
    places: &Places,
    environment: &Environment,
    destination: Destination,
    values: &RouterValues,
) -> Result<Plan, Error> {
    let variables = Variables::new(environment, places.os);
    let [mut own, routing] = values.assignments(variables)?;
    let mut files = Vec::new();
    let (scope, path) = destination.file(places);
    match scope {
        Scope::User => {
            own.splice(0..0, routing);
            files.extend(plan_file(scope, path, &own, variables)?);
        }
        Scope::Workspace => {
            files.extend(plan_file(Scope::User, places.user(), &own, variables)?);
            files.extend(plan_file(scope, path, &routing, variables)?);
        }
        Scope::System | Scope::SystemDefaults => files.extend(plan_file(scope, path, &routing, variables)?),
    }
    Ok(Plan { files })
}

/// Writes the router's settings that differ from `values`. Makes a backup of each changed file in `backups`.
///
/// # Errors
/// Like [`plan`], and when a file or its backup cannot be written; then no file is changed.
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
    /// A plan that replaces the text `before` of a file by `after`.
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

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The settings after the plan is carried out.
    #[must_use]
    pub fn preview(&self, places: &Places, environment: &Environment) -> Settings {
        let mut settings = load(places, environment);
        for file in &self.files {
            if let Some(found) = settings.scopes.iter_mut().find(|found| found.path == file.path) {
                let variables = Variables::new(environment, places.os);
                found.content = read::interpret(&file.path, &file.after, Some(variables));
            }
        }
        settings
    }

    /// Copies the files that will change into `backups`. [`Prepared::commit`] then writes them.
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

/// A plan whose backups exist. It is recorded before it is carried out, so that a kill leaves no unrecorded change.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    applied: Applied,
}

impl Prepared {
    /// The record of the planned change.
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
        self.put().inspect_err(|_| {
            // The failure may have come after the new text was in place.
            if read_text(&self.path).is_ok_and(|text| text.as_deref() == Some(&self.after)) {
                self.roll_back();
            }
        })
    }

    fn put(&self) -> Result<(), Error> {
        write(&self.path, &self.after)?;
        if self.scope == Scope::System && self.creates_file {
            // Root's umask may make new files private, but Gemini CLI needs to read this one to start.
            publish(&self.path).map_err(|source| Error::Write {
                path: self.path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Restores the old content. The caller reports its own error in any case.
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

    /// The directories whose settings were made to route, in the order of the first change.
    pub fn routing_directories(&self) -> impl DoubleEndedIterator<Item = &Path> {
        let routes = |change: &KeyChange| !matches!(change.key, Key::AutoStartServer | Key::BinaryPath);
        let files = self.files.iter();
        let files = files.filter(move |file| file.scope != Scope::System && file.changes.iter().any(routes));
        files.filter_map(|file| file.path.parent()?.parent())
    }

    /// The changes whose file no longer has its former content.
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

    /// The record of this change followed by `later`, as one change.
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
            // The file was deleted and created again, so the earlier change is gone.
            *self = later;
            return;
        }
        if later.before != Some(self.after) {
            // The file was edited in between; restoring the first copy would undo that edit.
            self.backup = None;
        }
        for change in later.changes {
            match self.changes.iter_mut().find(|earlier| earlier.key == change.key) {
                Some(earlier) => {
                    if change.replaced().as_ref() != Some(&earlier.to) {
                        // Another value was set in between, so that one is restored.
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

/// Deletes the file that `path` leads to; a file that is mounted by itself is emptied of settings instead.
pub(super) fn delete(path: &Path) -> Result<(), Error> {
    let delete = |path: PathBuf| match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => place::write_shared(&path, edit::EMPTY.as_bytes()),
        done => done,
    };
    place::resolve(path).and_then(delete).map_err(|source| Error::Delete {
        path: path.to_owned(),
        source,
    })
}
