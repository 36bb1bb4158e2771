//! The local model as a classifier, for clients and for the gateway's own router: remembers answers, and makes one
//! engine call for equal requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::Uri;
use tokio::time::{Instant, timeout_at};

use super::cache::{Abandoned, AnswerResult, Answers, Key};
use super::classification::time_for_model;
use super::config::Config;
use super::engine::{ATTEMPTS, Engine};
use super::fault::Fault;
use super::generate::GenerateRequest;
use super::metrics::Metrics;
use crate::router::classify::builtin::{self, Threshold};
use crate::router::classify::clean::{self, Answer};
use crate::router::classify::local::{self, classification, reply_text};
use crate::router::{AnsweredBy, Turn, Verdict};

/// The local model of one gateway.
pub(super) struct LocalModel {
    /// `None` for a runtime without a model.
    engine: Option<Arc<Engine>>,
    pub(super) answers: Answers,
    metrics: Arc<Metrics>,
    generate_path: Uri,
    prompt_time: Duration,
    deadline: Duration,
    fast_path: Option<f64>,
    threshold: Threshold,
}

impl LocalModel {
    pub(super) fn new(config: &Config, engine: Option<Arc<Engine>>, metrics: Arc<Metrics>, generate_path: Uri) -> Self {
        Self {
            engine,
            answers: Answers::new(config.limits.cached_answers),
            metrics,
            generate_path,
            prompt_time: config.limits.prompt_time,
            deadline: config.classifier_deadline,
            fast_path: config.fast_path,
            threshold: config.threshold,
        }
    }

    /// The built-in classifier's verdict.
    pub(super) fn builtin(&self, request: &str, turns: &[Turn]) -> Verdict {
        builtin::classify_from(self.threshold, request, turns)
    }

    /// The built-in classifier's verdict, if it is sure enough that the model need not be asked.
    pub(super) fn without_asking(&self, request: &str, turns: &[Turn]) -> Option<Verdict> {
        if self.engine.is_none() {
            return Some(self.builtin(request, turns));
        }
        let sure = self.fast_path?;
        let verdict = self.builtin(request, turns);
        let probability = verdict.probability?;
        (probability >= sure || probability <= 1.0 - sure).then_some(verdict)
    }

    /// The key of the request `body`, as a client sent it or as the engine gets it.
    pub(super) fn key(&self, body: &[u8]) -> Key {
        let release = self.engine.as_ref().map_or(0, |engine| engine.release());
        self.answers.key(body, release)
    }

    /// The model's answer to `engine_body`, whose key is `asked`. It must come within `time` from `start`, minus the
    /// time to answer without the model.
    pub(super) async fn ask(
        &self,
        (asked, engine_body): (Key, &Bytes),
        start: Instant,
        time: Duration,
    ) -> Result<Answer, Arc<Fault>> {
        let Some(engine) = &self.engine else {
            return Err(Arc::new(Fault::Unavailable("no model is installed".to_owned())));
        };
        let answer = self.answers.wait(asked, |abandoned| {
            let call = Call {
                engine: Arc::clone(engine),
                metrics: Arc::clone(&self.metrics),
                path: self.generate_path.clone(),
                body: engine_body.clone(),
            };
            call.run(Instant::now() + self.prompt_time, abandoned)
        });
        let outcome = tokio::select! {
            outcome = timeout_at(start + time_for_model(time), answer) => outcome.unwrap_or_else(|_| Err(Fault::Deadline.into())),
            () = engine.stops_answering() => Err(Fault::Unavailable("it does not answer its health probes".to_owned()).into()),
        };
        match &outcome {
            Ok(_) => self.metrics.model.ended("the local model"),
            Err(failure) => self.metrics.model.failed("the local model", failure),
        }
        outcome
    }
}

/// One call of the engine. It continues after its clients have left: a late answer serves the next equal request.
struct Call {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    path: Uri,
    body: Bytes,
}

impl Call {
    async fn run(self, give_up: Instant, abandoned: Abandoned) -> Option<AnswerResult> {
        let mut attempt = 1;
        loop {
            let opened = tokio::select! {
                opened = self.engine.open(&self.path, &self.body, give_up) => opened,
                () = abandoned.wait() => return None,
            };
            let answer = match opened {
                Ok(exchange) => exchange.answer(give_up).await,
                Err(fault) => return Some(Err(fault.into())),
            };
            match answer {
                Ok(answer) => return Some(self.read(&answer).map_err(Arc::new)),
                Err(Fault::BadEngine(_)) if attempt < ATTEMPTS => self.metrics.count_retry(),
                Err(fault @ (Fault::Deadline | Fault::BadEngine(_))) => return Some(Err(fault.into())),
                Err(fault) => return Some(Err(Fault::BadEngine(fault.to_string()).into())),
            }
            attempt += 1;
        }
    }

    fn read(&self, answer: &[u8]) -> Result<Answer, Fault> {
        let text = reply_text(answer)
            .map_err(|reason| Fault::BadEngine(format!("the model's answer has no text: {reason}")))?;
        clean::clean(&text).map_err(|unusable| {
            self.metrics.unusable_answers.fetch_add(1, Ordering::Relaxed);
            Fault::BadEngine(unusable.to_string())
        })
    }
}

/// The local model in the same process, as the router uses it.
pub(super) struct InProcess(pub(super) Arc<LocalModel>);

impl InProcess {
    async fn answer(&self, request: &str, history: &[Turn]) -> Result<local::Classified, Arc<Fault>> {
        let (model, start) = (&self.0, Instant::now());
        if let Some(verdict) = model.without_asking(request, history) {
            let answered_by = AnsweredBy::Builtin;
            return Ok(local::Classified { verdict, answered_by });
        }
        let body = Bytes::from(classification(request, history));
        let body = GenerateRequest::parse(&body)?.engine_body(&body, None)?;
        let asked = model.key(&body);
        let (answer, answered_by) = match model.answers.known(asked) {
            Some(known) => (known, AnsweredBy::Cache),
            None => (
                model.ask((asked, &body), start, model.deadline).await?,
                AnsweredBy::Model,
            ),
        };
        model.metrics.classified(answered_by);
        let verdict = answer.into();
        Ok(local::Classified { verdict, answered_by })
    }
}

impl local::LocalModel for InProcess {
    fn classify<'a>(
        &'a self,
        request: &'a str,
        history: &'a [Turn],
    ) -> BoxFuture<'a, Result<local::Classified, String>> {
        Box::pin(async move { self.answer(request, history).await.map_err(|fault| fault.to_string()) })
    }
}
