//! A stand-in for the engine within the test's own process: it sends exactly the bytes that the test chooses.
//!
//! Like the real one (docs/facts.md section 5) it serves one connection at a time and closes it after each response.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// A part of the engine's response to a request.
#[derive(Clone, Debug)]
pub enum Say {
    /// Writes these bytes.
    Bytes(Bytes),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Never responds.
    Hang,
}

/// Holds an engine until the test opens it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Opens the gate, now and for later waits.
    pub fn open(&self) {
        self.0.close();
    }

    /// Waits until it is opened.
    pub async fn wait(&self) {
        // The semaphore has no permits; it can only be closed.
        drop(self.0.acquire().await);
    }
}

/// A request as the engine got it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method, path and version.
    pub line: String,
    /// The header fields, unchanged.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

/// A scriptable engine on a free port.
#[derive(Debug)]
pub struct EngineStandIn {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Accepts connections.
    door: JoinHandle<()>,
    /// Serves them.
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    usual: Vec<Say>,
    next: VecDeque<Vec<Say>>,
    seen: Vec<Seen>,
}

impl EngineStandIn {
    /// Starts an engine that responds to every request with `usual`.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(usual: Vec<Say>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            usual,
            ..State::default()
        }));
        let (enter, mut streams) = mpsc::channel(1);
        let door = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if enter.send(stream).await.is_err() {
                    break;
                }
            }
        });
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Some(stream) = streams.recv().await {
                    // A client that leaves is not a failure of the engine.
                    drop(serve(stream, &state).await);
                }
            }
        });
        Ok(Self {
            address,
            state,
            door,
            task,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Responds once with `say` instead of the usual, to the first request without a planned response.
    pub fn then(&self, say: Vec<Say>) {
        lock(&self.state).next.push_back(say);
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    /// Ends like a killed process: refuses new connections, then breaks the open ones.
    pub fn kill(&self) {
        self.door.abort();
        self.task.abort();
    }
}

impl Drop for EngineStandIn {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let seen = read_request(&mut stream).await?;
    let says = {
        let mut state = lock(state);
        state.seen.push(seen);
        state.next.pop_front().unwrap_or_else(|| state.usual.clone())
    };
    for say in says {
        match say {
            // The real engine continues to generate for a client that has left.
            Say::Bytes(bytes) => drop(stream.write_all(&bytes).await),
            Say::Wait(gate) => gate.wait().await,
            Say::Hang => std::future::pending().await,
        }
    }
    stream.shutdown().await
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Seen> {
    let mut text = Vec::new();
    let head_end = loop {
        if let Some(at) = text.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut text).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&text[..head_end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = text.split_off(head_end);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Seen {
        line: head.lines().next().unwrap_or_default().to_owned(),
        head,
        body,
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response as the real engine sends it: HTTP/1.0, no length, connection closed.
#[must_use]
pub fn reply(status: &str, content_type: &str, body: &str) -> Say {
    let head = format!("HTTP/1.0 {status}\r\nServer: StandIn\r\nContent-Type: {content_type}\r\n\r\n");
    Say::Bytes(format!("{head}{body}").into())
}

/// A `GenerateContentResponse` of `text`.
#[must_use]
pub fn content(text: &str, finish_reason: &str) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, "finishReason": finish_reason}]})
}

/// A complete response with `text`.
#[must_use]
pub fn answer(text: &str) -> Say {
    reply("200 OK", "application/json", &content(text, "STOP").to_string())
}

/// The head of a streamed response.
#[must_use]
pub fn stream_head() -> Say {
    reply("200 OK", "text/event-stream", "")
}

/// One piece of a streamed response.
#[must_use]
pub fn event(text: &str, finish_reason: &str) -> Say {
    Say::Bytes(format!("data: {}\n\n", content(text, finish_reason)).into())
}
