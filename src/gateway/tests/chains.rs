//! The failure policy and an upstream's errors, over real sockets.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzEncoder, ZlibEncoder};
use futures_util::future::BoxFuture;
use gem_setup_support::scripted_upstream::{UpstreamReply, UpstreamStandIn, reply};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Response};
use serde_json::json;

use super::{GENERATE, Running, prompt};
use crate::gateway::{ChainRouter, Config};
use crate::router::consent::{Consent, Question, Ruling, TellClient};
use crate::router::walk::OnFallback;
use crate::router::{ClassifierChoice, chained};

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";
const AUTO: &str = "/v1beta/models/auto-gemini-2.5:generateContent";
const NAMED: &str = "/v1beta/models/gemini-2.5-pro:generateContent";
const COMPLEX: &str = "why does this architecture lose messages?";
const PER_DAY: &str = r#"{"error": {"code": 429, "message": "quota", "details": [{"@type":
    "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDay"}]}]}}"#;

pub(super) fn chains(on_fallback: OnFallback, max_wait: Duration) -> ChainRouter {
    let models = Arc::new(chained());
    ChainRouter {
        models,
        health: Arc::default(),
        classifier: ClassifierChoice::Builtin,
        on_fallback,
        consent: Arc::new(TellClient),
        max_wait,
    }
}

fn before(upstream: &UpstreamStandIn, router: ChainRouter) -> impl FnOnce(&mut Config) {
    let url = format!("http://{}/", upstream.address()).parse().unwrap();
    move |config| {
        config.upstream.url = url;
        config.router = Some(Arc::new(router));
    }
}

/// An upstream whose pro model answers with `status`, `headers` and `body`, and whose other models answer well.
async fn pro_fails(status: u16, headers: &'static [(&'static str, &'static str)], body: Vec<u8>) -> UpstreamStandIn {
    UpstreamStandIn::start(move |request| {
        let fails = request.uri().path().contains(PRO);
        let failure = failure(status, headers, body.clone());
        async move { Some(if fails { failure } else { reply(200, "fine") }) }
    })
    .await
    .unwrap()
}

fn failure(status: u16, headers: &[(&'static str, &'static str)], body: Vec<u8>) -> UpstreamReply {
    let mut reply = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *reply.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        reply.headers_mut().insert(*name, value.parse().unwrap());
    }
    reply
}

fn asked(upstream: &UpstreamStandIn) -> Vec<String> {
    let seen = upstream.seen();
    let paths = seen.iter().map(|seen| seen.uri.path());
    paths
        .map(|path| path.trim_start_matches("/v1beta/models/").to_owned())
        .collect()
}

fn generated(models: &[&str]) -> Vec<String> {
    models.iter().map(|model| format!("{model}:generateContent")).collect()
}

fn all(mut encoder: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.read_to_end(&mut bytes).unwrap();
    bytes
}

fn gzip(text: &str) -> Vec<u8> {
    all(GzEncoder::new(text.as_bytes(), Compression::default()))
}

#[tokio::test]
async fn upstream_errors_are_decoded_in_every_accepted_coding() {
    let zlib = all(ZlibEncoder::new(PER_DAY.as_bytes(), Compression::default()));
    for (headers, body) in [
        (&[("content-encoding", "gzip")][..], gzip(PER_DAY)),
        (&[("content-encoding", "deflate")][..], zlib),
        (&[][..], PER_DAY.into()),
    ] {
        let upstream = pro_fails(429, headers, body).await;
        let gateway = Running::start(before(&upstream, chains(OnFallback::Silent, Duration::from_secs(5)))).await;
        let accepted = [("accept-encoding", "gzip, deflate, br, zstd")];
        let got = gateway.send(Method::POST, AUTO, &accepted, prompt(COMPLEX)).await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "fine"));
        assert_eq!(asked(&upstream), generated(&[PRO, FLASH]), "{headers:?}");
        assert_eq!(upstream.seen()[0].headers["accept-encoding"], "gzip, deflate");
    }
}

#[tokio::test]
async fn a_compressed_request_is_classified_and_passed_on_as_it_came() {
    let upstream = pro_fails(500, &[], Vec::new()).await;
    let gateway = Running::start(before(&upstream, chains(OnFallback::Never, Duration::ZERO))).await;
    let body = gzip(&prompt("rename x to y in a.py"));
    let coded = [("content-encoding", "gzip")];
    let got = gateway.send(Method::POST, AUTO, &coded, body.clone()).await;
    assert_eq!((got.status.as_u16(), got.header("x-gem-model")), (200, FLASH));
    let passed = &upstream.seen()[0].headers;
    assert_eq!(passed["content-encoding"], "gzip");
    assert_eq!(passed["content-length"], body.len().to_string());
}

#[tokio::test]
async fn a_coded_request_that_names_its_model_is_decoded_and_renamed() {
    let upstream = UpstreamStandIn::start(|request| async {
        let coded = request.headers().contains_key("content-encoding");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut reply = reply(200, "");
        *reply.body_mut() = Full::new(body).boxed_unsync();
        (!coded).then_some(reply)
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream, chains(OnFallback::Never, Duration::ZERO))).await;
    let body = r#"{"model": "models/auto-gemini-2.5", "generateContentRequest": {"model": "auto-gemini-2.5"}}"#;
    let zlib = all(ZlibEncoder::new(body.as_bytes(), Compression::default()));
    for (coding, body) in [("gzip", gzip(body)), ("deflate", zlib)] {
        for method in ["generateContent", "countTokens"] {
            let path = format!("/v1beta/models/auto-gemini-2.5:{method}");
            let headers = [("content-encoding", coding)];
            let got = gateway.send(Method::POST, &path, &headers, body.clone()).await;
            let model = got.header("x-gem-model").to_owned();
            assert_eq!(got.json()["model"], format!("models/{model}"), "{coding} {method}");
            assert_eq!(
                got.json()["generateContentRequest"]["model"],
                model,
                "{coding} {method}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_too_large_to_route_is_refused_with_the_way_out() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine")]).await.unwrap();
    let chains = chains(OnFallback::Never, Duration::ZERO);
    let gateway = Running::start(|config| {
        before(&upstream, chains)(config);
        config.limits.routed_body = 2 << 20;
    })
    .await;
    let large = prompt(&"x".repeat(2 << 20));
    let got = gateway.send(Method::POST, AUTO, &[], large.clone()).await;
    let message = got.error(413, "INVALID_ARGUMENT");
    assert!(
        message.contains("2 MiB") && message.contains("name the model"),
        "{message}"
    );
    let named = "/v1beta/models/gemini-2.5-pro:generateContent";
    // The upstream answers before it has read all, so the reply may be lost.
    assert_ne!(gateway.send(Method::POST, named, &[], large).await.status, 413);
    assert!(!upstream.seen().is_empty());
}

#[tokio::test]
async fn decoded_requests_take_up_no_more_memory_than_others() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine"); 2]).await.unwrap();
    let chains = chains(OnFallback::Never, Duration::ZERO);
    let gateway = Running::start(|config| {
        before(&upstream, chains)(config);
        config.limits.bodies = 1 << 20;
    })
    .await;
    let coded = [("content-encoding", "gzip")];
    let (small, bomb) = (gzip(&prompt("rename x to y")), gzip(&" ".repeat(2 << 20)));
    for path in [AUTO, "/v1beta/models/auto-gemini-2.5:countTokens"] {
        let got = gateway.send(Method::POST, path, &coded, bomb.clone()).await;
        assert_eq!((got.status.as_u16(), got.header("retry-after")), (503, "1"), "{path}");
        let got = gateway.send(Method::POST, path, &coded, small.clone()).await;
        assert_eq!(got.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_named_model_that_is_tried_once_a_turn_is_tried_again_when_the_user_asks_anew() {
    const NAMED: &str = "/v1beta/models/gemini-2.5-pro:generateContent";
    const SOON: &str = r#"{"error": {"code": 503, "message": "busy", "details": [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.001s"}]}}"#;
    let upstream = pro_fails(503, &[], SOON.into()).await;
    let gateway = Running::start(before(&upstream, chains(OnFallback::Silent, Duration::from_secs(5)))).await;
    let goes_on = json!({"contents": [
        {"role": "user", "parts": [{"text": COMPLEX}]},
        {"role": "model", "parts": [{"functionCall": {"name": "read"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "read"}}]},
    ]});
    let goes_on = || goes_on.to_string();
    let mut before = 0;
    let mut tries = Vec::new();
    for (path, body) in [
        (AUTO, prompt(COMPLEX)),
        (AUTO, goes_on()),
        (NAMED, goes_on()),
        (NAMED, prompt(COMPLEX)),
    ] {
        let got = gateway.send(Method::POST, path, &[], body).await;
        assert_eq!(got.header("x-gem-model"), FLASH);
        let asked = asked(&upstream);
        tries.push(asked[before..].iter().filter(|call| call.starts_with(PRO)).count());
        before = asked.len();
    }
    assert_eq!(tries[..3], [3, 0, 0]);
    assert!(tries[3] > 0);
}

#[tokio::test]
async fn the_client_gets_a_compressed_error_as_it_came() {
    let upstream = pro_fails(429, &[("content-encoding", "gzip")], gzip(PER_DAY)).await;
    let gateway = Running::start(before(&upstream, chains(OnFallback::Policy, Duration::from_secs(5)))).await;
    let got = gateway
        .send(Method::POST, NAMED, &[("accept-encoding", "gzip")], prompt(COMPLEX))
        .await;
    assert_eq!((got.status.as_u16(), got.header("content-encoding")), (429, "gzip"));
    assert_eq!(got.body, gzip(PER_DAY));
    assert!(got.header("x-gem-fallback").contains(FLASH), "{got:?}");
    assert_eq!(asked(&upstream), generated(&[PRO]));
}

#[tokio::test]
async fn an_alias_s_error_tells_the_way_to_consent() {
    let upstream = pro_fails(429, &[("content-encoding", "gzip")], gzip(PER_DAY)).await;
    let gateway = Running::start(before(&upstream, chains(OnFallback::Policy, Duration::ZERO))).await;
    for (key, way) in [
        ("k", "`x-gem-consent: session`"),
        ("", "`x-gem-fallback: gemini-2.5-flash`"),
    ] {
        let got = gateway
            .send(Method::POST, AUTO, &[("x-goog-api-key", key)], prompt(COMPLEX))
            .await;
        let error = &got.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(
            message.starts_with("quota. To let `gemini-2.5-flash` answer, ") && message.contains(way),
            "{message}"
        );
        assert!(error["details"].is_array() && got.header("content-encoding").is_empty());
    }
}

#[tokio::test]
async fn a_client_that_retries_does_not_multiply_attempts() {
    let upstream = UpstreamStandIn::replies(vec![(503, "{}")]).await.unwrap();
    let gateway = Running::start(before(&upstream, chains(OnFallback::Never, Duration::from_millis(800)))).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        let simple = "rename x to y in a.py";
        assert_eq!(gateway.post(AUTO, prompt(simple)).await.status, 503);
        counts.push(asked(&upstream).len());
    }
    assert_eq!(counts, [3, 4, 5]);
}

#[tokio::test]
async fn a_retry_after_of_nothing_is_no_reason_to_hurry() {
    let upstream = pro_fails(503, &[("retry-after", "0")], b"busy".to_vec()).await;
    let gateway = Running::start(before(&upstream, chains(OnFallback::Silent, Duration::ZERO))).await;
    // No wait is allowed here, so nothing is repeated.
    assert_eq!(gateway.post(AUTO, prompt(COMPLEX)).await.text(), "fine");
    assert_eq!(asked(&upstream), generated(&[PRO, FLASH]));
}

#[tokio::test]
async fn an_alias_is_resolved_for_every_method_whatever_the_body() {
    let upstream = UpstreamStandIn::start(|request| async {
        request.into_body().collect().await.unwrap();
        Some(reply(200, "fine"))
    })
    .await
    .unwrap();
    for on_fallback in [OnFallback::Policy, OnFallback::Never] {
        let gateway = Running::start(before(&upstream, chains(on_fallback, Duration::ZERO))).await;
        for (asked, body) in [
            ("flash:countTokens?key=k", prompt("hi")),
            ("flash:generateContent?key=k", prompt("hi")),
            ("flash:generateContent?key=k", prompt(&"x".repeat(5 << 20))),
        ] {
            let got = gateway.post(&format!("/v1beta/models/{asked}"), body).await;
            assert_eq!(got.status, 200, "{asked}");
            let seen = upstream.seen().pop().unwrap().uri.to_string();
            let (_, rest) = asked.split_once(':').unwrap();
            let model = got.header("x-gem-model");
            assert!(model.starts_with("gemini-"), "{model}");
            assert_eq!(seen, format!("/v1beta/models/{model}:{rest}"));
            assert_eq!(got.header("x-gem-source"), "override");
        }
        let chunked = "POST /v1/models/flash:generateContent HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert!(gateway.raw(chunked).await.starts_with("HTTP/1.1 200"));
        let seen = upstream.seen().pop().unwrap().uri.to_string();
        assert!(seen.starts_with("/v1/models/gemini-"), "{seen}");
    }
}

#[tokio::test]
async fn an_alias_is_replaced_in_every_body() {
    let upstream = UpstreamStandIn::start(|request| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let start = body.slice(..body.len().min(60));
        let mut reply = reply(200, "");
        *reply.body_mut() = Full::new(start).boxed_unsync();
        Some(reply)
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream, chains(OnFallback::Never, Duration::ZERO))).await;
    let large = format!(r#"{{"model": "models/flash", "x": "{}"}}"#, "x".repeat(5 << 20));
    let got = gateway.post("/v1beta/models/flash:generateContent", large).await;
    assert!(got.text().starts_with(r#"{"model": "models/gemini-"#), "{}", got.text());
    let chunked = "POST /v1beta/models/flash:countTokens HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n1a\r\n{\"model\": \"models/flash\" }\r\n0\r\n\r\n";
    let reply = gateway.raw(chunked).await;
    assert!(reply.contains(r#"{"model": "models/gemini-"#), "{reply}");
}

#[tokio::test]
async fn a_body_in_an_unreadable_coding_is_refused_where_it_must_be_read() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine")]).await.unwrap();
    let gateway = Running::start(before(&upstream, chains(OnFallback::Silent, Duration::ZERO))).await;
    let coded = [("content-encoding", "br")];
    for path in [AUTO, "/v1beta/models/flash:countTokens", GENERATE] {
        let got = gateway.send(Method::POST, path, &coded, prompt("x")).await;
        let message = got.error(415, "INVALID_ARGUMENT");
        assert!(message.contains("`br`") && message.contains("`gzip`"), "{message}");
    }
    let broken = [("content-encoding", "gzip")];
    let got = gateway.send(Method::POST, AUTO, &broken, prompt("x")).await;
    assert!(got.error(400, "INVALID_ARGUMENT").contains("`gzip`"));
    assert!(upstream.seen().is_empty());
    let named = "/v1beta/models/gemini-2.5-pro:generateContent";
    assert_eq!(gateway.send(Method::POST, named, &coded, "br").await.status, 200);
}

#[tokio::test]
async fn the_quota_of_one_key_changes_nothing_for_another() {
    for on_fallback in [OnFallback::Silent, OnFallback::Policy] {
        let upstream = UpstreamStandIn::start(move |request| {
            let used_up = request.uri().path().contains(PRO) && request.headers()["x-goog-api-key"] == "k1";
            let minute = PER_DAY.replace("PerDay", "PerMinute");
            let body = if on_fallback == OnFallback::Silent {
                PER_DAY.into()
            } else {
                minute.into()
            };
            let failure = failure(429, &[], body);
            async move { Some(if used_up { failure } else { reply(200, "fine") }) }
        });
        let upstream = upstream.await.unwrap();
        let gateway = Running::start(before(&upstream, chains(on_fallback, Duration::ZERO))).await;
        let goes_on = json!({"contents": [
            {"role": "user", "parts": [{"text": COMPLEX}]},
            {"role": "model", "parts": [{"functionCall": {"name": "read"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "read"}}]},
        ]});
        for (key, model) in [("k1", FLASH), ("k2", PRO), ("k1", FLASH)] {
            let headers = [("x-goog-api-key", key)];
            let got = gateway.send(Method::POST, AUTO, &headers, goes_on.to_string()).await;
            assert_eq!(got.header("x-gem-model"), model, "{key}");
        }
        assert_eq!(asked(&upstream), generated(&[PRO, FLASH, PRO, FLASH]));
        let failed = gateway.get("/status").await.json()["failed_models"].clone();
        assert_eq!(failed, json!([]), "pro has answered a client since");
    }
}

#[tokio::test]
async fn no_pause_outlasts_the_client_s_deadline() {
    let upstream = UpstreamStandIn::start(|_| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Some(failure(
            429,
            &[],
            br#"{"error": {"message": "Please retry in 2.4s."}}"#.to_vec(),
        ))
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream, chains(OnFallback::Never, Duration::from_secs(5)))).await;
    let headers = [("x-server-timeout", "5")];
    let start = Instant::now();
    let got = gateway.send(Method::POST, AUTO, &headers, prompt(COMPLEX)).await;
    assert_eq!(got.status, 429, "{}", got.text());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(asked(&upstream), generated(&[PRO]));
}

#[tokio::test]
async fn a_late_repetition_leaves_the_client_the_failure_before() {
    for (message, models) in [("Please retry in 0.01s.", [PRO, PRO]), ("per day", [PRO, FLASH])] {
        let asked_before = Arc::new(AtomicBool::new(false));
        let text = PER_DAY.replacen("quota", message, 1);
        let text = if models[1] == PRO {
            format!(r#"{{"error": {{"message": "{message}"}}}}"#)
        } else {
            text
        };
        let upstream = UpstreamStandIn::start(move |_| {
            let (is_repeated, text) = (asked_before.swap(true, Ordering::Relaxed), text.clone());
            async move {
                if is_repeated {
                    std::future::pending::<()>().await;
                }
                Some(failure(429, &[], text.into()))
            }
        })
        .await
        .unwrap();
        let gateway = Running::start(before(&upstream, chains(OnFallback::Silent, Duration::from_secs(5)))).await;
        let headers = [("x-server-timeout", "3")];
        let got = gateway.send(Method::POST, AUTO, &headers, prompt(COMPLEX)).await;
        assert_eq!(
            (got.status.as_u16(), got.header("x-gem-model")),
            (429, PRO),
            "{}",
            got.text()
        );
        assert_ne!(got.header("x-gem-source"), "fallback");
        assert!(got.text().contains(message), "{}", got.text());
        assert_eq!(asked(&upstream), generated(&models));
    }
}

/// Asks a person who has left.
struct Nobody;

impl Consent for Nobody {
    fn settle<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Ruling> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_given_up() {
    let upstream = pro_fails(429, &[], PER_DAY.into()).await;
    let gateway = Running::start(|config| {
        let mut router = chains(OnFallback::Ask, Duration::ZERO);
        router.consent = Arc::new(Nobody);
        before(&upstream, router)(config);
        // It counts for the response's head too, which a busy machine needs time for.
        config.limits.stream_idle = Duration::from_secs(2);
    })
    .await;
    let got = gateway.post(AUTO, prompt(COMPLEX)).await;
    assert_eq!((got.status.as_u16(), got.header("x-gem-fallback")), (429, FLASH));
}

#[tokio::test]
async fn a_question_ends_with_the_server() {
    let upstream = pro_fails(429, &[], PER_DAY.into()).await;
    let gateway = Running::start(|config| {
        let mut router = chains(OnFallback::Ask, Duration::ZERO);
        router.consent = Arc::new(Nobody);
        before(&upstream, router)(config);
    })
    .await;
    let address = gateway.address;
    let client = tokio::spawn(async move { super::open(address, Method::POST, AUTO, &[], prompt(COMPLEX)).await });
    super::eventually(|| !upstream.seen().is_empty()).await;
    let decisions = gateway.finish().await;
    assert_eq!(client.await.unwrap().status(), 429);
    assert_eq!((decisions.len(), &decisions[0]["status"]), (1, &json!(429)));
}

#[tokio::test]
async fn the_client_s_deadline_bounds_the_wait_for_its_body() {
    let upstream = UpstreamStandIn::replies(vec![(200, "fine")]).await.unwrap();
    let chains = chains(OnFallback::Never, Duration::ZERO);
    let gateway = Running::start(|config| {
        before(&upstream, chains)(config);
        config.limits.body_time = Duration::from_secs(3600);
    })
    .await;
    for path in [AUTO, GENERATE, "/v1beta/models/flash:countTokens"] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Server-Timeout: 0.2\r\nContent-Length: 100\r\n\r\n{{"
        );
        let reply = gateway.raw(&request).await;
        assert!(reply.starts_with("HTTP/1.1 408"), "{path}: {reply}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_renamed_copy_shares_the_budget_of_bodies() {
    let upstream = UpstreamStandIn::start(|request| async {
        request.into_body().collect().await.unwrap();
        Some(reply(200, "fine"))
    })
    .await
    .unwrap();
    let chains = chains(OnFallback::Never, Duration::ZERO);
    let gateway = Running::start(|config| {
        before(&upstream, chains)(config);
        config.limits.bodies = 768 << 10;
    })
    .await;
    let long = "x".repeat(300 << 10);
    for (method, model) in [("generateContent", "auto-gemini-2.5"), ("countTokens", "flash")] {
        let path = format!("/v1beta/models/{model}:{method}");
        let naming = json!({"model": model, "contents": [{"parts": [{"text": long}]}]});
        let got = gateway.post(&path, naming.to_string()).await;
        assert_eq!((got.status.as_u16(), got.header("retry-after")), (503, "1"), "{method}");
        assert_eq!(gateway.post(&path, prompt(&long)).await.status, 200, "{method}");
    }
}
