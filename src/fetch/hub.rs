//! The Hugging Face hub: the address of a model's file, the token for it, and the hash that the hub states.

use std::time::{Duration, SystemTime};

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::error::Error;
use super::reply;
use super::retry::{Budget, Fault};
use super::{Asked, Fetcher, HUB_HOST, host_of, silence_of};
use crate::catalog::HuggingFace;
use crate::environment::Environment;
use crate::net::{Patience, ServerResponse, TOKEN_VARIABLES, is_acceptable};
use crate::progress::{Progress, Silent, unless_quiet};
use crate::sha256::Sha256;

/// The time for an optional request.
const BRIEFLY: Duration = Duration::from_secs(10);
const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";
/// The hub's statement of a large file's SHA-256; the file itself comes from another host.
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
/// Advice if the hub refuses a file.
pub(super) const GATED: &str = "the model is gated: accept its terms on its page at the hub, set HF_TOKEN (or HUGGING_FACE_HUB_TOKEN) to a token \
                                that may read it, then run the command again";

/// The hub that the environment names.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// Replaces `https://huggingface.co`.
    endpoint: Option<Url>,
    /// Marked as sensitive, so that messages do not show it.
    authorization: Option<HeaderValue>,
}

impl Hub {
    /// The hub at `HF_ENDPOINT`, by default `https://huggingface.co`, and the token in `HF_TOKEN` or
    /// `HUGGING_FACE_HUB_TOKEN`.
    ///
    /// # Errors
    /// When the endpoint is neither https nor http on this machine.
    pub fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let endpoint = match environment.var(ENDPOINT_VARIABLE) {
            Some(text) => {
                let url = Url::parse(text).ok().filter(|url| url.has_host() && is_acceptable(url));
                let unusable = || Error::endpoint(text);
                Some(url.ok_or_else(unusable)?)
            }
            None => None,
        };
        let token = TOKEN_VARIABLES.iter().find_map(|name| environment.var(name));
        let authorization = token.and_then(|token| HeaderValue::try_from(format!("Bearer {}", token.trim())).ok());
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(Self {
            endpoint,
            authorization,
        })
    }

    /// The hub's own URL of the file published at `url`; `None` for a file of another publisher.
    pub(super) fn locate(&self, url: &Url) -> Option<Url> {
        if url.scheme() != "https" || url.host_str() != Some(HUB_HOST) {
            return None;
        }
        let Some(endpoint) = &self.endpoint else {
            return Some(url.clone());
        };
        let mut place = endpoint.clone();
        place.set_path(&format!("{}{}", endpoint.path().trim_end_matches('/'), url.path()));
        Some(place)
    }

    /// Whether `url` belongs to the hub.
    pub(super) fn is_under(&self, url: &Url) -> bool {
        match &self.endpoint {
            Some(endpoint) => endpoint.origin() == url.origin(),
            None => url.host_str() == Some(HUB_HOST),
        }
    }

    /// The header for gated files; sent only to the hub.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.clone()
    }
}

/// The public address of `file`, under which mirrors also have it.
///
/// # Errors
/// When repository and file do not give a valid address.
pub fn address_of(file: &HuggingFace) -> Result<Url, Error> {
    let text = format!("https://{HUB_HOST}/{}/resolve/main/{}", file.repo, file.file);
    let has_dots = text.split('/').any(|part| part == "." || part == "..");
    let url = Url::parse(&text)
        .ok()
        .filter(|url| url.query().is_none() && url.fragment().is_none() && !has_dots);
    url.ok_or_else(|| Error::endpoint(&text))
}

/// The hub's description of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its size in bytes; 0 = unknown.
    pub size: u64,
}

fn unstated(url: &Url, reason: impl Into<String>) -> Error {
    Error::Unstated {
        url: url.into(),
        reason: reason.into(),
    }
}

/// The hub's statement about a file's hash.
enum Stating {
    Hash(Stated),
    Nothing,
    /// The hub redirects to another server, whose statement does not count.
    Elsewhere(Url),
}

impl Fetcher {
    /// The hash that the hub states for the file published at `url`; a mirror is not trusted to state it. Waiting is reported under `id`.
    ///
    /// # Errors
    /// When only mirrors may be asked, or the hub does not respond, refuses the request, or states no SHA-256.
    pub async fn stated(&self, url: &Url, id: &str, progress: &dyn Progress) -> Result<Stated, Error> {
        self.state(url, id, progress, self.network.patience()).await
    }

    /// The same, asked once and within a few seconds, for callers that can do without.
    ///
    /// # Errors
    /// As [`Self::stated`].
    pub async fn stated_at_once(&self, url: &Url) -> Result<Stated, Error> {
        let patience = Patience {
            retries: 0,
            ..self.network.patience().clone()
        };
        let asked = self.state(url, "", &Silent, &patience);
        let place = self.hub.locate(url).unwrap_or_else(|| url.clone());
        let late = || Err(self.unobtainable(Fault::Stalled(BRIEFLY), &place));
        tokio::time::timeout(BRIEFLY, asked).await.unwrap_or_else(|_| late())
    }

    /// Whether the hub may be asked for the hash of the file published at `url`, without asking.
    ///
    /// # Errors
    /// When only mirrors may be asked, or the file is not at the hub.
    pub fn check_stated(&self, url: &Url) -> Result<(), Error> {
        self.place_of_statement(url).map(|_| ())
    }

    fn place_of_statement(&self, url: &Url) -> Result<Url, Error> {
        if self.mirror_only {
            return Err(unstated(url, "only mirrors may be asked"));
        }
        self.hub
            .locate(url)
            .ok_or_else(|| unstated(url, "it is not at the hub"))
    }

    fn unobtainable(&self, fault: Fault, place: &Url) -> Error {
        Error::Unobtainable {
            label: place.path().rsplit('/').next().unwrap_or_default().to_owned(),
            tried: vec![self.last_word(fault, place)],
            has_part: false,
        }
    }

    async fn state(&self, url: &Url, id: &str, progress: &dyn Progress, patience: &Patience) -> Result<Stated, Error> {
        let place = self.place_of_statement(url)?;
        let mut budget = Budget::new(patience);
        let asked = Asked {
            url: &place,
            id,
            is_last: true,
            progress,
        };
        let silence = silence_of(&place);
        let attempt = async || (unless_quiet(progress, id, &silence, self.ask_hub(&place)).await, 0);
        let asked = asked.persist(&mut budget, attempt).await;
        // A download has not begun: the waits between attempts are all that was shown.
        progress.finish(id);
        match asked {
            Ok(Stating::Hash(stated)) => Ok(stated),
            Ok(Stating::Nothing) => Err(unstated(&place, "neither does the server")),
            Ok(Stating::Elsewhere(other)) => {
                let reason = format!(
                    "the server redirects to `{}`, whose statement does not count",
                    host_of(&other)
                );
                Err(unstated(&place, reason))
            }
            Err(Fault::Fatal(error)) => Err(error),
            Err(fault) => Err(self.unobtainable(fault, &place)),
        }
    }

    async fn ask_hub(&self, place: &Url) -> Result<Stating, Fault> {
        let mut headers = HeaderMap::new();
        headers.extend(self.hub.authorization().map(|value| (AUTHORIZATION, value)));
        let is_stated = |answer: &ServerResponse| answer.head.headers.contains_key(LINKED_ETAG);
        let answer = self
            .client
            .get_until(Method::HEAD, place.clone(), headers, is_stated)
            .await?;
        let status = answer.head.status;
        if status.is_client_error() || status.is_server_error() {
            let refusal = reply::refusal(status, &answer.head.headers, SystemTime::now());
            return Err(refusal.at(answer.elsewhere()));
        }
        if let Some(other) = answer.elsewhere() {
            return Ok(Stating::Elsewhere(other.clone()));
        }
        Ok(stated_in(&answer.head.headers).map_or(Stating::Nothing, Stating::Hash))
    }
}

fn stated_in(headers: &HeaderMap) -> Option<Stated> {
    let text = |name| headers.get(name)?.to_str().ok();
    let tag = text(LINKED_ETAG)?.trim();
    let sha256 = tag.trim_start_matches("W/").trim_matches('"').parse().ok()?;
    let size = text(LINKED_SIZE).and_then(|size| size.trim().parse().ok());
    Some(Stated {
        sha256,
        size: size.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub, Error> {
        Hub::from_environment(&Environment::of(variables, "/", "/home/me"))
    }

    fn file(repo: &str) -> HuggingFace {
        HuggingFace {
            repo: repo.to_owned(),
            file: "m.litertlm".to_owned(),
            sha256: None,
        }
    }

    #[test]
    fn an_endpoint_stands_for_the_hub_and_for_nobody_else() {
        let url = address_of(&file("owner/name")).unwrap();
        assert_eq!(
            url.as_str(),
            "https://huggingface.co/owner/name/resolve/main/m.litertlm"
        );
        assert_eq!(hub(&[]).unwrap().locate(&url), Some(url.clone()));
        let own = hub(&[("HF_ENDPOINT", "https://hub.example/hf/")]).unwrap();
        let place = own.locate(&url).unwrap();
        assert_eq!(
            place.as_str(),
            "https://hub.example/hf/owner/name/resolve/main/m.litertlm"
        );
        assert_eq!(own.locate(&"https://github.com/owner/name".parse().unwrap()), None);
        for endpoint in ["http://hub.example", "file:///hub", "hub.example"] {
            let error = hub(&[("HF_ENDPOINT", endpoint)]).unwrap_err().to_string();
            assert!(error.contains(endpoint), "{error}");
        }
        for endpoint in [
            "http://me:s3cret@hub.example",
            "me:s3cret@hub.example",
            "http://me:s3cret@h:99999",
        ] {
            let error = hub(&[("HF_ENDPOINT", endpoint)]).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_first_token_counts_and_is_never_shown() {
        let both = hub(&[("HUGGING_FACE_HUB_TOKEN", "hf_b"), ("HF_TOKEN", "hf_a\n")]).unwrap();
        assert_eq!(both.authorization().unwrap(), "Bearer hf_a");
        assert!(!format!("{both:?}").contains("hf_a"), "{both:?}");
        assert_eq!(hub(&[]).unwrap().authorization(), None);
    }

    #[test]
    fn names_that_leave_the_repository_make_no_address() {
        for repo in ["../owner", "owner/..", "owner/name?x=1", "owner#name"] {
            assert!(address_of(&file(repo)).is_err(), "{repo}");
        }
    }

    #[test]
    fn only_a_sha256_is_a_statement() {
        let sum = Sha256::of("x").to_string();
        let stated = |tag: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINKED_ETAG, HeaderValue::try_from(tag).unwrap());
            headers.insert(LINKED_SIZE, HeaderValue::from_static("7"));
            stated_in(&headers)
        };
        let expected = Stated {
            sha256: Sha256::of("x"),
            size: 7,
        };
        assert_eq!(stated(&format!("\"{sum}\"")), Some(expected));
        assert_eq!(stated("\"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3\""), None);
    }
}
