//! Compares a bundle with its file list.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::contents::{CATALOG, Found, SIGNATURE, SUMS, Sums, TARGETS, UNFINISHED, UNFINISHED_LOCK, check_path};
use super::faults::{fault, unreadable};
use super::targets::{BundledTarget, Targets};
use super::{archive, signature};
use crate::error::Failure;
use crate::place;
use crate::sha256::Sha256;

/// A bundle that matches its file list.
#[derive(Clone, Debug)]
pub struct CheckedBundle {
    pub(super) sums: Sums,
    /// The bundle's platforms; empty in a bundle of gem-setup 0.2.0, which did not list them.
    pub targets: Vec<BundledTarget>,
    /// Whether the signature was verified with a key.
    pub is_verified: bool,
    /// Whether it has a signature.
    pub is_signed: bool,
}

impl CheckedBundle {
    /// The number of files in the bundle.
    #[must_use]
    pub fn files(&self) -> usize {
        self.sums.len()
    }
}

/// Checks the bundle at `path`, a directory or a tar file, against its file list. If `key` (a minisign public key, or a
/// file that contains one) is given, also checks the list's signature.
///
/// # Errors
/// When `key` cannot be used, when a file is missing, added, changed, a link, or outside the bundle, or when the signature is missing or wrong.
pub fn check_bundle(path: &Path, key: Option<&str>) -> Result<CheckedBundle, Failure> {
    let key = key.map(signature::read_public_key).transpose()?;
    fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    check_found(path, read(path), key.as_ref())
}

/// Checks the bundle in the directory `root` that is complete but for its mark.
pub(super) fn check_marked(root: &Path) -> Result<(), Failure> {
    check_found(root, walk(root, &[UNFINISHED, UNFINISHED_LOCK]), None).map(drop)
}

fn check_found(
    path: &Path,
    found: Result<Found, String>,
    key: Option<&minisign_verify::PublicKey>,
) -> Result<CheckedBundle, Failure> {
    let found = found.map_err(|reason| fault(path, &reason))?;
    let text = found.sums.ok_or_else(|| fault(path, &format!("`{SUMS}` is missing")))?;
    if let Some(key) = key {
        let signature = found.signature.as_deref();
        let signature = signature.ok_or_else(|| fault(path, &format!("it is not signed: `{SIGNATURE}` is missing")))?;
        signature::verify(key, &text, signature).map_err(|reason| fault(path, &reason))?;
    }
    let sums = Sums::parse(&text).map_err(|reason| fault(path, &format!("`{SUMS}`: {reason}")))?;
    sums.compare(&found.files).map_err(|reason| fault(path, &reason))?;
    let targets = found.targets.as_deref().map(Targets::parse).transpose();
    let targets = targets.map_err(|reason| fault(path, &format!("`{TARGETS}`: {reason}")))?;
    Ok(CheckedBundle {
        sums,
        targets: targets.unwrap_or_default(),
        is_verified: key.is_some(),
        is_signed: found.signature.is_some(),
    })
}

/// Hashes every file of the directory or tar file `path`.
pub(super) fn read(path: &Path) -> Result<Found, String> {
    if path.is_dir() {
        walk(path, &[])
    } else {
        archive::hash(path)
    }
}

/// Hashes every file below the directory `root` except the files `marks`.
fn walk(root: &Path, marks: &[&str]) -> Result<Found, String> {
    let mut found = Found::default();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let told = |error: io::Error| format!("`{}` cannot be read: {error}", root.join(&directory).display());
        for entry in fs::read_dir(root.join(&directory)).map_err(told)? {
            let entry = entry.map_err(told)?;
            let inside = directory.join(entry.file_name());
            let kind = entry.file_type().map_err(told)?;
            if kind.is_dir() {
                directories.push(inside);
                continue;
            }
            if marks.iter().any(|mark| Path::new(mark) == inside) {
                continue;
            }
            let path = inside
                .to_str()
                .ok_or_else(|| format!("the name `{}` is not UTF-8", inside.display()))?;
            let path = path.replace(std::path::MAIN_SEPARATOR, "/");
            if !kind.is_file() {
                return Err(format!("`{path}` is not a regular file"));
            }
            check_path(&path)?;
            match path.as_str() {
                SUMS | SIGNATURE | TARGETS | CATALOG => found.take_text(&path, place::read_text(&entry.path()))?,
                _ => found.take(&path, Sha256::of_file(&entry.path()))?,
            }
        }
    }
    Ok(found)
}
