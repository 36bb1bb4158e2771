//! Bodies much larger than the gateway's memory pass through in both directions.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use gem_setup::sha256::Hasher;
use gem_setup_support::fault::Proxy;
use gem_setup_support::scripted_upstream::{UpstreamReply, UpstreamStandIn};
use http_body_util::{BodyDataStream, BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::harness::{Home, peak_memory};

const PIECE: usize = 256 * 1024;
/// 100 MB in all.
const PIECES: usize = 400;
/// The allowed growth of the gateway's peak memory by both bodies, in KiB.
const GROWTH: u64 = 16 * 1024;

/// A body without two equal pieces.
fn body() -> impl Stream<Item = Bytes> + Send + 'static {
    stream::iter(0..PIECES).map(|number| {
        let mut piece = vec![b'x'; PIECE];
        let name = format!("piece {number:06}");
        piece[..name.len()].copy_from_slice(name.as_bytes());
        piece.into()
    })
}

/// The SHA-256 of a body; a body that breaks off has a different one.
async fn digest<E>(mut body: impl Stream<Item = Result<Bytes, E>> + Unpin) -> String {
    let mut digest = Hasher::default();
    while let Some(Ok(piece)) = body.next().await {
        digest.update(&piece);
    }
    digest.finish().to_string()
}

/// Answers with the hash of the request's body, or with a large body if a stream is requested.
async fn answer(request: Request<Incoming>) -> Option<UpstreamReply> {
    let is_stream = request.uri().path().ends_with(":streamGenerateContent");
    let digest = digest(BodyDataStream::new(request.into_body())).await;
    Some(Response::new(if is_stream {
        StreamBody::new(body().map(|piece| Ok::<_, Infallible>(Frame::data(piece)))).boxed_unsync()
    } else {
        Full::new(Bytes::from(digest)).boxed_unsync()
    }))
}

/// Posts `pieces` to the server on `port`.
async fn post(port: u16, path: &str, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Response<Incoming> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let pieces = StreamBody::new(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)))).boxed_unsync();
    let request = Request::post(path).header("host", "localhost").body(pieces).unwrap();
    sender.send_request(request).await.unwrap()
}

/// Sends both bodies through a server with these variables.
#[track_caller]
fn assert_passes_with_flat_memory(variables: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let upstream = runtime.block_on(UpstreamStandIn::start(answer)).unwrap();
    let home = Home::installed();
    let mut gem = home.gem(&["start", "--upstream", &format!("http://{}", upstream.address())]);
    for (name, value) in variables {
        gem = gem.env(name, value);
    }
    gem.ok();
    let server = home.processes().pop().unwrap().pid;
    let download = "/v1beta/models/my-model:streamGenerateContent?alt=sse";

    runtime.block_on(async {
        let expected = digest(body().map(Ok::<_, Infallible>)).await;
        // A first small request, to exclude the memory that every connection needs.
        let small = post(home.port, "/upload/v1beta/files", stream::iter([Bytes::from("x")])).await;
        assert_eq!(small.status(), 200);
        let before = peak_memory(server);

        let got = post(home.port, "/upload/v1beta/files", body()).await;
        assert_eq!(got.into_body().collect().await.unwrap().to_bytes(), expected, "up");
        let got = post(home.port, download, stream::iter([Bytes::from("{}")])).await;
        assert_eq!(digest(BodyDataStream::new(got.into_body())).await, expected, "down");

        if let (Some(before), Some(after)) = (before, peak_memory(server)) {
            let growth = after - before;
            assert!(growth < GROWTH, "peak memory grew by {growth} KiB from {before} KiB");
        }
    });
}

#[test]
fn a_hundred_megabytes_pass_in_both_directions_with_flat_memory() {
    assert_passes_with_flat_memory(&[]);
}

#[test]
fn a_hundred_megabytes_pass_through_a_proxy_with_flat_memory() {
    let proxy = Proxy::http(None);
    assert_passes_with_flat_memory(&[("HTTP_PROXY", &proxy.url())]);
    assert!(!proxy.passed().is_empty());
}

/// The memory that a process has reserved, in KiB.
#[cfg(target_os = "linux")]
fn reserved(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_only_announced_takes_no_memory() {
    use std::io::Write;

    const ANNOUNCED: usize = 128_000_000;
    let home = Home::new();
    home.gem(&["start", "--runtime=builtin"])
        .arg(format!("--port={}", home.port))
        .ok();
    let server = home.processes().pop().unwrap().pid;
    let before = reserved(server);
    let head = format!(
        "POST /v1beta/models/auto-gemini-2.5:generateContent HTTP/1.1\r\nHost: localhost\r\nContent-Length: {ANNOUNCED}\r\n\r\n"
    );
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", home.port)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            client.write_all(&[b' '; 100_000]).unwrap();
            client
        })
        .collect();
    let mut growth = 0;
    for _ in 0..100 {
        growth = growth.max(reserved(server).saturating_sub(before));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(clients);
    let limit = 512 * 1024;
    assert!(growth < limit, "the reserved memory grew by {growth} KiB");
}
