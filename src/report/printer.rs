//! The one place that writes to standard output and standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use gem_setup::error::{Failure, Kind};
use serde::Serialize;

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    enabled: bool,
}

impl Palette {
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.enabled {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Results to standard output, everything else to standard error.
#[derive(Debug)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    out: Palette,
    err: Palette,
    /// Why standard output takes nothing more.
    closed: Mutex<Option<io::Error>>,
}

impl Printer {
    /// `color`: `Some` forces colour on or off, `None` leaves it to each stream.
    pub(crate) fn new(json: bool, quiet: bool, color: Option<bool>) -> Self {
        let palette = |terminal: bool| Palette {
            enabled: color.unwrap_or(terminal),
        };
        Self {
            json,
            quiet,
            out: palette(io::stdout().is_terminal()),
            err: palette(io::stderr().is_terminal()),
            closed: Mutex::new(None),
        }
    }

    /// Whether JSON is wanted.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Whether only results and errors are wanted.
    pub(crate) const fn quiet(&self) -> bool {
        self.quiet
    }

    /// Colours for standard output.
    pub(crate) const fn out(&self) -> Palette {
        self.out
    }

    /// Colours for standard error.
    pub(crate) const fn err(&self) -> Palette {
        self.err
    }

    /// Whether standard output takes nothing more: whoever prints in a loop stops then.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// What kept a result from being printed. A reader who has gone, as `head` does, has what it wanted.
    pub(crate) fn fault(&self) -> Option<Failure> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let error = closed.as_ref().filter(|error| error.kind() != ErrorKind::BrokenPipe)?;
        Some(
            Failure::new(Kind::Unexpected, format!("cannot write to standard output: {error}"))
                .with_hint("see where standard output leads and whether there is room, then run the command again"),
        )
    }

    /// One line of a result.
    pub(crate) fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
        if let Err(error) = written.and_then(|()| out.flush()) {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.get_or_insert(error);
        }
    }

    /// A result as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.line(&text);
        }
    }

    /// A remark for people; nothing with `--quiet`.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(text);
        }
    }

    /// What went wrong and what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Failure { message, hint, .. } = failure;
        self.to_stderr(&format!("{}: {message}", self.err.bad("error")));
        if let Some(hint) = hint {
            self.to_stderr(&format!("{}: {hint}", self.err.strong("hint")));
        }
    }

    fn to_stderr(&self, text: &str) {
        // Where even standard error is closed nobody is left to be told.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
