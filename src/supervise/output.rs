//! Copies the engine's output into the log, line by line.

use std::sync::Arc;
use std::time::Duration;

use gem_platform::process::Supervised;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::log::Log;
use super::noise::Noise;

/// The streams of the engine that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineOutput {
    /// Standard output and standard error.
    #[default]
    All,
    /// Only standard error, because `litert-lm` prints requests and answers to standard output (docs/facts.md section
    /// 5).
    ErrorsOnly,
}

/// The time to read the last lines of an engine that has ended.
const LAST_LINES: Duration = Duration::from_millis(500);
/// The longest line; a longer one is logged in parts.
const LONGEST_LINE: usize = 8 << 10;

/// Copies the output of `engine` that `output` selects into `log`.
pub(super) fn log_output(engine: &mut Supervised, output: EngineOutput, log: &Log) -> JoinSet<()> {
    let source: Arc<str> = format!("engine {}", engine.id()).into();
    let (stdout, stderr) = engine.take_output();
    let mut readers = JoinSet::new();
    if let Some(stdout) = stdout {
        let log = (output == EngineOutput::All).then(|| log.clone());
        let source = Arc::clone(&source);
        readers.spawn(async move { copy_lines(stdout, log.as_ref(), &source).await });
    }
    if let Some(stderr) = stderr {
        let log = log.clone();
        readers.spawn(async move { copy_lines(stderr, Some(&log), &source).await });
    }
    readers
}

/// Lets the readers of an ended engine's output finish, with a limit, because another process may hold the pipe.
pub(super) async fn finish(mut readers: JoinSet<()>) {
    let _ = timeout(LAST_LINES, async { while readers.join_next().await.is_some() {} }).await;
    readers.shutdown().await;
}

/// Reads `stream` to its end. An incomplete last line counts as a line, and invalid bytes are replaced. If a line was
/// rewritten with carriage returns, only its last version is logged.
pub(super) async fn copy_lines(mut stream: impl AsyncRead + Unpin, log: Option<&Log>, source: &Arc<str>) {
    let mut buffer = Vec::with_capacity(LONGEST_LINE);
    let mut noise = Noise::default();
    let say = |lines: Vec<String>| {
        if let Some(log) = log {
            lines.into_iter().for_each(|line| log.line(source, line));
        }
    };
    loop {
        let read = stream.read_buf(&mut buffer).await;
        let mut start = 0;
        while let Some(length) = buffer[start..].iter().position(|byte| *byte == b'\n') {
            say(noise.pass(printable(&buffer[start..start + length])));
            start += length + 1;
        }
        buffer.drain(..start);
        if buffer.len() >= LONGEST_LINE {
            say(noise.pass(printable(&buffer)));
            buffer.clear();
        }
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    if !buffer.is_empty() {
        say(noise.pass(printable(&buffer)));
    }
    say(noise.rest());
}

/// `line` in the form in which it is logged.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let last_state = text.rsplit('\r').next().unwrap_or_default();
    without_keys(last_state.to_owned())
}

/// Removes API keys, which must not be logged even if the engine prints them.
fn without_keys(mut line: String) -> String {
    for marker in ["?key=", "&key=", "x-goog-api-key: "] {
        let mut from = 0;
        while let Some(found) = line[from..].to_ascii_lowercase().find(marker) {
            let start = from + found + marker.len();
            let end = line[start..]
                .find(|c: char| c.is_whitespace() || "&\"'".contains(c))
                .map_or(line.len(), |length| start + length);
            line.replace_range(start..end, "***");
            from = start;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn logged(bytes: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let log = Log::start(&path).unwrap();
        copy_lines(bytes, Some(&log), &Arc::from("engine")).await;
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .map(|line| line.split_once("[engine] ").unwrap().1.to_owned())
            .collect()
    }

    #[tokio::test]
    async fn partial_lines_and_bytes_that_are_no_text_are_safe() {
        assert_eq!(
            logged(b"one\r\n\xff\xfe two\nthree").await,
            ["one", "\u{fffd}\u{fffd} two", "three"]
        );
        assert!(logged(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_is_logged_in_parts() {
        let lines = logged(&vec![b'x'; 3 * LONGEST_LINE + 5]).await;
        assert!(lines.len() >= 3);
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), 3 * LONGEST_LINE + 5);
    }

    #[tokio::test]
    async fn of_a_rewritten_line_the_last_state_counts_and_escapes_are_shown() {
        assert_eq!(
            logged(b"\rDownloading 1 MB\rDownloading 2 MB\n\x1b[31mred\n").await,
            ["Downloading 2 MB", "\\u{1b}[31mred"]
        );
    }

    #[tokio::test]
    async fn api_keys_are_not_logged() {
        assert_eq!(
            logged(b"POST /v1beta/x?alt=sse&KEY=secret1 HTTP/1.1\nGET /?key=secret2\nX-Goog-Api-Key: secret3\n").await,
            [
                "POST /v1beta/x?alt=sse&KEY=*** HTTP/1.1",
                "GET /?key=***",
                "X-Goog-Api-Key: ***"
            ]
        );
    }
}
