//! The access rules in force: admit connections and requests.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Request;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::Access;
use super::credentials::{self, ClientName, Sender};
use super::error::AccessError;
use super::fresh::Fresh;
use super::peers::{Peers, Way};
use super::quota::{ClientCounts, Exceeded, Permit, Quotas};
use super::tls::{HANDSHAKE, Tls};
use super::tokens::{Tokens, read_private};
use crate::gateway::client::{Client, Standing};
use crate::gateway::fault::Fault;
use crate::net::{Stream, is_loopback_address};
use crate::runtime::Instance;

/// The time limit of a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
const KEY: &str = "upstream key";

/// Decides which requests are served, and over which connections.
pub(in crate::gateway) struct AccessControl {
    tls: Option<Fresh<Tls>>,
    proxies: Vec<Peers>,
    tokens: Option<Fresh<Tokens>>,
    upstream_key: Option<Fresh<String>>,
    quotas: Quotas,
    /// The number of requests without a valid token.
    refused: AtomicU64,
}

/// The part of the gateway that a request needs access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Area {
    /// For everyone: liveness, readiness, and what requires its own proof.
    Open,
    /// For clients and the owner: metrics and status.
    Admin,
    /// For clients: the local model.
    Local,
    /// For clients: the upstream.
    Hosted,
}

impl AccessControl {
    /// Reads the files that `rules` name.
    pub(in crate::gateway) fn new(rules: &Access, allow_remote: bool) -> Result<Self, AccessError> {
        rules.check_rules(allow_remote)?;
        Ok(Self {
            tls: rules
                .tls
                .clone()
                .map(|files| {
                    let both = vec![files.cert.clone(), files.key.clone()];
                    Fresh::new("certificate", both, move || files.read())
                })
                .transpose()?,
            proxies: rules.proxies.clone(),
            tokens: fresh("tokens", rules.tokens.as_ref(), Tokens::read)?,
            upstream_key: fresh(KEY, rules.upstream_key.as_ref(), read_key)?,
            quotas: Quotas::new(rules.quota),
            refused: AtomicU64::new(0),
        })
    }

    /// Reads changed files again. This may block on a slow file system.
    pub(in crate::gateway) fn refresh(&self) {
        if let Some(tls) = &self.tls {
            tls.refresh();
        }
        if let Some(tokens) = &self.tokens {
            tokens.refresh();
        }
        if let Some(key) = &self.upstream_key {
            key.refresh();
        }
    }

    /// Whether [`Self::refresh`] has anything to do.
    pub(in crate::gateway) const fn has_files(&self) -> bool {
        self.tls.is_some() || self.tokens.is_some() || self.upstream_key.is_some()
    }

    /// Returns the client's byte stream, decrypted if the client begins with TLS; `None` if the connection must end or
    /// has ended.
    pub(in crate::gateway) async fn open(&self, stream: TcpStream, client: &Client) -> Option<(Stream, Way)> {
        let from = stream.peer_addr().ok()?.ip();
        let Some(tls) = &self.tls else {
            return Some((Stream::Plain(stream), self.way(from, true)));
        };
        let mut standing = client.watch();
        // A connection counts as idle until its first byte.
        client.read(None);
        tokio::select! {
            opened = timeout(HANDSHAKE_TIME, self.secured(stream, tls.value(), from)) => {
                client.read(Some(0));
                opened.ok().flatten()
            }
            _ = standing.wait_for(|standing| *standing >= Standing::Closing) => None,
        }
    }

    async fn secured(&self, stream: TcpStream, tls: Arc<Tls>, from: IpAddr) -> Option<(Stream, Way)> {
        let mut first = [0];
        let is_tls = stream.peek(&mut first).await.ok()? == 1 && first == [HANDSHAKE];
        if !is_tls {
            return Some((Stream::Plain(stream), self.way(from, is_loopback_address(from))));
        }
        match tls.acceptor.accept(Stream::Plain(stream)).await {
            Ok(stream) => Some((
                Stream::Secure(Box::new(TlsStream::Server(stream))),
                self.way(from, true),
            )),
            Err(error) => {
                tracing::debug!("a client's TLS handshake failed: {error}");
                None
            }
        }
    }

    fn way(&self, from: IpAddr, may_be_plain: bool) -> Way {
        let is_known = self.proxies.is_empty() || self.proxies.iter().any(|proxy| proxy.contain(from));
        if !is_known && !is_loopback_address(from) {
            Way::NotTheProxy
        } else if may_be_plain {
            Way::Allowed
        } else {
            Way::Plain
        }
    }

    /// Admits `request` and removes its token. While the permit exists, the request counts as in progress.
    pub(in crate::gateway) fn admit<B>(
        &self,
        request: &mut Request<B>,
        area: Area,
        owner: Option<&Instance>,
    ) -> Result<Option<Permit>, Fault> {
        if area == Area::Open {
            return Ok(None);
        }
        let Some(tokens) = self.tokens.as_ref().map(Fresh::value) else {
            return Ok(None);
        };
        let sender = credentials::take(request, owner, |token| tokens.client(token).cloned());
        match sender {
            None => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Fault::Unauthenticated)
            }
            Some(Sender::Client(name)) if area != Area::Admin => {
                let permit = self.quotas.admit(&name).map_err(|exceeded| limited(&name, &exceeded))?;
                request.extensions_mut().insert(ClientName(name));
                self.lend_key(request, area)?;
                Ok(Some(permit))
            }
            Some(_) => self.lend_key(request, area).map(|()| None),
        }
    }

    /// Makes sure that a request to the upstream carries an API key.
    fn lend_key<B>(&self, request: &mut Request<B>, area: Area) -> Result<(), Fault> {
        if area != Area::Hosted || credentials::has_key(request) {
            return Ok(());
        }
        let key = self.upstream_key.as_ref().ok_or(Fault::WithoutKey)?;
        credentials::lend(request, &key.value());
        Ok(())
    }

    /// When the gateway's certificate expires; `None` without TLS.
    pub(in crate::gateway) fn certificate_until(&self) -> Option<Timestamp> {
        self.tls.as_ref().map(|tls| tls.value().until)
    }

    /// The counters of every client and the number of requests without a valid token; `None` if tokens are not
    /// required.
    pub(in crate::gateway) fn counts(&self) -> Option<(Vec<ClientCounts>, u64)> {
        self.tokens.as_ref()?;
        Some((self.quotas.counts(), self.refused.load(Ordering::Relaxed)))
    }
}

fn limited(name: &str, exceeded: &Exceeded) -> Fault {
    Fault::Limited {
        message: format!("the client `{name}` may make {} {}", exceeded.most, exceeded.limit),
        retry_after: exceeded.retry_after,
    }
}

fn fresh<T>(
    what: &'static str,
    path: Option<&PathBuf>,
    read: impl Fn(&Path) -> Result<T, AccessError> + Send + Sync + 'static,
) -> Result<Option<Fresh<T>>, AccessError> {
    let value = path
        .cloned()
        .map(|path| Fresh::new(what, vec![path.clone()], move || read(&path)));
    value.transpose()
}

/// Reads a key from a file with one line.
fn read_key(path: &Path) -> Result<String, AccessError> {
    let key = read_private(KEY, path)?.trim().to_owned();
    let is_one_word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one_word {
        return Ok(key);
    }
    Err(AccessError::Unusable {
        what: KEY,
        path: path.to_owned(),
        reason: "it must contain exactly one key".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_allowed_by_address_and_encryption() {
        let control = |proxies: &[&str]| {
            let rules = Access {
                proxies: proxies.iter().map(|proxy| proxy.parse().unwrap()).collect(),
                ..Access::default()
            };
            AccessControl::new(&rules, false).unwrap()
        };
        let (open, proxied) = (control(&[]), control(&["10.0.0.5", "fd00::/8"]));
        for (from, open_plain, proxied_tls, proxied_plain) in [
            ("127.0.0.1", Way::Allowed, Way::Allowed, Way::Allowed),
            ("::1", Way::Allowed, Way::Allowed, Way::Allowed),
            ("::ffff:127.0.0.1", Way::Allowed, Way::Allowed, Way::Allowed),
            ("10.0.0.5", Way::Plain, Way::Allowed, Way::Plain),
            ("::ffff:10.0.0.5", Way::Plain, Way::Allowed, Way::Plain),
            ("fd12::1", Way::Plain, Way::Allowed, Way::Plain),
            ("10.0.0.6", Way::Plain, Way::NotTheProxy, Way::NotTheProxy),
        ] {
            let from: IpAddr = from.parse().unwrap();
            // With a certificate, plain HTTP is for this machine alone.
            let may_be_plain = is_loopback_address(from);
            assert_eq!(open.way(from, may_be_plain), open_plain, "{from}");
            assert_eq!(proxied.way(from, true), proxied_tls, "{from}");
            assert_eq!(proxied.way(from, may_be_plain), proxied_plain, "{from}");
        }
    }
}
