//! The one place that writes to standard output and standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use console::Term;
use gem_platform::Os;
use gem_platform::process::is_root;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::text::{Aligned, aligned, push_printable, to_json};
use serde::Serialize;

use super::bars::{Bars, Meanwhile};
use super::given::GivenBelow;
use super::wrap::wrapped;

/// Colours, or none.
///
/// Painted text contains marks (Unicode noncharacters, which never occur in text) instead of escape sequences. So the printer can escape
/// all control characters in its input, and then turn the marks into colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    enabled: bool,
}

const GOOD: char = '\u{fdd0}';
const BAD: char = '\u{fdd1}';
const DOUBTFUL: char = '\u{fdd2}';
const DIM: char = '\u{fdd3}';
const STRONG: char = '\u{fdd4}';
const PLAIN: char = '\u{fdd5}';

const fn escape_sequence(mark: char) -> Option<&'static str> {
    Some(match mark {
        GOOD => "\u{1b}[32m",
        BAD => "\u{1b}[31m",
        DOUBTFUL => "\u{1b}[33m",
        DIM => "\u{1b}[2m",
        STRONG => "\u{1b}[1m",
        PLAIN => "\u{1b}[0m",
        _ => return None,
    })
}

/// `text` with marks turned into colours and control characters escaped. Line ends become `line_end`; in backticks they are escaped,
/// because they belong to a value, such as a path.
fn shown(text: &str, line_end: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_quoted = false;
    for (at, c) in text.char_indices() {
        is_quoted = match c {
            '`' => !is_quoted && text[at + 1..].contains('`'),
            _ => is_quoted,
        };
        match (c, escape_sequence(c)) {
            (_, Some(sequence)) => shown.push_str(sequence),
            ('\n', None) => shown.push_str(if is_quoted { ESCAPED_END } else { line_end }),
            (c, None) => push_printable(&mut shown, c),
        }
    }
    shown
}

/// How commands of gem-setup begin.
const NAME: &str = "gem-setup";

/// The form of a line end in a single line.
const ESCAPED_END: &str = "\\n";

/// [`shown`] as one line.
fn shown_line(text: &str) -> String {
    shown(text, ESCAPED_END)
}

/// [`shown`] with blanks before all lines but the first, so that no value can look like a line of its own.
fn shown_prose(text: &str) -> String {
    let indented = shown(text, "\n  ");
    // Some messages indent their lines themselves.
    indented.replace("\n    ", "\n  ")
}

/// `text` with `globals` at the end of each command of gem-setup in backquotes, without those that it has. A command that names a
/// home is complete.
fn with_globals(text: &str, globals: &[String]) -> String {
    const COMMAND: &str = "`gem-setup ";
    let mut rest = text;
    let mut changed = String::with_capacity(text.len());
    while let Some((before, command)) = rest.split_once(COMMAND) {
        let Some((command, after)) = command.split_once('`') else {
            break;
        };
        let is_complete = has_option(command, "--home");
        let missing = globals
            .iter()
            .filter(|option| !is_complete && !has_option(command, name_of(option)));
        changed.extend([before, COMMAND, command]);
        changed.extend(missing.flat_map(|option| [" ", option]));
        changed.push('`');
        rest = after;
    }
    changed.push_str(rest);
    changed
}

/// The name in an option such as `--home /h`.
fn name_of(option: &str) -> &str {
    option.split(' ').next().unwrap_or_default()
}

fn has_option(command: &str, name: &str) -> bool {
    let is_it = |word: &str| word.split('=').next() == Some(name);
    command.split(' ').any(is_it)
}

/// `text` broken at words if `term` is a terminal.
fn fitted(text: &str, term: &Term, indent: usize) -> String {
    match term.size_checked() {
        Some((_, columns)) => wrapped(text, columns.into(), indent),
        None => text.to_owned(),
    }
}

impl Palette {
    pub(crate) fn good(self, text: &str) -> String {
        self.paint(GOOD, text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint(BAD, text)
    }

    pub(crate) fn doubtful(self, text: &str) -> String {
        self.paint(DOUBTFUL, text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(STRONG, text)
    }

    fn paint(self, mark: char, text: &str) -> String {
        if self.enabled {
            format!("{mark}{text}{PLAIN}")
        } else {
            text.to_owned()
        }
    }
}

/// Prints results to standard output, everything else to standard error.
#[derive(Debug)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    is_verbose: bool,
    out: Palette,
    err: Palette,
    /// The progress on the screen, hidden while a line is printed.
    bars: Bars,
    /// The account's home; empty if it is not known.
    home: String,
    /// The global options for suggested commands, so that they act on the same home.
    globals: OnceLock<Vec<String>>,
    /// What a person types to run gem-setup, if that is not its name.
    typed: OnceLock<String>,
    /// The options that are not from the command line.
    origins: OnceLock<Vec<GivenBelow>>,
    /// The error that closed standard output.
    closed: Mutex<Option<io::Error>>,
    /// Whether a part of the result was printed.
    spoke: AtomicBool,
}

impl Drop for Printer {
    fn drop(&mut self) {
        // The shell's prompt would continue the line of a bar.
        self.bars.clear();
    }
}

/// The failure to print a result because of `error`; `None` for a closed pipe (`head`).
pub(crate) fn unwritten(error: &io::Error) -> Option<Failure> {
    let hint = "check where standard output goes and that its disk has room, then run the command again";
    let failure = Failure::cannot("write to standard output", error).with_hint(hint);
    (error.kind() != ErrorKind::BrokenPipe).then_some(failure)
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
            is_verbose: false,
            out: palette(io::stdout().is_terminal()),
            err: palette(io::stderr().is_terminal()),
            bars: Bars::default(),
            home: String::new(),
            globals: OnceLock::new(),
            typed: OnceLock::new(),
            origins: OnceLock::new(),
            closed: Mutex::new(None),
            spoke: AtomicBool::new(false),
        }
    }

    /// The same for `environment`: progress is animated if the terminal supports it, but not in CI.
    pub(crate) fn within(mut self, environment: &Environment, verbose: u8) -> Self {
        self.is_verbose = verbose > 0;
        // On Unix, a terminal without a name may not support control sequences.
        let is_dumb = match environment.var("TERM") {
            Some(name) => matches!(name, "" | "dumb"),
            None => Os::HOST != Os::Windows,
        };
        let is_ci = environment.var("CI").is_some_and(|value| value != "false");
        let is_animated = io::stderr().is_terminal()
            && !self.quiet
            && !is_dumb
            && !is_ci
            && gem_platform::console::is_in_foreground();
        self.bars = Bars::new(is_animated, environment);
        if is_animated {
            self.bars.clear_before_panics();
        }
        self.home = environment.user_home().to_string_lossy().into_owned();
        self
    }

    /// From now on, suggested commands of gem-setup end with `globals`.
    pub(crate) fn add_globals(&self, globals: Vec<String>) {
        let _ = self.globals.set(globals);
    }

    /// From now on, suggested commands begin with `typed` in place of gem-setup's name.
    pub(crate) fn begin_commands_with(&self, typed: String) {
        let _ = self.typed.set(typed);
    }

    /// `command`, a line that begins with gem-setup's name, as a person can type it.
    pub(crate) fn typed(&self, command: &str) -> String {
        let rest = self.typed.get().zip(command.strip_prefix(NAME));
        rest.map_or_else(|| command.to_owned(), |(typed, rest)| format!("{typed}{rest}"))
    }

    /// From now on, failures because of an option name its source, if that is one of `origins`.
    pub(crate) fn add_origins(&self, origins: Vec<GivenBelow>) {
        let _ = self.origins.set(origins);
    }

    /// The hint of `failure`, for this home, with the sources of the options that the failure is about.
    pub(crate) fn hint(&self, failure: &Failure) -> Option<String> {
        let origins = self.origins.get().filter(|_| failure.kind == Kind::Usage);
        let sources = origins.into_iter().flatten().filter_map(|given| given.explain(failure));
        let hint = failure.hint.iter().map(|hint| self.here(hint)).chain(sources);
        hint.reduce(|hint, source| format!("{hint}; {source}"))
    }

    /// `text` with suggested commands that act on this home, and without `sudo` for root: a container may not have it.
    pub(crate) fn here(&self, text: &str) -> String {
        let text = match self.globals.get() {
            Some(globals) if !globals.is_empty() => with_globals(text, globals),
            _ => text.to_owned(),
        };
        let text = match self.typed.get() {
            Some(typed) => text.replace(&format!("`{NAME} "), &format!("`{typed} ")),
            None => text,
        };
        if is_root() { text.replace("`sudo ", "`") } else { text }
    }

    /// `text` with `~` for the account's home in quoted paths.
    pub(crate) fn tilde(&self, text: &str) -> String {
        if self.home.len() < 2 {
            return text.to_owned();
        }
        text.replace(&format!("`{}/", self.home), "`~/")
    }

    /// Like [`Self::tilde`], also for paths that follow a blank.
    pub(crate) fn tilde_everywhere(&self, text: &str) -> String {
        if self.home.len() < 2 {
            return text.to_owned();
        }
        self.tilde(text).replace(&format!(" {}/", self.home), " ~/")
    }

    /// `text` as people get it. Programs, which read JSON, get whole paths everywhere.
    fn for_people(&self, text: &str) -> String {
        if self.json { text.to_owned() } else { self.tilde(text) }
    }

    /// Shows `what` on a terminal until the result is dropped, if that takes a noticeable time.
    pub(crate) fn meanwhile(&self, what: &str) -> Meanwhile {
        self.bars.meanwhile(what)
    }

    /// The progress on the screen.
    pub(crate) const fn bars(&self) -> &Bars {
        &self.bars
    }

    /// Whether JSON is wanted.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Whether details are printed that need no action.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.is_verbose
    }

    /// Colours for standard output.
    pub(crate) const fn out(&self) -> Palette {
        self.out
    }

    /// Colours for standard error.
    pub(crate) const fn err(&self) -> Palette {
        self.err
    }

    /// Whether no part of the result was printed yet.
    pub(crate) fn is_silent(&self) -> bool {
        !self.spoke.load(Ordering::Relaxed)
    }

    /// Whether standard output is closed, so that printing in a loop can stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The error that prevented printing a result; `None` for a closed pipe (`head`).
    pub(crate) fn fault(&self) -> Option<Failure> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.as_ref().and_then(unwritten)
    }

    /// One line of a result.
    pub(crate) fn line(&self, text: &str) {
        self.write(&shown_line(&self.here(text)));
    }

    /// A result in columns: each cell is one line, and on a terminal the last one is wrapped at words.
    pub(crate) fn table<const N: usize>(&self, rows: &[[String; N]], gap: usize) {
        let shown = |cell: &String| shown_line(&self.here(&self.tilde(cell)));
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(shown)).collect();
        let Aligned { lines, last } = aligned(&rows, gap);
        for line in lines {
            self.write(&fitted(&line, &Term::stdout(), last));
        }
    }

    /// A result in prose: on a terminal it is wrapped at words; wrapped lines are indented by `indent` spaces.
    pub(crate) fn prose(&self, text: &str, indent: usize) {
        let text = shown_prose(&self.here(text));
        self.write(&fitted(&text, &Term::stdout(), indent));
    }

    fn write(&self, text: &str) {
        self.spoke.store(true, Ordering::Relaxed);
        let written = self.bars.around(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")?;
            out.flush()
        });
        if let Err(error) = written {
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            closed.get_or_insert(error);
        }
    }

    /// A result as one line of JSON.
    pub(crate) fn json_line(&self, value: &impl Serialize) {
        if let Ok(text) = to_json(value) {
            self.write(&text);
        }
    }

    /// A remark for people; nothing with `--quiet`.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            self.to_stderr(text);
        }
    }

    /// A remark in prose: on a terminal it is wrapped at words; wrapped lines are indented by `indent` spaces.
    pub(crate) fn remark_in_prose(&self, text: &str, indent: usize) {
        if !self.quiet {
            self.prose_to_stderr(text, indent);
        }
    }

    /// A warning; nothing with `--quiet`.
    pub(crate) fn warning(&self, text: &str) {
        let text = format!("{}: {}", self.err.doubtful("warning"), self.for_people(text));
        self.remark_in_prose(&text, "warning: ".len());
    }

    /// An error and its hint.
    pub(crate) fn failure(&self, failure: &Failure) {
        // It ends the work that the bar is about.
        self.bars.clear();
        let message = self.for_people(&failure.message);
        self.prose_to_stderr(&format!("{}: {message}", self.err.bad("error")), "error: ".len());
        if let Some(hint) = self.hint(failure) {
            let hint = self.for_people(&hint);
            self.prose_to_stderr(&format!("{}: {hint}", self.err.strong("hint")), "hint: ".len());
        }
    }

    /// An error in the command line.
    pub(crate) fn complaint(&self, text: &str) {
        let text = text.strip_prefix("error: ").unwrap_or(text).trim_end();
        let mut lead = format!("{}: ", self.err.bad("error"));
        for line in self.for_people(text).lines() {
            self.prose_to_stderr(&format!("{lead}{line}"), 2);
            lead.clear();
        }
    }

    /// A line before a question; shown with `--quiet` too.
    pub(crate) fn before_question(&self, text: &str) {
        self.bars.clear();
        self.prose_to_stderr(text, 2);
    }

    /// A question; the cursor stays behind it. Shown with `--quiet` too.
    pub(crate) fn prompt(&self, text: &str) {
        self.bars.clear();
        // If standard error is closed, the failure cannot be reported.
        let _ = io::stderr().lock().write_all(shown(&self.here(text), "\n").as_bytes());
    }

    fn to_stderr(&self, text: &str) {
        self.bars.around(|| end_line_with(&shown_line(&self.here(text))));
    }

    fn prose_to_stderr(&self, text: &str, indent: usize) {
        let text = shown_prose(&self.here(text));
        self.bars
            .around(|| end_line_with(&fitted(&text, &Term::stderr(), indent)));
    }
}

/// Ends the line that a question left open.
pub(super) fn end_line() {
    end_line_with("");
}

/// Shows `question`, if there is one, again.
pub(super) fn ask_again(question: &str) {
    // If standard error is closed, the failure cannot be reported.
    let _ = io::stderr().lock().write_all(question.as_bytes());
}

fn end_line_with(text: &str) {
    // If standard error is closed, the failure cannot be reported.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_commands_name_the_home() {
        for (text, expected) in [
            ("`gem-setup start` starts it", "`gem-setup start --home /h` starts it"),
            (
                "run `gem-setup stop`, then `gem-setup start --home /x`",
                "run `gem-setup stop --home /h`, then `gem-setup start --home /x`",
            ),
            (
                "`/bin/gem-setup` is gone; `gem-setup x",
                "`/bin/gem-setup` is gone; `gem-setup x",
            ),
        ] {
            assert_eq!(with_globals(text, &["--home /h".to_owned()]), expected);
        }
    }

    #[test]
    fn an_option_that_a_command_has_is_not_added_again() {
        let globals = ["--home '/a b'", "--config c.toml"].map(str::to_owned);
        for (text, expected) in [
            ("`gem-setup stop`", "`gem-setup stop --home '/a b' --config c.toml`"),
            (
                "`gem-setup x --config c.toml`",
                "`gem-setup x --config c.toml --home '/a b'`",
            ),
            (
                "`gem-setup x --config=c.toml`",
                "`gem-setup x --config=c.toml --home '/a b'`",
            ),
            ("`gem-setup x --home '/a b'`", "`gem-setup x --home '/a b'`"),
        ] {
            assert_eq!(with_globals(text, &globals), expected);
        }
    }

    #[test]
    fn colours_are_ours_and_escapes_of_others_are_shown() {
        let palette = Palette { enabled: true };
        let text = palette.bad("a\u{1b}[2Jb\u{9b}31m");
        assert_eq!(shown_line(&text), "\u{1b}[31ma\\u{1b}[2Jb\\u{9b}31m\u{1b}[0m");
        assert_eq!(shown_line(&Palette { enabled: false }.bad("a\nb")), "a\\nb");
    }

    #[test]
    fn no_value_begins_a_line_of_its_own() {
        for (text, expected) in [
            ("cannot read `/a\nok b`: no", "cannot read `/a\\nok b`: no"),
            ("ended; last output:\nok b", "ended; last output:\n  ok b"),
            ("ended; last output:\n  ok b", "ended; last output:\n  ok b"),
            ("an odd ` mark\nok b", "an odd ` mark\n  ok b"),
            ("a value `x`\nok `y\nz`", "a value `x`\n  ok `y\\nz`"),
        ] {
            assert_eq!(shown_prose(text), expected);
        }
    }
}
