//! User and password for a server or a proxy.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

/// A login. Its text form hides the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl Login {
    /// The login in `url`.
    pub(crate) fn in_url(url: &Url) -> Option<Self> {
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let password = url.password().unwrap_or_default();
        let has_login = !url.username().is_empty() || !password.is_empty();
        has_login.then(|| Self {
            user: plain(url.username()),
            password: plain(password),
        })
    }

    /// The value of an `Authorization` or `Proxy-Authorization` header (RFC 7617).
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let encoded = BASE64_STANDARD.encode(format!("{}:{}", self.user, self.password));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(***)")
    }
}
