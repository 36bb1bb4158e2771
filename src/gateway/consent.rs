//! Consent that a client gives in a header. `x-gem-consent: once` lets this request continue with the model that the
//! gateway named; `session` does so for every request of the same client for an hour. Consents are kept only in memory.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use lru::LruCache;
use serde::Deserialize;
use tokio::time::Instant;

use super::access::ClientName;
use super::secrets::credential;
use crate::router::{ModelFailure, ModelName, Told};

/// The header with the client's consent.
const CONSENT: HeaderName = HeaderName::from_static("x-gem-consent");
/// In a reply, the model that could answer; in a request, the model that may answer.
pub(super) const FALLBACK: HeaderName = HeaderName::from_static("x-gem-fallback");
/// The header with a hint about a failure.
pub(super) const HINT: HeaderName = HeaderName::from_static("x-gem-hint");

/// How long a consent for the session lasts, and how long named models are remembered.
const SESSION: Duration = Duration::from_secs(3600);
/// The maximum number of remembered cases.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// The fault of an unknown value of the consent.
const UNCLEAR: &str = "`x-gem-consent` must be `once` or `session`, but had another value";

/// Identifies the owner in place of a client's name or key.
const OWNER: (&str, bool) = ("owner", true);

/// A client, as the keyed hash of its name or API key, and the model that failed.
type Case = (u64, ModelName);

#[derive(Clone, Debug)]
struct Memory {
    /// The model that the last failure named.
    named: Known,
    /// The model to which the client has consented for the session. A later failure that names a model does not end the consent.
    consented: Option<Known>,
    /// The client's last failure, if it has consented.
    told: Option<Told>,
}

/// A model, and since when it is known.
#[derive(Clone, Debug)]
struct Known {
    model: ModelName,
    since: Instant,
}

impl Known {
    fn from_now(model: &ModelName) -> Self {
        Self {
            model: model.clone(),
            since: Instant::now(),
        }
    }

    /// The model, unless it has been known for too long.
    fn current(&self) -> Option<&ModelName> {
        (self.since.elapsed() < SESSION).then_some(&self.model)
    }
}

impl Memory {
    fn named(&self) -> Option<&ModelName> {
        self.named.current()
    }

    fn consented(&self) -> Option<&ModelName> {
        self.consented.as_ref()?.current()
    }
}

/// The models named to clients, and the consents of clients.
#[derive(Debug)]
pub(super) struct Consents {
    hasher: RandomState,
    known: Mutex<LruCache<Case, Memory>>,
}

impl Default for Consents {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            known: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

/// A switch between two models for which the server's owner consents.
#[derive(Debug, Deserialize)]
pub(super) struct Switch {
    failed: ModelName,
    candidate: ModelName,
}

/// The consent of one request.
#[derive(Debug)]
pub(super) struct Consenter<'a> {
    consents: &'a Consents,
    /// `None` for a client without a key, which cannot be recognised again.
    client: Option<u64>,
    given: Option<Given>,
    /// Whether the value of the request's consent is unknown.
    is_unclear: bool,
    /// The model that the request allows by name.
    named: Option<ModelName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Once,
    Session,
}

impl Given {
    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "once" => Some(Self::Once),
            "session" => Some(Self::Session),
            _ => None,
        }
    }
}

impl Consents {
    /// Removes the consent from `request`, so that it does not reach the upstream, and returns it.
    pub(super) fn take<B>(&self, request: &mut Request<B>) -> Consenter<'_> {
        // Clients with a token may share the upstream's key, so the client's name comes first.
        let client = match request.extensions().get() {
            Some(ClientName(name)) => Some(self.hasher.hash_one(name)),
            None => credential(request.headers(), request.uri().query()).map(|key| self.hasher.hash_one(key)),
        };
        let headers = request.headers_mut();
        let text = |value: Option<HeaderValue>| value.and_then(|value| Some(value.to_str().ok()?.trim().to_owned()));
        let is_said = headers.contains_key(CONSENT);
        let given = text(headers.remove(CONSENT)).and_then(|word| Given::parse(&word));
        Consenter {
            consents: self,
            client,
            given,
            is_unclear: is_said && given.is_none(),
            named: text(headers.remove(FALLBACK)).and_then(|name| name.parse().ok()),
        }
    }

    /// Records that the server's owner consents to `switch` for the session. The consent is valid only for the owner.
    pub(super) fn owner_consents(&self, switch: &Switch) {
        self.owner().remember(&switch.failed, &switch.candidate, true);
    }

    /// The model that may answer if `failed` fails, by the owner's consent.
    pub(super) fn of_owner(&self, failed: &ModelName) -> Option<ModelName> {
        self.owner().memory(failed)?.consented().cloned()
    }

    fn owner(&self) -> Consenter<'_> {
        Consenter {
            consents: self,
            client: Some(self.hasher.hash_one(OWNER)),
            given: None,
            is_unclear: false,
            named: None,
        }
    }

    fn known(&self) -> MutexGuard<'_, LruCache<Case, Memory>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consenter<'_> {
    /// Whether this client may allow another model to answer if `failed` fails.
    pub(super) fn may_switch(&self, failed: &ModelName) -> bool {
        self.given.is_some() || self.memory(failed).is_some_and(|memory| memory.consented().is_some())
    }

    /// Whether `candidate` may answer in place of `failed`. A consent covers one switch: to the model that the client
    /// names, or that the last failure named to the client.
    pub(super) fn consents(&mut self, failed: &ModelName, candidate: &ModelName) -> bool {
        let memory = self.memory(failed);
        let memory = memory.as_ref();
        if memory.and_then(Memory::consented) == Some(candidate) {
            return true;
        }
        let named = self.named.take();
        let is_named = named.as_ref().or(memory.and_then(Memory::named)) == Some(candidate);
        match self.given.take() {
            Some(given) if is_named => {
                if given == Given::Session {
                    self.remember(failed, candidate, true);
                }
                true
            }
            _ => false,
        }
    }

    /// Notes how `failed`, for which this client has consented to another model, failed it.
    pub(super) fn note(&self, failed: &ModelName, failure: &ModelFailure) {
        let Some(client) = self.client.filter(|_| failure.lasts()) else {
            return;
        };
        if let Some(memory) = self.consents.known().get_mut(&(client, failed.clone())) {
            memory.told = Told::of(failure).filter(|_| memory.consented().is_some());
        }
    }

    /// The failure of `model` that this client got, if it lasts, and the model to which the client has consented for the session.
    pub(super) fn known_failure(&self, model: &ModelName) -> Option<(ModelFailure, ModelName)> {
        let memory = self.memory(model)?;
        let candidate = memory.consented()?.clone();
        Some((memory.told?.current()?, candidate))
    }

    /// Names `candidate` to the client, and how to let it answer.
    pub(super) fn offer(&self, headers: &mut HeaderMap, failed: &ModelName, candidate: &ModelName) {
        self.remember(failed, candidate, false);
        let way = match self.client {
            Some(_) => format!(
                "repeat the request with `x-gem-consent: once` to let `{candidate}` answer, or with `x-gem-consent: session` to let it \
                 answer for an hour"
            ),
            None => format!(
                "repeat the request with `x-gem-consent: once` and `x-gem-fallback: {candidate}` to let `{candidate}` answer"
            ),
        };
        self.hint(headers, candidate, &way);
    }

    /// The sentence that tells a person how to let `candidate` answer.
    pub(super) fn sentence(&self, candidate: &ModelName) -> String {
        match self.client {
            Some(_) => format!("To let `{candidate}` answer, send the header `x-gem-consent: session`."),
            None => format!(
                "To let `{candidate}` answer, send the headers `x-gem-consent: once` and `x-gem-fallback: {candidate}`."
            ),
        }
    }

    /// Names `candidate` to a client whose request is too large to be repeated, or finds no room.
    pub(super) fn advise(&self, headers: &mut HeaderMap, candidate: &ModelName) {
        let way = format!(
            "the request's body is too large to be repeated, or the gateway is full, so consent cannot help: to let `{candidate}` answer, name it in the path"
        );
        self.hint(headers, candidate, &way);
    }

    /// Names a wrong value of the consent to a client whose request failed.
    pub(super) fn correct(&self, headers: &mut HeaderMap) {
        if self.is_unclear && !headers.contains_key(HINT) {
            headers.insert(HINT, HeaderValue::from_static(UNCLEAR));
        }
    }

    fn hint(&self, headers: &mut HeaderMap, candidate: &ModelName, way: &str) {
        let hint = match self.is_unclear {
            true => format!("{UNCLEAR}: {way}"),
            false => way.to_owned(),
        };
        for (name, value) in [(FALLBACK, candidate.as_str()), (HINT, &hint)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }

    fn memory(&self, failed: &ModelName) -> Option<Memory> {
        let mut known = self.consents.known();
        known.get(&(self.client?, failed.clone())).cloned()
    }

    fn remember(&self, failed: &ModelName, candidate: &ModelName, has_consent: bool) {
        let Some(client) = self.client else { return };
        let mut known = self.consents.known();
        let memory = known.get_or_insert_mut((client, failed.clone()), || Memory {
            named: Known::from_now(candidate),
            consented: None,
            told: None,
        });
        memory.named = Known::from_now(candidate);
        if has_consent {
            memory.consented = Some(Known::from_now(candidate));
            memory.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::FailureKind;

    fn model(name: &str) -> ModelName {
        name.parse().unwrap()
    }

    fn consents(memory: &Consents, headers: &[(&str, &str)], candidate: &str) -> bool {
        let mut request = Request::builder().uri("/?key=k1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        let mut consenter = memory.take(&mut request);
        assert!(request.headers().get("x-gem-consent").is_none());
        consenter.consents(&model("pro"), &model(candidate))
    }

    /// A failure of pro names `candidate` to the client with this key.
    fn offer(memory: &Consents, key: &str, candidate: &str) -> HeaderMap {
        let mut request = Request::builder().header("x-goog-api-key", key).body(()).unwrap();
        let mut headers = HeaderMap::new();
        let consenter = memory.take(&mut request);
        consenter.offer(&mut headers, &model("pro"), &model(candidate));
        headers
    }

    const ONCE: (&str, &str) = ("x-gem-consent", "once");
    const SESSION: (&str, &str) = ("x-gem-consent", "session");

    #[test]
    fn consent_for_once_holds_for_one_request() {
        let memory = Consents::default();
        offer(&memory, "k1", "flash");
        assert!(!consents(&memory, &[], "flash"));
        assert!(consents(&memory, &[ONCE], "flash"));
        assert!(!consents(&memory, &[], "flash"));
        assert!(!consents(&memory, &[("x-gem-consent", "always")], "flash"));
    }

    #[tokio::test(start_paused = true)]
    async fn consent_for_the_session_is_bound_to_key_model_and_hour() {
        let memory = Consents::default();
        offer(&memory, "k1", "flash");
        assert!(consents(&memory, &[SESSION], "flash"));
        assert!(consents(&memory, &[], "flash"));
        assert!(!consents(&memory, &[], "lite"));
        assert!(!consents(&memory, &[("x-goog-api-key", "k2")], "flash"));
        tokio::time::advance(super::SESSION).await;
        assert!(!consents(&memory, &[], "flash"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_known_to_the_client_that_consented_while_it_lasts() {
        let memory = Consents::default();
        let client = |key: &str, consent: &str| {
            let request = Request::builder().header("x-goog-api-key", key);
            let mut request = request.header("x-gem-consent", consent).body(()).unwrap();
            memory.take(&mut request)
        };
        let (pro, flash) = (model("pro"), model("flash"));
        let lacks_capacity = ModelFailure {
            lacks_capacity: true,
            ..ModelFailure::new(FailureKind::Terminal, "no capacity")
        };
        for (key, consent) in [("k1", "session"), ("k2", "once")] {
            offer(&memory, key, "flash");
            let mut client = client(key, consent);
            assert!(client.consents(&pro, &flash));
            client.note(&pro, &lacks_capacity);
        }
        let known = |key| client(key, "").known_failure(&pro);
        assert_eq!(known("k1"), Some((lacks_capacity.clone(), flash.clone())));
        assert_eq!((known("k2"), known("k3")), (None, None));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(known("k1"), None);
        client("k1", "").note(&pro, &ModelFailure::new(FailureKind::Transient, "busy"));
        assert_eq!(known("k1"), None);
    }

    #[test]
    fn consent_is_for_the_model_that_was_named() {
        let memory = Consents::default();
        assert!(!consents(&memory, &[ONCE], "flash"), "no failure named it");
        assert!(!consents(&memory, &[ONCE, ("x-gem-fallback", "lite")], "flash"));
        assert!(consents(&memory, &[ONCE, ("x-gem-fallback", "flash")], "flash"));
        assert_eq!(offer(&memory, "k1", "flash")["x-gem-fallback"], "flash");
        assert!(!consents(&memory, &[ONCE], "lite"));
        assert!(!consents(&memory, &[ONCE, ("x-goog-api-key", "k2")], "flash"));
        assert!(consents(&memory, &[ONCE], "flash"));
    }

    #[test]
    fn a_failure_that_names_a_model_ends_no_consent() {
        let memory = Consents::default();
        offer(&memory, "k1", "flash");
        assert!(consents(&memory, &[SESSION], "flash"));
        for candidate in ["flash", "lite"] {
            offer(&memory, "k1", candidate);
            assert!(consents(&memory, &[], "flash"), "{candidate}");
        }
        assert!(!consents(&memory, &[], "lite"));
        assert!(consents(&memory, &[ONCE], "lite"));
    }

    #[test]
    fn clients_without_a_key_share_no_consent() {
        let memory = Consents::default();
        for key in ["", " "] {
            let hint = offer(&memory, key, "flash")["x-gem-hint"].clone();
            assert!(hint.to_str().unwrap().contains("`x-gem-fallback: flash`"), "{hint:?}");
            let ask = |headers: &[(&'static str, &'static str)]| {
                let mut request = Request::builder().uri("/?key=").body(()).unwrap();
                let key = HeaderValue::from_str(key).unwrap();
                request.headers_mut().insert("x-goog-api-key", key);
                for (name, value) in headers {
                    request.headers_mut().insert(*name, HeaderValue::from_static(value));
                }
                memory.take(&mut request).consents(&model("pro"), &model("flash"))
            };
            assert!(ask(&[SESSION, ("x-gem-fallback", "flash")]));
            assert!(!ask(&[]));
            assert!(!ask(&[ONCE]));
        }
    }

    #[test]
    fn a_consent_in_use_outlives_any_number_of_others() {
        let memory = Consents::default();
        offer(&memory, "k1", "flash");
        assert!(consents(&memory, &[SESSION], "flash"));
        for number in 0..3 * REMEMBERED.get() {
            offer(&memory, &format!("other{number}"), "flash");
            if number % 1000 == 0 {
                assert!(consents(&memory, &[], "flash"), "{number}");
            }
        }
        assert_eq!(memory.known().len(), REMEMBERED.get());
    }

    #[test]
    fn one_consent_is_one_switch() {
        let memory = Consents::default();
        let mut request = Request::builder().uri("/?key=k1").header("x-gem-consent", "once");
        request = request.header("x-gem-fallback", "flash");
        let mut request = request.body(()).unwrap();
        let mut consenter = memory.take(&mut request);
        assert!(consenter.consents(&model("pro"), &model("flash")));
        assert!(!consenter.consents(&model("flash"), &model("lite")));
    }
}
