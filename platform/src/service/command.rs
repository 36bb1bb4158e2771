//! Calling the tool of a service manager.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Command, Stdio};

use super::{Error, Kind};

/// What a program left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// What came of it in words: its complaint, else its exit status.
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

/// Runs programs to their end.
pub trait Runner {
    /// Runs `program`, found through the search path, with `args` and nothing on its standard input.
    ///
    /// # Errors
    /// When it cannot be started; `NotFound` if there is no such program.
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<Output>;
}

/// Runs the programs of this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tools;

impl Runner for Tools {
    fn run(&self, program: &str, args: &[OsString]) -> io::Result<Output> {
        // Files and not pipes: a service that the tool starts may inherit its streams, and a pipe would not end before it does.
        let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let status = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .status()?;
        Ok(Output {
            code: status.code(),
            stdout: text_of(&mut stdout)?,
            stderr: text_of(&mut stderr)?,
        })
    }
}

fn text_of(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The tool of one service manager.
pub(super) struct Tool<'a> {
    kind: Kind,
    runner: &'a dyn Runner,
}

impl<'a> Tool<'a> {
    pub(super) const fn new(kind: Kind, runner: &'a dyn Runner) -> Self {
        Self { kind, runner }
    }

    const fn program(&self) -> &'static str {
        match self.kind {
            Kind::Systemd => "systemctl",
            Kind::Launchd => "launchctl",
            Kind::TaskScheduler => "schtasks",
        }
    }

    /// Runs the tool. A failing exit status is a result; only a tool that cannot be started is an error.
    pub(super) fn ask(&self, args: &[OsString]) -> Result<Output, Error> {
        self.runner.run(self.program(), args).map_err(|source| {
            let reason = match source.kind() {
                io::ErrorKind::NotFound => "is not installed".to_owned(),
                _ => format!("cannot be run: {source}"),
            };
            self.unavailable(args, reason)
        })
    }

    /// Runs the tool and expects success.
    pub(super) fn call(&self, args: &[OsString]) -> Result<Output, Error> {
        let output = self.ask(args)?;
        if output.is_success() {
            Ok(output)
        } else {
            Err(self.failure(args, &output))
        }
    }

    /// Runs the tool with a harmless question and takes a failure to mean that no service manager answers this user.
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
