//! Health, readiness, metrics, status, and unknown paths.

use hyper::Method;
use tokio::net::TcpListener;

use super::{GENERATE, Running, prompt};
use crate::environment::Environment;
use crate::error::{Explain, Kind};
use crate::gateway::{AccessError, Config, Gateway, GatewayError, Upstream};
use crate::net::Network;
use crate::runtime::EngineState;

#[tokio::test]
async fn it_is_up_before_the_engine_on_both_loopback_families() {
    let gateway = Running::start(|_| {}).await;
    for address in &gateway.addresses {
        let got = super::open(*address, Method::GET, "/healthz", &[], "").await;
        assert_eq!(got.status(), 200);
    }
    assert_eq!(gateway.addresses.len(), 2);
    assert_eq!(gateway.get("/readyz").await.status, 503);
    gateway.ready("127.0.0.1:1".parse().unwrap());
    assert_eq!(gateway.get("/readyz").await.status, 200);
    gateway.state(EngineState::Unhealthy);
    assert_eq!(gateway.get("/readyz").await.text(), "unhealthy\n");
    assert_eq!(gateway.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn status_says_what_the_contract_asks_for() {
    let gateway = Running::start(|config| config.runtime = "litert-lm".to_owned()).await;
    gateway.ready("127.0.0.1:4242".parse().unwrap());
    let status = gateway.get("/status").await.json();
    assert_eq!(status["running"], true);
    assert_eq!(status["ready"], true);
    assert_eq!(status["pid"], std::process::id());
    assert_eq!(status["port"], gateway.address.port());
    assert_eq!(status["runtime"], "litert-lm");
    assert_eq!(status["model"], super::MODEL);
    assert_eq!(status["child"]["pid"], 4711);
    assert_eq!(status["child"]["port"], 4242);
    assert_eq!(status["child"]["state"], "ready");
    assert_eq!(status["child"]["restarts"], 0);
    assert!(status["uptime_s"].is_u64());
    let without = Running::without_engine().await.get("/status").await.json();
    assert_eq!(
        (&without["ready"], &without["child"]),
        (&true.into(), &serde_json::Value::Null)
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let gateway = Running::start(|_| {}).await;
    gateway.post(GENERATE, "").await;
    let got = gateway.get("/metrics").await;
    assert!(got.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        "gem_setup_requests_total{face=\"local\",outcome=\"client_error\"} 1",
        "gem_setup_engine_state{state=\"starting\"} 1",
    ] {
        assert!(got.text().lines().any(|known| known == line), "{line}");
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_one_shape() {
    let gateway = Running::start(|_| {}).await;
    for path in ["/", "/v2/models", "/favicon.ico", "/v1beta"] {
        gateway.get(path).await.error(404, "NOT_FOUND");
    }
    let got = gateway.post("/healthz", "").await;
    got.error(405, "UNIMPLEMENTED");
    assert_eq!(got.header("allow"), "GET, HEAD");
    assert_eq!(gateway.send(Method::HEAD, "/healthz", &[], "").await.status, 200);
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_forbidden_everywhere() {
    let gateway = Running::without_engine().await;
    for path in ["/healthz", "/status", "/metrics", "/v1beta/models", GENERATE, "/"] {
        let host = [("host", "gem.example.com")];
        gateway
            .send(Method::GET, path, &host, "")
            .await
            .error(403, "PERMISSION_DENIED");
        let origin = [("origin", "https://example.com")];
        gateway
            .send(Method::POST, path, &origin, prompt("x"))
            .await
            .error(403, "PERMISSION_DENIED");
    }
    let absolute = gateway
        .raw("GET http://example.com/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    assert!(absolute.starts_with("HTTP/1.1 403"), "{absolute}");
    let own = [("origin", "http://localhost:5173"), ("host", "localhost:9379")];
    assert_eq!(gateway.send(Method::GET, "/healthz", &own, "").await.status, 200);
}

fn config(port: u16) -> Config {
    let upstream = Upstream {
        url: "http://127.0.0.1:9".parse().unwrap(),
        network: Network::default(),
    };
    Config::new(port, super::MODEL, upstream, "/nonexistent/decisions.jsonl")
}

#[tokio::test]
async fn a_taken_port_is_a_conflict() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let error = Gateway::bind(config(port)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn the_configuration_is_checked_before_the_port_is_bound() {
    let mut open = config(0);
    open.listen = vec!["0.0.0.0".parse().unwrap()];
    let error = Gateway::bind(open.clone()).await.err().unwrap();
    assert!(matches!(error, GatewayError::NotLoopback(_)));
    assert_eq!(error.kind(), Kind::Usage);
    let mut unnamed = config(0);
    unnamed.local_models = vec!["no name".to_owned()];
    assert!(matches!(
        Gateway::bind(unnamed).await.err().unwrap(),
        GatewayError::ModelName(_)
    ));
    open.allow_remote = true;
    let plain = Gateway::bind(open.clone()).await.err().unwrap();
    assert!(matches!(plain, GatewayError::Access(AccessError::Plain)));
    open.access.proxies = vec!["127.0.0.1".parse().unwrap()];
    let anybody = Gateway::bind(open).await.err().unwrap();
    assert!(matches!(anybody, GatewayError::Access(AccessError::WithoutTokens(_))));
    let environment = Environment::new([], "/", "/");
    let network = Network::from_environment(&environment, Some("/nonexistent/ca.pem".into())).unwrap();
    for url in ["ftp://example.com", "https://example.com"] {
        let mut config = config(0);
        config.upstream.url = url.parse().unwrap();
        config.upstream.network = network.clone();
        assert_eq!(Gateway::bind(config).await.err().unwrap().kind(), Kind::Usage, "{url}");
    }
}

#[tokio::test]
async fn probes_tell_paths_only_where_the_gateway_is_for_this_machine_alone() {
    const MISSING: &str = "`/home/ada/.gemini/gem-setup/terms.json` cannot be read";
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    let line = crate::gateway::NewToken::random("ada").unwrap().line;
    crate::place::write_private(&tokens, line.as_bytes()).unwrap();
    for (is_shared, expected) in [(false, format!("blocked: {MISSING}\n")), (true, "blocked\n".to_owned())] {
        let gateway = Running::start(|config| {
            if is_shared {
                config.allow_remote = true;
                config.access.tokens = Some(tokens.clone());
                config.access.proxies = vec!["10.0.0.1".parse().unwrap()];
            }
        })
        .await;
        gateway.state(EngineState::Blocked);
        gateway
            .status
            .send_modify(|status| status.blocked = Some(MISSING.to_owned()));
        let got = gateway.get("/readyz").await;
        assert_eq!((got.status.as_u16(), got.text()), (503, &*expected));
    }
}
