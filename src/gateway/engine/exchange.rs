//! One request to the engine and its response.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, StatusCode, Uri};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::answer::{is_answer, refusal};
use super::{Engine, Place};
use crate::gateway::body::Outgoing;
use crate::gateway::fault::Fault;
use crate::net::{Head, Link};
use crate::runtime::Busy;

/// The largest answer of the engine that is read, in bytes.
pub(super) const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The fault for a connection that the engine broke off. The request may be repeated.
fn broken(error: &hyper::Error) -> Fault {
    Fault::BadEngine(crate::error::chain(error))
}

/// A request that has been sent. If this is dropped early, the response is read to its end in the background, and only
/// then is the place free.
pub(in crate::gateway) struct Exchange {
    /// `None` once the response has ended.
    open: Option<Open>,
}

struct Open {
    engine: Arc<Engine>,
    place: Place,
    link: Link<Outgoing>,
    stage: Stage,
    give_up: Instant,
    busy: Busy,
}

enum Stage {
    Head(Head<Outgoing>),
    Body(Incoming),
}

impl Exchange {
    pub(super) fn begin(
        engine: &Arc<Engine>,
        place: Place,
        mut link: Link<Outgoing>,
        address: SocketAddr,
        path: &Uri,
        body: &Bytes,
        give_up: Instant,
    ) -> Self {
        let head = link.begin(request(address, path, body));
        Self {
            open: Some(Open {
                engine: Arc::clone(engine),
                place,
                link,
                stage: Stage::Head(head),
                give_up,
                busy: engine.activity.begin(give_up.saturating_duration_since(Instant::now())),
            }),
        }
    }

    /// The whole answer, one JSON object, unless `deadline` passes first.
    pub(in crate::gateway) async fn answer(mut self, deadline: Instant) -> Result<Bytes, Fault> {
        let answer = async {
            self.accepted().await?;
            let answer = self.collect().await?;
            if is_answer(&answer) {
                Ok(answer)
            } else {
                Err(Fault::BadEngine("its answer is not a JSON object".to_owned()))
            }
        };
        timeout_at(deadline, answer).await.unwrap_or(Err(Fault::Deadline))
    }

    /// Waits for the head of a response; a refusal is an error.
    pub(super) async fn accepted(&mut self) -> Result<Parts, Fault> {
        let head = self.head().await?;
        if head.status == StatusCode::OK {
            return Ok(head);
        }
        // An error page that breaks off still has a status.
        let page = self.collect().await.unwrap_or_default();
        Err(refusal(head.status, page))
    }

    /// Waits for the response's head. May be dropped and called again.
    async fn head(&mut self) -> Result<Parts, Fault> {
        let Some(open) = &mut self.open else {
            return Err(Fault::BadEngine("the response has ended".to_owned()));
        };
        let head = open.head().await;
        if head.is_err() {
            self.ended();
        }
        head
    }

    /// Waits for the next piece of the response's body. May be dropped and called again.
    pub(super) async fn data(&mut self) -> Option<Result<Bytes, Fault>> {
        let open = self.open.as_mut()?;
        let piece = open.data().await;
        let ended = match &piece {
            Some(Ok(_)) => open.is_at_end(),
            Some(Err(_)) => {
                self.ended();
                false
            }
            None => true,
        };
        if ended && let Some(open) = self.open.take() {
            open.finish();
        }
        piece
    }

    /// Notes that the engine has ended the connection and so its work on the request.
    fn ended(&mut self) {
        if let Some(open) = self.open.take() {
            open.busy.finish();
        }
    }

    /// The remaining body of the response.
    pub(super) async fn collect(&mut self) -> Result<Bytes, Fault> {
        let Some(first) = self.data().await else {
            return Ok(Bytes::new());
        };
        let first = first?;
        let Some(second) = self.data().await else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second?);
        while let Some(piece) = self.data().await {
            whole.extend_from_slice(&piece?);
            if whole.len() > LARGEST_ANSWER {
                return Err(Fault::BadEngine(format!(
                    "its answer is larger than {LARGEST_ANSWER} bytes"
                )));
            }
        }
        Ok(whole.freeze())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(open) = self.open.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(open.drain());
        }
    }
}

impl Open {
    async fn head(&mut self) -> Result<Parts, Fault> {
        let Stage::Head(head) = &mut self.stage else {
            return Err(Fault::BadEngine("the response's head has been read".to_owned()));
        };
        let response = self.link.head(head).await;
        let response = response.map_err(|error| Fault::BadEngine(error.to_string()))?;
        let (parts, body) = response.into_parts();
        self.stage = Stage::Body(body);
        self.busy.progress();
        Ok(parts)
    }

    async fn data(&mut self) -> Option<Result<Bytes, Fault>> {
        let Stage::Body(body) = &mut self.stage else {
            return None;
        };
        let piece = self.link.data(body).await;
        self.busy.progress();
        piece.map(|piece| piece.map_err(|error| broken(&error)))
    }

    fn is_at_end(&self) -> bool {
        matches!(&self.stage, Stage::Body(body) if body.is_end_stream())
    }

    /// Keeps the connection for the next request and frees the place.
    fn finish(self) {
        let Self {
            engine,
            place,
            link,
            busy,
            ..
        } = self;
        busy.finish();
        engine.pool.put(link);
        drop(place);
    }

    async fn drain(mut self) {
        self.busy.abandon();
        let give_up = self.give_up;
        let rest = async {
            if matches!(self.stage, Stage::Head(_)) && self.head().await.is_err() {
                return;
            }
            while let Some(Ok(_)) = self.data().await {}
        };
        // After a failure or a timeout the connection is closed. The place is free in any case.
        if timeout_at(give_up, rest).await.is_ok() {
            self.busy.finish();
        }
    }
}

fn request(address: SocketAddr, path: &Uri, body: &Bytes) -> Request<Outgoing> {
    let mut request = Request::new(Outgoing::Whole(body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.clone();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        headers.insert(HOST, host);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    request
}
