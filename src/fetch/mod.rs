//! Gets a verified file: mirrors, proxies, resume, retry, parallel ranges, hash while streaming, atomic placement.
//!
//! [`Fetcher::fetch`] asks its sources in order. It writes the bytes to a partial download, keyed by the expected hash,
//! hashes them on arrival, and moves the file to its place only if the hash matches. An interrupted fetch, by a dropped
//! future or a killed process, continues where it stopped.
//!
//! ```
//! use gem_setup::environment::Environment;
//! use gem_setup::fetch::{Fetcher, Request};
//! use gem_setup::net::Network;
//! use gem_setup::progress::Silent;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let mirror = folder.path().join("google/tool/releases/download/v1");
//! std::fs::create_dir_all(&mirror)?;
//! std::fs::write(mirror.join("tool"), "hello")?;
//!
//! let base = url::Url::from_directory_path(folder.path()).map_err(|()| "not a path")?;
//! let network = Network::from_environment(&Environment::default(), None)?;
//! let fetcher = Fetcher::new(network, folder.path().join("downloads"), vec![base], true)?;
//! let request = Request {
//!     id: "runtime".to_owned(),
//!     label: "tool".to_owned(),
//!     url: "https://github.com/google/tool/releases/download/v1/tool".parse()?,
//!     sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".parse()?,
//!     size: 0,
//!     place: folder.path().join("tool"),
//! };
//! let fetched = fetcher.fetch(&request, &Silent).await?;
//! assert_eq!(std::fs::read_to_string(fetched.path)?, "hello");
//! # Ok(())
//! # }
//! ```

mod error;
mod lanes;
mod partial;
mod place;
mod probe;
mod ranges;
mod reply;
mod retry;
mod store;
mod transfer;
pub mod unpack;

#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use url::Url;

pub use error::{Error, Tried};
pub use probe::{ProbeReport, Route};

use self::partial::{Identity, Partial};
use self::ranges::RangeSet;
use self::retry::{Budget, Fault};
use self::store::{Closed, Store};
use self::transfer::{Plan, Source, Transfer};
use crate::net::{Client, Network, SafeUrl, is_acceptable};
use crate::progress::Progress;
use crate::sha256::Sha256;

/// The host that mirrors replace (docs/contract.md section 3).
const MIRRORED_HOST: &str = "github.com";
/// How much of a local file is read at once.
const READ: usize = 256 * 1024;

/// One file to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id that progress is reported under.
    pub id: String,
    /// The file's name, as shown to people.
    pub label: String,
    /// Where it is published.
    pub url: Url,
    /// What it must hash to.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    pub size: u64,
    /// Where it belongs.
    pub place: PathBuf,
}

/// A file that was fetched, verified and put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The source that completed it.
    pub source: SafeUrl,
    /// Bytes that were there from an earlier try.
    pub resumed: u64,
    /// Bytes that were received in this try.
    pub transferred: u64,
}

/// Fetches files over one network, from the mirrors first.
#[derive(Debug)]
pub struct Fetcher {
    network: Network,
    downloads: PathBuf,
    mirrors: Vec<Url>,
    mirror_only: bool,
    client: Client,
}

impl Fetcher {
    /// A fetcher that keeps partial downloads in `downloads` and asks `mirrors` in their order, then the origin unless
    /// `mirror_only`.
    ///
    /// # Errors
    /// When a mirror's URL is neither https, nor file, nor http on this machine, or only mirrors may be asked and none is
    /// given.
    pub fn new(network: Network, downloads: PathBuf, mirrors: Vec<Url>, mirror_only: bool) -> Result<Self, Error> {
        if let Some(url) = mirrors.iter().find(|url| !is_acceptable(url)) {
            return Err(Error::UnacceptableUrl { url: url.into() });
        }
        if mirror_only && mirrors.is_empty() {
            return Err(Error::NoMirror);
        }
        Ok(Self {
            client: Client::new(&network),
            network,
            downloads,
            mirrors,
            mirror_only,
        })
    }

    /// How the outside world is reached.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The sources of `url`, in this order: each mirror, which replaces `https://github.com`, then the
    /// origin. A URL that is not under `https://github.com` has itself as its only source.
    #[must_use]
    pub fn sources(&self, url: &Url) -> Vec<Url> {
        if url.scheme() != "https" || url.host_str() != Some(MIRRORED_HOST) {
            return vec![url.clone()];
        }
        let mirrored = self.mirrors.iter().map(|base| {
            let mut source = base.clone();
            source.set_path(&format!("{}{}", base.path().trim_end_matches('/'), url.path()));
            source
        });
        let origin = (!self.mirror_only).then(|| url.clone());
        mirrored.chain(origin).collect()
    }

    /// Brings the file that `request` describes to its place.
    ///
    /// The future may be dropped at any point; the next fetch of the same file continues where it stopped.
    ///
    /// # Errors
    /// When no source serves the file, it is not the one that the catalog describes, or it cannot be written. What was at
    /// the place before is still there then.
    pub async fn fetch(&self, request: &Request, progress: &dyn Progress) -> Result<Fetched, Error> {
        let sources = self.sources(&request.url);
        if let Some(url) = sources.iter().find(|url| !is_acceptable(url)) {
            return Err(Error::UnacceptableUrl { url: url.into() });
        }
        place::prepare(&request.place)?;
        let partial = Partial::open(&self.downloads, &request.sha256).await?;
        let total = Some(request.size).filter(|size| *size > 0);
        progress.begin(&request.id, &request.label, total);
        let result = self.fetch_into(&partial, &sources, request, progress).await;
        progress.finish(&request.id);
        result
    }

    /// Fetches, verifies and places. Bytes of an earlier try that turn out to be bad are fetched once more.
    async fn fetch_into(
        &self,
        partial: &Partial,
        sources: &[Url],
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Fetched, Error> {
        let mut transferred = 0;
        loop {
            let (identity, present) = resumable(partial, request);
            let resumed = present.len();
            let plan = Mutex::new(Plan {
                identity: identity.clone(),
                is_resumed: present.len() > 0,
                received: present.clone(),
                ..Plan::default()
            });
            let store = Store::open(partial, identity, present)?;
            let source = match self.gather(&store, &plan, sources, request, progress).await {
                Ok(source) => source,
                Err(error) => {
                    // A failed write is the cause of any other failure.
                    store.close().await?;
                    // What an earlier run left is not to blame for what a source offers now.
                    let is_untouched = plan.lock().unwrap_or_else(PoisonError::into_inner).is_resumed;
                    if error.is_about_content() && !is_untouched {
                        partial.discard()?;
                    }
                    return Err(error);
                }
            };
            let found = store.seal().await?;
            let plan = plan.into_inner().unwrap_or_else(PoisonError::into_inner);
            let size = plan.received.len();
            transferred += plan.transferred;
            let resumed = resumed.min(size.saturating_sub(plan.transferred));
            progress.advance(&request.id, size, Some(size));
            if found == request.sha256 {
                place::put(partial.data(), &request.place)?;
                partial.discard()?;
                return Ok(Fetched {
                    path: request.place.clone(),
                    size,
                    source,
                    resumed,
                    transferred,
                });
            }
            partial.discard()?;
            if resumed == 0 {
                return Err(Error::Hash {
                    url: source,
                    expected: request.sha256,
                    found,
                });
            }
            progress.note(&request.id, "the bytes of an earlier try were bad, starting over");
        }
    }

    /// Asks source after source, each as often as the budget allows, until all bytes are with `store`.
    async fn gather(
        &self,
        store: &Store,
        plan: &Mutex<Plan>,
        sources: &[Url],
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<SafeUrl, Error> {
        let mut budget = Budget::new(self.network.patience());
        let mut tried = Vec::new();
        for (index, url) in sources.iter().enumerate() {
            let shown = SafeUrl::from(url);
            budget.next_source();
            loop {
                let fault = match self.ask(store, plan, url, request, progress).await {
                    Ok(()) => return Ok(shown),
                    Err(Fault::Fatal(error)) => return Err(error),
                    Err(fault) => fault,
                };
                budget.reached(plan.lock().unwrap_or_else(PoisonError::into_inner).received.len());
                let Some(wait) = budget.spend(&fault, index + 1 == sources.len()) else {
                    tracing::debug!(source = %shown, %fault, "giving the source up");
                    if index + 1 < sources.len() {
                        progress.note(&request.id, &format!("`{shown}`: {fault}; trying the next source"));
                    }
                    tried.push(fault.into_tried(shown, self.network.proxy(url)));
                    break;
                };
                let pause = wait.as_secs_f32();
                progress.wait(
                    &request.id,
                    &format!("{fault}; trying again in {pause:.1} s: `{shown}`"),
                );
                tokio::time::sleep(wait).await;
            }
        }
        Err(Error::Unobtainable {
            label: request.label.clone(),
            tried,
        })
    }

    async fn ask(
        &self,
        store: &Store,
        plan: &Mutex<Plan>,
        url: &Url,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        if url.scheme() == "file" {
            return copy_in(store, plan, url, request).await;
        }
        let is_origin = url == &request.url;
        let has_login = !url.username().is_empty() || url.password().is_some();
        let source = Source {
            url,
            // Logins are for mirrors: the origin is public, and a stale login would only get us refused.
            login: self.network.login(url).filter(|_| !is_origin && !has_login),
        };
        let transfer = Transfer {
            client: &self.client,
            patience: self.network.patience(),
            request,
            store,
            plan,
            progress,
        };
        lanes::run(&transfer, &source).await
    }
}

/// The part of a partial download that may be continued: nothing without a validator or with a wrong length, unless it is
/// complete and only its hash must be checked.
fn resumable(partial: &Partial, request: &Request) -> (Identity, RangeSet) {
    let (identity, present) = partial.contents();
    let has_length = |length: u64| identity.length == Some(length);
    let is_whole = has_length(present.run_end(0));
    let is_expected = request.size == 0 || has_length(request.size);
    if is_expected && (identity.validator.is_some() || is_whole) {
        (identity, present)
    } else {
        Default::default()
    }
}

/// Reads a file on this machine as if it came over the network.
async fn copy_in(store: &Store, plan: &Mutex<Plan>, url: &Url, request: &Request) -> Result<(), Fault> {
    let path = url
        .to_file_path()
        .map_err(|()| Fault::Unusable("it is no path on this system".to_owned()))?;
    let unreadable = |e: std::io::Error| Fault::Unusable(e.to_string());
    let mut file = std::fs::File::open(&path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Fault::Unusable("it is no file".to_owned()));
    }
    let length = metadata.len();
    if request.size > 0 && request.size != length {
        return Err(Fault::Fatal(Error::Size {
            url: url.into(),
            expected: request.size,
            found: length,
        }));
    }
    let identity = Identity {
        validator: None,
        length: Some(length),
    };
    // The bytes of other sources are discarded even if the copy fails.
    plan.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .start_over(Identity::default());
    store.restart(identity.clone()).await?;
    let mut write = store.blocking_writer();
    let copied = tokio::task::spawn_blocking(move || {
        let mut position = 0;
        loop {
            let mut buffer = BytesMut::zeroed(READ);
            let read = file.read(&mut buffer).map_err(unreadable)?;
            if read == 0 {
                return Ok::<u64, Fault>(position);
            }
            buffer.truncate(read);
            write(position, buffer.freeze())?;
            position += read as u64;
        }
    })
    .await
    .unwrap_or_else(|_| Err(Closed.into()))?;
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    plan.identity = Identity {
        length: Some(copied),
        ..identity
    };
    plan.received = std::iter::once(0..copied).collect();
    Ok(())
}
