//! A scratch home with its own mirror and catalog, and runs of gem-setup on it.

use std::thread;
use std::time::{Duration, Instant};

mod bare;
mod home;
#[cfg(target_os = "linux")]
mod mount;
mod run;
mod stand_in;
#[cfg(unix)]
mod terminal;
mod tree;

pub(crate) use bare::Bare;
pub(crate) use home::{Companion, Home, free_port, is_default_port_taken};
#[cfg(target_os = "linux")]
pub(crate) use mount::Mount;
pub(crate) use run::{Gem, Run, finish};
pub(crate) use stand_in::{executable, program};
#[cfg(unix)]
pub(crate) use terminal::{on_a_terminal, on_a_terminal_of, resize};
pub(crate) use tree::{OF_THE_SERVER, assert_same, tree};

/// The model that Gemini CLI requires.
pub(crate) const MODEL: &str = "gemma3-1b-gpu-custom";
/// One of the two pages of terms in the catalogs of the tests.
pub(crate) const TERMS: &str = "https://ai.google.dev/gemma/terms";

/// Fails unless `text` contains all `parts`.
#[track_caller]
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

/// Waits until `holds` is true; `what` describes it.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The peak memory of a process in KiB, if the system reports it.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
