//! A small HTTP request to the engine. Tolerates the faults in engines' responses.
//!
//! `litert-lm` answers in HTTP/1.0, without a length, and on errors breaks its status line in two (docs/facts.md
//! section 5). So only the status is read, and the end of the connection is the end of the response.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::runtime::{Endpoint, ModelGate};

/// The longest status line, in bytes.
const HEAD: usize = 64;
/// The longest response to a probe that is read, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// The probe's request.
#[derive(Clone, Debug)]
pub(super) struct ProbeRequest {
    /// The model that the engine must know.
    pub(super) model: String,
    /// While the gate is closed, no request is sent.
    pub(super) gate: Arc<ModelGate>,
}

impl ProbeRequest {
    /// Asks whether the engine answers at all: sends a request without a body, as Gemini CLI does (docs/facts.md
    /// section 3).
    ///
    /// `connect` should be short, because Windows tries to connect to a closed port for two seconds.
    ///
    /// # Errors
    /// When there is no HTTP response within `answer`.
    pub(super) async fn ask(&self, endpoint: &Endpoint, connect: Duration, answer: Duration) -> io::Result<u16> {
        self.gate.check()?;
        let mut stream = timeout(connect, endpoint.connect()).await??;
        timeout(answer, async {
            stream.write_all(&self.request("")).await?;
            status(&mut stream).await
        })
        .await?
    }

    /// Makes the engine answer a short prompt, so that it loads its model, and waits for the whole answer.
    ///
    /// # Errors
    /// When there is no HTTP response.
    pub(super) async fn warm_up(&self, endpoint: &Endpoint) -> io::Result<u16> {
        const PROMPT: &str = r#"{"contents":[{"role":"user","parts":[{"text":"Reply with the word ok."}]}],"generationConfig":{"temperature":0,"maxOutputTokens":1}}"#;
        self.gate.check()?;
        let mut stream = endpoint.connect().await?;
        stream.write_all(&self.request(PROMPT)).await?;
        let status = status(&mut stream).await?;
        // An engine that serves one request at a time is free again only at the end of its answer.
        tokio::io::copy(&mut stream.take(LONGEST_ANSWER), &mut tokio::io::sink()).await?;
        Ok(status)
    }

    fn request(&self, body: &str) -> Vec<u8> {
        let length = body.len();
        let model = &self.model;
        format!(
            "POST /v1beta/models/{model}:generateContent HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Reads the status of the response: the three digits after `HTTP/1.x `.
async fn status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut head = Vec::with_capacity(HEAD);
    while head.len() < "HTTP/1.1 200".len() {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection closed without an answer",
            ));
        }
    }
    let digits = head.starts_with(b"HTTP/1.").then(|| head.get(9..12)).flatten();
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

#[cfg(test)]
mod tests {
    use gem_platform::process::Owner;

    use super::*;

    const SECOND: Duration = Duration::from_secs(20);

    fn request() -> ProbeRequest {
        ProbeRequest {
            model: "m".to_owned(),
            gate: ModelGate::of_builtin("m"),
        }
    }

    fn ours(listener: &tokio::net::TcpListener) -> Endpoint {
        Endpoint::new(listener.local_addr().unwrap(), Owner::Process(std::process::id()))
    }

    async fn answering(bytes: &'static [u8]) -> Endpoint {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = ours(&listener);
        tokio::spawn(async move {
            // The first connection only shows that something listens.
            drop(listener.accept().await.unwrap());
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"POST /v1beta/models/m:generateContent HTTP/1.1\r\n"));
            stream.write_all(bytes).await.unwrap();
        });
        endpoint
    }

    async fn ask(bytes: &'static [u8]) -> io::Result<u16> {
        let request = request();
        request.ask(&answering(bytes).await, SECOND, SECOND).await
    }

    #[tokio::test]
    async fn the_status_is_read_from_old_and_broken_answers() {
        assert_eq!(ask(b"HTTP/1.0 400 Invalid JSON\r\n\r\n").await.unwrap(), 400);
        assert_eq!(ask(b"HTTP/1.0 404 Model not\nfound\r\n").await.unwrap(), 404);
    }

    #[tokio::test]
    async fn what_is_no_http_is_no_answer() {
        assert!(ask(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await.is_err());
        assert!(ask(b"HTTP/1.").await.is_err());
    }

    #[tokio::test]
    async fn a_closed_port_is_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = ours(&listener);
        drop(listener);
        let request = request();
        assert!(request.ask(&endpoint, SECOND, SECOND).await.is_err());
    }
}
