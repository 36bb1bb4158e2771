//! Ctrl-C and similar signals: the first ends the current work, a second ends the program at once. Ctrl-Z takes progress off the screen,
//! and a question is shown again when the program continues.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use gem_platform::process::{ShutdownSignals, StopSignals, stop};
use gem_setup::error::Kind;
use tokio::sync::watch;

use super::{Bars, Printer};

/// The signals of this process, handled on a separate thread: blocking work does not delay them.
#[derive(Debug)]
struct Signals {
    /// The first signal, for work that waits for it.
    first: watch::Sender<Option<&'static str>>,
    /// Whether the server handles the signals itself.
    is_served: AtomicBool,
    /// Whether a question is on the screen: the first signal then ends the program.
    is_question: AtomicBool,
    /// The question to show again after Ctrl-Z; empty if there is none.
    question: Mutex<String>,
    bars: Bars,
}

/// The time for the current work to notice a signal.
const PATIENCE: Duration = Duration::from_secs(5);

static SIGNALS: OnceLock<Signals> = OnceLock::new();

/// The kind of failure that `signal` ends a command with.
pub(crate) fn kind_of(signal: &str) -> Kind {
    match signal {
        "SIGINT" | "CTRL_C" | "CTRL_BREAK" => Kind::Interrupted,
        _ => Kind::Terminated,
    }
}

/// Waits for the first signal. While nothing waits for it, a signal ends the program at once.
pub(crate) async fn first(printer: &Printer) -> &'static str {
    let mut receiver = follow(printer).first.subscribe();
    match receiver.wait_for(Option::is_some).await.map(|signal| *signal) {
        Ok(Some(signal)) => signal,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// From now on a signal ends the program at once, until [`first`] is awaited.
pub(crate) fn end_at_once(printer: &Printer) {
    follow(printer);
}

/// Leaves the signals to the server, which drains its requests.
pub(crate) fn leave_to_server() {
    if let Some(signals) = SIGNALS.get() {
        signals.is_served.store(true, Ordering::Relaxed);
    }
}

/// Until this is dropped, a signal ends the program at once: a question blocks on input and cannot react otherwise.
#[derive(Debug)]
pub(super) struct Question(&'static Signals);

pub(super) fn during_a_question(printer: &Printer) -> Question {
    let signals = follow(printer);
    signals.is_question.store(true, Ordering::Relaxed);
    Question(signals)
}

/// Until this is dropped, `question` is shown again whenever the program continues after a stop.
#[derive(Debug)]
pub(super) struct Repeated;

pub(super) fn repeated(question: &str) -> Repeated {
    set_question(question);
    Repeated
}

impl Drop for Repeated {
    fn drop(&mut self) {
        set_question("");
    }
}

fn set_question(question: &str) {
    if let Some(signals) = SIGNALS.get() {
        question.clone_into(&mut signals.question());
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.0.is_question.store(false, Ordering::Relaxed);
    }
}

fn follow(printer: &Printer) -> &'static Signals {
    let mut is_new = false;
    let signals = SIGNALS.get_or_init(|| {
        is_new = true;
        Signals {
            first: watch::channel(None).0,
            is_served: AtomicBool::new(false),
            is_question: AtomicBool::new(false),
            question: Mutex::default(),
            bars: printer.bars().clone(),
        }
    });
    if is_new {
        // Without the thread signals have their default effect.
        let _ = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(|| signals.run());
    }
    signals
}

impl Signals {
    fn run(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = runtime.map(|runtime| runtime.block_on(async { tokio::join!(self.listen(), self.listen_to_stops()) }));
    }

    async fn listen_to_stops(&self) {
        let Ok(mut signals) = StopSignals::listen() else {
            return;
        };
        loop {
            if signals.recv().await {
                self.bars.around(stop);
            } else {
                super::printer::ask_again(&self.question());
            }
        }
    }

    fn question(&self) -> MutexGuard<'_, String> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn listen(&self) {
        let Ok(mut signals) = ShutdownSignals::listen() else {
            return;
        };
        loop {
            let signal = signals.recv().await;
            if self.is_served.load(Ordering::Relaxed) {
                continue;
            }
            let is_question = self.is_question.load(Ordering::Relaxed);
            let is_awaited = self.first.receiver_count() > 0 && self.first.borrow().is_none();
            if is_question || !is_awaited {
                self.exit(signal, is_question);
            }
            self.first.send_replace(Some(signal));
            tokio::select! {
                () = self.first.closed() => {}
                _ = signals.recv() => self.exit(signal, false),
                // The work may be blocked and unable to notice.
                () = tokio::time::sleep(PATIENCE) => self.exit(signal, false),
            }
        }
    }

    fn exit(&self, signal: &str, is_question: bool) -> ! {
        self.bars.clear();
        if is_question {
            super::printer::end_line();
        }
        std::process::exit(kind_of(signal).exit_status().into())
    }
}
