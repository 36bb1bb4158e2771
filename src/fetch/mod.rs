//! Downloads verified files: mirrors, proxies, resume, retry, parallel ranges, hash while streaming, atomic placement.
//!
//! [`Fetcher::fetch`] asks its sources in order. It writes the bytes to a partial download, keyed by the expected hash, hashes them on
//! arrival, and moves the file to its place only if the hash matches. A fetch that was interrupted (the future was dropped, or the process
//! killed) continues where it stopped.
//!
//! ```
//! use gem_setup::environment::Environment;
//! use gem_setup::fetch::{Fetcher, Request};
//! use gem_setup::net::Network;
//! use gem_setup::progress::Silent;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let mirror = directory.path().join("google/tool/releases/download/v1");
//! std::fs::create_dir_all(&mirror)?;
//! std::fs::write(mirror.join("tool"), "hello")?;
//!
//! let base = url::Url::from_directory_path(directory.path()).map_err(|()| "not a path")?;
//! let network = Network::from_environment(&Environment::default(), None)?;
//! let fetcher = Fetcher::new(network, directory.path().join("downloads"), vec![base], true)?;
//! let request = Request {
//!     id: "runtime".to_owned(),
//!     label: "tool".to_owned(),
//!     url: "https://github.com/google/tool/releases/download/v1/tool".parse()?,
//!     sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".parse()?,
//!     size: 0,
//!     place: directory.path().join("tool"),
//! };
//! let fetched = fetcher.fetch(&request, &Silent).await?;
//! assert_eq!(std::fs::read_to_string(fetched.path)?, "hello");
//! # Ok(())
//! # }
//! ```

mod error;
mod file;
mod hub;
mod lanes;
mod limits;
mod partial;
mod place;
mod probe;
mod ranges;
mod reply;
mod request;
mod retry;
mod store;
mod transfer;
pub mod unpack;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use url::Url;

pub use error::{Error, Tried};
pub use hub::{Hub, Stated, address_of};
pub(crate) use partial::{in_hand, is_in_hand, sweep};
pub use probe::Route;
pub use request::Request;

use self::partial::Partial;
use self::retry::{Budget, Fault};
use self::transfer::{Plan, Source, Transfer};
use crate::net::{Client, Login, Network, SafeUrl, is_acceptable};
use crate::progress::Progress;
use crate::sha256::Sha256;

/// The hosts that mirrors replace (docs/contract.md section 3).
const MIRRORED_HOSTS: [&str; 2] = ["github.com", HUB_HOST];
/// The hub of models, unless `HF_ENDPOINT` names another.
const HUB_HOST: &str = "huggingface.co";

/// A file that was fetched, verified and put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The source that completed it.
    pub source: SafeUrl,
    /// Bytes that an earlier attempt had received.
    pub resumed: u64,
    /// Bytes that were received in this attempt.
    pub transferred: u64,
}

/// Fetches files over one network, from the mirrors first.
#[derive(Debug)]
pub struct Fetcher {
    network: Network,
    downloads: PathBuf,
    mirrors: Vec<Url>,
    mirror_only: bool,
    hub: Hub,
    client: Client,
}

/// A source that is asked for a file.
struct Asked<'a> {
    url: &'a Url,
    id: &'a str,
    is_last: bool,
    progress: &'a dyn Progress,
}

impl Asked<'_> {
    /// Repeats `attempt` as often as the budget allows. It also returns the number of bytes that are in place.
    async fn persist<T>(
        &self,
        budget: &mut Budget<'_>,
        attempt: impl AsyncFn() -> (Result<T, Fault>, u64),
    ) -> Result<T, Fault> {
        loop {
            let (outcome, bytes) = attempt().await;
            let fault = match outcome {
                Err(fault) if !matches!(fault, Fault::Fatal(_)) => fault,
                outcome => return outcome,
            };
            budget.reached(bytes);
            let Some(wait) = budget.spend(&fault, self.is_last) else {
                tracing::debug!(source = %SafeUrl::from(self.url), %fault, "no more attempts with this source");
                return Err(fault);
            };
            // The reason comes last: a narrow terminal cuts off the end.
            let ((number, all), host) = (budget.retries(self.is_last), host_of(self.url));
            let what = format!("retry {number} of {all} at {host} follows: {fault}");
            self.progress.wait(self.id, &what);
            tokio::time::sleep(wait).await;
        }
    }
}

impl Fetcher {
    /// A fetcher that keeps partial downloads in `downloads` and asks `mirrors` in their order, then the origin unless
    /// `mirror_only`.
    ///
    /// # Errors
    /// When a mirror's URL is neither https, nor file, nor http on this machine, or only mirrors may be used and none is given.
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
            hub: Hub::default(),
        })
    }

    /// The same with `hub` in place of the public hub.
    #[must_use]
    pub fn with_hub(self, hub: Hub) -> Self {
        Self { hub, ..self }
    }

    /// The network that the fetcher uses.
    #[must_use]
    pub const fn network(&self) -> &Network {
        &self.network
    }

    /// The sources of `url` in order: each mirror, which replaces `https://github.com` and `https://huggingface.co`, then the origin. A URL
    /// of another host is its own only source, unless only mirrors on disk may be used: they replace every host.
    #[must_use]
    pub fn sources(&self, url: &Url) -> Vec<Url> {
        let is_mirrored = url.host_str().is_some_and(|host| MIRRORED_HOSTS.contains(&host));
        // A bundle contains every file that its catalog names.
        let is_offline = self.mirror_only && self.mirrors.iter().all(|mirror| mirror.scheme() == "file");
        let is_replaced = match url.scheme() {
            "https" => is_mirrored || is_offline,
            "http" => is_offline,
            _ => false,
        };
        if !is_replaced {
            return vec![url.clone()];
        }
        let mirrored = self.mirrors.iter().map(|base| {
            let mut source = base.clone();
            source.set_path(&format!("{}{}", base.path().trim_end_matches('/'), url.path()));
            source
        });
        let origin = (!self.mirror_only).then(|| self.hub.locate(url).unwrap_or_else(|| url.clone()));
        mirrored.chain(origin).collect()
    }

    /// Downloads the file that `request` describes to its place.
    ///
    /// The future may be dropped at any point; the next fetch of the same file continues where it stopped.
    ///
    /// # Errors
    /// When no source delivers the file, it does not match the catalog, or it cannot be written. An old file at the place then stays.
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

    /// Fetches, verifies and places. If bytes of an earlier attempt are bad, fetches the whole file once more; if a source's bytes are bad,
    /// from the sources after it.
    async fn fetch_into(
        &self,
        partial: &Partial,
        mut sources: &[Url],
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Fetched, Error> {
        let (mut transferred, mut first_wrong) = (0, None);
        loop {
            let received = match self.receive(partial, sources, request, progress).await {
                Ok(received) => received,
                Err(error) => return Err(first_wrong.unwrap_or(error)),
            };
            transferred += received.transferred;
            let source = SafeUrl::from(&sources[received.giver.index]);
            if received.found == request.sha256 {
                place::put(partial.data(), &request.place)?;
                partial.discard()?;
                return Ok(Fetched {
                    path: request.place.clone(),
                    size: received.size,
                    source,
                    resumed: received.resumed,
                    transferred,
                });
            }
            partial.discard()?;
            if received.resumed > 0 {
                progress.note(&request.id, "the bytes of an earlier attempt were bad, starting over");
                continue;
            }
            let mismatch = Error::Hash {
                url: source,
                expected: request.sha256,
                found: received.found,
            };
            // Bytes of an earlier source may be the bad ones.
            sources = &sources[received.giver.index + usize::from(received.giver.is_sole)..];
            if sources.is_empty() {
                return Err(first_wrong.unwrap_or(mismatch));
            }
            progress.note(&request.id, &format!("{mismatch}; starting over from the next source"));
            first_wrong.get_or_insert(mismatch);
        }
    }

    /// Receives all bytes from `sources` that `partial` lacks.
    async fn receive(
        &self,
        partial: &Partial,
        sources: &[Url],
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<Received, Error> {
        let transfer = Transfer::begin(&self.client, self.network.patience(), partial, request, progress)?;
        let resumed = transfer.plan().received.len();
        let giver = match self.gather(&transfer, sources).await {
            Ok(giver) => giver,
            Err(error) => return Err(transfer.abandon(partial, error).await),
        };
        let (found, plan) = transfer.seal().await?;
        let size = plan.received.len();
        progress.advance(&request.id, size, Some(size));
        Ok(Received {
            found,
            giver,
            size,
            resumed: resumed.min(size.saturating_sub(plan.transferred)),
            transferred: plan.transferred,
        })
    }

    /// Asks the sources in turn, each as often as the budget allows, until all bytes have arrived.
    async fn gather(&self, transfer: &Transfer<'_>, sources: &[Url]) -> Result<Giver, Error> {
        let Transfer { request, progress, .. } = transfer;
        let mut budget = Budget::new(self.network.patience());
        let (mut tried, mut wrong_size) = (Vec::new(), None);
        for (index, url) in sources.iter().enumerate() {
            let shown = SafeUrl::from(url);
            budget.next_source();
            let before = transfer.plan().transferred;
            let is_last = index + 1 == sources.len();
            let attempt = async || {
                let outcome = self.ask(transfer, url).await;
                (outcome, transfer.plan().received.len())
            };
            let asked = Asked {
                url,
                id: &request.id,
                is_last,
                progress: *progress,
            };
            match asked.persist(&mut budget, attempt).await {
                Ok(()) => return Ok(Giver::new(index, url, &transfer.plan(), before)),
                Err(Fault::Fatal(error @ Error::Size { .. })) => {
                    if !is_last {
                        progress.note(&request.id, &format!("{error}; trying the next source"));
                    }
                    wrong_size.get_or_insert(error);
                }
                Err(Fault::Fatal(error)) => return Err(error),
                Err(fault) => {
                    if !is_last {
                        progress.note(&request.id, &format!("`{shown}`: {fault}; trying the next source"));
                    }
                    tried.push(self.last_word(fault, url));
                }
            }
        }
        Err(wrong_size.unwrap_or_else(|| Error::Unobtainable {
            label: request.label.clone(),
            tried,
            has_part: transfer.plan().received.len() > 0,
        }))
    }

    /// `fault` as the final failure of the source at `url`.
    fn last_word(&self, fault: Fault, url: &Url) -> Tried {
        let is_refused = matches!(fault.itself(), Fault::Status { code: 401 | 403, .. });
        let failed = fault.elsewhere().unwrap_or(url);
        let (is_hub, proxy) = (self.hub.is_under(failed), self.network.proxy(failed));
        let tried = fault.into_tried(url.into(), proxy);
        Tried {
            advice: if is_refused && is_hub {
                Some(hub::GATED.into())
            } else {
                tried.advice
            },
            ..tried
        }
    }

    async fn ask(&self, transfer: &Transfer<'_>, url: &Url) -> Result<(), Fault> {
        if url.scheme() == "file" {
            return file::copy(transfer, url).await;
        }
        let origin = &transfer.request.url;
        let is_hub = !self.mirror_only && self.hub.locate(origin).as_ref() == Some(url);
        let has_login = !url.username().is_empty() || url.password().is_some();
        // Logins are for mirrors: the origin is public, and might refuse an outdated login.
        let login = self.network.login(url).filter(|_| url != origin && !has_login);
        let source = Source {
            url,
            authorization: if is_hub {
                self.hub.authorization()
            } else {
                login.and_then(Login::basic)
            },
        };
        lanes::run(transfer, &source).await
    }
}

/// A file whose bytes have all arrived.
struct Received {
    /// Its hash.
    found: Sha256,
    giver: Giver,
    /// Its size in bytes.
    size: u64,
    /// The bytes of earlier attempts that it contains.
    resumed: u64,
    /// The bytes that arrived in this attempt.
    transferred: u64,
}

/// The source that delivered the end of a file.
struct Giver {
    /// Its place among the sources.
    index: usize,
    /// Whether the whole file came from it.
    is_sole: bool,
}

impl Giver {
    /// The source `url` with this `index`; `before` bytes of `plan` had been transferred when it was asked.
    fn new(index: usize, url: &Url, plan: &Plan, before: u64) -> Self {
        Self {
            index,
            is_sole: url.scheme() == "file" || plan.transferred - before >= plan.received.len(),
        }
    }
}

/// The message while `url`'s server sends nothing.
fn silence_of(url: &Url) -> String {
    format!("waiting for {}, which sends nothing", host_of(url))
}

/// The host in `url`, with the port unless it is the default.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or(url.path());
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
