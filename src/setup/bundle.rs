//! A bundle: a mirror on disk with everything that a machine without internet needs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gem_platform::Target;
use serde::Serialize;
use url::Url;

use super::bundled_model::{MODELS, SUMS};
use crate::catalog::Catalog;
use crate::error::{Failure, Kind};
use crate::fetch::{Fetcher, Request};
use crate::layout::Layout;
use crate::place;
use crate::progress::Progress;
use crate::runtime::LocalModelName;
use crate::runtime::terms::Terms;
use crate::sha256::Sha256;

/// The contents of a bundle to create.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// The directory to make.
    pub dir: PathBuf,
    /// For which platforms.
    pub targets: Vec<Target>,
    /// The pulled model whose files are taken along.
    pub model: Option<LocalModelName>,
    /// What can be installed.
    pub catalog: Catalog,
}

/// A bundle on disk.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// The value for `--mirror`.
    pub mirror: Url,
    /// The value for `--catalog`.
    pub catalog: PathBuf,
    /// Every file, relative to the bundle.
    pub files: Vec<BundledFile>,
}

/// One file of a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct BundledFile {
    /// Where, relative to the bundle.
    pub path: PathBuf,
    /// What it hashes to.
    pub sha256: Sha256,
}

/// Creates the bundle. Files that are already there and right are not fetched again.
///
/// # Errors
/// When no target has a build, a file cannot be fetched, or the model or its terms' record is not there.
pub async fn create_bundle(
    layout: &Layout,
    request: &BundleRequest,
    fetcher: &Fetcher,
    progress: &dyn Progress,
) -> Result<Bundle, Failure> {
    let mut files = Vec::new();
    for (url, sha256, size) in artifacts(request)? {
        let inside = url.path().trim_start_matches('/').to_owned();
        let place = request.dir.join(&inside);
        if Sha256::of_file(&place).ok() != Some(sha256) {
            let fetch = Request {
                id: "bundle".to_owned(),
                label: inside.rsplit('/').next().unwrap_or(&inside).to_owned(),
                url,
                sha256,
                size,
                place,
            };
            fetcher.fetch(&fetch, progress).await?;
        }
        files.push(BundledFile {
            path: inside.into(),
            sha256,
        });
    }
    if let Some(model) = &request.model {
        files.extend(take_model(layout, request, model)?);
    }
    let catalog = request.dir.join("catalog.toml");
    write(&catalog, request.catalog.to_toml()?.as_bytes())?;
    let sums = files.iter().fold(String::new(), |mut text, file| {
        let path = file.path.to_string_lossy().replace('\\', "/");
        let _ = writeln!(text, "{}  {path}", file.sha256);
        text
    });
    write(&request.dir.join(SUMS), sums.as_bytes())?;
    let mirror = Url::from_directory_path(&request.dir)
        .map_err(|()| Failure::new(Kind::Usage, format!("`{}` is no absolute path", request.dir.display())))?;
    Ok(Bundle { mirror, catalog, files })
}

/// What must be fetched for the targets, each file once.
fn artifacts(request: &BundleRequest) -> Result<Vec<(Url, Sha256, u64)>, Failure> {
    let mut found: Vec<(Url, Sha256, u64)> = Vec::new();
    let lit = request.catalog.runtime("lit");
    for &target in &request.targets {
        let Some(artifact) = lit.and_then(|entry| entry.artifact(target)) else {
            let message = format!("cannot bundle `lit` for {target}: no build is published");
            let hint = "leave the target out; `--runtime builtin` needs no bundle there";
            return Err(Failure::new(Kind::Unsupported, message).with_hint(hint));
        };
        found.push((artifact.url.clone(), artifact.sha256, artifact.size));
        let companions = request.catalog.companions(target);
        found.extend(companions.map(|companion| (companion.url.clone(), companion.sha256, companion.size)));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup();
    Ok(found)
}

/// Copies the pulled model's files and the record of its terms.
fn take_model(layout: &Layout, request: &BundleRequest, name: &LocalModelName) -> Result<Vec<BundledFile>, Failure> {
    let model = request.catalog.model(name.as_str());
    let terms = Terms::read(&layout.terms_file())?;
    if let Some(model) = model.filter(|model| !model.terms.is_empty())
        && !terms.cover(model)
    {
        let message = format!("cannot bundle the model `{name}`: its terms are not on record as accepted");
        return Err(
            Failure::new(Kind::TermsNotAccepted, message).with_hint("run `gem-setup pull` with `--accept-terms` first")
        );
    }
    let source = layout.models().join(name);
    let mut files = Vec::new();
    copy_tree(&source, &request.dir, &Path::new(MODELS).join(name), &mut files)?;
    if files.is_empty() {
        let message = format!(
            "cannot bundle the model `{name}`: there is nothing in `{}`",
            source.display()
        );
        return Err(Failure::new(Kind::Runtime, message).with_hint("pull it first with `gem-setup pull`"));
    }
    if let Ok(record) = place::read(&layout.terms_file()) {
        let place = request.dir.join("terms.json");
        write(&place, &record)?;
        files.push(BundledFile {
            sha256: Sha256::of_file(&place).map_err(|error| unreadable(&place, &error))?,
            path: "terms.json".into(),
        });
    }
    Ok(files)
}

fn copy_tree(from: &Path, root: &Path, inside: &Path, files: &mut Vec<BundledFile>) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(from, &error))?;
        let inside = inside.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), root, &inside, files)?;
            continue;
        }
        let place = root.join(&inside);
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        }
        std::fs::copy(entry.path(), &place).map_err(|error| unwritable(&place, &error))?;
        let sha256 = Sha256::of_file(&place).map_err(|error| unreadable(&place, &error))?;
        files.push(BundledFile { path: inside, sha256 });
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    place::write_atomic(path, bytes).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Unexpected, format!("cannot write `{}`: {error}", path.display()))
        .with_hint("check that the directory is yours and the disk has room")
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Unexpected, format!("cannot read `{}`: {error}", path.display()))
}
