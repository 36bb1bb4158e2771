//! Calls whose model a router decides upon.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gem_setup_support::engine::{EngineStandIn, Say};
use gem_setup_support::scripted_upstream::UpstreamStandIn;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};

use super::{Running, prompt};
use crate::gateway::{BoxFuture, Call, Choice, Config, Failed, Handling, Next, Route, UpstreamRouter};
use crate::router::{AnsweredBy, Source, Tier};

/// Sends `auto` to these models in turn.
struct Chain {
    models: Vec<&'static str>,
    calls: Mutex<Vec<Seen>>,
    failures: Arc<Mutex<Vec<Failed>>>,
}

/// A call that was made.
#[derive(Clone)]
struct Seen {
    model: String,
    method: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Chain {
    fn new(models: &[&'static str]) -> Arc<Self> {
        Arc::new(Self {
            models: models.to_vec(),
            calls: Mutex::default(),
            failures: Arc::default(),
        })
    }
}

impl UpstreamRouter for Chain {
    fn handling(&self, model: &str, _method: &str, _length: Option<u64>) -> Handling {
        if model == "auto" {
            Handling::Routed
        } else {
            Handling::AsAsked
        }
    }

    fn begin<'a>(&'a self, call: Call<'a>) -> BoxFuture<'a, Box<dyn Route>> {
        Box::pin(async move {
            self.calls.lock().unwrap().push(Seen {
                model: call.model.to_owned(),
                method: call.method.to_owned(),
                headers: call.headers.clone(),
                body: call.body.clone(),
            });
            Box::new(Step {
                choice: choice(self.models[0]),
                rest: self.models[1..].to_vec(),
                failures: Arc::clone(&self.failures),
            }) as Box<dyn Route>
        })
    }
}

struct Step {
    choice: Choice,
    rest: Vec<&'static str>,
    failures: Arc<Mutex<Vec<Failed>>>,
}

impl Route for Step {
    fn choice(&self) -> &Choice {
        &self.choice
    }

    fn failed<'a>(&'a mut self, failure: &'a Failed) -> BoxFuture<'a, Next> {
        Box::pin(async move {
            self.failures.lock().unwrap().push(failure.clone());
            if self.rest.is_empty() {
                return Next::GiveUp;
            }
            self.choice = choice(self.rest.remove(0));
            Next::Ask
        })
    }
}

fn choice(model: &str) -> Choice {
    Choice {
        model: model.to_owned(),
        source: Source::BuiltinClassifier,
        tier: Some(Tier::Pro),
        latency: Duration::from_millis(7),
        answered_by: Some(AnsweredBy::Builtin),
        reasoning: "scripted".into(),
        request: Some("my words".to_owned()),
    }
}

const AUTO: &str = "/v1beta/models/auto:generateContent?key=k";

fn with(upstream: &UpstreamStandIn, chain: &Arc<Chain>) -> impl FnOnce(&mut Config) {
    let url = format!("http://{}/", upstream.address());
    let router = Arc::clone(chain);
    move |config| {
        config.upstream.url = url.parse().unwrap();
        config.router = router;
    }
}

fn asked(upstream: &UpstreamStandIn) -> Vec<String> {
    upstream.seen().iter().map(|seen| seen.uri.to_string()).collect()
}

#[tokio::test]
async fn the_router_s_model_takes_the_place_of_the_one_asked_for() {
    let upstream = UpstreamStandIn::replies(vec![(200, "{\"ok\": 1}")]).await.unwrap();
    let chain = Chain::new(&["gemini-2.5-pro"]);
    let gateway = Running::start(with(&upstream, &chain)).await;
    let got = gateway
        .send(Method::POST, AUTO, &[("x-goog-api-key", "k")], prompt("why"))
        .await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "{\"ok\": 1}"));
    assert_eq!(got.header("x-gem-model"), "gemini-2.5-pro");
    assert_eq!(got.header("x-gem-source"), "builtin-classifier");
    assert_eq!(got.header("x-gem-latency-ms"), "7");
    assert_eq!(got.header("x-gem-attempts"), "");
    assert_eq!(
        asked(&upstream),
        ["/v1beta/models/gemini-2.5-pro:generateContent?key=k"]
    );
    let call = chain.calls.lock().unwrap()[0].clone();
    assert_eq!((call.model.as_str(), call.method.as_str()), ("auto", "generateContent"));
    assert_eq!(
        (call.body, &call.headers["x-goog-api-key"]),
        (prompt("why").into(), &"k".parse().unwrap())
    );
    let decisions = gateway.finish().await;
    assert_eq!(decisions.len(), 1);
    assert_eq!(
        (&decisions[0]["model"], &decisions[0]["tier"]),
        (&"gemini-2.5-pro".into(), &"pro".into())
    );
    assert!(decisions[0].get("request").is_none());
}

#[tokio::test]
async fn models_that_fail_are_followed_by_the_router_s_next() {
    let upstream = UpstreamStandIn::replies(vec![(429, "{\"error\": {\"code\": 429}}"), (200, "fine")])
        .await
        .unwrap();
    let chain = Chain::new(&["a", "b"]);
    let gateway = Running::start(with(&upstream, &chain)).await;
    let got = gateway.post(AUTO, prompt("x")).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "fine"));
    assert_eq!((got.header("x-gem-model"), got.header("x-gem-attempts")), ("b", "2"));
    assert_eq!(
        asked(&upstream),
        [
            "/v1beta/models/a:generateContent?key=k",
            "/v1beta/models/b:generateContent?key=k"
        ]
    );
    let decisions = gateway.finish().await;
    assert_eq!(
        (decisions.len(), &decisions[0]["model"]),
        (1, &"b".into()),
        "the one that answered"
    );
    let failures = chain.failures.lock().unwrap();
    assert!(
        matches!(&failures[..], [Failed::Refused { status, body, .. }] if *status == 429 && body.ends_with(b"429}}"))
    );
}

#[tokio::test]
async fn the_last_failure_is_the_client_s() {
    let upstream = UpstreamStandIn::replies(vec![(503, "first"), (429, "last")])
        .await
        .unwrap();
    let chain = Chain::new(&["a", "b"]);
    let gateway = Running::start(with(&upstream, &chain)).await;
    let got = gateway.post(AUTO, prompt("x")).await;
    assert_eq!(
        (got.status.as_u16(), got.text(), got.header("x-gem-model")),
        (429, "last", "b")
    );
}

#[tokio::test]
async fn an_error_that_is_large_or_cut_reaches_the_client_as_far_as_it_comes() {
    let large = "x".repeat(3 * 1024 * 1024);
    let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nContent-Length:";
    for (upstream, expected) in [
        (
            vec![Say::Bytes(format!("{head} {}\r\n\r\n{large}", large.len()).into())],
            large.as_str(),
        ),
        (vec![Say::Bytes(format!("{head} 100\r\n\r\nbusy").into())], "busy"),
    ] {
        let upstream = EngineStandIn::start(upstream).await.unwrap();
        let chain = Chain::new(&["a"]);
        let router = Arc::clone(&chain);
        let url = format!("http://{}/", upstream.address()).parse().unwrap();
        let gateway = Running::start(|config| {
            config.upstream.url = url;
            config.router = router;
        })
        .await;
        let got = gateway.post(AUTO, prompt("x")).await;
        assert_eq!(got.status, 429);
        assert!(got.text() == expected, "{} bytes", got.text().len());
        let failures = chain.failures.lock().unwrap();
        assert!(matches!(&failures[..], [Failed::Refused { body, .. }] if !body.is_empty()));
    }
}

#[tokio::test]
async fn the_router_hears_of_an_error_whose_body_does_not_end() {
    let upstream = UpstreamStandIn::start(|_| async {
        let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"slow down")));
        let pieces = stream::iter([first]).chain(stream::pending());
        let mut reply = Response::new(StreamBody::new(pieces).boxed_unsync());
        *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        Some(reply)
    })
    .await
    .unwrap();
    let chain = Chain::new(&["a"]);
    let change = with(&upstream, &chain);
    let gateway = Running::start(|config| {
        change(config);
        config.limits.body_time = Duration::from_millis(50);
    })
    .await;
    let mut reply = gateway.open(Method::POST, AUTO, &[], prompt("x")).await;
    assert_eq!(reply.status(), 429);
    let first = reply.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "slow down");
    let failures = chain.failures.lock().unwrap();
    assert!(matches!(&failures[..], [Failed::Refused { body, .. }] if body == "slow down"));
}

#[tokio::test]
async fn the_router_hears_whether_the_upstream_may_have_acted() {
    let chain = Chain::new(&["a"]);
    let router = Arc::clone(&chain);
    let gateway = Running::start(|config| config.router = router).await;
    gateway.post(AUTO, prompt("x")).await.error(502, "UNAVAILABLE");
    let breaking = UpstreamStandIn::start(|_| async { None }).await.unwrap();
    let gateway = Running::start(with(&breaking, &chain)).await;
    gateway.post(AUTO, prompt("x")).await.error(502, "UNAVAILABLE");
    let failures = chain.failures.lock().unwrap();
    assert!(
        matches!(&failures[..], [Failed::Unreachable(_), Failed::Broken(_)]),
        "{failures:?}"
    );
}

#[tokio::test]
async fn other_models_are_not_the_router_s_affair() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine")]).await.unwrap();
    let chain = Chain::new(&["a"]);
    let gateway = Running::start(with(&upstream, &chain)).await;
    gateway
        .post("/v1beta/models/gemini-2.5-pro:generateContent", prompt("x"))
        .await;
    assert!(chain.calls.lock().unwrap().is_empty());
    assert_eq!(asked(&upstream), ["/v1beta/models/gemini-2.5-pro:generateContent"]);
}
