//! Runs a runtime's `pull`: answers its question, reads its progress, keeps the last lines of its output.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use gem_platform::process::Program;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::Error;
use super::child::{Ended, SILENCE_LIMIT, Tail, without_secrets};
use super::pull_terminal::PseudoTerminal;
use crate::catalog::Model;
use crate::progress::Progress;

/// The id of the step under which a pull reports progress.
const STEP: &str = "model";
/// A buffered question may never appear, so after this much silence it is answered anyway.
const QUESTION_PATIENCE: Duration = Duration::from_secs(3);

/// The output of a pull, parsed as it arrives.
pub(super) struct PullOutput<'a> {
    model: &'a Model,
    secrets: &'a [String],
    progress: &'a dyn Progress,
    lines: Tail,
    line: Vec<u8>,
    asked: bool,
    /// Whether a signal, such as Ctrl-C, ended the program.
    was_killed: bool,
}

impl<'a> PullOutput<'a> {
    /// The output of a pull of `model`. `secrets` are removed before anything is shown.
    pub(super) fn new(model: &'a Model, secrets: &'a [String], progress: &'a dyn Progress) -> Self {
        Self {
            model,
            secrets,
            progress,
            lines: Tail::default(),
            line: Vec::new(),
            asked: false,
            was_killed: false,
        }
    }

    fn total(&self) -> Option<u64> {
        (self.model.size > 0).then_some(self.model.size)
    }

    /// Processes the next bytes. Returns whether the question about the terms is now waiting for an answer.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if byte == b'\n' || byte == b'\r' {
                self.end_line();
            } else {
                self.line.push(byte);
            }
        }
        let waiting = String::from_utf8_lossy(&self.line);
        self.show_progress(&waiting);
        let asks = waiting.contains("(Y/N)") || waiting.to_lowercase().contains("accept these terms?");
        self.asked |= asks;
        asks
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if line.is_empty() || self.show_progress(&line) {
            return;
        }
        self.lines.push(without_secrets(&line, self.secrets));
    }

    fn show_progress(&self, line: &str) -> bool {
        let Some(done) = line.strip_prefix("Downloading... ").and_then(bytes_of) else {
            return false;
        };
        self.progress.advance(STEP, done, self.total());
        true
    }

    /// The last lines, without secrets.
    fn tail(&mut self) -> String {
        self.end_line();
        self.lines.text()
    }
}

/// Parses a size such as `968.6 MB` into bytes.
fn bytes_of(text: &str) -> Option<u64> {
    let (number, unit) = text.trim().split_once(' ')?;
    let factor = match unit.trim() {
        "B" => 1.0,
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size shown in tenths of a megabyte; a negative one becomes 0"
    )]
    bytes.is_finite().then_some(bytes.round() as u64)
}

/// Runs `command` and answers its question with yes. The terms must have been accepted before.
pub(super) async fn pull_with(command: &Program, mut output: PullOutput<'_>) -> Result<(), Error> {
    output.progress.begin(STEP, &output.model.name, output.total());
    let mut ended = run(command, &mut output).await;
    if matches!(ended, Err(Error::Failed { .. })) && !output.asked && !output.was_killed {
        // It may ask only on a terminal (whether it does is unknown: docs/facts.md section 2).
        ended = run_in_terminal(command, &mut output).await.or(ended);
    }
    output.progress.finish(STEP);
    ended
}

async fn run_in_terminal(command: &Program, output: &mut PullOutput<'_>) -> Result<(), Error> {
    let conversation = async {
        let mut terminal = PseudoTerminal::start(command)?;
        let status = converse_in_terminal(&mut terminal, output).await?;
        concluded(status.success(), &status, output)
    };
    conversation.await.map_err(|ended: Ended| ended.into_error(command))
}

async fn converse_in_terminal(
    terminal: &mut PseudoTerminal,
    output: &mut PullOutput<'_>,
) -> Result<portable_pty::ExitStatus, Ended> {
    let mut answered = false;
    loop {
        match tokio::time::timeout(SILENCE_LIMIT, terminal.output.recv()).await {
            Err(_) => return Err(silent(output)),
            Ok(None) => return Ok(terminal.wait()?),
            Ok(Some(piece)) => {
                if output.take(&piece) && !answered {
                    answered = true;
                    terminal.type_in(b"Y\r")?;
                }
            }
        }
    }
}

async fn run(command: &Program, output: &mut PullOutput<'_>) -> Result<(), Error> {
    let conversation = async {
        let mut child = Command::from(command.command())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let status = converse(&mut child, output).await?;
        output.was_killed = status.code().is_none();
        concluded(status.success(), &status, output)
    };
    conversation.await.map_err(|ended: Ended| ended.into_error(command))
}

fn concluded(is_success: bool, status: &impl ToString, output: &mut PullOutput<'_>) -> Result<(), Ended> {
    if is_success {
        return Ok(());
    }
    Err(Ended::Badly {
        outcome: status.to_string(),
        tail: output.tail(),
    })
}

fn silent(output: &mut PullOutput<'_>) -> Ended {
    Ended::Silent {
        limit: SILENCE_LIMIT,
        tail: output.tail(),
    }
}

/// Reads both streams to their end, and answers questions in the meantime.
async fn converse(child: &mut Child, output: &mut PullOutput<'_>) -> Result<std::process::ExitStatus, Ended> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    let (mut out, mut err) = ([0; 4096], [0; 4096]);
    while stdout.is_some() || stderr.is_some() {
        let patience = if stdin.is_some() {
            QUESTION_PATIENCE
        } else {
            SILENCE_LIMIT
        };
        let asked = tokio::select! {
            read = read_from(&mut stdout, &mut out) => output.take(&out[..read?]),
            read = read_from(&mut stderr, &mut err) => output.take(&err[..read?]),
            () = tokio::time::sleep(patience) => {
                if stdin.is_none() {
                    return Err(silent(output));
                }
                true
            }
        };
        if asked && let Some(mut pipe) = stdin.take() {
            // A program without a question may have closed its input; its exit status decides.
            let _ = pipe.write_all(b"Y\n").await;
        }
    }
    Ok(child.wait().await?)
}

/// Reads once. A stream that has ended becomes `None` and is never ready again.
async fn read_from(stream: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(open) = stream else {
        return std::future::pending().await;
    };
    let read = open.read(buffer).await?;
    if read == 0 {
        *stream = None;
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_lit_prints_them() {
        assert_eq!(bytes_of("968.6 MB"), Some(968_600_000));
        assert_eq!(bytes_of("0.5 GB"), Some(500_000_000));
        assert_eq!(bytes_of("968.6"), None);
        assert_eq!(bytes_of("x MB"), None);
    }
}
