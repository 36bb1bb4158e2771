//! Sizes, counts and times beyond which the gateway refuses, and its end.

use std::time::Duration;

use gem_setup_support::engine::{EngineStandIn, Gate, Say, answer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{GENERATE, HANG, Running, prompt, read_to_end};

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let gateway = Running::start(|config| config.limits.local_body = 1_000).await;
    let large = prompt(&"x".repeat(100_000));
    gateway
        .post(GENERATE, large.clone())
        .await
        .error(413, "INVALID_ARGUMENT");
    let chunked = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert!(gateway.raw(&chunked).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let gateway = Running::start(|_| {}).await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let reply = gateway.raw(&long).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    let many = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X-Many: 1\r\n".repeat(200)
    );
    assert!(gateway.raw(&many).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_slow_body_times_out() {
    let gateway = Running::start(|config| config.limits.body_time = Duration::from_millis(50)).await;
    let text = gateway
        .raw(&format!(
            "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{"
        ))
        .await;
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert!(text.contains("DEADLINE_EXCEEDED"), "{text}");
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let gateway = Running::start(|config| config.limits.head_time = Duration::from_millis(50)).await;
    for text in [
        "",
        "GET /healthz HTTP/1.1\r\nHost: lo",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let reply = gateway.raw(text).await;
        assert_eq!(reply.starts_with("HTTP/1.1 200"), text.ends_with("\r\n\r\n"), "{reply}");
    }
}

#[tokio::test]
async fn the_connection_idle_for_longest_makes_room_for_a_new_one() {
    let gateway = Running::start(|config| config.limits.connections = 3).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(gateway.address).await.unwrap());
        assert_eq!(gateway.get("/healthz").await.status, 200);
    }
    assert_eq!(read_to_end(&mut idle[0]).await, "");
}

#[tokio::test]
async fn connections_are_kept_alive_and_may_send_ahead() {
    let gateway = Running::start(|_| {}).await;
    let text = gateway
        .raw(
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[tokio::test]
async fn shutting_down_lets_open_requests_finish() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![Say::Wait(gate.clone()), answer("done")])
        .await
        .unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let address = gateway.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let client =
        tokio::spawn(async move { super::open(address, hyper::Method::POST, GENERATE, &[], prompt("x")).await });
    super::eventually(|| !engine.seen().is_empty()).await;
    let finished = tokio::spawn(gateway.finish());
    assert_eq!(read_to_end(&mut idle).await, "", "an idle connection is closed at once");
    assert!(TcpStream::connect(address).await.is_err(), "nobody else is let in");
    gate.open();
    assert_eq!(client.await.unwrap().status(), 200);
    finished.await.unwrap();
}

#[tokio::test]
async fn shutting_down_does_not_wait_longer_than_the_grace_period() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.grace = Duration::from_millis(50)).await;
    let mut client = TcpStream::connect(gateway.address).await.unwrap();
    let body = prompt("x");
    let request = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    super::eventually(|| !engine.seen().is_empty()).await;
    tokio::time::timeout(HANG, gateway.finish()).await.unwrap();
}
