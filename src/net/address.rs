//! URLs in a form that may be shown, without their secrets.

use std::fmt;
use std::net::IpAddr;

use url::Url;

/// The text that replaces a secret.
pub const HIDDEN: &str = "***";

/// A URL whose text form never contains a secret: user, password, query and fragment are omitted.
///
/// Every URL that is printed or logged goes through this type.
#[derive(Clone, PartialEq, Eq)]
// Boxed, because errors contain this type and should stay small.
pub struct SafeUrl(Box<Url>);

impl SafeUrl {
    /// The complete URL with its secrets: for connecting, never for showing.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether the text form omits anything.
    #[must_use]
    pub fn holds_secret(&self) -> bool {
        without_secrets(&self.0) != *self.0
    }

    /// `text` in a form that may be shown, whether or not it is a valid URL.
    #[must_use]
    pub fn redact(text: &str) -> String {
        match Url::parse(text).map(Self::from) {
            Ok(url) if url.0.has_host() || url.0.scheme() == "file" => {
                if url.holds_secret() {
                    url.to_string()
                } else {
                    text.to_owned()
                }
            }
            _ => redact_malformed(text),
        }
    }
}

impl From<Url> for SafeUrl {
    fn from(url: Url) -> Self {
        Self(Box::new(url))
    }
}

impl From<&Url> for SafeUrl {
    fn from(url: &Url) -> Self {
        Self(Box::new(url.clone()))
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        if url.cannot_be_a_base() {
            return write!(f, "{}:{HIDDEN}", url.scheme());
        }
        let shown = without_secrets(url);
        if !url.username().is_empty() || url.password().is_some() {
            let start = url.scheme().len() + "://".len();
            let (scheme, rest) = shown.as_str().split_at(start);
            write!(f, "{scheme}{HIDDEN}@{rest}")?;
        } else {
            f.write_str(shown.as_str())?;
        }
        if url.query().is_some() {
            write!(f, "?{HIDDEN}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `text` with everything but the scheme hidden, if any part may be a secret.
fn redact_malformed(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + "://".len()),
        None => ("", text),
    };
    let may_be_secret = rest.contains([':', '@', '?', '#']);
    format!("{scheme}{}", if may_be_secret { HIDDEN } else { rest })
}

/// The variables with the model hub's token, in order of precedence, as in the hub's own tools; `lit` knows only the
/// second (docs/facts.md section 2).
pub(crate) const TOKEN_VARIABLES: [&str; 2] = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];

/// `url` without user, password, query and fragment.
#[must_use]
pub fn without_secrets(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // This fails only for URLs that cannot contain a login, and so need no change.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// Whether the URL's host is this machine, by name or by address.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // In the URL of a SOCKS proxy an address is parsed as a name.
        Some(url::Host::Domain(name)) => is_loopback_name(name) || name.parse().is_ok_and(is_loopback_address),
        Some(url::Host::Ipv4(address)) => is_loopback_address(address.into()),
        Some(url::Host::Ipv6(address)) => is_loopback_address(address.into()),
        None => false,
    }
}

/// Whether `name` always means this machine (RFC 6761, section 6.3).
pub(crate) fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether `address` is a loopback address, also if it is written as an IPv6 one.
pub(crate) fn is_loopback_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a file may be downloaded from `url`: https, file, or http from this machine.
#[must_use]
pub fn is_acceptable(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "file" => url.host_str().is_none_or(str::is_empty),
        "http" => is_loopback(url),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        format!("{0} {0:?}", SafeUrl::from(Url::parse(text).unwrap()))
    }

    #[test]
    fn credentials_and_query_values_are_never_shown() {
        let text = shown("https://ann:s3cret@mirror.corp:8443/a/b?token=abc#frag");
        assert_eq!(
            text,
            "https://***@mirror.corp:8443/a/b?*** https://***@mirror.corp:8443/a/b?***"
        );
        assert!(!shown("socks5h://ann:pw@proxy:1080").contains("pw"));
        assert!(!shown("https://t0ken@host/").contains("t0ken"));
    }

    #[test]
    fn malformed_urls_are_shown_without_what_may_be_secret() {
        for text in [
            "https://u:s3cret@127.0.0.1:99999/",
            "http://u:s3cret@ex ample/",
            "u:s3cret@h",
            "s3cret@h",
            "http://u:s3cret",
            "ftp://u:s3cret@h/?s3cret#s3cret",
            "http://h/#s3cret",
            "http://h a/?s3cret",
        ] {
            let shown = SafeUrl::redact(text);
            assert!(!shown.contains("s3cret"), "{text}: {shown}");
        }
        assert_eq!(SafeUrl::redact("https://u:pw@h:99999/"), "https://***");
        assert_eq!(SafeUrl::redact("mirror.corp/x"), "mirror.corp/x");
    }

    #[test]
    fn a_url_without_secrets_is_shown_as_it_is() {
        assert!(shown("file:///srv/mirror/x.zip").starts_with("file:///srv/mirror/x.zip "));
    }

    #[test]
    fn plain_http_is_acceptable_from_this_machine_only() {
        for url in [
            "https://github.com/x",
            "file:///x",
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]/x",
            "http://127.9.9.9/x",
        ] {
            assert!(is_acceptable(&Url::parse(url).unwrap()), "{url}");
        }
        for url in [
            "http://github.com/x",
            "http://10.0.0.1/x",
            "http://localhost.evil.com/x",
            "http://127.0.0.1.evil.com/x",
            "ftp://localhost/x",
        ] {
            assert!(!is_acceptable(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
