//! The stand-in's own HTTP server: small, and able to break a response off in the middle.

use std::convert::Infallible;
use std::future::Future;
use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Response, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// A request, read completely.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) body: Bytes,
}

impl Request {
    /// `m` and `generateContent` of `/v1beta/models/m:generateContent`.
    pub(super) fn model_and_method(&self) -> Option<(String, String)> {
        let (model, method) = self.path.strip_prefix("/v1beta/models/")?.split_once(':')?;
        ["generateContent", "streamGenerateContent"]
            .contains(&method)
            .then(|| (model.to_owned(), method.to_owned()))
    }
}

/// The response to a request.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    content_type: &'static str,
    body: Bytes,
    /// Send only the first half, then cut the connection.
    pub(super) half: bool,
    /// Close the connection after the response.
    pub(super) close: bool,
}

impl Reply {
    fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            body: body.into(),
            half: false,
            close: false,
        }
    }

    pub(super) fn html(status: u16, body: &'static str) -> Self {
        Self::new(status, "text/html", body)
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(super) fn event_stream(events: &[Value]) -> Self {
        let text: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
        Self::new(200, "text/event-stream", text)
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, io::Error>;

fn response(reply: Reply) -> Response<Body> {
    let body = if reply.half {
        let half = reply.body.slice(..reply.body.len() / 2);
        let frames = [Ok(Frame::data(half)), Err(io::Error::other("cut on purpose"))];
        StreamBody::new(futures_util::stream::iter(frames)).boxed()
    } else {
        Full::new(reply.body).map_err(|never| match never {}).boxed()
    };
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(reply.content_type),
    );
    if reply.close {
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

/// Responds on every connection of `listener`, without end.
pub(super) async fn serve<F, A>(listener: TcpListener, answer: F) -> io::Result<()>
where
    F: Fn(Request) -> A + Clone + Send + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.map(|body| body.to_bytes());
                    let reply = answer(Request {
                        path,
                        body: body.unwrap_or_default(),
                    });
                    Ok::<_, Infallible>(response(reply.await))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that leaves is not a fault of the stand-in.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
