//! Tests the fetcher with real sockets and files.

mod disk;
mod faults;
mod lanes;
mod network;
mod resume;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use gem_setup_support::fault::FaultServer;
use url::Url;

use super::{Error, Fetched, Fetcher, Request};
use crate::error::Failure;
use crate::net::{Network, Patience};
use crate::progress::Progress;
use crate::sha256::Sha256;

/// Bytes without a pattern, different at every position.
fn content(length: usize) -> Bytes {
    let block: Vec<u8> = (0..4096_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut bytes = Vec::with_capacity(length + block.len());
    while bytes.len() < length {
        bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(length);
    bytes.into()
}

/// The silence that counts as a stall, in tests about stalls.
const STALL: Duration = Duration::from_secs(2);

/// Limits for tests. A pause of the machine must not count as a stall, so silence is not a failure.
fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        first_wait: Duration::from_millis(5),
        longest_wait: Duration::from_millis(20),
        longest_retry_after: Duration::from_secs(5),
        retries: 3,
        retries_before_next_source: 2,
    }
}

/// Records the messages.
#[derive(Debug, Default)]
struct Heard {
    notes: Mutex<Vec<String>>,
    most: Mutex<u64>,
}

impl Heard {
    fn notes(&self) -> String {
        self.notes.lock().unwrap().join("\n")
    }
}

impl Progress for Heard {
    fn begin(&self, _id: &str, _label: &str, _total: Option<u64>) {}

    fn advance(&self, _id: &str, done: u64, _total: Option<u64>) {
        *self.most.lock().unwrap() = done;
    }

    fn finish(&self, _id: &str) {}

    fn note(&self, _id: &str, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

/// A file, a server that has it, and a directory for it.
struct Scene {
    directory: tempfile::TempDir,
    content: Bytes,
    digest: Sha256,
    server: FaultServer,
    heard: Heard,
}

impl Scene {
    fn new(length: usize) -> Self {
        let content = content(length);
        Self::with_server(content.clone(), FaultServer::start(content))
    }

    fn with_server(content: Bytes, server: FaultServer) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            digest: Sha256::of(&content),
            content,
            server,
            heard: Heard::default(),
        }
    }

    fn url(&self) -> Url {
        format!("{}/owner/repo/file.bin", self.server.url()).parse().unwrap()
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("bin").join("file.bin")
    }

    fn downloads(&self) -> PathBuf {
        self.directory.path().join("downloads")
    }

    fn request(&self) -> Request {
        Request {
            id: "runtime".into(),
            label: "file.bin".into(),
            url: self.url(),
            sha256: self.digest,
            size: 0,
            place: self.place(),
        }
    }

    fn fetcher(&self) -> Fetcher {
        self.fetcher_over(Network::default())
    }

    fn fetcher_over(&self, network: Network) -> Fetcher {
        self.fetcher_with(network, patience())
    }

    fn fetcher_with(&self, network: Network, patience: Patience) -> Fetcher {
        Fetcher::new(network.with_patience(patience), self.downloads(), Vec::new(), false).unwrap()
    }

    /// Fetches, with [`STALL`] of silence as a failure.
    async fn fetch_impatiently(&self) -> Result<Fetched, Error> {
        let patience = Patience {
            idle: STALL,
            ..patience()
        };
        let fetcher = self.fetcher_with(Network::default(), patience);
        fetcher.fetch(&self.request(), &self.heard).await
    }

    async fn fetch(&self) -> Result<Fetched, Error> {
        self.fetcher().fetch(&self.request(), &self.heard).await
    }

    /// Fetches until the server has sent this many bytes, then drops the fetch.
    async fn interrupt_once_served(&self, bytes: u64) {
        let (fetcher, request) = (self.fetcher(), self.request());
        tokio::select! {
            result = fetcher.fetch(&request, &self.heard) => drop(result.unwrap()),
            () = async {
                while self.server.served() < bytes {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            } => {}
        }
    }

    async fn failure(&self) -> Failure {
        self.fetch().await.unwrap_err().into()
    }

    /// Fails unless the complete file is in its place, and no other files remain.
    fn assert_complete(&self) {
        assert!(
            std::fs::read(self.place()).unwrap() == self.content,
            "the content differs"
        );
        assert_eq!(self.partials(), 0, "a partial download is left");
        self.assert_alone();
    }

    /// Fails if a file is in the place or next to it.
    fn assert_absent(&self) {
        assert!(!self.place().exists());
        self.assert_alone();
    }

    fn assert_alone(&self) {
        let beside = std::fs::read_dir(self.directory.path().join("bin")).map(Iterator::count);
        assert!(beside.unwrap_or_default() <= 1, "something is left beside the file");
    }

    /// The number of files of partial downloads, including locks. On Windows a removed file keeps its name until its last handle is closed.
    fn partials(&self) -> usize {
        let count = || std::fs::read_dir(self.downloads()).map_or(0, Iterator::count);
        let looks = if cfg!(windows) { 40 } else { 0 };
        for _ in 0..looks {
            if count() == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        count()
    }
}
