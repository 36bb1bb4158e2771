//! The model file from the hub, a mirror or the user: gem-setup downloads or copies it, and the runtime imports it.

use std::path::{Path, PathBuf};

use crate::catalog::{HuggingFace, Model};
use crate::error::Failure;
use crate::fetch::{Fetcher, Request, Stated, address_of};
use crate::place;
use crate::progress::Progress;
use crate::runtime::LocalModelName;
use crate::sha256::Sha256;

/// The path in `downloads` at which the file of the model `name` waits for its import.
pub(super) fn waiting(downloads: &Path, name: &LocalModelName) -> PathBuf {
    downloads.join(format!("{name}.litertlm"))
}

/// Downloads the file `source` of `model` to `place`, unless it exists, and returns its hash. The hash comes from the
/// catalog or, if it has none, from the hub. Progress is reported under `id`.
///
/// # Errors
/// When the hash is unknown, or no source has the file.
pub(super) async fn download(
    fetcher: &Fetcher,
    model: &Model,
    source: &HuggingFace,
    place: PathBuf,
    id: &str,
    progress: &dyn Progress,
) -> Result<Sha256, Failure> {
    let url = address_of(source)?;
    let Stated { sha256, size } = match source.sha256 {
        Some(sha256) => Stated { sha256, size: 0 },
        None => fetcher.stated(&url, id, progress).await?,
    };
    if Sha256::of_file(&place).ok() != Some(sha256) {
        let request = Request {
            id: id.to_owned(),
            label: model.name.clone(),
            url,
            sha256,
            size,
            place,
        };
        fetcher.fetch(&request, progress).await?;
    }
    Ok(sha256)
}

/// Copies the file `from` of the user to `to`, and returns the hash of the copy.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Sha256, Failure> {
    let write = || {
        std::fs::create_dir_all(place::parent(to))?;
        // A file left behind may be a second name of an installed model, which must not be written to.
        place::copy_afresh(from, to)?;
        Sha256::of_file(to)
    };
    let action = format!("copy the model file `{}` to", from.display());
    write().map_err(|error| Failure::cannot_at(&action, to, &error))
}
