//! Network access: addresses, proxies, logins, trusted certificates, timeouts and the HTTP client.
//!
//! ```
//! use gem_setup::net::{SafeUrl, is_acceptable};
//!
//! let mirror: url::Url = "https://ada:secret@mirror.example/github".parse()?;
//! assert!(is_acceptable(&mirror));
//! assert!(!is_acceptable(&"http://mirror.example/".parse()?));
//! assert!(!SafeUrl::from(mirror).to_string().contains("secret"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod client;
mod connect;
mod error;
mod idle;
mod link;
mod login;
mod loopback;
mod netrc;
mod network;
mod origin;
mod patience;
mod proxy;
mod quoted;
mod stream;
mod trust;

pub use address::{HIDDEN, SafeUrl, is_acceptable, is_loopback, without_secrets};
pub(crate) use address::{TOKEN_VARIABLES, is_loopback_address, is_loopback_name};
pub use client::Client;
pub(crate) use client::ServerResponse;
pub use connect::{ConnectError, Connector};
pub(crate) use connect::{INSTALL_AUTHORITIES, NO_AUTHORITIES};
pub use error::Error;
pub(crate) use idle::{BodyError, Idle, Late, Stalled};
pub(crate) use link::{Head, Kept, Link, LinkBody, Pool, is_plainly_framed};
pub(crate) use login::Login;
pub use loopback::{LOOPBACK_DOWN, RAISE_LOOPBACK, is_loopback_down};
pub use network::Network;
pub(crate) use origin::Origin;
pub use origin::SendError;
pub use patience::{LONGEST_DELAY, Patience, parse_retry_after};
pub use proxy::Proxy;
pub use quoted::{redact_in, toml_fault};
pub(crate) use stream::Stream;
pub(crate) use trust::certificates_in;
pub use trust::{CERTIFICATES, Trust, check_certificate_directories, check_certificates};
