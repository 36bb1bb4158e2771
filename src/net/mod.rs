//! Network access: addresses, proxies, logins, trusted certificates and waiting times.
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
mod error;
mod netrc;
mod network;
mod patience;
mod proxy;

pub use address::{SafeUrl, is_acceptable, is_loopback, without_login};
pub(crate) use address::{is_loopback_address, is_loopback_name};
pub use error::Error;
pub(crate) use netrc::Login;
pub use network::{Network, Trust};
pub use patience::{Patience, parse_retry_after};
pub use proxy::Proxy;
