//! Admits programs and pages of this machine, and refuses other web pages.
//!
//! A page in a browser can send requests to loopback addresses, and can make its own host name resolve to one. Two
//! headers reveal it: the host that it asks for (`Host`) and its own address (`Origin`). Requests for images and
//! similar resources carry no `Origin`; for those the browser states in `Sec-Fetch-Site` whether another site's page
//! makes them.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::{Request, Uri, Version};

use super::fault::Fault;
use crate::net::{is_loopback_address, is_loopback_name, is_plainly_framed};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that does not come from this machine; with `allow_remote`, any `Host` is accepted. Also refuses
/// transfer codings that the gateway cannot decode.
pub(super) fn check<B>(request: &Request<B>, allow_remote: bool) -> Result<(), Fault> {
    if !is_plainly_framed(request.headers()) {
        return Err(Fault::Coding);
    }
    let host = host(request.headers(), request.version())?;
    if !allow_remote {
        for name in [host, request.uri().authority().map(|authority| authority.as_str())]
            .into_iter()
            .flatten()
        {
            if !is_loopback_authority(name) {
                return Err(Fault::Forbidden(format!(
                    "the host `{name}` is not a name of this machine's loopback interface"
                )));
            }
        }
    }
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let is_own = match (origins.next(), origins.next()) {
        (None, _) => is_own_site(request.headers()),
        (Some(origin), None) => is_own_origin(origin, host),
        _ => false,
    };
    if is_own {
        return Ok(());
    }
    Err(Fault::Forbidden(
        "requests from web pages of other origins are not allowed".to_owned(),
    ))
}

/// Whether the request does not come from another site: it comes from a program, from the gateway's own page, or from
/// an address typed into a browser.
fn is_own_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(FETCH_SITE).iter();
    sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// The only `Host` of the request. Only HTTP/1.0 requests may omit it.
fn host(headers: &HeaderMap, version: Version) -> Result<Option<&str>, Fault> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host
            .to_str()
            .map(Some)
            .map_err(|_| Fault::Forbidden("the `Host` header is not readable".to_owned())),
        (None, _) if version == Version::HTTP_10 => Ok(None),
        _ => Err(Fault::Invalid("a request needs exactly one `Host`".to_owned())),
    }
}

/// Whether `origin` is a page of this machine, or of the gateway itself under the name by which it was reached.
fn is_own_origin(origin: &HeaderValue, host: Option<&str>) -> bool {
    let Some(uri) = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()) else {
        return false;
    };
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().map(|authority| authority.as_str());
    is_web
        && authority.is_some_and(|authority| {
            is_loopback_authority(authority) || host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
        })
}

/// Whether `authority` is a loopback name or address, with or without a port.
fn is_loopback_authority(authority: &str) -> bool {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let port_is_right = port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    port_is_right && is_loopback_host(name, authority.starts_with('['))
}

fn is_loopback_host(name: &str, bracketed: bool) -> bool {
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_ipv6() == bracketed && is_loopback_address(address),
        Err(_) => !bracketed && is_loopback_name(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn is_allowed(uri: &str, headers: &[(&str, &str)]) -> bool {
        check(&request(uri, headers), false).is_ok()
    }

    #[test]
    fn loopback_names_are_let_in() {
        for host in [
            "localhost",
            "localhost:9379",
            "LOCALHOST:1",
            "localhost.",
            "app.localhost:80",
            "127.0.0.1:9379",
            "127.9.8.7",
            "[::1]",
            "[::1]:9379",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_allowed("/", &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for host in [
            "example.com",
            "localhost.example.com",
            "notlocalhost",
            "127.0.0.1.example.com",
            "128.0.0.1",
            "0.0.0.0:9379",
            "[::]:9379",
            "[::2]",
            "::1",
            "[localhost]",
            "localhost@example.com",
            "user:1@localhost",
            "localhost:80@example.com",
            "",
            "localhost:x",
        ] {
            let fault = check(&request("/", &[("host", host)]), false).unwrap_err();
            assert_eq!(fault.status(), 403, "{host}");
        }
    }

    #[test]
    fn an_absolute_uri_counts_like_a_host() {
        assert!(is_allowed("http://localhost:1/x", &[("host", "localhost:1")]));
        assert!(!is_allowed("http://example.com/x", &[("host", "localhost:1")]));
        assert!(!is_allowed("http://localhost/x", &[("host", "example.com")]));
    }

    #[test]
    fn a_missing_or_second_host_is_an_invalid_request() {
        assert_eq!(check(&request("/", &[]), false).unwrap_err().status(), 400);
        let twice = request("/", &[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(check(&twice, false).unwrap_err().status(), 400);
        let mut old = request("/", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(check(&old, false).is_ok());
    }

    #[test]
    fn a_transfer_coding_that_nobody_decodes_is_refused() {
        let host = ("host", "localhost");
        assert!(is_allowed("/", &[host, ("transfer-encoding", "Chunked")]));
        for coding in ["gzip, chunked", "chunked, chunked", "identity, chunked", ", chunked"] {
            let coded = request("/", &[host, ("transfer-encoding", coding)]);
            assert_eq!(check(&coded, false).unwrap_err().status(), 501, "{coding}");
        }
        let twice = ["chunked", "chunked"].map(|coding| ("transfer-encoding", coding));
        assert!(!is_allowed("/", &[host, twice[0], twice[1]]));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let host = ("host", "localhost:9379");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"] {
            assert!(is_allowed("/", &[host, ("origin", origin)]), "{origin}");
        }
        for origin in [
            "https://example.com",
            "null",
            "",
            "file://",
            "chrome-extension://abc",
            "http://localhost.evil.example",
        ] {
            assert!(!is_allowed("/", &[host, ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn fetches_of_foreign_pages_are_refused_without_an_origin() {
        let host = ("host", "localhost:9379");
        for site in ["none", "same-origin"] {
            assert!(is_allowed("/", &[host, ("sec-fetch-site", site)]), "{site}");
        }
        for site in ["cross-site", "same-site", "", "new-value"] {
            assert!(!is_allowed("/", &[host, ("sec-fetch-site", site)]), "{site}");
        }
        let local_page = ("origin", "http://localhost:3000");
        assert!(is_allowed("/", &[host, local_page, ("sec-fetch-site", "same-site")]));
        assert!(!is_allowed("/", &[host, local_page, local_page]));
    }

    #[test]
    fn a_remote_gateway_takes_any_host_and_its_own_origin() {
        let lan = ("host", "10.0.0.7:9379");
        assert!(check(&request("/", &[lan]), true).is_ok());
        assert!(check(&request("/", &[lan, ("origin", "http://10.0.0.7:9379")]), true).is_ok());
        assert!(check(&request("/", &[lan, ("origin", "http://10.0.0.8:9379")]), true).is_err());
    }
}
