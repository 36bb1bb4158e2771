//! The package indexes that an installer asks, for the check of the network.

use std::collections::BTreeMap;
use std::path::Path;

use url::Url;

use super::PROGRAM;
use super::installer::{Installer, pip_sources, uv_index};
use super::venv::Venv;
use crate::environment::Environment;
use crate::net::{CERTIFICATES, SafeUrl};

/// The index of pip and uv unless another is set.
const USUAL: &str = "https://pypi.org/simple";
/// The variables that name pip's certificates, the first one that is set counts.
const PIP_CERTIFICATES: [&str; 3] = ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
/// The variable that names pip's own proxy.
pub const PIP_PROXY: &str = "PIP_PROXY";

/// The package's page in each index, and how the installer reaches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexes {
    /// The addresses of the package.
    pub pages: Vec<Url>,
    /// The variables for proxies and certificates that the installer follows.
    pub environment: Environment,
    /// Whether the proxy is pip's own.
    pub has_pip_proxy: bool,
}

impl Installer {
    /// The indexes that this installer would ask to fill `venv`.
    ///
    /// # Errors
    /// Why none would be asked, in words.
    pub async fn indexes(&self, venv: &Venv, environment: &Environment) -> Result<Indexes, String> {
        let own = match self {
            Self::Uv(_) => uv_index(environment),
            Self::Python(python) => {
                let of_venv = venv.python();
                let python: &Path = if of_venv.exists() { &of_venv } else { python };
                pip_sources(python, environment).await
            }
        };
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut variables: BTreeMap<_, _> = environment.vars().map(text).collect();
        let own = own.into_iter();
        variables.extend(own.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))));
        indexes_in(self, variables, environment)
    }
}

/// The indexes that `variables` set for `installer`.
fn indexes_in(
    installer: &Installer,
    mut variables: BTreeMap<String, String>,
    environment: &Environment,
) -> Result<Indexes, String> {
    let is_pip = matches!(installer, Installer::Python(_));
    let (off, first, more) = match is_pip {
        true => (vec!["PIP_NO_INDEX"], vec!["PIP_INDEX_URL"], vec!["PIP_EXTRA_INDEX_URL"]),
        false => (
            vec!["UV_NO_INDEX", "UV_OFFLINE", "PIP_NO_INDEX"],
            vec!["UV_DEFAULT_INDEX", "UV_INDEX_URL"],
            vec!["UV_INDEX", "UV_EXTRA_INDEX_URL"],
        ),
    };
    let value = |name: &&str| variables.get(*name).filter(|value| !value.trim().is_empty());
    let is_off = |value: &String| ["0", "false", "no", "off"].contains(&value.to_lowercase().as_str());
    if let Some(name) = off.iter().find(|name| value(name).is_some_and(|value| !is_off(value))) {
        return Err(format!("no package index is asked: {name} is set"));
    }
    let first = first.iter().find_map(value).map_or(USUAL, String::as_str);
    let more = more.iter().filter_map(value).flat_map(|value| value.split_whitespace());
    let pages = std::iter::once(first).chain(more).map(page).collect::<Result<_, _>>()?;
    let has_pip_proxy = is_pip && value(&PIP_PROXY).is_some();
    if is_pip {
        follow_pip(&mut variables);
    }
    let environment = Environment::new(variables, environment.current_dir(), environment.user_home());
    Ok(Indexes {
        pages,
        environment,
        has_pip_proxy,
    })
}

/// Sets the variables for proxies and certificates as pip's own ones say.
fn follow_pip(variables: &mut BTreeMap<String, String>) {
    let value = |variables: &BTreeMap<String, String>, name: &str| {
        variables.get(name).filter(|value| !value.is_empty()).cloned()
    };
    if let Some(proxy) = value(variables, PIP_PROXY) {
        // pip then ignores the others.
        variables.retain(|name, _| !name.to_ascii_uppercase().ends_with("_PROXY"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY"] {
            variables.insert(name.to_owned(), proxy.clone());
        }
    }
    let certificates = PIP_CERTIFICATES.iter().find_map(|name| value(variables, name));
    variables.extend(certificates.map(|file| (CERTIFICATES.to_owned(), file)));
}

/// The package's page in the index at `address`, which uv may give a name (`NAME=URL`).
fn page(address: &str) -> Result<Url, String> {
    let url = match address.split_once('=') {
        Some((name, url)) if !name.contains(':') => url,
        _ => address,
    };
    let page = format!("{}/{PROGRAM}/", url.trim_end_matches('/'));
    Url::parse(&page).map_err(|error| format!("the package index `{}` is not a URL: {error}", SafeUrl::redact(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(installer: &Installer, variables: &[(&str, &str)]) -> Result<Indexes, String> {
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let none = Environment::of(&[], "/", "/home/me");
        indexes_in(installer, variables.iter().map(text).collect(), &none)
    }

    #[test]
    fn the_indexes_are_those_of_the_installer() {
        let (pip, uv) = (Installer::Python("/python".into()), Installer::Uv("/uv".into()));
        let pages = |installer, variables: &[_]| -> Vec<String> {
            let pages = indexes(installer, variables).unwrap().pages;
            pages.iter().map(Url::to_string).collect()
        };
        for installer in [&pip, &uv] {
            assert_eq!(pages(installer, &[]), [format!("{USUAL}/litert-lm/")]);
        }
        let of_pip = [
            ("PIP_INDEX_URL", "https://a/simple/"),
            ("PIP_EXTRA_INDEX_URL", "https://b/s"),
        ];
        assert_eq!(
            pages(&pip, &of_pip),
            ["https://a/simple/litert-lm/", "https://b/s/litert-lm/"]
        );
        assert_eq!(
            pages(&uv, &[("UV_INDEX", "own=https://c/s")])[1],
            "https://c/s/litert-lm/"
        );
        assert!(indexes(&pip, &[("PIP_NO_INDEX", "1")]).is_err());
        assert!(indexes(&pip, &[("PIP_INDEX_URL", "nonsense")]).is_err());
    }

    #[test]
    fn pips_own_proxy_and_certificates_count() {
        let variables = [
            ("HTTPS_PROXY", "http://other:1"),
            ("NO_PROXY", "a"),
            ("PIP_PROXY", "http://p:2"),
            ("PIP_CERT", "/ca.pem"),
        ];
        let found = indexes(&Installer::Python("/python".into()), &variables).unwrap();
        let var = |name| found.environment.var(name);
        assert_eq!((var("HTTPS_PROXY"), var("NO_PROXY")), (Some("http://p:2"), None));
        assert_eq!(var(CERTIFICATES), Some("/ca.pem"));
        assert!(found.has_pip_proxy);
    }
}
