//! The content of a bundle: the list of its files with their hashes, and the files that were found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use crate::sha256::Sha256;

/// The file of a bundle that lists every other file with its hash, as `sha256sum` does.
pub const SUMS: &str = "SHA256SUMS";
/// The directory of a bundle for models; each model has its own subdirectory.
pub(in crate::setup) const MODELS: &str = "models";
/// The directory of a bundle for the wheels of `litert-lm`.
pub(in crate::setup) const WHEELS: &str = "wheels";
/// The file of a bundle that contains its catalog.
pub(super) const CATALOG: &str = "catalog.toml";
/// The file of a bundle with the record of terms that were accepted where it was made.
pub(super) const TERMS: &str = "terms.json";
/// The file of a bundle that lists its platforms.
pub(super) const TARGETS: &str = "targets.json";
/// The signature of [`SUMS`].
pub(super) const SIGNATURE: &str = "SHA256SUMS.minisig";
/// Marks a directory with an incomplete bundle, which the next call continues. It is locked while the bundle is made. A
/// tar file is written under this name until it is complete.
pub(super) const UNFINISHED: &str = "bundle.unfinished";
/// The lock next to the mark, where the mark becomes the tar file.
pub(super) const UNFINISHED_LOCK: &str = "bundle.unfinished.lock";

/// The directory of a bundle for gem-setup's executables.
const PROGRAMS: &str = "gem-setup/";

/// Whether the file `path` of a bundle is a program.
pub(super) fn is_program(path: &str) -> bool {
    path.starts_with(PROGRAMS)
}

/// The files that a bundle lists: their paths relative to it, with `/`, and their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::setup) struct Sums(BTreeMap<String, Sha256>);

impl Sums {
    /// Parses the file list. The error names the first invalid line.
    pub(in crate::setup) fn parse(text: &str) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for line in text.lines() {
            let (sha256, path) = line.split_once("  ").ok_or_else(|| format!("invalid line `{line}`"))?;
            let sha256 = sha256.parse().map_err(|_| format!("`{sha256}` is not a SHA-256"))?;
            check_path(path)?;
            if files.insert(path.to_owned(), sha256).is_some() {
                return Err(format!("`{path}` is listed twice"));
            }
        }
        Ok(Self(files))
    }

    pub(super) fn insert(&mut self, path: String, sha256: Sha256) {
        self.0.insert(path, sha256);
    }

    /// The paths and hashes, by path.
    pub(in crate::setup) fn iter(&self) -> impl Iterator<Item = (&str, Sha256)> {
        self.0.iter().map(|(path, sha256)| (path.as_str(), *sha256))
    }

    /// The hash of `path`, if it is listed.
    pub(super) fn get(&self, path: &str) -> Option<Sha256> {
        self.0.get(path).copied()
    }

    /// Whether `path` is listed.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn to_text(&self) -> String {
        self.iter().fold(String::new(), |mut text, (path, sha256)| {
            let _ = writeln!(text, "{sha256}  {path}");
            text
        })
    }

    /// Fails unless `found` contains exactly the listed files.
    pub(super) fn compare(&self, found: &BTreeMap<String, Sha256>) -> Result<(), String> {
        match self.0.keys().find(|path| !found.contains_key(*path)) {
            Some(path) => Err(format!("`{path}` is missing")),
            None => self.compare_found(found),
        }
    }

    /// Fails unless each file in `found` is listed and has the listed hash.
    pub(super) fn compare_found(&self, found: &BTreeMap<String, Sha256>) -> Result<(), String> {
        for (path, actual) in found {
            match self.0.get(path) {
                None => return Err(format!("`{path}` is not listed in `{SUMS}`")),
                Some(expected) if actual != expected => {
                    return Err(format!(
                        "the hash of `{path}` is {actual}, but `{SUMS}` says {expected}"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Refuses a path that could be outside the bundle on any system.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let is_sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(is_sound) && !path.contains(['\\', ':', '\0']) {
        Ok(())
    } else {
        Err(format!("the path `{}` is outside the bundle", path.escape_debug()))
    }
}

/// The files found in a bundle with their hashes, and the text of those that are read. Nothing is compared yet.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: BTreeMap<String, Sha256>,
    pub(super) sums: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) targets: Option<String>,
    pub(super) catalog: Option<String>,
}

impl Found {
    /// Adds the hash of the file `path`.
    pub(super) fn take(&mut self, path: &str, sha256: io::Result<Sha256>) -> Result<(), String> {
        let sha256 = sha256.map_err(|error| told(path, &error))?;
        match self.files.insert(path.to_owned(), sha256) {
            Some(_) => Err(format!("the bundle contains `{path}` twice")),
            None => Ok(()),
        }
    }

    /// Adds the text of the file list, its signature, the platforms or the catalog; the latter two are listed like any
    /// other file.
    pub(super) fn take_text(&mut self, path: &str, text: io::Result<String>) -> Result<(), String> {
        let text = text.map_err(|error| told(path, &error))?;
        if matches!(path, TARGETS | CATALOG) {
            self.take(path, Ok(Sha256::of(&text)))?;
        }
        let place = match path {
            SUMS => &mut self.sums,
            TARGETS => &mut self.targets,
            CATALOG => &mut self.catalog,
            _ => &mut self.signature,
        };
        match place.replace(text) {
            Some(_) => Err(format!("the bundle contains `{path}` twice")),
            None => Ok(()),
        }
    }
}

fn told(path: &str, error: &io::Error) -> String {
    format!("`{path}` cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_survives_being_written_and_read() {
        let mut sums = Sums::default();
        sums.insert("a/b c".to_owned(), Sha256::of("x"));
        sums.insert("d".to_owned(), Sha256::of("y"));
        assert_eq!(Sums::parse(&sums.to_text()).unwrap(), sums);
    }

    #[test]
    fn paths_that_lead_outside_are_refused_in_every_spelling() {
        for path in ["../x", "a/../x", "/x", "a//x", "./x", "a\\..\\x", "C:x", "", "a/"] {
            assert!(check_path(path).is_err(), "{path}");
            let line = format!("{}  {path}\n", Sha256::of("x"));
            assert!(Sums::parse(&line).is_err(), "{path}");
        }
        assert!(check_path("a/..b/c.d").is_ok());
    }
}
