//! Options about who may use a gateway, and how it stops.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gem_setup::error::Failure;
use gem_setup::gateway::{Access, ClientToken, Config, Peers, Quota, TlsFiles};

use super::values::{existing_file, limit, path, seconds};

#[derive(Clone, Debug, Args)]
pub(crate) struct AccessArgs {
    /// Speak TLS with this certificate (PEM, the server's own first); it is read again when it changes
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM); no other user may be able to read it
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve only this machine and this proxy (an address, or a network such as 10.0.0.0/24)
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) behind_proxy: Vec<Peers>,
    /// Serve only clients with a token from this file (see `token`); it is read again when it changes
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) token_file: Option<PathBuf>,
    /// The file with the API key for the hosted-model requests of clients with a token; it is read again when it
    /// changes
    #[arg(long, value_name = "FILE", value_parser = existing_file())]
    pub(crate) upstream_key_file: Option<PathBuf>,
    /// Serve each client at most this many requests per minute
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(crate) client_rate: Option<NonZeroU32>,
    /// Serve each client at most this many requests at once
    #[arg(long, value_name = "N", value_parser = limit)]
    pub(crate) client_concurrency: Option<NonZeroU32>,
    /// When asked to stop, first accept requests for this long while reporting not ready, so that load balancers notice
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub(crate) drain_delay: f64,
    /// Then let open requests finish within this time
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) drain_timeout: f64,
}

impl AccessArgs {
    /// Writes these options into `config`.
    pub(crate) fn configure(&self, config: &mut Config) -> Result<(), Failure> {
        config.access = Access {
            tls: TlsFiles::from_options(self.tls_cert.clone(), self.tls_key.clone())?,
            proxies: self.behind_proxy.clone(),
            tokens: self.token_file.clone(),
            upstream_key: self.upstream_key_file.clone(),
            quota: Quota {
                per_minute: self.client_rate,
                at_once: self.client_concurrency,
            },
        };
        config.limits.drain_delay = Duration::from_secs_f64(self.drain_delay);
        config.limits.grace = Duration::from_secs_f64(self.drain_timeout);
        Ok(())
    }

    /// How long open requests may continue after the server was asked to end.
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs_f64(self.drain_delay + self.drain_timeout)
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    /// The client's name: letters, digits and `-_.@`
    #[arg(value_name = "NAME", value_parser = client_name)]
    pub(crate) name: String,
    /// Add the token's hash to this file; it is created if missing
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub(crate) token_file: Option<PathBuf>,
}

fn client_name(text: &str) -> Result<String, &'static str> {
    let is_name = ClientToken::is_name(text);
    is_name
        .then(|| text.to_owned())
        .ok_or("use 1 to 64 letters, digits and `-_.@`")
}
