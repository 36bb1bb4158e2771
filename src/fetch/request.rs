//! A download, as the caller describes it.

use std::path::PathBuf;

use url::Url;

use crate::sha256::Sha256;

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// Progress is reported under this id.
    pub id: String,
    /// The file's name, as shown to people.
    pub label: String,
    /// Where it is published.
    pub url: Url,
    /// The SHA-256 that it must have.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    pub size: u64,
    /// The path to put it at.
    pub place: PathBuf,
}
