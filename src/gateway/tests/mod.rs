//! The gateway on real sockets, before a scripted engine or upstream.

mod access;
mod admin;
mod chains;
mod classifier;
mod consents;
mod limits;
mod local;
mod named;
mod pages;
mod pass_through;
mod routed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gem_platform::process::Owner;
use gem_setup_support::engine::{EngineStandIn, Say};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use super::{Config, Gateway, Upstream};
use crate::net::Network;
use crate::runtime::{Endpoint, EngineState, EngineStatus};

/// Longer than anything here takes unless it hangs.
const HANG: Duration = Duration::from_secs(60);
const MODEL: &str = "gemma3-1b-gpu-custom";
const GENERATE: &str = "/v1beta/models/gemma3-1b-gpu-custom:generateContent";
const STREAM: &str = "/v1beta/models/gemma3-1b-gpu-custom:streamGenerateContent";

/// A running gateway.
struct Running {
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    status: watch::Sender<EngineStatus>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
    home: TempDir,
}

impl Running {
    /// A gateway with the contract's settings after `change`, whose engine is still starting.
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(change, true).await
    }

    /// A gateway of a runtime without a model.
    async fn without_engine() -> Self {
        Self::without_engine_with(|_| {}).await
    }

    async fn without_engine_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(change, false).await
    }

    /// A gateway before `engine`, which is ready.
    async fn before(engine: &EngineStandIn, change: impl FnOnce(&mut Config)) -> Self {
        let gateway = Self::start(change).await;
        gateway.ready(engine.address());
        gateway
    }

    async fn start_with(change: impl FnOnce(&mut Config), has_engine: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let upstream = Upstream {
            url: Url::parse("http://127.0.0.1:9").unwrap(),
            network: Network::default(),
        };
        let mut config = Config::new(0, MODEL, upstream, home.path().join("decisions.jsonl"));
        config.threads = 2;
        change(&mut config);
        let gateway = Gateway::bind(config).await.unwrap();
        let addresses = gateway.addresses().to_vec();
        let (status, engine) = watch::channel(EngineStatus::starting());
        let (shutdown, ends) = oneshot::channel();
        let task = tokio::spawn(gateway.run(has_engine.then_some(engine), async {
            drop(ends.await);
        }));
        Self {
            address: addresses[0],
            addresses,
            status,
            shutdown,
            task,
            home,
        }
    }

    fn ready(&self, address: SocketAddr) {
        self.status.send_modify(|status| {
            status.state = EngineState::Ready;
            status.endpoint = Some(Endpoint::new(address, Owner::Process(std::process::id())));
            status.pid = Some(4711);
            status.generation += 1;
        });
    }

    fn state(&self, state: EngineState) {
        self.status.send_modify(|status| status.state = state);
    }

    fn decisions_path(&self) -> PathBuf {
        self.home.path().join("decisions.jsonl")
    }

    /// Shuts down, and gives the decisions that were written.
    async fn finish(self) -> Vec<Value> {
        let path = self.decisions_path();
        drop(self.shutdown);
        timeout(HANG, self.task).await.unwrap().unwrap();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> Got {
        self.send(Method::POST, path, &[], body).await
    }

    async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, &[], "").await
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = timeout(HANG, body.collect()).await.unwrap().unwrap().to_bytes();
        Got {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Sends a request and waits for the head of the reply.
    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        open(self.address, method, path, headers, body).await
    }

    /// Sends bytes and returns the reply up to the end of the connection.
    async fn raw(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// A client that sends a prompt and leaves before the answer.
    async fn leave(&self, engine: &EngineStandIn, body: impl Into<Bytes>) {
        let before = engine.seen().len();
        let address = self.address;
        let body = body.into();
        let client = tokio::spawn(async move { open(address, Method::POST, GENERATE, &[], body).await });
        eventually(|| engine.seen().len() > before).await;
        client.abort();
        assert!(client.await.unwrap_err().is_cancelled());
    }
}

async fn open(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header(HOST, address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    timeout(HANG, sender.send_request(request.body(Full::new(body.into())).unwrap()))
        .await
        .unwrap()
        .unwrap()
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(HANG, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `condition` holds.
async fn eventually(condition: impl Fn() -> bool) {
    let patience = Instant::now() + HANG;
    while !condition() {
        assert!(Instant::now() < patience, "waited too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A whole reply.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The text of a `GenerateContentResponse`.
    fn answer(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["candidates"][0]["content"]["parts"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Checks that this is an error of Google's shape and gives its message.
    #[track_caller]
    fn error(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let error = &self.json()["error"];
        assert_eq!(error["code"], status);
        assert_eq!(error["status"], name);
        error["message"].as_str().unwrap().to_owned()
    }

    /// Checks that this answers a classification request, and gives the choice and who answered.
    #[track_caller]
    fn choice(&self) -> (String, String) {
        assert_eq!(self.status, 200, "{}", self.text());
        let reply = self.json();
        let candidate = &reply["candidates"][0];
        assert_eq!(candidate["finishReason"], "STOP");
        assert_eq!(candidate["content"]["role"], "model");
        let answer: Value = serde_json::from_str(candidate["content"]["parts"][0]["text"].as_str().unwrap()).unwrap();
        let answer = answer.as_object().unwrap();
        assert_eq!(answer.keys().collect::<Vec<_>>(), ["reasoning", "model_choice"]);
        assert!(answer["reasoning"].is_string());
        (
            answer["model_choice"].as_str().unwrap().to_owned(),
            self.header("x-gem-answered-by").to_owned(),
        )
    }
}

fn prompt(text: &str) -> String {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}).to_string()
}

/// A classification request in the form of docs/facts.md section 3.
fn classification(request: &str) -> String {
    json!({
        "contents": [{"role": "user", "parts": [{"text": format!(
            "You get a history and a request.\n\n#### Chat History:\nEarlier words.\n\n#### Current Request:\n\"{request}\"\n\n\n\
             ### Reminder\nAnswer with `model_choice`, `flash` or `pro`."
        )}]}],
        "systemInstruction": {"parts": [{"text": "Choose a model."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 256, "responseMimeType": "application/json"},
    })
    .to_string()
}

/// The engine's answer to a classification request.
fn chooses(choice: &str) -> Say {
    gem_setup_support::engine::answer(&json!({"reasoning": "as scripted", "model_choice": choice}).to_string())
}
