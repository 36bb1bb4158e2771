//! HTTP/1.1 as far as a file server needs it, with the faults built in.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use super::{Fault, Shared, lock};

const PIECE: usize = 32 * 1024;
const NANOSECONDS: u64 = 1_000_000_000;
/// The time that a limited connection may catch up: a coarse timer's delay, but not a pause of the whole machine.
const LARGEST_LAG: Duration = Duration::from_millis(20);

/// One request, unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, or the whole URL in a request to a proxy.
    pub target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    /// The value of the header `name`, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a request up to the empty line that ends its head.
    pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut words = lines.first()?.split(' ');
        Some(Self {
            method: words.next()?.to_owned(),
            target: words.next()?.to_owned(),
            headers: lines
                .iter()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        })
    }
}

/// A stream whose connection can be reset instead of closed.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Answers requests until the client leaves or a fault ends the connection.
pub(super) async fn serve<S: Connection>(stream: S, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = Asked::read(&mut stream).await {
        lock(&shared.asked).push(asked.clone());
        let answer = Answer::to(&asked, shared);
        shared.begin_answer();
        let sent = answer.send(stream.get_mut(), shared).await;
        shared.answering.fetch_sub(1, Ordering::Relaxed);
        match sent {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

struct Answer {
    head: String,
    body: Bytes,
    fault: Fault,
}

impl Answer {
    fn to(asked: &Asked, shared: &Shared) -> Self {
        let wanted = asked.header("range");
        let fault = shared.next_fault(wanted.is_some());
        let version = lock(&shared.version).clone();
        let mut body = version.content;
        let mut headers = version.headers;
        let mut status = "200 OK".to_owned();
        let is_current = asked
            .header("if-range")
            .is_none_or(|value| headers.iter().any(|(_, ours)| ours == value));
        let length = body.len();
        match &fault {
            Fault::Refuse(code, retry_after) => {
                status = format!("{code} Refused");
                headers = Vec::from_iter(retry_after.clone().map(|value| ("Retry-After", value)));
                body = Bytes::new();
            }
            Fault::Redirect(location) => {
                status = "302 Found".to_owned();
                headers = vec![("Location", location.clone())];
                body = Bytes::new();
            }
            Fault::Gzip => {
                headers.push(("Content-Encoding", "gzip".to_owned()));
                body = gzip(&body);
            }
            _ => {
                headers.push(("Accept-Ranges", "bytes".to_owned()));
                let range = wanted.filter(|_| is_current && fault != Fault::IgnoreRange);
                if let Some(mut range) = range.and_then(|range| parse_range(range, length)) {
                    if fault == Fault::WrongRange {
                        range = 0..range.len();
                    }
                    status = "206 Partial Content".to_owned();
                    let described = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                    headers.push(("Content-Range", described));
                    body = body.slice(range);
                } else if range.is_some() {
                    status = "416 Range Not Satisfiable".to_owned();
                    body = Bytes::new();
                }
            }
        }
        if fault == Fault::Corrupt && !body.is_empty() {
            let mut bytes = body.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            body = bytes.into();
        }
        match fault {
            Fault::NoLength => headers.push(("Connection", "close".to_owned())),
            Fault::DeclareLength(length) => headers.push(("Content-Length", length.to_string())),
            _ => headers.push(("Content-Length", body.len().to_string())),
        }
        if asked.method == "HEAD" {
            body = Bytes::new();
        }
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        Self {
            head: format!("HTTP/1.1 {status}\r\n{headers}\r\n"),
            body,
            fault,
        }
    }

    /// Sends the response; returns whether the connection stays open.
    async fn send<S: Connection>(&self, stream: &mut S, shared: &Shared) -> io::Result<bool> {
        stream.write_all(self.head.as_bytes()).await?;
        let whole = self.body.len();
        let limit = match self.fault {
            Fault::ResetAt(at) | Fault::StallAt(at) | Fault::CloseAt(at) => {
                whole.min(usize::try_from(at).unwrap_or(whole))
            }
            _ => whole,
        };
        let rate = shared.rate.load(Ordering::Relaxed);
        let size = match self.fault {
            Fault::Trickle(size, _) => size,
            _ => PIECE,
        };
        let mut due = Instant::now();
        for piece in self.body.slice(..limit).chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                let written = stream.write(rest).await?;
                shared.served.fetch_add(written as u64, Ordering::Relaxed);
                rest = rest.get(written..).unwrap_or_default();
            }
            if let Fault::Trickle(_, pause) = self.fault {
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            } else if let Some(nanoseconds) = (piece.len() as u64 * NANOSECONDS).checked_div(rate) {
                let earliest = Instant::now().checked_sub(LARGEST_LAG).unwrap_or(due);
                due = due.max(earliest) + Duration::from_nanos(nanoseconds);
                tokio::time::sleep_until(due).await;
            }
        }
        stream.flush().await?;
        match self.fault {
            Fault::ResetAt(_) => {
                // Gives the sent bytes time to arrive: a reset discards them.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.socket().set_zero_linger()?;
                Ok(false)
            }
            Fault::StallAt(_) => std::future::pending().await,
            Fault::CloseAt(_) | Fault::NoLength | Fault::DeclareLength(_) => {
                stream.shutdown().await?;
                Ok(false)
            }
            _ => Ok(true),
        }
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST` within `length`.
fn parse_range(value: &str, length: usize) -> Option<Range<usize>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let end = match last {
        "" => length,
        last => length.min(last.parse::<usize>().ok()? + 1),
    };
    (first < end).then_some(first..end)
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}
