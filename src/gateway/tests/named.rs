//! Calls that name their model, and what the gateway learns from them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gem_setup_support::engine::{EngineStandIn, Say};
use gem_setup_support::scripted_upstream::{UpstreamStandIn, reply};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::chains::chains;
use super::routed::{before, path};
use super::{Got, Running, eventually, open, prompt, read_to_end};
use crate::gateway::{ChainRouter, Config};
use crate::router::ClassifierChoice;
use crate::router::walk::OnFallback;

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";
const LITE: &str = "gemini-2.5-flash-lite";
const AUTO: &str = "auto-gemini-2.5";
const COMPLEX: &str = "why does this architecture lose messages?";
const QUOTA: &str = r#"{"error": {"code": 429, "message": "limit: 0", "status": "RESOURCE_EXHAUSTED"}}"#;
const BUSY: &str = r#"{"error": {"code": 503, "message": "Please retry in 45s."}}"#;
const ONCE: (&str, &str) = ("x-gem-consent", "once");

/// An upstream whose pro model fails with `status` and `body` while the switch is on.
async fn switched(status: u16, body: &'static str) -> (UpstreamStandIn, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&switch);
    let upstream = UpstreamStandIn::start(move |request| {
        let is_failure = fails.load(Ordering::Relaxed) && request.uri().path().contains(&format!("{PRO}:"));
        async move {
            request.into_body().collect().await.ok()?;
            Some(if is_failure {
                reply(status, body)
            } else {
                reply(200, "{}")
            })
        }
    });
    (upstream.await.unwrap(), switch)
}

async fn ask(gateway: &Running, model: &str, headers: &[(&str, &str)], body: String) -> Got {
    gateway.send(Method::POST, &path(model), headers, body).await
}

/// A request that continues a turn: the model's function was called.
fn continued() -> String {
    json!({"contents": [
        {"role": "user", "parts": [{"text": COMPLEX}]},
        {"role": "model", "parts": [{"functionCall": {"name": "read"}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "read"}}]},
    ]})
    .to_string()
}

async fn failed_models(gateway: &Running) -> Value {
    let mut failed = gateway.get("/status").await.json()["failed_models"].take();
    let failed = failed.as_array_mut().unwrap().drain(..);
    let rows = failed.map(|row| json!([row["model"], row["kind"], row["passed_over"]]));
    rows.collect()
}

#[tokio::test]
async fn a_model_that_is_named_with_consent_is_asked_whatever_is_known_of_it() {
    let (upstream, fails) = switched(503, BUSY).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let got = ask(&gateway, AUTO, &[], prompt(COMPLEX)).await;
    assert_eq!(got.header("x-gem-source"), "fallback");
    let asked_before = upstream.seen().len();
    let got = ask(&gateway, PRO, &[ONCE], continued()).await;
    assert_eq!(got.status, 503, "no failure of pro has named flash to this client");
    fails.store(false, Ordering::Relaxed);
    let got = ask(&gateway, PRO, &[ONCE], continued()).await;
    assert_eq!(
        (got.header("x-gem-model"), got.header("x-gem-source")),
        (PRO, "override")
    );
    let asked: Vec<_> = upstream.seen()[asked_before..]
        .iter()
        .map(|seen| seen.uri.to_string())
        .collect();
    assert_eq!(asked, [path(PRO), path(PRO)]);
}

#[tokio::test]
async fn two_failures_at_a_time_fail_one_model() {
    let barrier = Arc::new(Barrier::new(2));
    let upstream = UpstreamStandIn::start(move |request| {
        let barrier = Arc::clone(&barrier);
        async move {
            request.into_body().collect().await.ok()?;
            barrier.wait().await;
            Some(reply(429, QUOTA))
        }
    });
    let upstream = upstream.await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Silent)).await;
    let large = || prompt(&"x".repeat(5 << 20));
    let (one, two) = tokio::join!(ask(&gateway, LITE, &[], large()), ask(&gateway, LITE, &[], large()));
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (429, 429));
    assert_eq!(failed_models(&gateway).await, json!([[LITE, "terminal", true]]));
}

#[tokio::test]
async fn the_list_of_failed_models_follows_named_calls() {
    let (upstream, fails) = switched(429, QUOTA).await;
    for on_fallback in [OnFallback::Policy, OnFallback::Never] {
        fails.store(true, Ordering::Relaxed);
        let gateway = Running::start(before(upstream.address(), on_fallback)).await;
        let count = format!("/v1beta/models/{PRO}:countTokens");
        assert_eq!(gateway.post(&count, prompt("x")).await.status, 429);
        assert_eq!(failed_models(&gateway).await, json!([]), "{on_fallback:?}");
        assert_eq!(ask(&gateway, PRO, &[], prompt("x")).await.status, 429);
        let listed = json!([[PRO, "terminal", false]]);
        assert_eq!(failed_models(&gateway).await, listed, "{on_fallback:?}");
        fails.store(false, Ordering::Relaxed);
        assert_eq!(gateway.post(&count, prompt("x")).await.status, 200);
        assert_eq!(failed_models(&gateway).await, listed, "{on_fallback:?}");
        assert_eq!(ask(&gateway, PRO, &[], prompt("x")).await.status, 200);
        assert_eq!(failed_models(&gateway).await, json!([]), "{on_fallback:?}");
    }
}

#[tokio::test]
async fn a_silent_switch_lists_the_model_that_failed() {
    let (upstream, _) = switched(503, BUSY).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    assert_eq!(ask(&gateway, AUTO, &[], prompt(COMPLEX)).await.status, 200);
    assert_eq!(failed_models(&gateway).await, json!([[PRO, "transient", false]]));
}

#[tokio::test]
async fn a_key_of_the_upstream_s_url_is_not_stored() {
    const LEAK: &str = r#"{"error": {"code": 503, "message": "SECRET12345 is busy. Please retry in 45s."}}"#;
    let (upstream, _) = switched(503, LEAK).await;
    let address = format!("{}/?key=SECRET12345", upstream.address());
    let gateway = Running::start(|config| {
        before(upstream.address(), OnFallback::Policy)(config);
        config.upstream.url = format!("http://{address}").parse().unwrap();
    })
    .await;
    assert_eq!(ask(&gateway, AUTO, &[], prompt(COMPLEX)).await.status, 200);
    let decisions = gateway.finish().await;
    let reasoning = decisions[0]["reasoning"].as_str().unwrap();
    assert!(reasoning.contains("*** is busy"), "{reasoning}");
}

#[tokio::test]
async fn tokens_in_the_query_tell_clients_apart() {
    let upstream = UpstreamStandIn::start(|request| async move {
        let asked = request.uri().to_string();
        let is_failure = asked.contains("access_token=t1") && asked.contains(LITE);
        request.into_body().collect().await.ok()?;
        Some(if is_failure {
            reply(429, QUOTA)
        } else {
            reply(200, "{}")
        })
    });
    let upstream = upstream.await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Silent)).await;
    for (token, model) in [("t1", FLASH), ("t2", LITE)] {
        let path = format!("/v1beta/models/{LITE}:generateContent?access_token={token}");
        let got = gateway.post(&path, prompt("x")).await;
        assert_eq!(got.header("x-gem-model"), model, "{token}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_beyond_the_limit_goes_to_the_named_model() {
    let (lengths, fails) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (seen, failing) = (Arc::clone(&lengths), Arc::clone(&fails));
    let upstream = UpstreamStandIn::start(move |request| {
        let (seen, failing) = (Arc::clone(&seen), failing.load(Ordering::Relaxed));
        async move {
            let fails = failing && request.uri().path().contains(&format!("{PRO}:"));
            let body = request.into_body().collect().await.ok()?.to_bytes();
            seen.store(body.len(), Ordering::Relaxed);
            Some(if fails { reply(429, QUOTA) } else { reply(200, "{}") })
        }
    });
    let upstream = upstream.await.unwrap();
    for (limit, bodies) in [(1 << 20, 16 << 20), (16 << 20, 1 << 20)] {
        fails.store(true, Ordering::Relaxed);
        let gateway = Running::start(|config| {
            before(upstream.address(), OnFallback::Policy)(config);
            config.limits.routed_body = limit;
            config.limits.bodies = bodies;
        })
        .await;
        ask(&gateway, PRO, &[], prompt("x")).await;
        let session = [("x-gem-consent", "session")];
        assert_eq!(ask(&gateway, PRO, &session, prompt("x")).await.status, 200);
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(48);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
            path(PRO)
        );
        let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{piece}0\r\n\r\n");
        let refused = gateway.raw(&request).await;
        assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
        assert!(refused.contains("too large to be repeated"), "{refused}");
        assert_eq!(lengths.load(Ordering::Relaxed), 48 * 0x10000);
        fails.store(false, Ordering::Relaxed);
        assert!(gateway.raw(&request).await.starts_with("HTTP/1.1 200"));
        assert_eq!(lengths.load(Ordering::Relaxed), 48 * 0x10000);
    }
}

#[tokio::test]
async fn a_small_body_streams_through_where_there_is_no_room_for_it() {
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::start(|config| {
        before(upstream.address(), OnFallback::Silent)(config);
        config.limits.bodies = 0;
    })
    .await;
    let body = prompt(&"x".repeat(100 << 10));
    assert_eq!(ask(&gateway, PRO, &[], body).await.status, 200);
}

#[tokio::test]
async fn a_consent_that_is_advised_counts_also_where_switches_are_silent() {
    let (upstream, _) = switched(503, r#"{"error": {"code": 503, "message": "busy"}}"#).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Silent)).await;
    let send = async |headers: &str| {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}",
            path(PRO)
        );
        gateway
            .raw(&format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
            ))
            .await
    };
    let refused = send("").await;
    assert!(
        refused.contains("repeat the request with `x-gem-consent: once`"),
        "{refused}"
    );
    let got = send("X-Gem-Consent: once\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200") && got.contains(FLASH), "{got}");
}

#[tokio::test]
async fn a_wrong_consent_is_named_after_every_failure() {
    let upstream = UpstreamStandIn::replies(vec![(500, "no")]).await.unwrap();
    for on_fallback in [OnFallback::Policy, OnFallback::Silent, OnFallback::Never] {
        let gateway = Running::start(before(upstream.address(), on_fallback)).await;
        for model in [FLASH, PRO, AUTO, "my-model"] {
            let got = ask(&gateway, model, &[("x-gem-consent", "sesion")], prompt("x")).await;
            let hint = got.header("x-gem-hint");
            assert_eq!(got.status, 500);
            assert!(
                hint.contains("must be `once` or `session`"),
                "{on_fallback:?} {model}: {hint}"
            );
        }
    }
}

#[tokio::test]
async fn a_decision_names_what_was_asked_for_and_the_tier() {
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    for headers in [&[][..], &[ONCE]] {
        for model in ["flash", PRO] {
            assert_eq!(ask(&gateway, model, headers, prompt("x")).await.status, 200);
        }
    }
    let decisions = gateway.finish().await;
    let rows: Vec<_> = decisions.iter().map(|row| (&row["reasoning"], &row["tier"])).collect();
    let reasons = ["flash", PRO].map(|name| json!(format!("the request's path asks for `{name}`")));
    let (flash, pro) = (json!("flash"), json!("pro"));
    let expected = [(&reasons[0], &flash), (&reasons[1], &pro)];
    assert_eq!(rows, [expected, expected].concat());
}

#[tokio::test]
async fn an_empty_body_is_sent_with_its_length() {
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    for model in [AUTO, "flash"] {
        assert_eq!(ask(&gateway, model, &[], String::new()).await.status, 200);
        assert_eq!(upstream.seen().pop().unwrap().headers["content-length"], "0", "{model}");
    }
}

#[tokio::test]
async fn a_mark_before_the_body_hides_no_cache() {
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let cached = "\u{feff}{\"contents\": [], \"cachedContent\": \"cachedContents/x\"}";
    assert_eq!(ask(&gateway, AUTO, &[], cached.to_owned()).await.status, 400);
    let naming = "\u{feff}{\"model\": \"models/gem-auto\"}";
    assert_eq!(gateway.post("/v1beta/cachedContents", naming).await.status, 400);
}

#[tokio::test]
async fn an_upload_that_must_make_room_fails_no_model() {
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::without_engine_with(|config| {
        before(upstream.address(), OnFallback::Policy)(config);
        config.limits.connections = 2;
        config.limits.body_time = Duration::from_secs(3600);
    })
    .await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n{{",
        path(PRO)
    );
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    eventually(|| upstream.seen().len() == 2).await;
    assert_eq!(ask(&gateway, PRO, &[], prompt("y")).await.status, 200);
    let replies = futures_util::future::select_all(slow.iter_mut().map(|stream| Box::pin(read_to_end(stream))));
    let (refusal, ..) = replies.await;
    assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
    assert!(
        !refusal.contains("x-gem-fallback") && !refusal.contains("x-gem-hint"),
        "{refusal}"
    );
}

#[tokio::test]
async fn the_client_s_deadline_bounds_the_wait_for_room() {
    let upstream = UpstreamStandIn::start(|_| std::future::pending()).await.unwrap();
    let gateway = Running::start(|config| {
        before(upstream.address(), OnFallback::Policy)(config);
        config.limits.connections = 2;
    })
    .await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n",
        path(PRO)
    );
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(format!("{head}\r\n{{}}").as_bytes()).await.unwrap();
        busy.push(stream);
    }
    eventually(|| upstream.seen().len() == 2).await;
    let start = Instant::now();
    let reply = gateway.raw(&format!("{head}X-Server-Timeout: 0.1\r\n\r\n{{}}")).await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
}

/// The settings of a gateway whose local model classifies.
fn classifying(upstream: &UpstreamStandIn) -> impl FnOnce(&mut Config) {
    let configure = before(upstream.address(), OnFallback::Never);
    move |config| {
        configure(config);
        config.classifier_deadline = Duration::from_secs(60);
        config.router = Some(Arc::new(ChainRouter {
            classifier: ClassifierChoice::Model,
            ..chains(OnFallback::Never, Duration::ZERO)
        }));
    }
}

#[tokio::test]
async fn a_classifier_that_is_given_up_is_logged_with_its_time() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::before(&engine, classifying(&upstream)).await;
    let headers = [("x-server-timeout", "2")];
    let got = ask(&gateway, AUTO, &headers, prompt(COMPLEX)).await;
    assert_eq!(
        (got.status.as_u16(), got.header("x-gem-source")),
        (200, "builtin-classifier")
    );
    let decisions = gateway.finish().await;
    assert!(decisions[0]["latency_ms"].as_u64().unwrap() >= 900, "{decisions:?}");
    let failure = decisions[0]["model_failure"].as_str().unwrap();
    assert!(failure.contains("the client's deadline"), "{failure}");
}

#[tokio::test]
async fn a_client_that_leaves_a_classification_is_logged() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::before(&engine, classifying(&upstream)).await;
    let address = gateway.address;
    let client = tokio::spawn(async move { open(address, Method::POST, &path(AUTO), &[], prompt(COMPLEX)).await });
    eventually(|| !engine.seen().is_empty()).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    let decisions = gateway.finish().await;
    assert_eq!(
        (decisions.len(), &decisions[0]["status"]),
        (1, &499.into()),
        "{decisions:?}"
    );
}

#[tokio::test]
async fn a_classifier_gets_half_of_the_time_that_a_slow_body_leaves() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let (upstream, _) = switched(200, "{}").await;
    let gateway = Running::before(&engine, classifying(&upstream)).await;
    let body = prompt(COMPLEX);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Server-Timeout: 8\r\nContent-Length: {}\r\n\r\n",
        path(AUTO),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(4200)).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[tokio::test]
async fn an_error_that_stalls_is_charged_to_the_longest_wait() {
    const HEAD: &str =
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 1000\r\n\r\n{\"error\": {\"message\": \"Please retry in 3s.\"}}";
    let upstream = EngineStandIn::start(vec![Say::Bytes(HEAD.into()), Say::Hang])
        .await
        .unwrap();
    let gateway = Running::start(|config| {
        before(upstream.address(), OnFallback::Never)(config);
        config.router = Some(Arc::new(chains(OnFallback::Never, Duration::from_secs(4))));
    })
    .await;
    let start = Instant::now();
    let reply = gateway.open(Method::POST, &path(AUTO), &[], prompt(COMPLEX)).await;
    assert_eq!((reply.status().as_u16(), upstream.seen().len()), (503, 1));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
