//! Consent by header to the model that a failure named.

use std::time::Duration;

use gem_setup_support::scripted_upstream::{UpstreamStandIn, reply};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;

use super::routed::{before, path};
use super::{Got, Running, prompt};
use crate::router::walk::OnFallback;
use crate::runtime::Instance;

const PRO: &str = "gemini-2.5-pro";
const QUOTA: &str = r#"{"error": {"code": 429, "message": "limit: 0", "status": "RESOURCE_EXHAUSTED"}}"#;

async fn failing(models: &'static [&'static str]) -> UpstreamStandIn {
    UpstreamStandIn::start(move |request| {
        let path = request.uri().path();
        let fails = models.iter().any(|model| path.contains(&format!("{model}:")));
        let consent = request.headers().contains_key("x-gem-consent");
        async move {
            // A client that is still sending might not see the reply.
            request.into_body().collect().await.ok()?;
            Some(if fails || consent {
                reply(429, QUOTA)
            } else {
                reply(200, "{}")
            })
        }
    })
    .await
    .unwrap()
}

async fn ask(gateway: &Running, model: &str, key: &str, consent: Option<&str>) -> Got {
    let mut headers = vec![("x-goog-api-key", key)];
    headers.extend(consent.map(|consent| ("x-gem-consent", consent)));
    gateway.send(Method::POST, &path(model), &headers, prompt("why?")).await
}

#[tokio::test]
async fn a_failure_names_the_way_and_consent_takes_it() {
    let upstream = failing(&[PRO]).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    for (model, key) in [(PRO, "k1"), ("auto-gemini-2.5", "k2")] {
        let refused = ask(&gateway, model, key, None).await;
        assert_eq!(refused.status, 429, "{model}");
        let candidate = refused.header("x-gem-fallback").to_owned();
        assert!(refused.header("x-gem-hint").contains("x-gem-consent: once"), "{model}");
        let once = ask(&gateway, model, key, Some("once")).await;
        assert_eq!((once.status.as_u16(), once.header("x-gem-model")), (200, &*candidate));
        assert_eq!(
            ask(&gateway, model, key, None).await.status,
            429,
            "{model}: once is once"
        );
        assert_eq!(ask(&gateway, model, key, Some("session")).await.status, 200, "{model}");
        assert_eq!(ask(&gateway, model, key, None).await.status, 200, "{model}");
        assert_eq!(
            ask(&gateway, model, "k3", None).await.status,
            429,
            "{model}: another client"
        );
    }
}

/// How often pro, which fails as `scripted`, is asked for each request of a client with consent for the session; there is a `pause`
/// after each.
async fn asked_in_session(model: &str, scripted: (u16, &'static str), pause: Duration) -> Vec<usize> {
    let upstream = UpstreamStandIn::start(move |request| {
        let fails = request.uri().path().contains(PRO);
        async move {
            Some(match fails {
                true => reply(scripted.0, scripted.1),
                false => reply(200, "{}"),
            })
        }
    });
    let upstream = upstream.await.unwrap();
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    assert_eq!(ask(&gateway, model, "k", None).await.status, scripted.0, "{model}");
    let mut calls = Vec::new();
    for consent in [Some("session"), None, Some("session")] {
        let asked_before = upstream.seen().len();
        let got = ask(&gateway, model, "k", consent).await;
        assert_eq!(
            (got.status.as_u16(), got.header("x-gem-source")),
            (200, "fallback"),
            "{model}"
        );
        let asked = &upstream.seen()[asked_before..];
        calls.push(asked.iter().filter(|seen| seen.uri.path().contains(PRO)).count());
        tokio::time::sleep(pause).await;
    }
    assert_eq!(ask(&gateway, model, "other", None).await.status, scripted.0, "{model}");
    calls
}

#[tokio::test]
async fn a_model_is_not_asked_again_in_a_session_while_its_failure_lasts() {
    const UNKNOWN: &str = r#"{"error": {"code": 404, "message": "no such model"}}"#;
    const BUSY: &str = r#"{"error": {"code": 503, "message": "busy"}}"#;
    const SOON: &str = r#"{"error": {"code": 503, "message": "Please retry in 0.2s"}}"#;
    const LATER: &str = r#"{"error": {"code": 503, "message": "Please retry in 100s"}}"#;
    let (none, longer) = (Duration::ZERO, Duration::from_millis(250));
    for model in [PRO, "auto-gemini-2.5"] {
        assert_eq!(asked_in_session(model, (429, QUOTA), none).await, [1, 0, 0], "{model}");
        assert_eq!(
            asked_in_session(model, (404, UNKNOWN), none).await,
            [1, 0, 0],
            "{model}"
        );
    }
    assert_eq!(asked_in_session(PRO, (503, LATER), none).await, [1, 0, 0]);
    assert_eq!(asked_in_session(PRO, (503, SOON), longer).await, [1, 1, 1]);
    // It may answer the next time.
    assert_eq!(asked_in_session(PRO, (503, BUSY), none).await, [1, 1, 1]);
}

#[tokio::test]
async fn consent_in_other_words_is_none_and_is_said() {
    let upstream = failing(&[PRO]).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    ask(&gateway, PRO, "k", None).await;
    for word in ["bogus", "once, session", "", "\u{e9}"] {
        let refused = ask(&gateway, PRO, "k", Some(word)).await;
        assert_eq!(refused.status, 429, "{word}");
        let hint = refused.header("x-gem-hint");
        assert!(
            hint.contains("must be `once` or `session`, but had another value"),
            "{hint}"
        );
    }
    let refused = ask(&gateway, PRO, "k", None).await;
    assert!(!refused.header("x-gem-hint").contains("another value"));
    assert_eq!(ask(&gateway, PRO, "k", Some("ONCE")).await.status, 200);
    assert_eq!(ask(&gateway, PRO, "k", Some("Session")).await.status, 200);
}

#[tokio::test]
async fn consent_leads_to_no_other_model_and_not_past_never() {
    let upstream = failing(&[PRO, "gemini-2.5-flash"]).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let named = ask(&gateway, PRO, "k", None).await.header("x-gem-fallback").to_owned();
    let asked_before = upstream.seen().len();
    ask(&gateway, PRO, "k", Some("once")).await;
    let asked: Vec<_> = upstream.seen()[asked_before..]
        .iter()
        .map(|seen| seen.uri.to_string())
        .collect();
    assert_eq!(asked, [path(PRO), path(&named)]);
    let gateway = Running::start(before(upstream.address(), OnFallback::Never)).await;
    let asked_before = upstream.seen().len();
    assert_eq!(ask(&gateway, PRO, "k", Some("once")).await.status, 429);
    assert_eq!(upstream.seen().len(), asked_before + 1);
}

/// A request with a picture, longer than what is read of a request without consent.
fn large() -> String {
    prompt(&"x".repeat(5 << 20))
}

/// The status and the model of the reply to a body that is sent in chunks.
async fn ask_in_chunks(gateway: &Running, headers: &str) -> String {
    let body = prompt("why?");
    let length = body.len();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}",
        path(PRO)
    );
    let reply = gateway
        .raw(&format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
        ))
        .await;
    reply.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn consent_counts_for_large_and_chunked_bodies_and_they_do_not_end_it() {
    let upstream = failing(&[PRO]).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Policy)).await;
    let send = async |consent: Option<&'static str>, body: String| {
        let mut headers = vec![("x-goog-api-key", "k")];
        headers.extend(consent.map(|consent| ("x-gem-consent", consent)));
        gateway.send(Method::POST, &path(PRO), &headers, body).await
    };
    let refused = send(None, large()).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("x-gem-hint").contains("x-gem-consent: once"));
    assert_eq!(send(Some("once"), large()).await.status, 200);
    let key = "x-goog-api-key: k\r\n";
    let once = format!("{key}x-gem-consent: once\r\n");
    assert!(ask_in_chunks(&gateway, &once).await.contains(" 200 "));
    assert!(ask_in_chunks(&gateway, key).await.contains(" 429 "));
    assert_eq!(send(Some("session"), large()).await.status, 200);
    let asked_before = upstream.seen().len();
    for body in [large(), prompt("why?"), large()] {
        assert_eq!(send(None, body).await.status, 200);
    }
    assert_eq!(upstream.seen().len(), asked_before + 3, "the failed model is not asked");
}

#[tokio::test]
async fn a_body_that_cannot_be_repeated_is_said_to_be_one() {
    let upstream = failing(&[PRO]).await;
    let configure = before(upstream.address(), OnFallback::Policy);
    let gateway = Running::start(|config| {
        configure(config);
        config.limits.routed_body = 4 << 20;
    })
    .await;
    ask(&gateway, PRO, "k", None).await;
    assert_eq!(ask(&gateway, PRO, "k", Some("session")).await.status, 200);
    let headers = [("x-goog-api-key", "k"), ("x-gem-consent", "once")];
    let refused = gateway.send(Method::POST, &path(PRO), &headers, large()).await;
    assert_eq!(refused.status, 429);
    assert!(!refused.header("x-gem-fallback").is_empty());
    let hint = refused.header("x-gem-hint");
    assert!(
        hint.contains("too large to be repeated") && !hint.contains("repeat the request"),
        "{hint}"
    );
    assert_eq!(ask(&gateway, PRO, "k", None).await.status, 200, "the consent is kept");
}

#[tokio::test]
async fn a_large_body_goes_past_a_failed_model_where_switches_are_silent() {
    let upstream = failing(&[PRO]).await;
    let gateway = Running::start(before(upstream.address(), OnFallback::Silent)).await;
    let send = async || gateway.post(&path(PRO), large()).await.status.as_u16();
    assert_eq!([send().await, send().await], [429, 200]);
}

#[tokio::test]
async fn only_the_owner_consents_for_route() {
    let instance = Instance::random().unwrap();
    let (authorization, own) = (instance.authorization(), Some(instance));
    let upstream = failing(&[PRO]).await;
    let configure = before(upstream.address(), OnFallback::Policy);
    let gateway = Running::start(|config| {
        configure(config);
        config.instance = own;
    })
    .await;
    ask(&gateway, "auto-gemini-2.5", "k", None).await;
    let switch = format!(r#"{{"failed": "{PRO}", "candidate": "gemini-2.5-flash"}}"#);
    let consent = async |headers: &[(&str, &str)], body: &str| {
        let got = gateway.send(Method::POST, "/consent", headers, body.to_owned()).await;
        (
            got.status.as_u16(),
            gateway.get("/status").await.json()["failed_models"][0].clone(),
        )
    };
    let (status, failed) = consent(&[], &switch).await;
    assert_eq!(
        (status, &failed["model"], &failed["consent"]),
        (403, &PRO.into(), &Value::Null)
    );
    let owner: &[(&str, &str)] = &[("authorization", &authorization)];
    assert_eq!(consent(owner, "{}").await.0, 400);
    let (status, failed) = consent(owner, &switch).await;
    assert_eq!((status, &failed["consent"]), (200, &"gemini-2.5-flash".into()));
    assert_eq!(ask(&gateway, "auto-gemini-2.5", "k", None).await.status, 429);
}
