//! An artifact mirror: files by path, with a log of the requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::{Request, Response, StatusCode};
use ring::digest::{SHA256, digest};

use crate::server::{Server, full};

/// A mirror of `https://github.com` on loopback.
#[derive(Debug)]
pub struct Mirror {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Bytes>>,
    asked: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// An empty mirror.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        let server = Server::start(move |request: Request<Bytes>| {
            let path = request.uri().path().to_owned();
            let file = lock(&served.files).get(&path).cloned();
            lock(&served.asked).push(path);
            async move {
                let found = file.is_some();
                let mut response = Response::new(full(file.unwrap_or_default()));
                if !found {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                response
            }
        });
        Self { server, shared }
    }

    /// The base for `--mirror`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Serves `bytes` at `path` (with a leading slash).
    pub fn publish(&self, path: &str, bytes: impl Into<Bytes>) {
        lock(&self.shared.files).insert(path.to_owned(), bytes.into());
    }

    /// The paths of all requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.asked).clone()
    }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A zip archive of these files.
///
/// # Errors
/// None, unless memory is exhausted.
pub fn zip_of(files: &[(&str, &[u8])]) -> zip::result::ZipResult<Vec<u8>> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default())?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}
