//! Progress on standard error: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One piece of work's progress.
#[derive(Debug)]
pub(super) struct Bars {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bar: Option<ProgressBar>,
    label: String,
    last_line: Instant,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                bar: None,
                label: String::new(),
                last_line: Instant::now(),
            }),
        }
    }

    pub(super) fn begin(&self, label: &str, total: Option<u64>) {
        let mut state = self.lock();
        label.clone_into(&mut state.label);
        state.last_line = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total.unwrap_or(0));
            bar.set_style(style(total.is_some()));
            bar.set_message(label.to_owned());
            state.bar = Some(bar);
        }
    }

    /// Shows the progress; gives the line to print where there is no bar and it is time for one.
    pub(super) fn advance(&self, done: u64, total: Option<u64>) -> Option<String> {
        let mut state = self.lock();
        if let Some(bar) = &state.bar {
            if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
                bar.set_length(total.max(done));
                bar.set_style(style(true));
            }
            bar.set_position(done);
            return None;
        }
        if state.last_line.elapsed() < LINE_EVERY {
            return None;
        }
        state.last_line = Instant::now();
        let of = total.map_or_else(String::new, |total| format!(" of {}", HumanBytes(total)));
        Some(format!("{}: {}{of}", state.label, HumanBytes(done)))
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = self.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Runs `print` with the bar out of the way.
    pub(super) fn around(&self, print: impl FnOnce()) {
        match &self.lock().bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "  {msg} [{bar:30}] {bytes} / {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "  {msg} {spinner} {bytes}, {bytes_per_sec}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
