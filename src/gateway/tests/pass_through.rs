//! Requests for other models and paths.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gem_setup_support::engine::{Gate, Say};
use gem_setup_support::scripted_upstream::{UpstreamReply, UpstreamStandIn, reply};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::{HANG, Running, prompt};
use crate::gateway::Config;

const OTHER: &str = "/v1beta/models/gemini-2.5-pro:generateContent";

fn before(upstream: &UpstreamStandIn) -> impl FnOnce(&mut Config) {
    let url = format!("http://{}/", upstream.address());
    move |config| config.upstream.url = url.parse().unwrap()
}

async fn echo(request: Request<Incoming>) -> Option<UpstreamReply> {
    let body = request
        .into_body()
        .map_err(|_| -> Infallible { unreachable!("the client stays") });
    Some(Response::new(body.boxed_unsync()))
}

#[tokio::test]
async fn a_model_that_is_taken_as_asked_is_a_decision_too() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let mine = "/v1beta/models/my-model:streamGenerateContent";
    let got = gateway.send(Method::POST, mine, &[], "{}").await;
    assert_eq!(
        (got.header("x-gem-model"), got.header("x-gem-source")),
        ("my-model", "override")
    );
    // A call that asks no model is no decision.
    gateway.send(Method::GET, "/v1beta/models", &[], "").await;
    let decisions = gateway.finish().await;
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    assert_eq!(
        (&decisions[0]["model"], &decisions[0]["source"]),
        (&"my-model".into(), &"override".into())
    );
}

#[tokio::test]
async fn a_reply_has_the_http_version_of_the_client_s_connection() {
    let upstream = UpstreamStandIn::start(|_| async {
        let mut reply = reply(200, "{}");
        *reply.version_mut() = Version::HTTP_10;
        Some(reply)
    });
    let upstream = upstream.await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let response = gateway.open(Method::GET, "/v1beta/models", &[], "").await;
    assert_eq!(response.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_request_reaches_the_upstream_unchanged() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    for path in [
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse&key=k%2Fk",
        "/v1beta/models?pageSize=3",
        "/v1/models/gemini-2.5-pro:generateContent",
        "/upload/v1beta/files?uploadType=media",
        "/v1beta/cachedContents/a%20b",
    ] {
        let headers = [
            ("x-goog-api-key", "secret"),
            ("authorization", "Bearer t"),
            ("x-custom", "1"),
        ];
        let got = gateway.send(Method::POST, path, &headers, "{\"any\": [1]}").await;
        assert_eq!((got.status.as_u16(), got.text()), (200, "{\"any\": [1]}"), "{path}");
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.method, Method::POST);
        assert_eq!(seen.uri.to_string(), path);
        for (name, value) in headers {
            assert_eq!(seen.headers[name], value);
        }
        assert_eq!(seen.headers["host"], upstream.address().to_string());
        assert_eq!(seen.headers["content-length"], "12");
    }
    for method in [Method::GET, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        gateway.send(method.clone(), "/v1beta/files/1", &[], "").await;
        assert_eq!(upstream.seen().pop().unwrap().method, method);
    }
}

#[tokio::test]
async fn a_reply_for_a_model_says_which_and_why() {
    let upstream = UpstreamStandIn::replies(vec![(429, "{\"error\": {}}")]).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let got = gateway.post(OTHER, prompt("x")).await;
    assert_eq!((got.status.as_u16(), got.text()), (429, "{\"error\": {}}"));
    assert_eq!(got.header("x-gem-model"), "gemini-2.5-pro");
    assert_eq!(got.header("x-gem-source"), "override");
    assert_eq!(got.header("x-gem-latency-ms"), "0");
    assert_eq!(gateway.get("/v1beta/models").await.header("x-gem-model"), "");
}

#[tokio::test]
async fn fields_of_one_connection_stay_on_it() {
    let upstream = UpstreamStandIn::start(|_| async {
        let mut reply = reply(200, "x");
        for (name, value) in [
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("x-end", "1"),
        ] {
            reply.headers_mut().insert(name, value.parse().unwrap());
        }
        Some(reply)
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let headers = [
        ("connection", "x-mine, te"),
        ("x-mine", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "p"),
        ("x-ours", "1"),
    ];
    let got = gateway.send(Method::GET, "/v1beta/models", &headers, "").await;
    let seen = upstream.seen().pop().unwrap();
    for name in ["connection", "x-mine", "te", "proxy-authorization"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert_eq!(seen.headers["x-ours"], "1");
    assert_eq!(
        (got.header("x-hop"), got.header("keep-alive"), got.header("x-end")),
        ("", "", "1")
    );
}

#[tokio::test]
async fn the_gateways_own_fields_come_from_the_gateway_alone() {
    let upstream = UpstreamStandIn::start(|_| async {
        let mut reply = reply(200, "x");
        for name in ["x-gem-fallback", "x-gem-hint", "x-gem-answered-by", "x-gem-model"] {
            reply.headers_mut().insert(name, "evil".parse().unwrap());
        }
        Some(reply)
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream)).await;
    for (method, path) in [(Method::POST, OTHER), (Method::GET, "/v1beta/models")] {
        let headers = [("x-gem-consent", "once"), ("x-gem-any", "1")];
        let got = gateway.send(method, path, &headers, "{}").await;
        assert!(got.headers.values().all(|value| value != "evil"), "{got:?}");
        let seen = upstream.seen().pop().unwrap().headers;
        assert!(seen.keys().all(|name| !name.as_str().starts_with("x-gem")), "{seen:?}");
    }
}

#[tokio::test]
async fn a_path_of_the_upstream_s_url_goes_before_the_request_s() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let url = format!("http://{}/proxy/gemini/", upstream.address());
    let gateway = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    gateway.post("/v1beta/models/a:b?key=k", "x").await;
    assert_eq!(upstream.seen()[0].uri, "/proxy/gemini/v1beta/models/a:b?key=k");
}

#[tokio::test]
async fn a_request_that_comes_back_is_refused() {
    // A relay leads back to the gateway, so that the upstream's address is not the gateway's own.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", relay.local_addr().unwrap());
    let gateway = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    let address = gateway.address;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = relay.accept().await {
            let mut to = TcpStream::connect(address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    for path in [OTHER, "/v1beta/files"] {
        let got = gateway.post(path, prompt("x")).await;
        assert!(got.error(508, "INTERNAL").contains("--upstream"));
    }
    let decisions = gateway.finish().await;
    assert_eq!(decisions.len(), 1, "one request, not more");
}

#[tokio::test]
async fn one_gateway_may_be_the_upstream_of_another() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let last = Running::start(before(&upstream)).await;
    let url = format!("http://{}/", last.address);
    let first = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    assert_eq!(first.post(OTHER, "body").await.text(), "body");
    let seen = upstream.seen();
    let hops = seen[0].headers.get_all("via");
    assert_eq!(hops.iter().count(), 2, "{hops:?}");
}

#[tokio::test]
async fn an_upstream_out_of_reach_is_an_error() {
    let gateway = Running::start(|_| {}).await;
    let message = gateway
        .post(&format!("{OTHER}?key=sesame"), prompt("x"))
        .await
        .error(502, "UNAVAILABLE");
    assert!(
        message.contains("127.0.0.1") && !message.contains("sesame"),
        "{message}"
    );
    let upstream = UpstreamStandIn::start(|_| async { None }).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let message = gateway.post(OTHER, prompt("x")).await.error(502, "UNAVAILABLE");
    assert!(
        message.contains("may have acted on the request") && !message.contains("cannot reach"),
        "{message}"
    );
    assert_eq!(upstream.seen().len(), 1, "the upstream may have acted on it");
}

#[tokio::test]
async fn connections_to_the_upstream_are_used_again_by_the_thread_that_made_them() {
    for (threads, connections) in [(0, 1), (1, 1), (2, 2)] {
        let upstream = UpstreamStandIn::start(echo).await.unwrap();
        let gateway = Running::start(|config| {
            before(&upstream)(config);
            config.threads = threads;
        })
        .await;
        // While this client stays, the next one is another thread's, if there is another.
        let mut staying = TcpStream::connect(gateway.address).await.unwrap();
        let request = format!(
            "POST {OTHER} HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\n\r\nabc",
            gateway.address
        );
        staying.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nabc") {
            assert_ne!(staying.read_buf(&mut text).await.unwrap(), 0);
        }
        for _ in 0..5 {
            assert_eq!(gateway.post(OTHER, "abc").await.text(), "abc");
            assert_eq!(gateway.get("/v1beta/models").await.text(), "");
        }
        let used = upstream.seen().iter().map(|seen| seen.connection).max();
        assert_eq!(used, Some(connections), "{threads} threads");
    }
}

#[tokio::test]
async fn pieces_are_passed_on_as_they_come() {
    let gate = Gate::default();
    let upstream = UpstreamStandIn::start({
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                let pieces = stream::unfold(0, move |at| {
                    let gate = gate.clone();
                    async move {
                        match at {
                            0 => Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"data: 1\n\n"))), 1)),
                            1 => {
                                gate.wait().await;
                                Some((Ok(Frame::data(Bytes::from_static(b"data: 2\n\n"))), 2))
                            }
                            _ => None,
                        }
                    }
                });
                Some(Response::new(StreamBody::new(pieces).boxed_unsync()))
            }
        }
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let mut body = gateway.open(Method::POST, OTHER, &[], prompt("x")).await.into_body();
    let first = tokio::time::timeout(HANG, body.frame())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
    gate.open();
    assert_eq!(body.collect().await.unwrap().to_bytes(), "data: 2\n\n");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_s_work() {
    let ended = Arc::new(Semaphore::new(0));
    let upstream = UpstreamStandIn::start({
        let ended = Arc::clone(&ended);
        move |_| {
            let ended = OpenOnDrop(Arc::clone(&ended));
            async move {
                std::future::pending::<()>().await;
                drop(ended);
                None
            }
        }
    })
    .await
    .unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let address = gateway.address;
    let client = tokio::spawn(async move { super::open(address, Method::POST, OTHER, &[], "x").await });
    super::eventually(|| !upstream.seen().is_empty()).await;
    client.abort();
    assert!(tokio::time::timeout(HANG, ended.acquire()).await.unwrap().is_err());
}

struct OpenOnDrop(Arc<Semaphore>);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_passed_on_as_far_as_it_came() {
    for (reply, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "half"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\nff\r\ndata",
            "9\r\ndata: 1\n\n\r\n4\r\ndata\r\n",
        ),
    ] {
        let (_upstream, gateway) = before_bytes(reply).await;
        let text = gateway
            .raw("GET /v1beta/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let (head, got) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        assert_eq!(got, body, "{reply}");
        let metrics = gateway.get("/metrics").await;
        assert!(
            metrics.text().contains("gem_setup_upstream_failures_total 1\n"),
            "{reply}"
        );
        let cut = "gem_setup_requests_total{face=\"upstream\",outcome=\"cut\"} 1\n";
        assert!(metrics.text().contains(cut), "{reply}");
    }
}

/// A gateway before a server that writes these bytes for each request.
async fn before_bytes(reply: &'static str) -> (super::EngineStandIn, Running) {
    let upstream = super::EngineStandIn::start(vec![Say::Bytes(reply.into())])
        .await
        .unwrap();
    let url = format!("http://{}/", upstream.address());
    let gateway = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    (upstream, gateway)
}

#[tokio::test]
async fn the_login_in_the_upstream_s_url_is_sent() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let url = format!("http://ann:s3%63ret@{}/", upstream.address());
    let gateway = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    let own = [("authorization", "Bearer own")];
    for headers in [&own[..0], &own] {
        gateway.send(Method::GET, "/v1beta/models", headers, "").await;
    }
    let seen = upstream.seen();
    let sent: Vec<_> = seen.iter().map(|seen| &seen.headers["authorization"]).collect();
    assert_eq!(sent, ["Basic YW5uOnMzY3JldA==", "Bearer own"]);
    assert_eq!(seen[0].headers["host"], upstream.address().to_string());
}

#[tokio::test]
async fn a_reply_of_doubtful_framing_is_an_error() {
    for (reply, reason) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "both a length and a transfer coding",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 18\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "both a length and a transfer coding",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "switched protocols",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "a transfer coding other than `chunked`",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
            "a transfer coding other than `chunked`",
        ),
    ] {
        let (_upstream, gateway) = before_bytes(reply).await;
        let message = gateway.get("/v1beta/models").await.error(502, "UNAVAILABLE");
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn a_repeated_length_is_one_number_for_the_client() {
    let (_upstream, gateway) = before_bytes("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc").await;
    let got = gateway.get("/v1beta/models").await;
    assert_eq!((got.header("content-length"), got.text()), ("3", "abc"));
}

#[tokio::test]
async fn a_path_that_leaves_its_directory_is_refused() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let url = format!("http://{}/base/", upstream.address());
    let gateway = Running::start(|config| config.upstream.url = url.parse().unwrap()).await;
    for path in ["/v1beta/../../x", "/v1beta/%2e%2E/x", "/upload/..\\x"] {
        gateway.get(path).await.error(400, "INVALID_ARGUMENT");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_given_up() {
    let upstream = super::EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let url = format!("http://{}/", upstream.address());
    let gateway = Running::start(|config| {
        config.upstream.url = url.parse().unwrap();
        config.limits.stream_idle = Duration::from_millis(50);
    })
    .await;
    for patience in ["0", "-1", "abc", "NaN", "inf", "1e18", "1e300"] {
        let headers = [("x-server-timeout", patience)];
        let got = gateway.send(Method::POST, OTHER, &headers, prompt("x")).await;
        let message = got.error(502, "UNAVAILABLE");
        assert!(message.contains("nothing arrived"), "{patience}: {message}");
    }
}

#[tokio::test]
async fn a_body_larger_than_any_local_limit_passes_through() {
    let upstream = UpstreamStandIn::start(echo).await.unwrap();
    let url = format!("http://{}/", upstream.address());
    let gateway = Running::start(|config| {
        config.upstream.url = url.parse().unwrap();
        config.limits.local_body = 10;
    })
    .await;
    let large = Bytes::from(vec![b'x'; 3 * 1024 * 1024]);
    let got = gateway.post("/upload/v1beta/files", large.clone()).await;
    assert!(got.body == large);
}

#[tokio::test]
async fn a_body_that_stops_coming_times_out() {
    let upstream = UpstreamStandIn::start(echo_whole).await.unwrap();
    let url = format!("http://{}/", upstream.address());
    let gateway = Running::start(|config| {
        config.upstream.url = url.parse().unwrap();
        config.limits.body_time = Duration::from_millis(50);
    })
    .await;
    let head = "POST /upload/v1beta/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let reply = gateway.raw(head).await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("DEADLINE_EXCEEDED"), "{reply}");
    assert_eq!(gateway.post("/upload/v1beta/files", "whole").await.text(), "whole");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    let upstream = UpstreamStandIn::start(echo_whole).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    for body in [
        "Content-Length: 5000\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    ] {
        for path in ["/upload/v1beta/files", OTHER] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{body}");
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let reply = super::read_to_end(&mut client).await;
            // A client that is gone needs no reply.
            let is_answered = reply.starts_with("HTTP/1.1 400") && reply.contains("malformed or incomplete");
            assert!(reply.is_empty() || is_answered, "{head}: {reply}");
            assert!(is_answered || !body.contains("chunked"), "{head}: {reply}");
        }
    }
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.text().contains("gem_setup_upstream_failures_total 0\n"));
}

async fn echo_whole(request: Request<Incoming>) -> Option<UpstreamReply> {
    let body = request.into_body().collect().await.ok()?.to_bytes();
    Some(Response::new(Full::new(body).boxed_unsync()))
}

/// A reply that stops after its first event.
async fn stalling() -> Option<UpstreamReply> {
    let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"data: 1\n\n")));
    let pieces = stream::iter([first]).chain(stream::pending());
    Some(Response::new(StreamBody::new(pieces).boxed_unsync()))
}

#[tokio::test]
async fn a_reply_that_stops_coming_breaks_off() {
    let upstream = UpstreamStandIn::start(|_| stalling()).await.unwrap();
    let url = format!("http://{}/", upstream.address());
    let gateway = Running::start(|config| {
        config.upstream.url = url.parse().unwrap();
        // It counts for the response's head too, which a busy machine needs time for.
        config.limits.stream_idle = Duration::from_secs(2);
    })
    .await;
    let reply = gateway.open(Method::POST, OTHER, &[], prompt("x")).await;
    assert_eq!(reply.status(), 200);
    let body = reply.into_body();
    assert!(tokio::time::timeout(HANG, body.collect()).await.unwrap().is_err());
}

#[tokio::test]
async fn an_upstream_that_sends_interim_responses_without_end_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let gateway = Running::start(|config| {
        config.upstream.url = url.parse().unwrap();
        config.limits.stream_idle = Duration::from_millis(300);
    })
    .await;
    gateway.post(OTHER, prompt("x")).await.error(502, "UNAVAILABLE");
}

#[tokio::test]
async fn the_client_s_deadline_bounds_the_pauses_of_a_reply() {
    let upstream = UpstreamStandIn::start(|_| stalling()).await.unwrap();
    let gateway = Running::start(before(&upstream)).await;
    let headers = [("x-server-timeout", "2")];
    let reply = gateway.open(Method::POST, OTHER, &headers, prompt("x")).await;
    assert_eq!(reply.status(), 200);
    let body = reply.into_body();
    assert!(tokio::time::timeout(HANG, body.collect()).await.unwrap().is_err());
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.text().contains("gem_setup_upstream_failures_total 0\n"));
}
