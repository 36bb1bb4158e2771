//! The upstream face: passes on all requests that are not for the local model.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::attempt::{Attempted, add_to_error, attempt_one, late, send};
use super::decision::{Asked, failure_status, is_error};
use crate::gateway::body::{self, Begun, ClientBody, Outgoing};
use crate::gateway::consent::{Consenter, HINT};
use crate::gateway::deadline::{deadline, time_left, within};
use crate::gateway::fault::Fault;
use crate::gateway::model_field;
use crate::gateway::reply::Reply;
use crate::gateway::routing::{BodySize, Call, Choice, Handling, Routes, Walking, asks_for, generates};
use crate::gateway::shared::Shared;
use crate::gateway::stream_watch::CLIENT_LEFT;
use crate::net::Idle;
use crate::router::consent::{Question, Ruling};
use crate::router::walk::{End, Next, Walk};
use crate::router::{AnsweredBy, DecisionRecord, ModelAvailability, ModelName, Repeat, Source};

const MODEL: HeaderName = HeaderName::from_static("x-gem-model");
const SOURCE: HeaderName = HeaderName::from_static("x-gem-source");
const LATENCY: HeaderName = HeaderName::from_static("x-gem-latency-ms");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-gem-attempts");

/// How long an error may take to be read before it is passed on as it comes, if the request waits no longer; half of that is
/// used.
const ERROR_TIME: Duration = Duration::from_secs(2);

/// Passes a request on unchanged.
pub(in crate::gateway) async fn pass(shared: &Shared, request: Request<ClientBody>) -> Result<Reply, Fault> {
    let deadline = deadline(request.headers());
    let (parts, body) = request.into_parts();
    let body = Idle::new(body, shared.config.limits.body_time);
    send(shared, parts, Outgoing::Client(body), deadline).await
}

/// Passes on a call of `method` of `model`; if the call is routed, to the model that the router chooses.
pub(in crate::gateway) async fn call(
    shared: &Arc<Shared>,
    model: &str,
    method: &str,
    mut request: Request<ClientBody>,
) -> Result<Reply, Fault> {
    if request.method() != Method::POST {
        return pass(shared, request).await;
    }
    let consenter = shared.consents.take(&mut request);
    let routes = shared.routes.as_ref();
    let availability = routes.map(|routes| routes.availability(request.headers(), request.uri()));
    let (limit, bodies) = (shared.config.limits.routed_body, &shared.bodies);
    let fits = |length| usize::try_from(length).is_ok_and(|length| length <= limit && bodies.has_room(length));
    let size = BodySize::of(length(request.headers()), fits);
    let named = Named {
        shared,
        method,
        consenter,
        availability: availability.unwrap_or_default(),
        size,
    };
    let Some(routes) = routes else {
        return named.as_asked(model, request).await;
    };
    match routes.handling(model, method, size, (&named.consenter, &named.availability)) {
        Handling::Routed(walking) => routed(named, routes, walking, model, request).await,
        Handling::AsAsked => named.as_asked(model, request).await,
        Handling::Renamed(meant) => {
            let decision = named.decision(model, meant.as_str());
            let reply = named.renamed(model, meant.as_str(), request).await;
            Ok(decision.made(reply.unwrap_or_else(|fault| fault.reply())))
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A call of a method of a model, with the client's consent to other models.
struct Named<'a> {
    shared: &'a Shared,
    method: &'a str,
    consenter: Consenter<'a>,
    /// The models' health for the client's credential.
    availability: Arc<ModelAvailability>,
    size: BodySize,
}

impl Named<'_> {
    /// Passes a call on to the model that its path names; the reply to a failure names an alternative.
    async fn as_asked(&self, model: &str, request: Request<ClientBody>) -> Result<Reply, Fault> {
        let deadline = deadline(request.headers());
        let (parts, body) = request.into_parts();
        let body = Outgoing::Client(Idle::new(body, self.shared.config.limits.body_time));
        Ok(self.streamed(model, parts, body, deadline).await)
    }

    async fn streamed(&self, model: &str, parts: Parts, body: Outgoing, deadline: Option<Instant>) -> Reply {
        let decision = self.decision(model, model);
        let mut reply = self.ask(model, parts, body, deadline).await;
        if matches!(reply.status().as_u16(), 400 | 404)
            && let Some(routes) = &self.shared.routes
            && let Some(meant) = model.parse().ok().and_then(|name| routes.models().meant_by(&name))
        {
            let hint = format!("`{model}` is not a name that the gateway knows; did you mean `{meant}`?");
            set(reply.headers_mut(), HINT, &hint);
        }
        decision.made(reply)
    }

    /// Asks `model` once; the reply to a failure names an alternative.
    async fn ask(&self, model: &str, attempt: Parts, body: Outgoing, deadline: Option<Instant>) -> Reply {
        let asked = (model, self.method);
        let (attempted, reply) = attempt_one(self.shared, asked, attempt, body, (deadline, ERROR_TIME)).await;
        let mut reply = reply.unwrap_or_else(|fault| fault.reply());
        let headers = reply.headers_mut();
        set(headers, MODEL, model);
        headers.insert(SOURCE, HeaderValue::from_static(Source::Override.as_str()));
        headers.insert(LATENCY, HeaderValue::from_static("0"));
        let routes = self.shared.routes.as_ref().filter(|_| generates(self.method));
        match (attempted, routes) {
            (Attempted::Answered, Some(routes)) => routes.answered(model, &self.availability),
            (Attempted::Failed(failure, Repeat::Safe, _), Some(routes)) => {
                routes.failed(model, &failure, &self.availability);
                self.name_alternative(headers, model, routes);
            }
            _ => {}
        }
        self.correct(&mut reply);
        reply
    }

    /// Names a wrong consent in the reply to a call that failed.
    fn correct(&self, reply: &mut Reply) {
        if is_error(reply.status()) && generates(self.method) {
            self.consenter.correct(reply.headers_mut());
        }
    }

    /// Names the model that may answer in place of `model`, which has failed.
    fn name_alternative(&self, headers: &mut HeaderMap, model: &str, routes: &Routes) {
        let alternative = routes.alternative(model, &self.availability);
        let Some((model, alternative)) = model.parse().ok().zip(alternative) else {
            return;
        };
        match self.size {
            BodySize::TooLarge => self.consenter.advise(headers, &alternative),
            _ => self.consenter.offer(headers, &model, &alternative),
        }
    }

    /// The same for a name that is an alias of the model `meant`.
    async fn renamed(&self, model: &str, meant: &str, request: Request<ClientBody>) -> Result<Reply, Fault> {
        let deadline = deadline(request.headers());
        let (parts, body) = request.into_parts();
        let mut attempt = attempt_parts(&parts, meant, self.method)?;
        let body = whole(self.shared, body, deadline).await?;
        let (limit, budget) = (self.shared.config.limits.routed_body, &self.shared.bodies);
        let renamed = model_field::rename(&mut attempt.headers, &body, (model, meant), limit, budget);
        let body = within(deadline, renamed).await.ok_or_else(|| late(self.shared))??;
        Ok(self.ask(meant, attempt, Outgoing::Whole(body), deadline).await)
    }

    /// The decision for `model`, which the path names as `asked`, if the call generates content.
    fn decision(&self, asked: &str, model: &str) -> Asked<'_> {
        let routes = self.shared.routes.as_ref();
        let record = generates(self.method).then(|| DecisionRecord {
            tier: routes.and_then(|routes| routes.tier(model)),
            reasoning: asks_for(asked).into(),
            status: Some(CLIENT_LEFT),
            ..DecisionRecord::new(Source::Override, model)
        });
        Asked::new(&self.shared.decisions, record)
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Walks along the chain of the model that the router chooses.
async fn routed(
    mut named: Named<'_>,
    routes: &Routes,
    walking: Walking,
    model: &str,
    request: Request<ClientBody>,
) -> Result<Reply, Fault> {
    let shared = named.shared;
    let deadline = deadline(request.headers());
    let (parts, body) = request.into_parts();
    let body = match begin(shared, body, deadline).await? {
        Ok(body) => body,
        Err(begun) if routes.is_own_name(model) => {
            named.size = BodySize::TooLarge;
            let rest = Idle::new(begun.rest, shared.config.limits.body_time);
            return Ok(named
                .streamed(model, parts, Outgoing::Begun(begun.pieces, rest), deadline)
                .await);
        }
        Err(begun) => return Err(begun.why),
    };
    let call = Call {
        model,
        headers: &parts.headers,
        body: &body,
        deadline,
        budget: &shared.bodies,
        availability: &named.availability,
    };
    let time = Timestamp::now();
    let (choice, walk) = decide(shared, routes, call, walking).await?;
    let mut logged = Logged {
        named,
        routes,
        time,
        choice,
        walk,
        status: Some(CLIENT_LEFT),
        is_recorded: false,
    };
    let reply = logged.follow(&parts, &body, model, deadline).await;
    logged.status = failure_status(&reply);
    let mut reply = logged.label(reply);
    logged.is_recorded = true;
    reply.body_mut().decided(&shared.decisions, logged.record());
    Ok(reply)
}

/// Chooses the first model of `call`. If the client leaves meanwhile, the log says so.
async fn decide(shared: &Shared, routes: &Routes, call: Call<'_>, walking: Walking) -> Result<(Choice, Walk), Fault> {
    let undecided = DecisionRecord {
        reasoning: Cow::Borrowed("the client left before a model was chosen"),
        status: Some(CLIENT_LEFT),
        ..DecisionRecord::new(Source::Default, call.model)
    };
    let undecided = Asked::new(&shared.decisions, Some(undecided));
    let deadline = call.deadline;
    let begun = within(deadline, routes.begin(call, walking, shared.config.log_requests)).await;
    undecided.replaced();
    let (choice, walk) = begun.ok_or_else(|| late(shared))??;
    if choice.answered_by == Some(AnsweredBy::Builtin) {
        shared.metrics.classified(AnsweredBy::Builtin);
    }
    Ok((choice, walk))
}

/// Reads the whole body of a call whose model is chosen or renamed.
pub(super) async fn whole(shared: &Shared, body: ClientBody, deadline: Option<Instant>) -> Result<Bytes, Fault> {
    begin(shared, body, deadline).await?.map_err(|begun| begun.why)
}

/// The same, but returns a body that is too large or finds no room as far as it was read.
async fn begin(
    shared: &Shared,
    body: ClientBody,
    deadline: Option<Instant>,
) -> Result<Result<Bytes, Box<Begun>>, Fault> {
    let limits = &shared.config.limits;
    let time = time_left(limits.body_time, deadline);
    let mut read = body::begin(body, limits.routed_body, time, &shared.bodies).await?;
    if let Err(begun) = &mut read
        && let Fault::TooLarge(limit) = begun.why
    {
        begun.why = Fault::TooLargeToRoute(limit);
    }
    Ok(read)
}

/// The request's head with `model` in its path.
fn attempt_parts(parts: &Parts, model: &str, method: &str) -> Result<Parts, Fault> {
    let uri = model_field::in_path(&parts.uri, model, Some(method))?;
    let mut attempt = parts.clone();
    attempt.uri = uri;
    Ok(attempt)
}

/// A walk that logs its decision when it is dropped, because only then is the last model known.
struct Logged<'a> {
    named: Named<'a>,
    routes: &'a Routes,
    time: Timestamp,
    choice: Choice,
    walk: Walk,
    /// The status of the reply, if it is a failure.
    status: Option<u16>,
    is_recorded: bool,
}

impl Logged<'_> {
    /// Asks one model after another, in the walk's order, and returns the last reply.
    async fn follow(&mut self, parts: &Parts, body: &Bytes, model: &str, deadline: Option<Instant>) -> Reply {
        let mut last = None;
        loop {
            match self.walk.next() {
                Next::Ask(chosen) if self.passes_over(&chosen) => {}
                Next::Ask(chosen) => {
                    let (attempted, answer) = self.attempt(parts, body, (model, chosen.as_str()), deadline).await;
                    let mut answer = answer.unwrap_or_else(|fault| fault.reply());
                    match attempted {
                        Attempted::Answered => {
                            self.walk.answered();
                            last = Some(answer);
                        }
                        Attempted::Failed(failure, repeat, waited) => {
                            // The walk may go on to another model, and this reply may still be the last one.
                            self.name(answer.headers_mut());
                            last = Some(answer);
                            // An error that does not stall costs no second of the wait.
                            let waited = Duration::from_secs(waited.as_secs());
                            let left = self.walk.wait_left().saturating_sub(waited);
                            self.walk.wait_at_most(time_left(left, deadline));
                            self.walk.failed(failure, repeat);
                        }
                        // A model's own failure tells the client more.
                        Attempted::Unknown => {
                            last.get_or_insert(answer);
                            break;
                        }
                    }
                }
                Next::Wait(pause) => sleep(pause).await,
                Next::Settle(question) => {
                    let ruling = self.settle(&question, deadline).await;
                    self.walk.settled(ruling);
                }
                Next::Over => break,
            }
        }
        last.unwrap_or_else(|| late(self.named.shared).reply())
    }

    /// Asks the model `chosen` in place of the one that the client asked for.
    async fn attempt(
        &self,
        parts: &Parts,
        body: &Bytes,
        (asked, chosen): (&str, &str),
        deadline: Option<Instant>,
    ) -> (Attempted, Result<Reply, Fault>) {
        let shared = self.named.shared;
        let prepared = async {
            let mut attempt = attempt_parts(parts, chosen, self.named.method)?;
            let (limit, names) = (shared.config.limits.routed_body, (asked, chosen));
            let body = model_field::rename(&mut attempt.headers, body, names, limit, &shared.bodies).await?;
            Ok((attempt, body))
        };
        match within(deadline, prepared).await {
            Some(Ok((attempt, body))) => {
                let time = self.walk.wait_left().max(ERROR_TIME);
                let times = (deadline, time.min(shared.config.limits.body_time));
                attempt_one(
                    shared,
                    (chosen, self.named.method),
                    attempt,
                    Outgoing::Whole(body),
                    times,
                )
                .await
            }
            Some(Err(fault)) => (Attempted::Unknown, Err(fault)),
            None => (Attempted::Unknown, Err(late(shared))),
        }
    }

    /// Leaves `model` unasked if it failed this client, the failure lasts, and the client has consented for the session.
    fn passes_over(&mut self, model: &ModelName) -> bool {
        let known = self.named.consenter.known_failure(model);
        known.is_some_and(|(failure, candidate)| self.walk.passed_over(failure, &candidate))
    }

    /// Asks for consent: the client first, then a person.
    async fn settle(&mut self, question: &Question, deadline: Option<Instant>) -> Ruling {
        let consenter = &mut self.named.consenter;
        if consenter.consents(&question.failed, &question.candidate) {
            if let Some(failure) = self.walk.failure() {
                consenter.note(&question.failed, failure);
            }
            return Ruling::ClientConsents;
        }
        let opening = &self.choice.opening;
        let question = Question {
            request: (!opening.is_empty()).then(|| opening.clone()),
            ..question.clone()
        };
        // The person may have left.
        let time = time_left(self.named.shared.config.limits.stream_idle, deadline);
        tokio::select! {
            ruling = self.routes.settle(&question) => ruling,
            () = sleep(time) => Ruling::TellClient,
            () = self.named.shared.drains() => Ruling::TellClient,
        }
    }

    /// The reason for this model in one word: the strategy, or the failure of another model.
    fn source(&self) -> Source {
        match self.walk.left() {
            Some(_) => Source::Fallback,
            None => self.choice.source,
        }
    }

    /// Names the current model, and why it is asked.
    fn name(&self, headers: &mut HeaderMap) {
        set(headers, MODEL, self.walk.model().as_str());
        headers.insert(SOURCE, HeaderValue::from_static(self.source().as_str()));
    }

    /// Adds headers to the reply that say which model it comes from, and why.
    fn label(&self, mut reply: Reply) -> Reply {
        let headers = reply.headers_mut();
        if !headers.contains_key(MODEL) {
            self.name(headers);
        }
        headers.insert(LATENCY, HeaderValue::from(milliseconds(self.choice.latency)));
        match self.walk.end() {
            Some(End::NeedsConsent { candidate }) => {
                self.named.consenter.offer(headers, self.walk.model(), candidate);
                // A client that names its model gets the failure as it came.
                if self.choice.source != Source::Override {
                    add_to_error(&mut reply, &self.named.consenter.sentence(candidate));
                }
            }
            Some(end) => tracing::debug!("`{}`: {end}", self.walk.model()),
            None => {}
        }
        if self.walk.attempts() > 1 {
            reply
                .headers_mut()
                .insert(ATTEMPTS, HeaderValue::from(self.walk.attempts()));
        }
        self.named.correct(&mut reply);
        reply
    }
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.named.shared.decisions.record(self.record());
        }
    }
}

impl Logged<'_> {
    fn record(&self) -> DecisionRecord {
        let choice = &self.choice;
        let model = self.walk.model();
        let left = self.walk.left();
        let (tier, reasoning) = match left {
            None => (choice.tier, choice.reasoning.clone()),
            Some(left) => (self.routes.models().tier(model), Cow::Owned(left.to_string())),
        };
        let first = choice.instead_of.as_ref().map(|(model, kind)| (model, *kind));
        let first = first.or_else(|| left.map(|left| (&left.model, left.failure.kind)));
        DecisionRecord {
            time: self.time,
            tier,
            latency_ms: milliseconds(choice.latency),
            answered_by: choice.answered_by,
            reasoning,
            asked_first: first.map(|(model, _)| model.as_str().to_owned()),
            fallback_cause: first.map(|(_, kind)| kind.as_str().to_owned()),
            probability: choice.probability,
            model_failure: choice.model_failure.clone(),
            status: self.status,
            request: choice.request.clone(),
            ..DecisionRecord::new(self.source(), model.as_str())
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
