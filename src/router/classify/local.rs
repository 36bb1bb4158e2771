//! The classifier that asks a model behind a Gemini API on this machine (`classifier.host`, `classifier.model`).
//!
//! ```
//! use gem_setup::router::Tier;
//! use gem_setup::router::classify::local::verdict_in_reply;
//!
//! let reply = br#"{"candidates":[{"content":{"parts":[{"text":"{\"model_choice\":\"pro\",\"reasoning\":\"hard\"}"}]}}]}"#;
//! assert_eq!(verdict_in_reply(reply)?.tier, Tier::Pro);
//! # Ok::<(), String>(())
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;
use url::Url;

use super::clean::clean;
use super::prompt::Prompt;
use crate::error::{Explain, Kind, chain};
use crate::net::{self, BodyError, Client, SafeUrl};
use crate::router::contents::repaired;
use crate::router::{AnsweredBy, ModelName, Turn, Verdict};
use crate::runtime::{self, local::Peer};

/// The default time limit of a classification; Gemini CLI waits 10 s.
pub const DEADLINE: Duration = Duration::from_secs(8);

/// The longest reply that is read; an answer takes a few hundred bytes.
const LONGEST_REPLY: usize = 256 * 1024;

/// The header that names the part of the gateway that answered.
const ANSWERED_BY: &str = "x-gem-answered-by";

/// Why the local model gave no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured host and model do not give a valid URL.
    #[error("cannot ask `{model}` at `{host}`")]
    Address {
        /// The configured host.
        host: String,
        /// The configured model.
        model: ModelName,
        /// Why.
        source: url::ParseError,
    },
    /// The request failed.
    #[error("cannot ask `{url}`")]
    Request {
        /// Where the model is served.
        url: SafeUrl,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer came in time.
    #[error("no answer from `{url}` within {} s", after.as_secs_f64())]
    Deadline {
        /// Where the model is served.
        url: SafeUrl,
        /// The deadline.
        after: Duration,
    },
    /// The status of the response is not a success.
    #[error("`{url}` answered {status}")]
    Status {
        /// Where the model is served.
        url: SafeUrl,
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer contains no choice.
    #[error("the answer from `{url}` is not usable: {reason}")]
    Reply {
        /// Where the model is served.
        url: SafeUrl,
        /// Why.
        reason: String,
    },
}

impl Explain for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Address { .. } => Kind::Usage,
            _ => Kind::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => "correct `classifier.host` in Gemini CLI's settings".to_owned(),
            _ => "`gem-setup status` shows whether the local server is running".to_owned(),
        })
    }
}

/// A verdict and its origin: a gateway at the URL may have several classifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    /// The verdict.
    pub verdict: Verdict,
    /// The origin of the verdict.
    pub answered_by: AnsweredBy,
}

/// A local model that classifies: in this process, or behind a Gemini API.
pub trait LocalModel: Send + Sync {
    /// Classifies `request` after `history` (oldest turn first).
    ///
    /// # Errors
    /// Why no usable answer came in time.
    fn classify<'a>(&'a self, request: &'a str, history: &'a [Turn]) -> BoxFuture<'a, Result<Classified, String>>;
}

impl LocalModel for LocalClassifier {
    fn classify<'a>(&'a self, request: &'a str, history: &'a [Turn]) -> BoxFuture<'a, Result<Classified, String>> {
        Box::pin(async move {
            let answer = Self::classify(self, request, history).await;
            let answer = answer.map_err(|error| chain(&error))?;
            if answer.answered_by == AnsweredBy::Builtin {
                // A gateway replies even if its model does not (docs/contract.md section 4); the decision is then not the model's.
                return Err("the built-in classifier answered in its place".to_owned());
            }
            Ok(answer)
        })
    }
}

/// The body of a request that asks a local model to classify `request`.
pub(crate) fn classification(request: &str, history: &[Turn]) -> Vec<u8> {
    Prompt::new(request, history).body().to_string().into_bytes()
}

/// A client of one model at one address.
#[derive(Clone, Debug)]
pub struct LocalClassifier {
    client: Client,
    peer: Option<Peer>,
    url: Url,
    deadline: Duration,
}

impl LocalClassifier {
    /// Asks `model` at `host` (such as `http://localhost:9379`) through `client`, which should not use a proxy. The answer must be complete
    /// within `deadline`.
    ///
    /// # Errors
    /// When host and model do not give a valid URL.
    pub fn new(client: Client, host: &str, model: &ModelName, deadline: Duration) -> Result<Self, Error> {
        let base = host.trim_end_matches('/');
        let url =
            Url::parse(&format!("{base}/v1beta/models/{model}:generateContent")).map_err(|source| Error::Address {
                host: SafeUrl::redact(host),
                model: model.clone(),
                source,
            })?;
        Ok(Self {
            client,
            peer: None,
            url,
            deadline,
        })
    }

    /// The same, but sends requests only to `peer`: any local user may listen on a port.
    #[must_use]
    pub const fn of_peer(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The URL of the local model.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Classifies `request` after `history` (oldest turn first).
    ///
    /// # Errors
    /// When no usable answer came in time.
    pub async fn classify(&self, request: &str, history: &[Turn]) -> Result<Classified, Error> {
        timeout(self.deadline, self.ask(&Prompt::new(request, history)))
            .await
            .unwrap_or_else(|_| {
                Err(Error::Deadline {
                    url: (&self.url).into(),
                    after: self.deadline,
                })
            })
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Classified, Error> {
        let body = Bytes::from(prompt.body().to_string());
        let Some(peer) = self.peer else {
            return self.ask_url(body).await;
        };
        let answer = runtime::local::post(peer, self.url.path(), Some(body), self.deadline).await;
        let answer = answer.map_err(|source| self.failed(source.into()))?;
        self.check(StatusCode::from_u16(answer.status).unwrap_or_default())?;
        let verdict = verdict_in_reply(&answer.body).map_err(|reason| self.unusable(reason))?;
        let answered_by = who(answer.answered_by.as_deref());
        Ok(Classified { verdict, answered_by })
    }

    fn check(&self, status: StatusCode) -> Result<(), Error> {
        if status.is_success() {
            return Ok(());
        }
        let url = SafeUrl::from(&self.url);
        Err(Error::Status { url, status })
    }

    async fn ask_url(&self, body: Bytes) -> Result<Classified, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let sent = self.client.send(Method::POST, &self.url, headers, body).await;
        let response = sent.map_err(|source| self.failed(source.into()))?;
        self.check(response.head.status)?;
        let answered_by = answered_by(&response.head.headers);
        let body = self.read(response).await?;
        let verdict = verdict_in_reply(&body).map_err(|reason| self.unusable(reason))?;
        Ok(Classified { verdict, answered_by })
    }

    async fn read(&self, mut response: net::ServerResponse) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.failed(source))? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_REPLY {
                return Err(self.unusable(format!("it is longer than {LONGEST_REPLY} bytes")));
            }
        }
        Ok(body)
    }

    fn failed(&self, source: BodyError) -> Error {
        Error::Request {
            url: (&self.url).into(),
            source,
        }
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Reply {
            url: (&self.url).into(),
            reason,
        }
    }
}

fn answered_by(headers: &HeaderMap) -> AnsweredBy {
    who(headers.get(ANSWERED_BY).and_then(|value| value.to_str().ok()))
}

fn who(said: Option<&str>) -> AnsweredBy {
    [AnsweredBy::Builtin, AnsweredBy::Cache]
        .into_iter()
        .find(|who| said == Some(who.as_str()))
        .unwrap_or(AnsweredBy::Model)
}

/// The verdict in the body of a reply to a classification request.
///
/// # Errors
/// Why there is none.
pub fn verdict_in_reply(body: &[u8]) -> Result<Verdict, String> {
    let text = reply_text(body)?;
    let head = || text.chars().take(80).collect::<String>();
    let answer = clean(&text).map_err(|reason| format!("{reason}: `{}`", head()))?;
    Ok(answer.into())
}

/// The text of the first candidate in a `generateContent` reply.
///
/// # Errors
/// Why there is none.
pub(crate) fn reply_text(body: &[u8]) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Reply {
        candidates: Vec<Candidate>,
    }
    #[derive(Deserialize)]
    struct Candidate {
        content: CandidateContent,
    }
    #[derive(Deserialize)]
    struct CandidateContent {
        parts: Vec<CandidatePart>,
    }
    #[derive(Deserialize)]
    struct CandidatePart {
        #[serde(default)]
        text: String,
    }
    let reply: Reply = serde_json::from_slice(&repaired(body)).map_err(|error| error.to_string())?;
    let first = reply.candidates.into_iter().next().ok_or("no candidate in the reply")?;
    Ok(first.content.parts.into_iter().map(|part| part.text).collect())
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
