//! The smoke test: one joke and two routing probes, with their latency.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::port::taken_port;
use super::site::Site;
use super::state::State;
use super::wanted::{Chosen, Wanted};
use crate::error::{Failure, Kind};
use crate::net::RAISE_LOOPBACK;
use crate::progress::{Progress, waiting};
use crate::router::Tier;
use crate::router::classify::classification_request;
use crate::router::classify::local::verdict_in_reply;
use crate::runtime::local::{self, Peer};
use crate::supervise::{self, Running, observe};

const JOKE: &str = "Tell me a joke.";
const BY_MODEL: &str = "model";
/// Two requests: by the rubric, one is clearly simple and the other clearly complex.
const PROBES: [(&str, Tier); 2] = [
    ("List the files here.", Tier::Flash),
    (
        "Why does our service lose messages under load? Debug the cause across all components and design a new architecture.",
        Tier::Pro,
    ),
];
/// The time limit for an answer; loading a model from a cold disk may take long.
const LIMIT: Duration = Duration::from_secs(120);

/// The result of a smoke test (docs/contract.md section 2).
#[derive(Clone, Debug, Serialize)]
pub struct Smoke {
    /// Whether every answer was usable.
    pub ok: bool,
    /// The joke; `None` from a runtime that only classifies.
    pub joke: Option<String>,
    /// The latency of the joke, in milliseconds.
    pub joke_latency_ms: Option<u64>,
    /// The routing probes.
    pub probes: Vec<Probe>,
}

impl Smoke {
    /// Why the model's answers are doubtful, as text; `None` if they are not.
    #[must_use]
    pub fn doubts(&self) -> Option<String> {
        let doubts: Vec<String> = self.unusable().into_iter().chain(self.misjudged()).collect();
        (!doubts.is_empty()).then(|| doubts.join("; "))
    }

    /// The probes for which the model gave no usable answer, as text.
    fn unusable(&self) -> Option<String> {
        let failures: Vec<&str> = self
            .probes
            .iter()
            .filter_map(|probe| probe.model_failure.as_deref())
            .collect();
        let (failed, reason) = (failures.len(), failures.first()?);
        let probes = self.probes.len();
        Some(format!(
            "the model gave no usable answer to {failed} of {probes} routing probes ({reason}): the built-in classifier decided"
        ))
    }

    /// The answers of the model that are unlike the rubric, as text; `None` if all are right.
    fn misjudged(&self) -> Option<String> {
        let is_wrong = |probe: &&Probe| probe.answered_by == BY_MODEL && probe.got != probe.expected;
        let wrong: Vec<String> = self
            .probes
            .iter()
            .filter(is_wrong)
            .map(|probe| format!("`{}` to “{}”", probe.got, probe.request))
            .collect();
        (!wrong.is_empty()).then(|| format!("unlike the rubric, the model answers {}", wrong.join(", and ")))
    }
}

/// A routing probe.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The request.
    pub request: String,
    /// The tier according to the rubric.
    pub expected: Tier,
    /// The tier in the answer.
    pub got: Tier,
    /// The latency of the answer, in milliseconds.
    pub latency_ms: u64,
    /// The source of the answer: `model` or `builtin`.
    pub answered_by: String,
    /// Why the model gave no usable answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_failure: Option<String>,
}

/// Sends the joke prompt and the probes to the installed server; only the probes if options left out the model.
///
/// # Errors
/// When an answer is missing or unusable, the model is missing, or its terms are not accepted.
pub async fn smoke(site: &Site<'_>, wanted: &Wanted, state: &State, progress: &dyn Progress) -> Result<Smoke, Failure> {
    let Chosen { port, model, .. } = &wanted.chosen;
    let (port, model) = (*port, model.as_str());
    check_port(site, port).await?;
    let peer = supervise::peer(&site.layout, port).map_err(|error| failure(error.to_string()))?;
    let has_model = has_model(site, wanted, state).await?;
    let mut outcome = Smoke {
        ok: true,
        joke: None,
        joke_latency_ms: None,
        probes: Vec::new(),
    };
    if has_model {
        let (joke, latency) = answered(progress, "the joke", joke(peer, model)).await?;
        outcome.joke = Some(joke);
        outcome.joke_latency_ms = Some(latency);
    }
    for ((request, expected), number) in PROBES.into_iter().zip(1..) {
        let what = format!("routing probe {number} of {}", PROBES.len());
        let probe = probe(peer, model, has_model, request, expected);
        outcome.probes.push(answered(progress, &what, probe).await?);
    }
    Ok(outcome)
}

/// Waits for the answer to `what` and shows that.
async fn answered<T>(progress: &dyn Progress, what: &str, answer: impl Future<Output = T>) -> T {
    let wait = format!("waiting for the answer to {what}, at most {} s", LIMIT.as_secs());
    waiting(progress, "smoke", &wait, answer).await
}

/// The URL and the body of a request that the server of `chosen` answers: the joke prompt, or a routing probe if its runtime is `builtin`.
#[must_use]
pub fn sample_request(chosen: &Chosen) -> (String, String) {
    let Chosen { port, model, .. } = chosen;
    let url = format!("http://127.0.0.1:{port}/v1beta/models/{model}:generateContent");
    let body = match chosen.runtime.has_models() {
        true => joke_body(),
        false => classification_request(PROBES[0].0, &[]).to_string(),
    };
    (url, body)
}

fn joke_body() -> String {
    json!({"contents": [{"role": "user", "parts": [{"text": JOKE}]}]}).to_string()
}

/// Checks that a server that answers is on `port`, and no other program.
async fn check_port(site: &Site<'_>, port: u16) -> Result<(), Failure> {
    if !local::is_listening(port).await {
        return Err(not_running(site, port));
    }
    if supervise::is_silent(&site.layout, port).await {
        let silent = failure(format!("the server is running but does not answer on port {port}"));
        return Err(silent.with_hint("run `gem-setup restart` to replace it"));
    }
    if supervise::is_stranger(&site.layout, port)
        && let Some(taken) = taken_port(site, port).await
    {
        let message = format!("smoke test: nothing was sent: {}", taken.message);
        return Err(Failure { message, ..taken });
    }
    Ok(())
}

/// Whether the server has a model to ask.
async fn has_model(site: &Site<'_>, wanted: &Wanted, state: &State) -> Result<bool, Failure> {
    let closed = match site.gate(&wanted.chosen, state)? {
        Some(gate) => gate.open().await.err(),
        None => None,
    };
    match closed {
        None => Ok(wanted.chosen.runtime.has_models()),
        // The gateway answers the probes itself, without the engine.
        Some(_) if !wanted.with_model && !wanted.chosen.direct => Ok(false),
        Some(closed) => {
            let failure = Failure::of(&closed);
            let message = format!("smoke test: {}", failure.message);
            Err(Failure { message, ..failure })
        }
    }
}

/// An engine's answer to a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeAnswer {
    /// The request.
    pub(super) request: &'static str,
    /// The tier according to the rubric.
    pub(super) expected: Tier,
    /// The tier in the answer; `None` if the answer is unusable.
    pub(super) got: Option<Tier>,
}

impl ProbeAnswer {
    /// Whether the answer agrees with the rubric.
    pub(super) fn is_right(&self) -> bool {
        self.got == Some(self.expected)
    }

    /// The tier in the answer, for messages.
    pub(super) fn got_in_words(&self) -> String {
        let got = self.got.map(|tier| format!("`{tier}`"));
        got.unwrap_or_else(|| "nothing usable".to_owned())
    }
}

/// Sends the same prompts directly to an engine. It need not be right about both requests, but an answer must be
/// usable.
///
/// # Errors
/// When an answer is missing, or the answers to all probes are unusable.
pub(super) async fn try_prompts(peer: Peer, model: &str) -> Result<Vec<ProbeAnswer>, Failure> {
    joke(peer, model).await?;
    let mut answers = Vec::new();
    let mut unusable = None;
    for (request, expected) in PROBES {
        let mut answer = ProbeAnswer {
            request,
            expected,
            got: None,
        };
        // An undecided model may be right at the second attempt.
        for _ in 0..2 {
            match probe(peer, model, true, request, expected).await {
                Ok(probe) => answer.got = Some(probe.got),
                Err(failure) => unusable = Some(failure),
            }
            if answer.is_right() {
                break;
            }
        }
        answers.push(answer);
    }
    match unusable.filter(|_| answers.iter().all(|answer| answer.got.is_none())) {
        Some(failure) => Err(failure),
        None => Ok(answers),
    }
}

async fn joke(peer: Peer, model: &str) -> Result<(String, u64), Failure> {
    let (answer, latency) = ask(peer, model, joke_body().into()).await?;
    Ok((text_of(&answer, peer.port())?, latency))
}

fn not_running(site: &Site<'_>, port: u16) -> Failure {
    if let Ok(Running::Supervised(record)) = observe(&site.layout)
        && record.server.port != port
    {
        let other = record.server.port;
        let message = format!("nothing listens on port {port}: the server is running on port {other}");
        return failure(message).with_hint(format!(
            "run `gem-setup install --port {other}` to make that the port of this installation, or `gem-setup restart --port {port}`"
        ));
    }
    let is_installed = site.layout.state_file().exists();
    let next = if is_installed {
        "gem-setup start"
    } else {
        "gem-setup install"
    };
    let refused = local::Error::refused(port);
    failure(refused.to_string()).with_hint(match refused {
        local::Error::NoLoopback => RAISE_LOOPBACK.to_owned(),
        _ => format!("run `{next}` first"),
    })
}

async fn probe(peer: Peer, model: &str, has_model: bool, request: &str, expected: Tier) -> Result<Probe, Failure> {
    // A unique text, because the gateway would answer a repeated one from its cache without testing the model.
    let unique = format!("{request} (probe {})", Timestamp::now().as_nanosecond());
    let body = classification_request(&unique, &[]);
    let (answer, latency_ms) = ask(peer, model, body.to_string().into()).await?;
    let verdict = verdict_in_reply(&answer.body)
        .map_err(|reason| failure(format!("the answer to a routing probe is unusable: {reason}")))?;
    let got = verdict.tier;
    // Without a gateway there is no such header, and the runtime answered.
    let by_runtime = if has_model { BY_MODEL } else { "builtin" };
    Ok(Probe {
        request: request.to_owned(),
        expected,
        got,
        latency_ms,
        model_failure: answer.model_failure,
        answered_by: match answer.answered_by.as_deref() {
            Some("builtin") => "builtin".to_owned(),
            _ => by_runtime.to_owned(),
        },
    })
}

async fn ask(peer: Peer, model: &str, body: Bytes) -> Result<(local::Answer, u64), Failure> {
    let path = format!("/v1beta/models/{model}:generateContent");
    let begun = Instant::now();
    let port = peer.port();
    let answer = local::post(peer, &path, Some(body), LIMIT)
        .await
        .map_err(|error| failure(error.to_string()))?;
    let latency = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if answer.status != 200 {
        let text = String::from_utf8_lossy(&answer.body);
        return Err(failure(format!(
            "port {port} answered {} to a prompt: {}",
            answer.status,
            text.trim()
        )));
    }
    Ok((answer, latency))
}

fn text_of(answer: &local::Answer, port: u16) -> Result<String, Failure> {
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|error| failure(format!("port {port} did not answer in JSON: {error}")))?;
    body.pointer("/candidates/0/content/parts/0/text")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| failure(format!("the answer of port {port} contains no text")))
}

fn failure(message: String) -> Failure {
    Failure::new(Kind::Runtime, format!("smoke test: {message}"))
        .with_hint("read the server's output with `gem-setup logs`, or run `gem-setup doctor`")
}
