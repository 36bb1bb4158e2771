//! The log of hosted models' failures: a line for the first failure of each kind, then a count.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::text::one_line;

/// The number of failures that are told apart. Clients name the models.
const KNOWN: usize = 256;
/// The name under which failures beyond that number are counted.
const OTHERS: &str = "other models";
/// The time after which a failure makes room for another one.
const OLD: Duration = Duration::from_secs(3600);
/// The time after which a failure that was counted is logged again, if the model has answered in between or if the request itself is
/// at fault.
const QUIET: Duration = Duration::from_secs(60);

/// The model, and the status of its response; `None` if it gave none.
type Kind = (String, Option<u16>);

/// The hosted models' failures since their last lines in the log.
#[derive(Debug, Default)]
pub(super) struct ModelFailures {
    known: Mutex<HashMap<Kind, Entry>>,
    /// The number of entries that an answer would end.
    open: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    logged: Instant,
    /// The number of failures since then.
    counted: u64,
    /// Whether an answer of the model ends this failure, and none has come.
    is_open: bool,
}

impl ModelFailures {
    /// Records that `model` failed with `status` and this message.
    pub(super) fn failed(&self, model: &str, status: Option<u16>, message: &str) {
        let model = one_line(model);
        let what = match status {
            Some(status) => format!("the upstream answered {status} for `{model}`"),
            None => format!("the upstream gave no response for `{model}`"),
        };
        let message = message.lines().next().unwrap_or_default();
        let what = match what.starts_with(message) {
            true => what,
            false => format!("{what}: {message}"),
        };
        let text = match self.count((model, status), Instant::now()) {
            None => return tracing::debug!("{what}"),
            Some(0) => format!("{what}; further failures of this kind are counted"),
            Some(more) => format!("{what}; since the last such line there were {more} more"),
        };
        match status {
            Some(..500) => tracing::info!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }

    /// Whether an answer would end a failure.
    pub(super) fn has_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Records that `model` answered.
    pub(super) fn answered(&self, model: &str) {
        if self.has_open()
            && let Some(failures) = self.end(&one_line(model))
        {
            tracing::info!("the upstream's model `{model}` answers again; failures in a row: {failures}");
        }
    }

    /// Counts a failure. Returns the number of failures that were only counted before it, if it is to be logged.
    fn count(&self, mut kind: Kind, now: Instant) -> Option<u64> {
        let mut known = self.known();
        if known.len() >= KNOWN && !known.contains_key(&kind) {
            known.retain(|_, entry| now.saturating_duration_since(entry.logged) < OLD);
            let open = known.values().filter(|entry| entry.is_open).count();
            self.open.store(open, Ordering::Relaxed);
            if known.len() >= KNOWN {
                OTHERS.clone_into(&mut kind.0);
            }
        }
        let ends = !kind.1.is_some_and(is_the_request_s);
        if let Some(entry) = known.get_mut(&kind) {
            if entry.is_open || now.saturating_duration_since(entry.logged) < QUIET {
                entry.counted += 1;
                return None;
            }
            self.open.fetch_add(usize::from(ends), Ordering::Relaxed);
            entry.logged = now;
            entry.is_open = ends;
            return Some(std::mem::take(&mut entry.counted));
        }
        self.open.fetch_add(usize::from(ends), Ordering::Relaxed);
        let entry = Entry {
            logged: now,
            counted: 0,
            is_open: ends,
        };
        known.insert(kind, entry);
        Some(0)
    }

    /// Ends the open failures of `model`, and returns their number.
    fn end(&self, model: &str) -> Option<u64> {
        let mut known = self.known();
        let open = known
            .iter_mut()
            .filter(|((name, _), entry)| name == model && entry.is_open);
        let counts = open.map(|(_, entry)| {
            entry.is_open = false;
            self.open.fetch_sub(1, Ordering::Relaxed);
            1 + std::mem::take(&mut entry.counted)
        });
        counts.reduce(|all, more| all + more)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Kind, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `status` says something about the request or its key, and nothing about the model.
const fn is_the_request_s(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 404 | 429 | 499)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_of_a_kind_is_logged_and_the_others_counted_until_an_answer() {
        let failures = ModelFailures::default();
        let start = Instant::now();
        let count = |model: &str, status| failures.count((model.to_owned(), status), start);
        assert_eq!([(); 3].map(|()| count("pro", Some(503))), [Some(0), None, None]);
        assert_eq!(count("pro", Some(429)), Some(0));
        assert_eq!(count("flash", Some(503)), Some(0));
        assert_eq!(count("pro", None), Some(0));
        assert_eq!(failures.end("pro"), Some(5));
        assert_eq!(failures.end("pro"), None);
        assert_eq!(count("pro", Some(503)), None, "it may fail and answer in turns");
        let later = start + QUIET;
        assert_eq!(failures.count(("pro".to_owned(), Some(503)), later), Some(1));
        assert_eq!((failures.end("pro"), failures.end("flash")), (Some(1), Some(1)));
        assert_eq!(failures.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_wrong_request_does_not_end_with_another_one_s_answer() {
        let failures = ModelFailures::default();
        let start = Instant::now();
        let count = |after| failures.count(("pro".to_owned(), Some(403)), start + after);
        assert_eq!((count(Duration::ZERO), count(Duration::ZERO)), (Some(0), None));
        assert_eq!(failures.end("pro"), None);
        assert_eq!((count(Duration::from_secs(1)), count(QUIET)), (None, Some(2)));
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        let failures = ModelFailures::default();
        let start = Instant::now();
        let count = |number: usize, now| failures.count((number.to_string(), Some(503)), now);
        let logged: Vec<_> = (0..3 * KNOWN).filter_map(|number| count(number, start)).collect();
        assert_eq!(logged, [0; KNOWN + 1]);
        assert_eq!(failures.known().len(), KNOWN + 1);
        assert_eq!(count(3 * KNOWN, start + OLD), Some(0), "old ones make room");
        assert_eq!(failures.known().len(), 1);
        assert_eq!(failures.open.load(Ordering::Relaxed), failures.known().len());
    }
}
