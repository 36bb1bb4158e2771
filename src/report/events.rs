//! Steps and progress: lines for people on standard error, JSON events on standard output (docs/contract.md section 2).

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use gem_setup::error::{Failure, Kind};
use gem_setup::progress::Progress;
use gem_setup::setup::{Check, Observer, StepId, StepState};
use serde::Serialize;

use super::Printer;

/// The shortest time between two progress events.
const EVENT_EVERY: Duration = Duration::from_millis(200);

/// The columns before the detail of a step.
const STEP_INDENT: usize = "changed companions ".len();
/// The indentation of other wrapped lines.
const INDENT: usize = 2;

/// Reports an installation.
#[derive(Debug)]
pub(crate) struct Events<'a> {
    printer: &'a Printer,
    json: bool,
    last_event: Mutex<Option<Instant>>,
    /// The message of the first failed step.
    first_failure: OnceLock<String>,
    /// The completed steps and later parts, in order.
    steps: Mutex<Vec<(&'static str, StepState)>>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Step {
        id: &'a str,
        state: StepState,
        detail: &'a str,
    },
    Progress {
        id: &'a str,
        done: u64,
        total: Option<u64>,
    },
    Result {
        ok: bool,
        changed: &'a [&'a str],
        /// The options that left out parts which are now missing.
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        left_out: &'a [&'a str],
        error: Option<ErrorBody<'a>>,
    },
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    kind: Kind,
    message: &'a str,
    hint: String,
    exit: u8,
}

impl<'a> Events<'a> {
    /// Reports in the command's format: JSON with `--json`, else lines for people.
    pub(crate) fn new(printer: &'a Printer) -> Self {
        Self::with(printer, printer.json())
    }

    /// Always lines for people, for commands that use standard output for other data.
    pub(crate) fn remarks(printer: &'a Printer) -> Self {
        Self::with(printer, false)
    }

    fn with(printer: &'a Printer, json: bool) -> Self {
        Self {
            printer,
            json,
            last_event: Mutex::new(None),
            first_failure: OnceLock::new(),
            steps: Mutex::new(Vec::new()),
        }
    }

    /// The steps that changed something.
    pub(crate) fn changed(&self) -> Vec<&'static str> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = steps.iter().filter(|(_, state)| *state == StepState::Changed);
        changed.map(|(id, _)| *id).collect()
    }

    /// Reports the remaining steps: the current one, if any, failed with `failure`; the others were not reached.
    pub(crate) fn cut_off(&self, failure: &Failure) {
        let ended = self.steps.lock().unwrap_or_else(PoisonError::into_inner).len();
        for (position, id) in StepId::ALL.into_iter().enumerate().skip(ended) {
            if ended == 0 {
                self.step(id, StepState::NotReached, "not begun");
            } else if position == ended {
                self.step(id, StepState::Failed, &failure.message);
            } else {
                self.step(id, StepState::NotReached, "not reached");
            }
        }
    }

    /// Reports the end of a step, or of a part after the steps.
    pub(crate) fn ended(&self, id: &'static str, state: StepState, detail: &str) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push((id, state));
        drop(steps);
        self.step_named(id, state, detail);
    }

    /// Reports one step's end.
    pub(crate) fn step_named(&self, id: &str, state: StepState, detail: &str) {
        if self.json {
            self.printer.json_line(&Event::Step { id, state, detail });
            return;
        }
        let palette = self.printer.err();
        let mark = match state {
            StepState::Ok => palette.good("ok     "),
            // A plan has not changed anything.
            StepState::Changed if detail.starts_with("would ") => palette.good("plan   "),
            StepState::Changed => palette.good("changed"),
            StepState::Skipped if self.printer.is_verbose() => palette.dim("skipped"),
            StepState::Skipped | StepState::NotReached => return,
            StepState::Failed => palette.bad("failed "),
        };
        // The first failure is the command's: its message is printed at the end, once for all steps that it blocks.
        let mut detail = self.printer.tilde(detail);
        if state == StepState::Failed {
            if self.first_failure.get() == Some(&detail) {
                return;
            }
            if self.first_failure.set(detail.clone()).is_ok() {
                detail.clear();
            }
        }
        let text = format!("{mark} {id:<10} {detail}");
        self.printer.remark_in_prose(text.trim_end(), STEP_INDENT);
    }

    /// The last event.
    pub(crate) fn result(&self, changed: &[&str], error: Option<&Failure>) {
        self.verdict(changed, &[], error);
    }

    /// The last event of an installation; `left_out` are the options that left out a missing part.
    pub(crate) fn verdict(&self, changed: &[&str], left_out: &[&str], error: Option<&Failure>) {
        if self.json {
            self.printer.json_line(&Event::Result {
                ok: error.is_none(),
                changed,
                left_out,
                error: error.map(|failure| ErrorBody {
                    kind: failure.kind,
                    message: &failure.message,
                    hint: self.printer.hint(failure).unwrap_or_default(),
                    exit: failure.kind.exit_status(),
                }),
            });
        }
    }

    fn is_time(&self, done: u64, total: Option<u64>) -> bool {
        let mut last = self.last_event.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = total == Some(done) || last.is_none_or(|last| last.elapsed() >= EVENT_EVERY);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}

impl Observer for Events<'_> {
    fn step(&self, id: StepId, state: StepState, detail: &str) {
        self.ended(id.as_str(), state, detail);
    }

    fn foresee(&self, fault: &Check) {
        let fix = fault.fix.as_ref().map_or_else(String::new, |fix| format!("; {fix}"));
        let text = format!("after this, routing will still not work: {}{fix}", fault.detail);
        self.printer.warning(&text);
    }
}

impl Progress for Events<'_> {
    fn begin(&self, id: &str, label: &str, total: Option<u64>) {
        if self.json {
            self.printer.json_line(&Event::Progress { id, done: 0, total });
        } else if let Some(line) = self.printer.bars().begin(label, total) {
            self.printer.remark_in_prose(&format!("{id}: {line}"), INDENT);
        }
    }

    fn advance(&self, id: &str, done: u64, total: Option<u64>) {
        if !self.json {
            self.printer.bars().advance(done, total);
        } else if self.is_time(done, total) {
            self.printer.json_line(&Event::Progress { id, done, total });
        }
    }

    fn finish(&self, _id: &str) {
        self.printer.bars().clear();
    }

    fn note(&self, id: &str, text: &str) {
        self.printer.remark_in_prose(&format!("{id}: {text}"), INDENT);
    }

    fn wait(&self, id: &str, what: &str) {
        let line = if self.json {
            Some(what.to_owned())
        } else {
            self.printer.bars().wait(what)
        };
        if let Some(line) = line {
            self.printer.remark_in_prose(&format!("{id}: {line}"), INDENT);
        }
    }
}
