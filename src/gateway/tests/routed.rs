//! Calls whose model the router chooses: the upstream's view, and the client's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gem_setup_support::engine::{EngineStandIn, Say};
use gem_setup_support::scripted_upstream::UpstreamStandIn;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Method, Response, StatusCode};

use super::chains::chains;
use super::{Running, prompt};
use crate::gateway::{ChainRouter, Config};
use crate::router::walk::OnFallback;

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";
const AUTO: &str = "/v1beta/models/auto-gemini-2.5:generateContent?key=k";
const COMPLEX: &str = "why does this architecture lose messages?";

fn router(on_fallback: OnFallback) -> ChainRouter {
    chains(on_fallback, Duration::from_secs(5))
}

pub(super) fn before(address: impl std::fmt::Display, on_fallback: OnFallback) -> impl FnOnce(&mut Config) {
    let url = format!("http://{address}/").parse().unwrap();
    move |config| {
        config.upstream.url = url;
        config.router = Some(Arc::new(router(on_fallback)));
    }
}

fn asked(upstream: &UpstreamStandIn) -> Vec<String> {
    upstream.seen().iter().map(|seen| seen.uri.to_string()).collect()
}

pub(super) fn path(model: &str) -> String {
    format!("/v1beta/models/{model}:generateContent?key=k")
}

#[tokio::test]
async fn a_name_of_the_gateway_s_own_is_described_here() {
    let upstream = UpstreamStandIn::replies(vec![(200, "{}"), (200, "{}")]).await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    for (path, name) in [
        ("/v1beta/models/gem-auto", "gem-auto"),
        ("/v1/models/auto-gemini-2%2E5?key=k", "auto-gemini-2.5"),
        ("/v1beta/models/gemma3-1b-gpu-custom", "gemma3-1b-gpu-custom"),
    ] {
        let got = gateway.get(path).await;
        assert_eq!(got.status, 200, "{path}");
        let resource = got.json();
        assert_eq!(resource["name"], format!("models/{name}"), "{path}");
        assert_eq!(resource["supportedGenerationMethods"][0], "generateContent", "{path}");
    }
    gateway.get("/v1beta/models/pro?key=k").await;
    gateway.get("/v1beta/models/my-model").await;
    let asked = asked(&upstream);
    assert!(
        asked[0].starts_with("/v1beta/models/gemini-") && asked[0].ends_with("?key=k"),
        "{asked:?}"
    );
    assert_eq!(asked[1..], ["/v1beta/models/my-model"]);
}

#[tokio::test]
async fn the_chosen_model_replaces_the_one_in_the_path() {
    let upstream = UpstreamStandIn::replies(vec![(200, "{\"ok\": 1}")]).await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let got = gateway
        .send(Method::POST, AUTO, &[("x-goog-api-key", "k")], prompt(COMPLEX))
        .await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "{\"ok\": 1}"));
    assert_eq!(got.header("x-gem-model"), PRO);
    assert_eq!(got.header("x-gem-source"), "builtin-classifier");
    assert_eq!((got.header("x-gem-attempts"), got.header("x-gem-fallback")), ("", ""));
    assert_eq!(asked(&upstream), [path(PRO)]);
    assert_eq!(upstream.seen()[0].headers["x-goog-api-key"], "k");
    let decisions = gateway.finish().await;
    assert_eq!(decisions.len(), 1);
    assert_eq!(
        (&decisions[0]["model"], &decisions[0]["tier"]),
        (&PRO.into(), &"pro".into())
    );
    for absent in ["request", "asked_first", "fallback_cause"] {
        assert!(decisions[0].get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn a_fallback_is_labelled_and_logged() {
    let busy = "{\"error\": {\"code\": 429, \"message\": \"Please retry in 45s.\"}}";
    let upstream = UpstreamStandIn::replies(vec![(429, busy), (200, "fine")])
        .await
        .unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let got = gateway.post(AUTO, prompt(COMPLEX)).await;
    assert_eq!((got.status.as_u16(), got.text()), (200, "fine"));
    assert_eq!(
        (got.header("x-gem-model"), got.header("x-gem-source")),
        (FLASH, "fallback")
    );
    assert_eq!(got.header("x-gem-attempts"), "2");
    assert_eq!(asked(&upstream), [path(PRO), path(FLASH)]);
    let decisions = gateway.finish().await;
    assert_eq!(decisions.len(), 1);
    let decision = &decisions[0];
    assert_eq!(
        (&decision["model"], &decision["tier"]),
        (&FLASH.into(), &"flash".into())
    );
    assert_eq!(
        (&decision["source"], &decision["asked_first"]),
        (&"fallback".into(), &PRO.into())
    );
    assert_eq!(decision["fallback_cause"], "transient");
    let reasoning = decision["reasoning"].as_str().unwrap();
    assert!(
        reasoning.contains(PRO) && reasoning.contains("Please retry"),
        "{reasoning}"
    );
}

#[tokio::test]
async fn a_key_that_the_upstream_repeats_is_not_stored() {
    let message = format!(
        "Please retry in 45s. consumer 'api_key:AIzaKEYONE111'. {}",
        "x".repeat(200_000)
    );
    let body = serde_json::json!({"error": {"code": 429, "message": message}}).to_string();
    let body: &'static str = body.leak();
    let upstream = UpstreamStandIn::replies(vec![(429, body), (200, "fine")])
        .await
        .unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let headers = [("x-goog-api-key", "AIzaKEYONE111")];
    let got = gateway.send(Method::POST, AUTO, &headers, prompt(COMPLEX)).await;
    assert_eq!(got.header("x-gem-source"), "fallback");
    let decisions = gateway.finish().await;
    let reasoning = decisions[0]["reasoning"].as_str().unwrap();
    assert!(
        reasoning.contains("'api_key:***'") && reasoning.len() < 500,
        "{reasoning}"
    );
}

#[tokio::test]
async fn a_decision_says_that_its_request_failed() {
    let refused = "{\"error\": {\"code\": 403, \"message\": \"no\"}}";
    let upstream = UpstreamStandIn::replies(vec![(403, refused), (403, refused), (404, refused), (200, "fine")])
        .await
        .unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Never)).await;
    for (path, status) in [
        (AUTO.to_owned(), 403),
        (path(PRO), 403),
        (path("other"), 404),
        (path(PRO), 200),
    ] {
        assert_eq!(gateway.post(&path, prompt(COMPLEX)).await.status, status);
    }
    let decisions = gateway.finish().await;
    let statuses: Vec<_> = decisions.iter().map(|decision| decision["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(403), Some(403), Some(404), None]);
}

#[tokio::test]
async fn the_last_failure_reaches_the_client() {
    let busy = "{\"error\": {\"code\": 503, \"message\": \"Please retry in 45s.\"}}";
    let upstream = UpstreamStandIn::replies(vec![(503, busy), (404, "last")])
        .await
        .unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let got = gateway.post(AUTO, prompt(COMPLEX)).await;
    assert_eq!(
        (got.status.as_u16(), got.text(), got.header("x-gem-model")),
        (404, "last", FLASH)
    );
    assert_eq!(got.header("x-gem-fallback"), "", "no other model is left");
}

#[tokio::test]
async fn large_or_cut_errors_reach_the_client_as_they_come() {
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
        let router = router(OnFallback::Never);
        let url = format!("http://{}/", upstream.address()).parse().unwrap();
        let gateway = Running::start(|config| {
            config.upstream.url = url;
            config.router = Some(Arc::new(ChainRouter {
                max_wait: Duration::ZERO,
                ..router
            }));
        })
        .await;
        let got = gateway.post(AUTO, prompt(COMPLEX)).await;
        assert_eq!(got.status, 429);
        assert!(got.text() == expected, "{} bytes", got.text().len());
        assert_eq!(got.header("x-gem-fallback"), "");
    }
}

#[tokio::test]
async fn errors_without_an_end_are_passed_on() {
    let upstream = UpstreamStandIn::start(|_| async {
        let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"Please retry in 200s")));
        let pieces = stream::iter([first]).chain(stream::pending());
        let mut reply = Response::new(StreamBody::new(pieces).boxed_unsync());
        *reply.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        Some(reply)
    })
    .await
    .unwrap();
    let change = before(upstream.address(), OnFallback::Never);
    let gateway = Running::start(|config| {
        change(config);
        config.limits.body_time = Duration::from_millis(50);
        config.router = Some(Arc::new(ChainRouter {
            max_wait: Duration::ZERO,
            ..router(OnFallback::Never)
        }));
    })
    .await;
    let mut reply = gateway.open(Method::POST, AUTO, &[], prompt(COMPLEX)).await;
    assert_eq!(reply.status(), 429);
    let first = reply.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "Please retry in 200s");
}

#[tokio::test]
async fn an_unreachable_host_fails_no_model() {
    let routed = router(OnFallback::Silent);
    let health = Arc::clone(&routed.health);
    let gateway = Running::start(|config| config.router = Some(Arc::new(routed))).await;
    let got = gateway.post(AUTO, prompt(COMPLEX)).await;
    assert_eq!((got.header("x-gem-model"), got.header("x-gem-attempts")), (PRO, ""));
    got.error(502, "UNAVAILABLE");
    assert!(health.of_all().is_untroubled());
}

#[tokio::test]
async fn a_request_that_broke_off_is_not_repeated() {
    let breaking = UpstreamStandIn::start(|_| async { None }).await.unwrap();
    let gateway = Running::start(before(breaking.address(), OnFallback::Silent)).await;
    let got = gateway.post(AUTO, prompt(COMPLEX)).await;
    assert_eq!(got.header("x-gem-attempts"), "");
    got.error(502, "UNAVAILABLE");
}

#[tokio::test]
async fn named_models_keep_their_failures() {
    let busy = "{\"error\": {\"code\": 429, \"message\": \"Please retry in 1s.\"}}";
    for (on_fallback, alternative) in [
        (OnFallback::Policy, FLASH),
        (OnFallback::Ask, FLASH),
        (OnFallback::Never, ""),
    ] {
        let upstream = UpstreamStandIn::replies(vec![(429, busy)]).await.unwrap();
        let gateway = Running::start(before(upstream.address(), on_fallback)).await;
        for _ in 0..2 {
            let got = gateway.post(&path(PRO), prompt("x")).await;
            assert_eq!((got.status.as_u16(), got.text()), (429, busy));
            assert_eq!(
                (got.header("x-gem-model"), got.header("x-gem-source")),
                (PRO, "override")
            );
            assert_eq!(got.header("x-gem-fallback"), alternative);
        }
        assert_eq!(asked(&upstream).len(), 2, "one each");
    }
}

#[tokio::test]
async fn the_clients_deadline_bounds_pauses_and_answers() {
    let busy = "{\"error\": {\"code\": 429, \"message\": \"Please retry in 2s.\"}}";
    let upstream = UpstreamStandIn::replies(vec![(429, busy)]).await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Never)).await;
    let headers = [("x-server-timeout", "3")];
    let got = gateway.send(Method::POST, AUTO, &headers, prompt(COMPLEX)).await;
    assert_eq!((got.status.as_u16(), got.header("x-gem-attempts")), (429, ""));
    let silent = UpstreamStandIn::start(|_| std::future::pending()).await.unwrap();
    let gateway = Running::start(before(silent.address(), OnFallback::Silent)).await;
    for path in [AUTO, &path(PRO)] {
        let headers = [("x-server-timeout", "0.1")];
        let got = gateway.send(Method::POST, path, &headers, prompt(COMPLEX)).await;
        got.error(504, "DEADLINE_EXCEEDED");
    }
}

#[tokio::test]
async fn a_cache_needs_the_name_of_its_model() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine"); 3]).await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let body = r#"{"contents": [{"parts": [{"text": "x"}]}], "cachedContent": "cachedContents/c"}"#;
    let got = gateway.post(AUTO, body).await;
    assert!(got.error(400, "INVALID_ARGUMENT").contains("`cachedContent`"));
    let caches = "/v1beta/cachedContents?key=k";
    let got = gateway
        .post(caches, r#"{"model": "models/gem-auto", "ttl": "60s"}"#)
        .await;
    let message = got.error(400, "INVALID_ARGUMENT");
    assert!(
        message.contains("`gem-auto`") && message.contains("gemini-"),
        "{message}"
    );
    assert_eq!(asked(&upstream), Vec::<String>::new());
    assert_eq!(gateway.post(&path(PRO), body).await.status, 200);
    for (name, is_alias) in [("flash", true), (PRO, false)] {
        let body = format!(r#"{{"model":"models/{name}"}}"#);
        let length = body.len().to_string();
        assert_eq!(gateway.post(caches, body).await.status, 200, "{name}");
        let sent = upstream.seen().pop().unwrap();
        assert_eq!(sent.headers["content-length"] != length, is_alias, "{name}");
    }
}

#[tokio::test]
async fn a_misspelt_name_is_recognised_in_the_upstream_s_refusal() {
    let upstream = UpstreamStandIn::replies(vec![(404, "no"); 2]).await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let got = gateway.post(&path("GEM-AUTO"), prompt("x")).await;
    assert!(got.header("x-gem-hint").contains("`gem-auto`"), "{:?}", got.headers);
    let got = gateway.post(&path("my-model"), prompt("x")).await;
    assert_eq!(got.header("x-gem-hint"), "");
}

#[tokio::test]
async fn counting_tokens_is_no_decision() {
    let upstream = UpstreamStandIn::replies(vec![(200, "{\"totalTokens\": 7}")])
        .await
        .unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let body = "{\"generateContentRequest\":{\"model\":\"models/gem-auto\",\"contents\":[]}}";
    let got = gateway
        .post("/v1beta/models/gem-auto:countTokens", body.to_owned())
        .await;
    assert_eq!(got.status, 200);
    let got = gateway.send(Method::OPTIONS, AUTO, &[], String::new()).await;
    assert_eq!(got.status, 200);
    let seen = upstream.seen();
    let model = seen[0].uri.path().split(['/', ':']).nth(3).unwrap();
    assert!(model.starts_with("gemini-"), "{model}");
    let renamed = body.replace("gem-auto", model);
    assert_eq!(seen[0].headers["content-length"], renamed.len().to_string());
    assert_eq!(gateway.finish().await, Vec::<serde_json::Value>::new());
}
