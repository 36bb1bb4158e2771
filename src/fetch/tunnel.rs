//! Asks an HTTP proxy why it opens no tunnel. The HTTP client only tells that it did not (hyper-util, `TunnelUnsuccessful`),
//! and a busy proxy calls for another try than one that does not allow the host.

use std::io;
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::retry::Fault;
use crate::net::Proxy;

const LIMIT: Duration = Duration::from_secs(5);
/// More of a status line than this is not read.
const LONGEST_LINE: u64 = 1024;

/// Why `proxy` opens no tunnel to the host of `url`; `None` if it does now, or does not say.
pub(super) async fn refusal(proxy: &Proxy, url: &Url) -> Option<Fault> {
    // Through TLS it could be asked as well, but such proxies are too rare for that.
    let address = Some(proxy.url.expose()).filter(|url| url.scheme() == "http")?;
    let answer = tokio::time::timeout(LIMIT, ask(address, url)).await;
    let code = answer.ok()?.ok()??;
    (!(200..300).contains(&code)).then(|| Fault::from_proxy(code))
}

/// The status that the proxy at `address` answers when it is asked for a tunnel to the host of `url`.
async fn ask(address: &Url, url: &Url) -> io::Result<Option<u16>> {
    let unusable = || io::Error::from(io::ErrorKind::InvalidInput);
    let proxy = address
        .host_str()
        .zip(address.port_or_known_default())
        .ok_or_else(unusable)?;
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(unusable)?;
    let login = Matcher::builder().all(address.as_str()).build();
    let login = url.as_str().parse().ok().and_then(|uri| login.intercept(&uri));
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(login) = login.as_ref().and_then(|proxy| proxy.basic_auth()) {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(login.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let mut stream = TcpStream::connect((proxy.0.trim_matches(['[', ']']), proxy.1)).await?;
    stream.write_all(&request).await?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_LINE))
        .read_until(b'\n', &mut line)
        .await?;
    Ok(status_in(&line))
}

/// The status in a line such as `HTTP/1.1 403 Filtered`.
fn status_in(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.get(..12)?).ok()?;
    line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_tells_its_status_and_other_lines_tell_none() {
        assert_eq!(status_in(b"HTTP/1.1 403 Filtered\r\n"), Some(403));
        assert_eq!(status_in(b"HTTP/1.0 502\r\n"), Some(502));
        for line in ["", "HTTP/1.1", "HTTP/2 403 x", "SSH-2.0-OpenSSH_9.2"] {
            assert_eq!(status_in(line.as_bytes()), None, "{line}");
        }
    }
}
