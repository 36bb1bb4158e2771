//! A mock of the hosted Gemini API: records its requests, and responds as configured.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::fault::Authority;
use crate::server::{Body, Server, full};

/// One request, unchanged.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The model in the path; `None` for other paths.
    pub model: Option<String>,
    /// Path and query.
    pub target: String,
    /// The API key header.
    pub api_key: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// A response that replaces the good one.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Only for requests of this model; every model if `None`.
    pub model: Option<String>,
    /// The number of requests it applies to; `None` = all.
    pub times: Option<u32>,
    /// The status.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// Break the connection off after half of the body.
    pub cut: bool,
}

impl Fault {
    /// A Google API error with `details`.
    #[must_use]
    pub fn api(model: &str, status: u16, message: &str, details: &Value) -> Self {
        let body = json!({"error": {"code": status, "message": message, "status": "ERROR", "details": details}});
        Self {
            model: Some(model.to_owned()),
            times: None,
            status,
            headers: Vec::new(),
            body: body.to_string(),
            cut: false,
        }
    }
}

/// The mock.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    faults: Mutex<VecDeque<Fault>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    /// A mock that responds to every call without a fault.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let server = Server::start(answering(&shared));
        Self { server, shared }
    }

    /// The same over https, with a certificate that `authority` signs.
    #[must_use]
    pub fn start_tls(authority: &Authority) -> Self {
        let shared = Arc::new(Shared::default());
        let server = Server::start_tls(authority, answering(&shared));
        Self { server, shared }
    }

    /// `http://127.0.0.1:PORT`, or the same with `https`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Adds a fault; the first that matches a request is used.
    pub fn fail(&self, fault: Fault) {
        lock(&self.shared.faults).push_back(fault);
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The models of the requests so far, in order.
    #[must_use]
    pub fn models(&self) -> Vec<String> {
        self.seen().into_iter().filter_map(|seen| seen.model).collect()
    }
}

fn answering(shared: &Arc<Shared>) -> impl Fn(Request<Bytes>) -> Ready<Response<Body>> + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    move |request| ready(shared.answer(request))
}

impl Shared {
    fn answer(&self, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path();
        let call = path.split_once("/models/").map(|(_, rest)| rest.to_owned());
        let (model, method) = match call.as_deref().and_then(|rest| rest.split_once(':')) {
            Some((model, method)) => (Some(model.to_owned()), method.to_owned()),
            None => (None, String::new()),
        };
        let api_key = request.headers().get("x-goog-api-key");
        lock(&self.seen).push(Seen {
            model: model.clone(),
            target: request.uri().to_string(),
            api_key: api_key.and_then(|key| key.to_str().ok()).map(str::to_owned),
            body: request.body().clone(),
        });
        if let Some(fault) = self.fault_for(model.as_deref()) {
            return faulty(&fault);
        }
        good(model.as_deref().unwrap_or("none"), &method)
    }

    fn fault_for(&self, model: Option<&str>) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let fits = |fault: &Fault| fault.times != Some(0) && (fault.model.is_none() || fault.model.as_deref() == model);
        let fault = faults.iter_mut().find(|fault| fits(fault))?;
        if let Some(times) = &mut fault.times {
            *times -= 1;
        }
        Some(fault.clone())
    }
}

fn faulty(fault: &Fault) -> Response<Body> {
    let body = if fault.cut {
        let half = fault.body.as_bytes()[..fault.body.len() / 2].to_vec();
        cut_after(Bytes::from(half))
    } else {
        full(fault.body.clone())
    };
    let mut response = Response::builder().status(fault.status);
    for (name, value) in &fault.headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap_or_else(|_| Response::new(full("")))
}

fn cut_after(bytes: Bytes) -> Body {
    let frames = [Ok(Frame::data(bytes)), Err(std::io::Error::other("cut on purpose"))];
    StreamBody::new(stream::iter(frames)).boxed()
}

fn chunk(model: &str, text: &str, last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": [{"text": text}]}, "index": 0});
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({
        "candidates": [candidate],
        "modelVersion": model,
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8},
    })
}

fn good(model: &str, method: &str) -> Response<Body> {
    match method {
        "streamGenerateContent" => {
            let events = [
                chunk(model, "Hello ", false),
                chunk(model, &format!("from {model}"), true),
            ];
            let frames = stream::unfold(events.into_iter(), |mut events| async move {
                let event = events.next()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                let frame = Frame::data(Bytes::from(format!("data: {event}\r\n\r\n")));
                Some((Ok(frame), events))
            });
            let mut response = Response::new(StreamBody::new(frames).boxed());
            let value = header::HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            response
        }
        "countTokens" => json_response(&json!({"totalTokens": 5})),
        _ => json_response(&chunk(model, &format!("Hello from {model}"), true)),
    }
}

fn json_response(body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string()));
    let value = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    *response.status_mut() = StatusCode::OK;
    response
}
