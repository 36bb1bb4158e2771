//! Selects the proxy for a URL from the variables that curl and many other programs read.

use std::fmt;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::error::Error;
use super::{SafeUrl, is_loopback};
use crate::environment::Environment;

const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// A proxy, and the variable that named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The proxy's address.
    pub url: SafeUrl,
    /// The variable's name, in the case in which it was set.
    pub variable: &'static str,
}

/// The proxies of a process.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    all: Option<Proxy>,
    /// Tests a host against `NO_PROXY`, if that is set.
    filter: Option<Arc<Matcher>>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http)
            .field("https", &self.https)
            .field("all", &self.all)
            .finish_non_exhaustive()
    }
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. The lower-case form of each is preferred, as in
    /// curl.
    pub(super) fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let read = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| environment.var(name).map(|value| (name, value)))
                .map(|(name, value)| Proxy::parse(name, value))
                .transpose()
        };
        let excluded = ["no_proxy", "NO_PROXY"]
            .into_iter()
            .find_map(|name| environment.var(name));
        Ok(Self {
            http: read(["http_proxy", "HTTP_PROXY"])?,
            https: read(["https_proxy", "HTTPS_PROXY"])?,
            all: read(["all_proxy", "ALL_PROXY"])?,
            filter: excluded.map(|list| Arc::new(Matcher::builder().all("http://proxy").no(list.to_owned()).build())),
        })
    }

    /// The proxy for a request to `url`.
    pub(super) fn route(&self, url: &Url) -> Option<&Proxy> {
        let of_scheme = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => return None,
        };
        let proxy = of_scheme.or(self.all.as_ref())?;
        // On another machine, the same host would mean that machine.
        if is_loopback(url) && !is_loopback(proxy.url.expose()) {
            return None;
        }
        let is_proxied = self.filter.as_ref().is_none_or(|filter| {
            url.as_str()
                .parse::<hyper::Uri>()
                .is_ok_and(|uri| filter.intercept(&uri).is_some())
        });
        is_proxied.then_some(proxy)
    }
}

impl Proxy {
    fn parse(variable: &'static str, value: &str) -> Result<Self, Error> {
        let error = |reason: String| Error::Proxy { variable, reason };
        let text = if value.contains("://") {
            value.to_owned()
        } else {
            format!("http://{value}")
        };
        let url = Url::parse(&text).map_err(|e| error(e.to_string()))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(error(format!(
                "unknown scheme `{}`, expected one of {}",
                url.scheme(),
                SCHEMES.join(", ")
            )));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(error("it names no host".to_owned()));
        }
        Ok(Self {
            url: url.into(),
            variable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        Proxies::from_environment(&Environment::of(variables, "/", "/"))
    }

    fn route(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let proxies = proxies(variables).unwrap();
        proxies
            .route(&Url::parse(url).unwrap())
            .map(|proxy| format!("{} {}", proxy.variable, proxy.url))
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_serves_the_rest() {
        let variables = [("HTTPS_PROXY", "http://a:1"), ("ALL_PROXY", "socks5h://b:2")];
        assert_eq!(route(&variables, "https://x/").unwrap(), "HTTPS_PROXY http://a:1/");
        assert_eq!(route(&variables, "http://x/").unwrap(), "ALL_PROXY socks5h://b:2");
        assert_eq!(route(&variables, "file:///x"), None);
        assert_eq!(route(&[], "https://x/"), None);
    }

    #[test]
    fn lower_case_goes_first_and_a_bare_host_means_http() {
        let variables = [("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "lower:2")];
        assert_eq!(route(&variables, "https://x/").unwrap(), "https_proxy http://lower:2/");
    }

    #[test]
    fn no_proxy_knows_domains_addresses_networks_and_the_star() {
        let direct = |list, url| route(&[("ALL_PROXY", "p:1"), ("NO_PROXY", list)], url).is_none();
        assert!(direct("github.com", "https://github.com/x"));
        assert!(direct(".corp, 10.0.0.0/8", "https://mirror.corp/x"));
        assert!(direct(".corp, 10.0.0.0/8", "https://10.1.2.3/x"));
        assert!(direct("*", "https://anything/x"));
        assert!(direct("::1", "http://[::1]:8080/x"));
        assert!(!direct("github.com", "https://notgithub.com/x"));
        assert!(!direct("10.0.0.0/8", "https://11.1.2.3/x"));
    }

    #[test]
    fn a_proxy_on_another_machine_does_not_get_requests_to_this_one() {
        for own in ["http://localhost:1/", "https://127.0.0.1/", "http://[::1]:8080/x"] {
            assert_eq!(route(&[("ALL_PROXY", "http://proxy:1")], own), None, "{own}");
            for proxy in ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "socks5h://[::1]:1"] {
                assert!(route(&[("ALL_PROXY", proxy)], own).is_some(), "{own} {proxy}");
            }
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_by_its_variable_alone() {
        for value in ["ftp://u:s3cret@host", "http://u:s3cret@host:99999", "http://"] {
            let text = proxies(&[("HTTPS_PROXY", value)]).unwrap_err().to_string();
            assert!(text.contains("HTTPS_PROXY") && !text.contains("s3cret"), "{text}");
        }
    }
}
