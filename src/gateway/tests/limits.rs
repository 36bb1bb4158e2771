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
async fn http_2_without_an_agreement_is_refused() {
    let gateway = Running::start(|_| {}).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    stream.shutdown().await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 505"), "{reply}");
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
    let last = idle.last_mut().unwrap();
    let still_open = tokio::time::timeout(Duration::from_millis(100), last.readable());
    assert!(still_open.await.is_err(), "no more are ended than necessary");
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
    assert!(TcpStream::connect(address).await.is_err(), "newcomers are refused");
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
    let reply = read_to_end(&mut client).await;
    let head = reply.to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: "),
        "{reply}"
    );
    assert!(head.contains("\r\nconnection: close\r\n"), "{reply}");
    assert!(reply.contains(r#""status":"UNAVAILABLE""#), "{reply}");
}

async fn send(address: std::net::SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_full_gateway_refuses_newcomers_with_a_status() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.connections = 2).await;
    let body = prompt("x");
    let request = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _busy = [
        send(gateway.address, &request).await,
        send(gateway.address, &request).await,
    ];
    super::eventually(|| !engine.seen().is_empty()).await;
    assert_eq!(gateway.get("/healthz").await.status, 200, "health needs no room");
    let got = gateway.post(GENERATE, prompt("y")).await;
    assert_eq!((got.header("retry-after"), got.header("connection")), ("1", "close"));
    assert!(got.error(503, "UNAVAILABLE").contains("connections are in use"));
}

#[tokio::test]
async fn a_slow_client_makes_room_for_another() {
    let gateway = Running::without_engine_with(|config| {
        config.limits.connections = 2;
        // Only the lack of room ends a slow client, however busy this machine is.
        config.limits.body_time = Duration::from_secs(3600);
    })
    .await;
    let slow = format!("POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{{");
    let mut slow = [send(gateway.address, &slow).await, send(gateway.address, &slow).await];
    assert_eq!(gateway.post(GENERATE, prompt("y")).await.status, 200);
    let replies = futures_util::future::select_all(slow.iter_mut().map(|stream| Box::pin(read_to_end(stream))));
    let (refusal, ..) = replies.await;
    assert!(refusal.starts_with("HTTP/1.1 503"), "{refusal}");
}

#[tokio::test]
async fn a_reply_in_the_write_buffer_survives_the_end() {
    let long = "x".repeat(12 << 20);
    let engine = EngineStandIn::start(vec![answer(&long)]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let body = prompt("x");
    let request = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = send(gateway.address, &request).await;
    client.readable().await.unwrap();
    let ending = tokio::spawn(gateway.finish());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!ending.is_finished(), "the reader has not read yet");
    assert!(read_to_end(&mut client).await.len() > long.len());
    ending.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_off() {
    let engine = EngineStandIn::start(vec![answer(&"x".repeat(12 << 20))]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.read_time = Duration::from_millis(50)).await;
    let body = prompt("x");
    let request = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let _client = send(gateway.address, &request).await;
    super::eventually(|| !engine.seen().is_empty()).await;
    loop {
        // This request's own connection is the only one left.
        if gateway
            .get("/metrics")
            .await
            .text()
            .contains("gem_setup_connections 1\n")
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let gateway = Running::start(|_| {}).await;
    let length = 30_000_000;
    for (head, status) in [
        ("POST /v2/files HTTP/1.1\r\nHost: localhost\r\n".to_owned(), "404"),
        (
            "POST /upload/v1beta/files HTTP/1.1\r\nHost: evil.example\r\n".to_owned(),
            "403",
        ),
        (format!("POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\n"), "413"),
        (format!("PUT {GENERATE} HTTP/1.1\r\nHost: localhost\r\n"), "405"),
    ] {
        let mut client = send(gateway.address, &format!("{head}Content-Length: {length}\r\n\r\n")).await;
        client.write_all(&vec![b'x'; length]).await.unwrap();
        let reply = read_to_end(&mut client).await;
        assert_eq!(reply.split(' ').nth(1), Some(status), "{head}");
    }
}

#[tokio::test]
async fn large_bodies_share_one_budget_and_small_ones_get_through() {
    let gateway = Running::without_engine_with(|config| config.limits.bodies = 1 << 20).await;
    let large = format!("POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n");
    let mut first = send(gateway.address, &large).await;
    first.write_all(&vec![b' '; 2 << 20]).await.unwrap();
    assert!(read_to_end(&mut first).await.starts_with("HTTP/1.1 503"));
    assert_eq!(gateway.post(GENERATE, prompt("y")).await.status, 200);
}

#[tokio::test]
async fn a_small_chunked_body_takes_nothing_of_the_budget() {
    let gateway = Running::without_engine_with(|config| config.limits.bodies = 0).await;
    let head = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let body = prompt(&"x".repeat(60_000));
    let mut client = send(gateway.address, &head).await;
    for piece in body.as_bytes().chunks(20_000) {
        client
            .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
            .await
            .unwrap();
        client.write_all(piece).await.unwrap();
        client.write_all(b"\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.write_all(b"0\r\n\r\n").await.unwrap();
    let reply = read_to_end(&mut client).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

#[tokio::test]
async fn the_engine_s_form_of_a_body_shares_the_budget() {
    let engine = EngineStandIn::start(vec![answer("hi")]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.bodies = 768 << 10).await;
    let long = "x".repeat(300 << 10);
    // A body in the API's full form goes to the engine as it is.
    assert_eq!(gateway.post(GENERATE, prompt(&long)).await.answer(), "hi");
    let short_form = serde_json::json!({"contents": long}).to_string();
    gateway.post(GENERATE, short_form).await.error(503, "UNAVAILABLE");
}
