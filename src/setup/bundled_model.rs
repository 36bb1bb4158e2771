//! The files of a pulled model in a bundle, for machines without internet.

use std::fs;
use std::path::{Path, PathBuf};

use gem_platform::file::move_directory;
use url::Url;

use super::bundle::{MODELS, SUMS, Sums, WHEELS};
use super::program::beside;
use crate::error::{Failure, Kind};
use crate::lock::Lock;
use crate::place;
use crate::sha256::Sha256;

/// The directories of those `mirrors` that are bundles on disk.
fn on_disk(mirrors: &[Url]) -> impl Iterator<Item = PathBuf> {
    let on_disk = mirrors.iter().filter(|mirror| mirror.scheme() == "file");
    on_disk.filter_map(|mirror| mirror.to_file_path().ok())
}

/// Whether one of `mirrors` is a bundle on disk. If it is a tar file, it is unpacked as a whole.
pub(super) fn is_unpacked(mirrors: &[Url]) -> bool {
    on_disk(mirrors).any(|bundle| bundle.join(SUMS).is_file())
}

/// The wheels in the first bundle on disk among `mirrors` that has some.
pub(super) fn wheels(mirrors: &[Url]) -> Option<PathBuf> {
    on_disk(mirrors)
        .map(|bundle| bundle.join(WHEELS))
        .find(|wheels| wheels.is_dir())
}

/// Whether the list of `bundle` names files of the model `name`. The files themselves may be missing, because a plan
/// does not unpack them.
fn lists(bundle: &Path, name: &str) -> bool {
    let text = place::read_text(&bundle.join(SUMS)).unwrap_or_default();
    let directory = format!("{MODELS}/{name}/");
    Sums::parse(&text).is_ok_and(|sums| sums.iter().any(|(path, _)| path.starts_with(&directory)))
}

/// Whether the first bundle on disk among `mirrors` has a file at `path`, the path of a URL.
pub(super) fn has_file(mirrors: &[Url], path: &str) -> bool {
    let path = path.trim_start_matches('/');
    on_disk(mirrors).any(|bundle| {
        let text = place::read_text(&bundle.join(SUMS)).unwrap_or_default();
        bundle.join(path).is_file()
            || Sums::parse(&text).is_ok_and(|sums| sums.iter().any(|(listed, _)| listed == path))
    })
}

/// The directory in `models` for a copy of the model `name` that is not complete.
fn unfinished(models: &Path, name: &str) -> PathBuf {
    models.join(format!(".{name}.new"))
}

/// The lock on this copy. Several homes can have one directory of models.
fn lock_of(unfinished: &Path) -> PathBuf {
    beside(unfinished, "lock")
}

/// The copy of the model `name` that a killed process left behind in `models`.
pub(super) fn abandoned(models: &Path, name: &str) -> Option<PathBuf> {
    let copy = unfinished(models, name);
    (!Lock::is_held(&lock_of(&copy)).unwrap_or(true)).then_some(copy)
}

/// Deletes that copy.
pub(super) fn sweep(models: &Path, name: &str) {
    let copy = unfinished(models, name);
    if copy.symlink_metadata().is_err() {
        return;
    }
    if let Ok(Some(lock)) = Lock::try_acquire_in(&lock_of(&copy)) {
        // A leftover directory only uses disk space.
        let _ = fs::remove_dir_all(&copy);
        let _ = lock.delete();
    }
}

/// A model's files in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BundledModel {
    bundle: PathBuf,
    name: String,
}

impl BundledModel {
    /// The files of the model `name` in the first bundle on disk among `mirrors` that has them.
    pub(super) fn find(mirrors: &[Url], name: &str) -> Option<Self> {
        on_disk(mirrors)
            .find(|bundle| bundle.join(MODELS).join(name).is_dir() || lists(bundle, name))
            .map(|bundle| Self {
                bundle,
                name: name.to_owned(),
            })
    }

    /// The path of the bundle.
    pub(super) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Copies the files into `models`, where they replace this model. No file appears before all are verified.
    ///
    /// # Errors
    /// When the bundle does not list the files, a file differs from the list, or a file cannot be read or written.
    pub(super) fn copy_to(&self, models: &Path) -> Result<(), Failure> {
        let new = unfinished(models, &self.name);
        let cannot = |error| Failure::cannot_at("copy the model to", &new, &error);
        fs::create_dir_all(models).map_err(cannot)?;
        let Some(lock) = Lock::try_acquire_in(&lock_of(&new)).map_err(cannot)? else {
            let message = format!(
                "cannot copy the model to `{}`: another gem-setup is doing that",
                new.display()
            );
            return Err(Failure::new(Kind::Conflict, message).with_hint("run the command again when it is done"));
        };
        let copied = self.copy_and_place(&new, &models.join(&self.name));
        // A leftover lock file changes nothing.
        let _ = lock.delete();
        copied
    }

    fn copy_and_place(&self, new: &Path, place: &Path) -> Result<(), Failure> {
        remove(new)?;
        self.copy_into(new).inspect_err(|_| drop(remove(new)))?;
        remove(place)?;
        move_directory(new, place).map_err(|error| Failure::cannot_at("rename", new, &error))
    }

    fn copy_into(&self, new: &Path) -> Result<(), Failure> {
        let files = self.listed()?;
        for (inside, expected) in &files {
            let from = self.bundle.join(MODELS).join(&self.name).join(inside);
            let place = new.join(inside);
            if let Some(directory) = place.parent() {
                fs::create_dir_all(directory).map_err(|error| Failure::cannot_at("create", directory, &error))?;
            }
            place::copy_afresh(&from, &place).map_err(|error| Failure::cannot_at("copy", &from, &error))?;
            let actual = Sha256::of_file(&place).map_err(|error| Failure::cannot_at("read", &place, &error))?;
            if actual != *expected {
                let message = format!(
                    "the hash of `{}` is {actual}, but the bundle's `{SUMS}` says {expected}",
                    from.display()
                );
                return Err(Failure::new(Kind::Verification, message).with_hint("copy or create the bundle again"));
            }
        }
        Ok(())
    }

    /// The model's files, relative to its directory, with their hashes.
    fn listed(&self) -> Result<Vec<(PathBuf, Sha256)>, Failure> {
        let sums = self.bundle.join(SUMS);
        let text = place::read_text(&sums).map_err(|error| Failure::cannot_at("read", &sums, &error))?;
        let listed = Sums::parse(&text).map_err(|reason| {
            Failure::new(
                Kind::Verification,
                format!("`{}` cannot be used: {reason}", sums.display()),
            )
            .with_hint("copy or create the bundle again")
        })?;
        let directory = Path::new(MODELS).join(&self.name);
        let files: Vec<_> = listed
            .iter()
            .filter_map(|(path, sha256)| Some((Path::new(path).strip_prefix(&directory).ok()?.to_owned(), sha256)))
            .collect();
        if files.is_empty() {
            let message = format!("`{}` lists no file of the model `{}`", sums.display(), self.name);
            return Err(Failure::new(Kind::Verification, message)
                .with_hint("create the bundle again with `gem-setup bundle create --model`"));
        }
        Ok(files)
    }
}

fn remove(directory: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::cannot_at("remove", directory, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "gemma";

    #[test]
    fn a_copy_in_progress_is_left_to_its_maker() {
        let models = tempfile::tempdir().unwrap();
        let copy = unfinished(models.path(), NAME);
        fs::create_dir(&copy).unwrap();
        let bundle = bundle("one");
        let lock = Lock::try_acquire_in(&lock_of(&copy)).unwrap();
        sweep(models.path(), NAME);
        assert!(copy.exists());
        assert_eq!(abandoned(models.path(), NAME), None);
        let busy = found(bundle.path(), NAME).unwrap().copy_to(models.path()).unwrap_err();
        assert_eq!(busy.kind, Kind::Conflict);
        drop(lock);
        assert_eq!(abandoned(models.path(), NAME).as_ref(), Some(&copy));
        sweep(models.path(), NAME);
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0);
    }

    /// A bundle with two files of a model, one of which may be listed with another content.
    fn bundle(listed: &str) -> tempfile::TempDir {
        let bundle = tempfile::tempdir().unwrap();
        let directory = bundle.path().join("models/gemma/parts");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a"), "one").unwrap();
        fs::write(directory.join("../b"), "two").unwrap();
        let line = |content: &str, path: &str| {
            let sum = Sha256::of(content);
            format!("{sum}  {path}\n")
        };
        let sums = [
            line(listed, "models/gemma/parts/a"),
            line("two", "models/gemma/b"),
            line("x", "models/other/c"),
        ];
        fs::write(bundle.path().join(SUMS), sums.concat()).unwrap();
        bundle
    }

    fn found(bundle: &Path, name: &str) -> Option<BundledModel> {
        let mirrors = [
            "https://mirror.example".parse().unwrap(),
            Url::from_directory_path(bundle).unwrap(),
        ];
        BundledModel::find(&mirrors, name)
    }

    #[test]
    fn a_model_is_copied_whole_and_takes_the_place_of_what_was_there() {
        let (bundle, models) = (bundle("one"), tempfile::tempdir().unwrap());
        let old = models.path().join(NAME);
        fs::create_dir(&old).unwrap();
        fs::write(old.join("half"), "").unwrap();
        found(bundle.path(), NAME).unwrap().copy_to(models.path()).unwrap();
        assert_eq!(fs::read_to_string(old.join("parts/a")).unwrap(), "one");
        assert_eq!(fs::read_to_string(old.join("b")).unwrap(), "two");
        assert!(!old.join("half").exists());
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_as_listed_leaves_everything_as_it_was() {
        let (bundle, models) = (bundle("another"), tempfile::tempdir().unwrap());
        let failure = found(bundle.path(), NAME).unwrap().copy_to(models.path()).unwrap_err();
        assert_eq!(failure.kind, Kind::Verification);
        assert!(failure.message.contains("parts"), "{failure}");
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let (bundle, models) = (bundle("one"), tempfile::tempdir().unwrap());
        fs::remove_file(bundle.path().join("models/gemma/b")).unwrap();
        found(bundle.path(), NAME).unwrap().copy_to(models.path()).unwrap_err();
        assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_a_bundle_holds_and_lists_is_taken_from_it() {
        let bundle = bundle("one");
        assert_eq!(found(bundle.path(), "unknown"), None);
        fs::create_dir(bundle.path().join("models/unlisted")).unwrap();
        let models = tempfile::tempdir().unwrap();
        let failure = found(bundle.path(), "unlisted")
            .unwrap()
            .copy_to(models.path())
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Verification);
    }
}
