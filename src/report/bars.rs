//! Progress on standard error: one bar or spinner on a terminal, one line elsewhere.

use std::fmt::Write;
use std::panic;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use console::{measure_text_width, truncate_str};
use gem_setup::environment::Environment;
use gem_setup::progress::{NOTICEABLE, Size};
use gem_setup::text::printable_line;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::margin;
use super::speed::{Speed, TimeLeft};

const TICK: Duration = Duration::from_millis(100);
/// `{wide_bar}` takes the width that the other fields leave free.
const BAR: &str = "{spinner} {msg} [{wide_bar}] {done}/{total} {speed} {left}";
/// The same for a terminal of less than [`WIDE`] columns.
const NARROW: &str = "{spinner} {wide_msg} {done}/{total}";
/// The columns that [`BAR`] needs.
const WIDE: u16 = 80;
/// The columns of [`BAR`] without its label, at most.
const BESIDES: u16 = 55;
/// The columns of [`SPINNER`] without its text, at most, with the margin of the terminal.
const BESIDES_SPINNER: usize = 12;
const COUNT: &str = "{spinner} {wide_msg} {done} {speed}";
const SPINNER: &str = "{spinner} {wide_msg} {waited}";
/// A shorter wait is shown without its time.
const SHORT: Duration = Duration::from_secs(3);

/// The bar or spinner on the screen. Clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bars {
    is_animated: bool,
    breaks_lines: bool,
    shown: Arc<Mutex<Option<Shown>>>,
}

#[derive(Debug)]
struct Shown {
    bar: ProgressBar,
    label: String,
    /// Whether a wait is shown in place of the label.
    is_waiting: bool,
    speed: Arc<Mutex<Speed>>,
    /// The columns of the terminal that the style was made for.
    columns: u16,
}

impl Bars {
    /// Animated bars on the screen of `environment` if `is_animated`, else lines.
    pub(super) fn new(is_animated: bool, environment: &Environment) -> Self {
        Self {
            is_animated,
            breaks_lines: margin::breaks_lines(environment),
            shown: Arc::default(),
        }
    }

    /// Shows a download of `total` bytes, if known. Returns the line to print if bars are not animated.
    pub(super) fn begin(&self, label: &str, total: Option<u64>) -> Option<String> {
        if self.is_animated {
            match total {
                Some(_) => self.show(label, label, total),
                // Without a number of bytes, the text must show that a transfer has begun.
                None => self.show(label, &format!("getting {label}"), total),
            }
            return None;
        }
        let size = total.map_or_else(String::new, |total| format!(" ({})", Size(total)));
        Some(format!("getting {label}{size}"))
    }

    /// Shows a bar or spinner with `text`, and with `label` once bytes arrive.
    fn show(&self, label: &str, text: &str, total: Option<u64>) {
        let bar = ProgressBar::with_draw_target(total, margin::target(self.breaks_lines));
        let (speed, columns) = (Arc::default(), margin::columns());
        bar.set_style(style(total.map_or(SPINNER, |_| bar_for(columns, label)), &speed));
        bar.set_message(total.map_or_else(|| shortened(text, columns), |_| printable_line(text)));
        // The one before would stay on the screen.
        self.clear();
        bar.enable_steady_tick(TICK);
        *self.lock() = Some(Shown {
            bar,
            label: printable_line(label),
            is_waiting: false,
            speed,
            columns,
        });
    }

    /// Shows a wait until the work continues or ends. Returns the line to print if bars are not animated.
    pub(super) fn wait(&self, what: &str) -> Option<String> {
        if !self.is_animated {
            return Some(what.to_owned());
        }
        if let Some(shown) = self.lock().as_mut() {
            shown.is_waiting = true;
            shown.bar.set_style(style(SPINNER, &shown.speed));
            shown.bar.set_message(shortened(what, margin::columns()));
            shown.bar.reset_elapsed();
            return None;
        }
        self.show(what, what, None);
        None
    }

    /// Shows `what` once the wait is noticeable and until the result is dropped, if bars are animated. Unlike
    /// [`gem_setup::progress::waiting`], it also works while the thread is blocked.
    pub(super) fn meanwhile(&self, what: &str) -> Meanwhile {
        let (end, ended) = channel();
        let (bars, what) = (self.clone(), what.to_owned());
        let shown = move || {
            if ended.recv_timeout(NOTICEABLE) == Err(RecvTimeoutError::Timeout) {
                bars.wait(&what);
            }
        };
        // Without a thread, the wait is not shown.
        let thread = self.is_animated.then(|| thread::Builder::new().spawn(shown).ok());
        Meanwhile {
            end: Some(end),
            thread: thread.flatten(),
            bars: self.clone(),
        }
    }

    /// Shows that `done` bytes are in place.
    pub(super) fn advance(&self, done: u64, total: Option<u64>) {
        let mut shown = self.lock();
        let Some(Shown {
            bar,
            label,
            is_waiting,
            speed,
            columns,
        }) = shown.as_mut()
        else {
            return;
        };
        let now = margin::columns();
        if bar.length() != total || *is_waiting || bar.position() == 0 || *columns != now {
            (*is_waiting, *columns) = (false, now);
            bar.set_message(label.clone());
            bar.set_style(style(total.map_or(COUNT, |_| bar_for(now, label)), speed));
        }
        if let Some(total) = total {
            bar.set_length(total.max(done));
        }
        speed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(Instant::now(), done);
        bar.set_position(done);
    }

    /// Removes the bar from the screen.
    pub(crate) fn clear(&self) {
        if let Some(shown) = self.lock().take() {
            shown.bar.finish_and_clear();
        }
    }

    /// Takes the bar off the screen where a panic may hold it.
    fn clear_in_panic(&self) {
        let shown = match self.shown.try_lock() {
            Ok(mut shown) => shown.take(),
            Err(TryLockError::Poisoned(shown)) => shown.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(shown) = shown {
            shown.bar.finish_and_clear();
        }
    }

    /// Takes the bar off the screen before the message of a panic, which would continue its line.
    pub(super) fn clear_before_panics(&self) {
        let (bars, usual) = (self.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            bars.clear_in_panic();
            usual(info);
        }));
    }

    /// Runs `print` while the bar is hidden.
    pub(super) fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        match &*self.lock() {
            Some(shown) => shown.bar.suspend(print),
            None => print(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait, shown until this is dropped.
#[derive(Debug)]
pub(crate) struct Meanwhile {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bars: Bars,
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
            self.bars.clear();
        }
    }
}

/// `text` as it fits beside a spinner and its time on a terminal of `columns`; an ellipsis shows that something is missing.
fn shortened(text: &str, columns: u16) -> String {
    let room = usize::from(columns).saturating_sub(BESIDES_SPINNER);
    truncate_str(&printable_line(text), room, "…").into_owned()
}

/// The template of a bar named `label` on a terminal of `columns`.
fn bar_for(columns: u16, label: &str) -> &'static str {
    let is_long = measure_text_width(label) > usize::from(columns.saturating_sub(BESIDES));
    if columns < WIDE || is_long { NARROW } else { BAR }
}

fn style(template: &str, speed: &Arc<Mutex<Speed>>) -> ProgressStyle {
    let per_second = |speed: &Mutex<Speed>| speed.lock().unwrap_or_else(PoisonError::into_inner).per_second();
    let (for_speed, for_time) = (Arc::clone(speed), Arc::clone(speed));
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("done", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}", Size(state.pos()));
        })
        .with_key("total", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}", Size(state.len().unwrap_or_default()));
        })
        .with_key("speed", move |_: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{}/s", Size::of(per_second(&for_speed)));
        })
        .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
            let bytes = state.len().unwrap_or_default().saturating_sub(state.pos());
            let left = TimeLeft {
                bytes,
                per_second: per_second(&for_time),
            };
            let _ = write!(out, "{left}");
        })
        .with_key("waited", |state: &ProgressState, out: &mut dyn Write| {
            let waited = state.elapsed();
            if waited >= SHORT {
                let _ = write!(out, "{} s", waited.as_secs());
            }
        })
        .progress_chars("=> ")
}
