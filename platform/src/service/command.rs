//! Calls the tool of a service manager.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Error, Kind};
use crate::process::null_input;

/// The time limit of a query. Without it, `systemctl` waits longer, or forever, for a manager that hangs.
const ANSWER: Duration = Duration::from_secs(15);
/// The time limit of a change, in addition to the program's own time to end: systemd allows it 120 s to start.
const CHANGE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(10);
/// What a tool may print on one stream, in bytes.
const MOST_OUTPUT: u64 = 4 << 20;

/// A program's output and exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// The result in words: the standard error, else the exit status.
    fn reason(&self) -> String {
        let said = [&self.stderr, &self.stdout].map(|text| text.trim());
        let said = said.into_iter().find(|text| !text.is_empty());
        match (said, self.code) {
            (Some(text), _) => format!("failed: {text}"),
            (None, Some(code)) => format!("ended with status {code}"),
            (None, None) => "was ended by a signal".to_owned(),
        }
    }
}

/// Runs programs and waits for their end.
pub trait Runner {
    /// Runs `program`, found through the search path, with `args` and an empty standard input.
    ///
    /// # Errors
    /// When it cannot be started, or prints too much; `NotFound` if there is no such program; `TimedOut` if it is still
    /// running after `within`.
    fn run(&self, program: &str, args: &[OsString], within: Duration) -> io::Result<Output>;
}

/// Runs programs of this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tools;

impl Runner for Tools {
    fn run(&self, program: &str, args: &[OsString], within: Duration) -> io::Result<Output> {
        // Files instead of pipes: a service that the tool starts may inherit the streams, and a pipe would not end
        // until the service does.
        let (mut stdout, mut stderr) = (stream()?, stream()?);
        let child = Command::new(program)
            .args(args)
            .stdin(null_input().map_err(io::Error::other)?)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()?;
        let status = end_of(child, [&stdout, &stderr], within)?;
        Ok(Output {
            code: status.code(),
            stdout: text_of(&mut stdout)?,
            stderr: text_of(&mut stderr)?,
        })
    }
}

/// Waits for `child` to end, and kills it after `within`, or when one of its `streams` grows too long.
fn end_of(mut child: Child, streams: [&File; 2], within: Duration) -> io::Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() >= within {
            child.kill()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        let is_long = |file: &File| file.metadata().is_ok_and(|metadata| metadata.len() > MOST_OUTPUT);
        if streams.into_iter().any(is_long) {
            child.kill()?;
            return Err(io::Error::other(format!("it prints more than {MOST_OUTPUT} bytes")));
        }
        sleep(POLL);
    }
}

/// A file for a tool's output.
fn stream() -> io::Result<File> {
    tempfile::tempfile().map_err(|error| {
        let message = format!("cannot create a file in `{}`: {error}", std::env::temp_dir().display());
        // Not `NotFound`, which would mean that the program is missing.
        io::Error::other(message)
    })
}

fn text_of(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(MOST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The tool of one service manager.
pub(super) struct Tool<'a> {
    kind: Kind,
    runner: &'a dyn Runner,
    stop_within: Duration,
}

impl<'a> Tool<'a> {
    pub(super) const fn new(kind: Kind, runner: &'a dyn Runner) -> Self {
        Self {
            kind,
            runner,
            stop_within: Duration::ZERO,
        }
    }

    /// The same tool for a program that may take `stop_within` to end; a change allows for that time.
    pub(super) const fn of_program(self, stop_within: Duration) -> Self {
        Self { stop_within, ..self }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    const fn program(&self) -> &'static str {
        match self.kind {
            Kind::Systemd | Kind::SystemdMachine => "systemctl",
            Kind::Launchd => "launchctl",
            Kind::TaskScheduler => "schtasks",
        }
    }

    /// Runs the tool with a query. A failing exit status is a result. The error means that the tool could not be
    /// started or did not end.
    pub(super) fn ask(&self, args: &[OsString]) -> Result<Output, Error> {
        self.run(args, ANSWER)
    }

    fn run(&self, args: &[OsString], within: Duration) -> Result<Output, Error> {
        self.runner
            .run(self.program(), args, within)
            .map_err(|source| match source.kind() {
                io::ErrorKind::TimedOut => Error::Silent {
                    command: self.line(args),
                    within,
                },
                io::ErrorKind::NotFound => self.unavailable(args, "is not installed".to_owned()),
                _ => self.unavailable(args, format!("cannot be run: {source}")),
            })
    }

    /// Runs the tool to change something; a failing exit status is an error.
    pub(super) fn call(&self, args: &[OsString]) -> Result<Output, Error> {
        let output = self.run(args, self.stop_within.saturating_add(CHANGE))?;
        if output.is_success() {
            Ok(output)
        } else {
            Err(self.failure(args, &output))
        }
    }

    /// Runs the tool with a query that changes nothing. A failure means that this user can reach no service manager.
    pub(super) fn probe(&self, args: &[OsString]) -> Result<Output, Error> {
        let output = self.ask(args)?;
        if output.is_success() {
            Ok(output)
        } else {
            Err(self.unavailable(args, output.reason()))
        }
    }

    pub(super) fn failure(&self, args: &[OsString], output: &Output) -> Error {
        Error::Command {
            command: self.line(args),
            reason: output.reason(),
        }
    }

    fn unavailable(&self, args: &[OsString], reason: String) -> Error {
        Error::Unavailable {
            kind: self.kind,
            command: self.line(args),
            reason,
        }
    }

    fn line(&self, args: &[OsString]) -> String {
        let mut line = self.program().to_owned();
        for arg in args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }
}
