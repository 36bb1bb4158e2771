//! The model's file from the hub, or from a mirror of it: downloaded by gem-setup itself, verified, for the runtime to import.

use std::path::{Path, PathBuf};

use crate::catalog::{HuggingFace, Model};
use crate::error::Failure;
use crate::fetch::{Fetcher, Request, Stated, address_of};
use crate::progress::Progress;
use crate::runtime::LocalModelName;
use crate::sha256::Sha256;

/// Where the file of the model `name` waits in `downloads` for its import.
pub(super) fn waiting(downloads: &Path, name: &LocalModelName) -> PathBuf {
    downloads.join(format!("{name}.litertlm"))
}

/// Brings the file `source` of `model` to `place`, unless it exists, and gives its hash: the catalog's, else the one that the
/// hub states. Progress is reported under `id`.
///
/// # Errors
/// When the hash is not known, or no source has the file.
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
