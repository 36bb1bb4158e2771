//! The local face: streamed answers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::prompt::Prompt;
use crate::gateway::engine::{ATTEMPTS, AnswerStream, Engine, Exchange};
use crate::gateway::fault::Fault;
use crate::gateway::path::StreamFormat;
use crate::gateway::reply::{Reply, ReplyBody};
use crate::gateway::shared::Shared;
use crate::gateway::tokens::Meter;

/// Streams the engine's answers. If the engine breaks off before the first one, it is asked again.
pub(super) async fn answer(
    shared: &Shared,
    engine: &Arc<Engine>,
    prompt: &Prompt,
    format: StreamFormat,
    meter: Meter,
) -> Result<Reply, Fault> {
    let deadline = prompt.deadline(shared.config.limits.prompt_time);
    let mut attempt = 1;
    loop {
        let exchange = engine.open(&shared.stream_path, &prompt.engine_body, deadline).await?;
        match timeout_at(deadline, begin(exchange))
            .await
            .unwrap_or(Err(Fault::Deadline))
        {
            Ok((first, answers)) => {
                let pieces = Writer {
                    answers,
                    first: Some(first),
                    format,
                    meter,
                    deadline,
                    stage: Stage::Begin,
                };
                return Ok(pieces.reply());
            }
            Err(Fault::BadEngine(_)) if attempt < ATTEMPTS => shared.metrics.count_retry(),
            Err(fault) => return Err(fault),
        }
        attempt += 1;
    }
}

async fn begin(exchange: Exchange) -> Result<(Bytes, AnswerStream), Fault> {
    let mut answers = AnswerStream::begin(exchange).await?;
    match answers.next().await {
        Some(first) => Ok((first?, answers)),
        None => Err(Fault::BadEngine("its answer is empty".to_owned())),
    }
}

/// Writes answers in the client's format.
struct Writer {
    answers: AnswerStream,
    first: Option<Bytes>,
    format: StreamFormat,
    meter: Meter,
    deadline: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Middle,
    End,
    Over,
}

impl Writer {
    fn reply(self) -> Reply {
        let kind = match self.format {
            StreamFormat::Events => "text/event-stream",
            StreamFormat::Array => "application/json; charset=UTF-8",
        };
        let pieces = stream::unfold(self, |mut writer| async move {
            writer.piece().await.map(|piece| (piece, writer))
        });
        let mut reply = Response::new(ReplyBody::pieces(pieces));
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        reply
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        reply
    }

    async fn piece(&mut self) -> Option<Result<Bytes, Bytes>> {
        if matches!(self.stage, Stage::End | Stage::Over) {
            return self.end().map(Ok);
        }
        let answer = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => timeout_at(self.deadline, self.answers.next())
                .await
                .unwrap_or(Some(Err(Fault::Deadline))),
        };
        match answer {
            Some(Ok(answer)) => {
                let metered = self.meter.count(answer);
                let piece = self.write(&metered.answer);
                self.stage = if metered.is_cut { Stage::End } else { Stage::Middle };
                Some(Ok(piece))
            }
            Some(Err(fault)) => {
                let piece = self.write(&fault.to_json());
                self.stage = Stage::End;
                Some(Err(piece))
            }
            None => self.end().map(Ok),
        }
    }

    fn write(&self, answer: &[u8]) -> Bytes {
        let (before, after) = match (self.format, self.stage) {
            (StreamFormat::Events, _) => (&b"data: "[..], &b"\r\n\r\n"[..]),
            (StreamFormat::Array, Stage::Begin) => (&b"["[..], &b""[..]),
            (StreamFormat::Array, _) => (&b",\r\n"[..], &b""[..]),
        };
        let mut piece = BytesMut::with_capacity(before.len() + answer.len() + after.len());
        piece.put_slice(before);
        piece.put_slice(answer);
        piece.put_slice(after);
        piece.freeze()
    }

    fn end(&mut self) -> Option<Bytes> {
        let is_open = self.format == StreamFormat::Array && self.stage != Stage::Over;
        self.stage = Stage::Over;
        is_open.then(|| Bytes::from_static(b"]"))
    }
}
