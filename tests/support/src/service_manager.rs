//! The receiving end of sd_notify(3).

use std::io;
use std::path::{Path, PathBuf};

/// A socket that receives a service's messages, on systems with such sockets.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    #[cfg(unix)]
    socket: tokio::net::UnixDatagram,
}

impl ServiceManager {
    /// Listens on a new socket at `path`; `None` on systems without messages. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be created.
    #[cfg(target_os = "linux")]
    pub fn listen(path: impl Into<PathBuf>) -> io::Result<Option<Self>> {
        let path = path.into();
        let socket = tokio::net::UnixDatagram::bind(&path)?;
        Ok(Some(Self { path, socket }))
    }

    /// This system has no such messages.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn listen(_path: impl Into<PathBuf>) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// The socket's path, the value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message.
    ///
    /// # Errors
    /// When the socket fails.
    #[cfg(unix)]
    pub async fn message(&self) -> io::Result<String> {
        let mut buffer = vec![0; 4096];
        let length = self.socket.recv(&mut buffer).await?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// There is no message.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    #[expect(clippy::unused_async, reason = "the same signature as on Unix")]
    pub async fn message(&self) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
