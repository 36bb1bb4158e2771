//! The way to the world outside: addresses, proxies, logins, trusted certificates and waits.

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
