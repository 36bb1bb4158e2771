//! Proxies: HTTP with absolute URLs and CONNECT, and SOCKS5, each with or without a login.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Asked, Running, lock};

/// A proxy on loopback, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    scheme: &'static str,
    login: Option<(String, String)>,
    passed: Arc<Mutex<Vec<String>>>,
    _running: Running,
}

/// The user and password that a proxy requires.
type Login = Option<(String, String)>;

impl Proxy {
    /// An HTTP proxy; with a `login` it refuses requests without it.
    #[must_use]
    pub fn http(login: Option<(&str, &str)>) -> Self {
        Self::start("http", login, None)
    }

    /// An HTTP proxy that responds to every request with this status.
    #[must_use]
    pub fn refusing(status: u16) -> Self {
        Self::start("http", None, Some(status))
    }

    /// A SOCKS5 proxy that resolves names itself; with a `login` it refuses requests without it.
    #[must_use]
    pub fn socks5(login: Option<(&str, &str)>) -> Self {
        Self::start("socks5h", login, None)
    }

    fn start(scheme: &'static str, login: Option<(&str, &str)>, refusal: Option<u16>) -> Self {
        let login: Login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let passed = Arc::new(Mutex::new(Vec::new()));
        let (wanted, log) = (login.clone(), Arc::clone(&passed));
        let (address, running) = Running::start(move |stream| {
            let (wanted, log) = (wanted.clone(), Arc::clone(&log));
            async move {
                // A client that leaves early is not a fault of the proxy.
                let _ = match (scheme, refusal) {
                    (_, Some(status)) => refuse(stream, status, &log).await,
                    ("http", _) => pass_http(stream, &wanted, &log).await,
                    _ => pass_socks(stream, &wanted, &log).await,
                };
            }
        });
        Self {
            address,
            scheme,
            login,
            passed,
            _running: running,
        }
    }

    /// Its URL for a proxy variable, including the login, if any.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.login.as_ref();
        let login = login.map_or_else(String::new, |(user, password)| format!("{user}:{password}@"));
        format!("{}://{login}{}", self.scheme, self.address)
    }

    /// The requests that were passed on, or refused by a proxy that refuses everything: `GET http://…`, `CONNECT host:port` or
    /// `SOCKS host:port`.
    #[must_use]
    pub fn passed(&self) -> Vec<String> {
        lock(&self.passed).clone()
    }
}

async fn refuse(stream: TcpStream, status: u16, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    if let Some(asked) = Asked::read(&mut stream).await {
        lock(log).push(format!("{} {}", asked.method, asked.target));
    }
    let answer = format!("HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

async fn pass_http(stream: TcpStream, login: &Login, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(asked) = Asked::read(&mut stream).await else {
        return Ok(());
    };
    let expected = login
        .as_ref()
        .map(|(user, password)| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))));
    if expected.is_some() && asked.header("proxy-authorization") != expected.as_deref() {
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(refusal.as_bytes()).await;
    }
    lock(log).push(format!("{} {}", asked.method, asked.target));
    if asked.method == "CONNECT" {
        let mut upstream = TcpStream::connect(&asked.target).await?;
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
        copy_bidirectional(&mut stream, &mut upstream).await?;
        return Ok(());
    }
    let rest = asked.target.strip_prefix("http://").unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut upstream = TcpStream::connect(host).await?;
    const PASSED: [&str; 7] = [
        "host",
        "range",
        "if-range",
        "authorization",
        "accept-encoding",
        "content-length",
        "transfer-encoding",
    ];
    let headers: String = PASSED
        .iter()
        .filter_map(|name| asked.header(name).map(|value| format!("{name}: {value}\r\n")))
        .collect();
    // One request per connection: the next one on it would reach the server without being read here.
    let request = format!(
        "{} /{path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n",
        asked.method
    );
    upstream.write_all(request.as_bytes()).await?;
    copy_bidirectional(&mut stream, &mut upstream).await?;
    Ok(())
}

/// SOCKS version 5 (RFC 1928) with user and password (RFC 1929).
async fn pass_socks(mut stream: TcpStream, login: &Login, log: &Mutex<Vec<String>>) -> io::Result<()> {
    const NO_LOGIN: u8 = 0;
    const PASSWORD: u8 = 2;
    let _version = stream.read_u8().await?;
    let methods = read_counted(&mut stream).await?;
    let method = if login.is_some() { PASSWORD } else { NO_LOGIN };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    if let Some((user, password)) = login {
        let _version = stream.read_u8().await?;
        let given = (read_counted(&mut stream).await?, read_counted(&mut stream).await?);
        let is_right = given == (user.clone().into_bytes(), password.clone().into_bytes());
        stream.write_all(&[1, u8::from(!is_right)]).await?;
        if !is_right {
            return Ok(());
        }
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let host = match head[3] {
        1 => std::net::Ipv4Addr::from_bits(stream.read_u32().await?).to_string(),
        3 => String::from_utf8_lossy(&read_counted(&mut stream).await?).into_owned(),
        _ => return Ok(()),
    };
    let target = format!("{host}:{}", stream.read_u16().await?);
    lock(log).push(format!("SOCKS {target}"));
    let mut upstream = TcpStream::connect(&target).await?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut stream, &mut upstream).await?;
    Ok(())
}

/// Reads a length byte, then this many bytes.
async fn read_counted(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
