//! Who may use the gateway, over which connection, and how much.
//!
//! - `peers`: the addresses that may connect; `tls`: the certificate
//! - `tokens`: the clients and their tokens; `credentials`: a request's token and the upstream's key
//! - `quota`: limits for each client
//! - `fresh`: files that are read again when they change
//!
//! ```
//! use gem_setup::gateway::Access;
//!
//! // Loopback alone needs neither a certificate nor tokens.
//! assert!(Access::default().check(false).is_ok());
//! assert!(Access::default().check(true).is_err());
//! ```

mod control;
mod credentials;
mod error;
mod fresh;
mod peers;
mod quota;
mod tls;
mod tokens;

use std::num::NonZeroU32;
use std::path::PathBuf;

pub(super) use control::{AccessControl, Area};
pub(super) use credentials::ClientName;
pub use error::AccessError;
pub use peers::Peers;
pub(super) use peers::Way;
pub use quota::Quota;
pub(super) use quota::{ClientCounts, Permit};
pub use tls::TlsFiles;
pub use tokens::{ClientToken, NewToken};

/// Who may use the gateway. By default, every program of this machine may.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The certificate. Without one, the gateway speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The proxies from which connections are accepted. If empty, every address is accepted.
    pub proxies: Vec<Peers>,
    /// The file with the clients' tokens. Without it, clients need no token.
    pub tokens: Option<PathBuf>,
    /// The file with the upstream key for clients that authenticate with a token.
    pub upstream_key: Option<PathBuf>,
    /// The limits for each client that has a token.
    pub quota: Quota,
}

impl Access {
    /// Checks the rules and their files. Rules must not contradict each other, and must be sufficient if other machines
    /// can reach the gateway (`allow_remote`).
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self, allow_remote: bool) -> Result<(), AccessError> {
        AccessControl::new(self, allow_remote).map(drop)
    }

    fn check_rules(&self, allow_remote: bool) -> Result<(), AccessError> {
        let needs_tokens = |option: &'static str, is_given: bool| match is_given && self.tokens.is_none() {
            true => Err(AccessError::WithoutTokens(option)),
            false => Ok(()),
        };
        if allow_remote && self.tls.is_none() && self.proxies.is_empty() {
            return Err(AccessError::Plain);
        }
        needs_tokens("--allow-remote", allow_remote)?;
        needs_tokens("--upstream-key-file", self.upstream_key.is_some())?;
        needs_tokens("--client-rate", self.quota.per_minute.is_some())?;
        needs_tokens("--client-concurrency", self.quota.at_once.is_some())
    }
}

/// An upper limit for a count.
type Limit = Option<NonZeroU32>;
