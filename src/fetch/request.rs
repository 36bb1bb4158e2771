//! A download, as the caller describes it.

use std::path::PathBuf;

use url::Url;

use crate::sha256::Sha256;

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id that progress is reported under.
    pub id: String,
    /// The file's name, as shown to people.
    pub label: String,
    /// Where it is published.
    pub url: Url,
    /// The SHA-256 that it must have.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    pub size: u64,
    /// Where it belongs.
    pub place: PathBuf,
}
