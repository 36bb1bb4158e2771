//! Clients with tokens, their limits, and the end of a gateway behind a load balancer.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use gem_setup_support::engine::{EngineStandIn, answer};
use gem_setup_support::scripted_upstream::UpstreamStandIn;
use hyper::{Method, StatusCode};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{GENERATE, Got, HANG, Running, eventually, open, prompt};
use crate::gateway::{Config, NewToken, Quota};

const HOSTED: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

/// A token file with two clients.
struct Team {
    directory: TempDir,
    ada: String,
    bob: String,
}

impl Team {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ada, bob) = (NewToken::random("ada").unwrap(), NewToken::random("bob").unwrap());
        let team = Self {
            directory,
            ada: ada.token,
            bob: bob.token,
        };
        team.write("tokens", &format!("{}\n{}\n", ada.line, bob.line));
        team
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        crate::place::write_private(&path, text.as_bytes()).unwrap();
        path
    }

    /// Makes a gateway serve the team alone.
    fn alone(&self) -> impl FnOnce(&mut Config) {
        let tokens = self.directory.path().join("tokens");
        move |config| config.access.tokens = Some(tokens)
    }
}

async fn ask(gateway: &Running, path: &str, token: &str) -> Got {
    gateway
        .send(Method::POST, path, &[("x-goog-api-key", token)], prompt("hello"))
        .await
}

#[tokio::test]
async fn without_a_token_only_probes_are_answered() {
    let team = Team::new();
    let gateway = Running::without_engine_with(team.alone()).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.get(path).await.status, 200, "{path}");
    }
    for path in [
        "/metrics",
        "/status",
        GENERATE,
        HOSTED,
        "/v1beta/models",
        "/upload/v1beta/files",
    ] {
        for token in ["", "gst_wrong"] {
            let refused = gateway.send(Method::POST, path, &[("x-goog-api-key", token)], "").await;
            refused.error(401, "UNAUTHENTICATED");
            assert_eq!(refused.header("www-authenticate"), "Bearer");
        }
    }
    let allowed = gateway
        .send(
            Method::GET,
            "/metrics",
            &[("authorization", &format!("Bearer {}", team.ada))],
            "",
        )
        .await;
    assert!(
        allowed.text().contains("gem_setup_requests_without_token_total 12\n"),
        "{}",
        allowed.text()
    );
}

#[tokio::test]
async fn the_gateway_s_key_reaches_no_client() {
    let team = Team::new();
    let error = r#"{"error": {"code": 429, "message": "AIza-gateway is used up"}}"#;
    let stream = "data: {\"error\": {\"code\": 503, \"message\": \"AIza-gateway\"}}\n\n";
    let upstream = UpstreamStandIn::replies(vec![(429, error), (400, error), (200, stream)])
        .await
        .unwrap();
    let (address, key) = (upstream.address(), team.write("key", "AIza-gateway\n"));
    let gateway = Running::without_engine_with(|config| {
        team.alone()(config);
        config.upstream.url = format!("http://{address}").parse().unwrap();
        config.access.upstream_key = Some(key);
    })
    .await;
    for (path, status) in [(HOSTED, 429), ("/v1beta/files", 400), (HOSTED, 200)] {
        let headers = [("x-goog-api-key", &*team.ada), ("accept-encoding", "gzip")];
        let got = gateway.send(Method::POST, path, &headers, prompt("hello")).await;
        assert_eq!(got.status, status);
        assert!(
            !got.text().contains("AIza") && got.text().contains("************"),
            "{got:?}"
        );
        assert_eq!(upstream.seen().pop().unwrap().headers["accept-encoding"], "identity");
    }
}

#[tokio::test]
async fn the_upstream_gets_the_gateway_s_key_or_the_client_s_and_no_token() {
    let team = Team::new();
    let upstream = UpstreamStandIn::replies(vec![(200, "{}")]).await.unwrap();
    let (address, key) = (upstream.address(), team.write("key", "AIza-gateway\n"));
    let gateway = Running::without_engine_with(|config| {
        team.alone()(config);
        config.upstream.url = format!("http://{address}").parse().unwrap();
        config.access.upstream_key = Some(key);
    })
    .await;
    assert_eq!(
        ask(&gateway, &format!("{HOSTED}?key={}", team.ada), &team.ada)
            .await
            .status,
        200
    );
    let own = [("x-gem-token", &*team.ada), ("x-goog-api-key", "AIza-own")];
    assert_eq!(gateway.send(Method::POST, HOSTED, &own, "{}").await.status, 200);
    let keys: Vec<_> = upstream
        .seen()
        .iter()
        .map(|seen| seen.headers["x-goog-api-key"].clone())
        .collect();
    assert_eq!(keys, ["AIza-gateway", "AIza-own"]);
    for seen in upstream.seen() {
        assert!(!format!("{seen:?}").contains("gst_"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_gateway_without_a_key_says_so_and_serves_its_local_model() {
    let team = Team::new();
    let engine = EngineStandIn::start(vec![answer("hi")]).await.unwrap();
    let gateway = Running::before(&engine, team.alone()).await;
    let refused = ask(&gateway, HOSTED, &team.bob).await.error(401, "UNAUTHENTICATED");
    assert!(refused.contains("`x-gem-token`"), "{refused}");
    assert_eq!(ask(&gateway, GENERATE, &team.bob).await.answer(), "hi");
}

#[tokio::test]
async fn each_client_has_its_own_limits() {
    let team = Team::new();
    let gateway = Running::without_engine_with(|config| {
        team.alone()(config);
        config.access.quota = Quota {
            per_minute: NonZeroU32::new(2),
            at_once: None,
        };
    })
    .await;
    let path = GENERATE.replace(":generateContent", ":countTokens");
    for _ in 0..2 {
        assert_ne!(
            ask(&gateway, &path, &team.ada).await.status,
            StatusCode::TOO_MANY_REQUESTS
        );
    }
    let limited = ask(&gateway, &path, &team.ada).await;
    assert!(limited.error(429, "RESOURCE_EXHAUSTED").contains("`ada`"));
    let seconds = limited.header("retry-after").to_owned();
    assert!((1..=60).contains(&seconds.parse::<u64>().unwrap()), "{seconds}");
    assert_eq!(
        limited.json()["error"]["details"][0]["retryDelay"],
        format!("{seconds}s")
    );
    assert_ne!(
        ask(&gateway, &path, &team.bob).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[tokio::test]
async fn a_removed_client_is_refused_and_a_broken_file_changes_nothing() {
    let team = Team::new();
    let gateway = Running::without_engine_with(team.alone()).await;
    let known = async |token: &str| {
        let header = [("x-gem-token", token)];
        gateway.send(Method::GET, "/status", &header, "").await.status == 200
    };
    assert!(known(&team.ada).await && known(&team.bob).await);
    team.write("tokens", "garbage\n");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(known(&team.ada).await);
    let carol = NewToken::random("carol").unwrap();
    team.write("tokens", &carol.line);
    timeout(HANG, async {
        while !known(&carol.token).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(!known(&team.ada).await);
}

#[tokio::test]
async fn a_draining_gateway_answers_and_is_not_ready() {
    let engine = EngineStandIn::start(vec![answer("hi")]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.drain_delay = Duration::from_secs(2)).await;
    let address = gateway.address;
    assert_eq!(gateway.get("/readyz").await.status, 200);
    drop(gateway.shutdown);
    timeout(HANG, async {
        while open(address, Method::GET, "/readyz", &[], "").await.status() == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let served = open(address, Method::POST, GENERATE, &[], prompt("hello")).await;
    assert_eq!(served.status(), 200);
    assert_eq!(served.headers()["connection"], "close");
    timeout(HANG, gateway.task).await.unwrap().unwrap();
    eventually(|| std::net::TcpStream::connect(address).is_err()).await;
}
