//! The engine's activity, shared by gateway and supervisor, so that a busy engine does not count as hung.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The interval at which the end of all answers is checked.
const POLL: Duration = Duration::from_millis(10);

/// Whether the engine may be silent because it is busy. Clones share the same record.
///
/// A single-threaded engine (docs/facts.md section 5) answers no health probe while it generates, and it continues to
/// generate when its client has left. So each request states how long the engine may be silent over it. The engine
/// counts as busy until it answers, or until that time has passed since its last sign of life. New requests do not
/// extend the time.
#[derive(Clone, Debug, Default)]
pub struct EngineActivity {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    generation: u64,
    outstanding: usize,
    /// The number of open requests whose client waits for the answer.
    awaited: usize,
    silent_since: Option<Instant>,
    patience: Duration,
}

impl EngineActivity {
    /// Records that a request is sent to the engine, which may be silent over it for `patience`.
    #[must_use]
    pub fn begin(&self, patience: Duration) -> Busy {
        let mut inner = self.lock();
        inner.outstanding += 1;
        inner.awaited += 1;
        inner.patience = inner.patience.max(patience);
        inner.silent_since.get_or_insert_with(Instant::now);
        Busy {
            activity: self.clone(),
            generation: inner.generation,
            is_awaited: true,
            finished: false,
        }
    }

    /// Resolves when no client waits for an answer.
    pub async fn answered(&self) {
        while self.lock().awaited > 0 {
            sleep(POLL).await;
        }
    }

    /// Whether the engine is busy and may be silent now.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let inner = self.lock();
        inner.silent_since.is_some_and(|since| since.elapsed() < inner.patience)
    }

    /// Records a sign of life that belongs to no request: the engine answered a probe.
    pub fn alive(&self) {
        self.lock().heard();
    }

    /// Forgets all requests, because a new engine started.
    pub fn reset(&self) {
        let mut inner = self.lock();
        *inner = Inner {
            generation: inner.generation + 1,
            ..Inner::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn heard(&mut self) {
        if self.outstanding == 0 {
            self.silent_since = None;
            self.patience = Duration::ZERO;
        } else {
            self.silent_since = Some(Instant::now());
        }
    }
}

/// A request on which the engine works. If this is dropped before the end (the client left, the deadline passed), the
/// engine is assumed to continue its work.
#[derive(Debug)]
pub struct Busy {
    activity: EngineActivity,
    generation: u64,
    is_awaited: bool,
    finished: bool,
}

impl Busy {
    /// Records that the client has left while the engine continues to work.
    pub fn abandon(&mut self) {
        let mut inner = self.activity.lock();
        if inner.generation == self.generation && std::mem::take(&mut self.is_awaited) {
            inner.awaited -= 1;
        }
    }

    /// Records that a part of the answer arrived, which restarts the time.
    pub fn progress(&self) {
        let mut inner = self.activity.lock();
        if inner.generation == self.generation {
            inner.heard();
        }
    }

    /// Records that the whole answer, or the end of the connection, arrived.
    pub fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut inner = self.activity.lock();
        if inner.generation == self.generation {
            inner.outstanding -= 1;
            inner.awaited -= usize::from(self.is_awaited);
            if self.finished {
                inner.heard();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_request_excuses_silence_until_its_patience_is_used_up() {
        let activity = EngineActivity::default();
        assert!(!activity.is_busy());
        let request = activity.begin(PATIENCE);
        tokio::time::advance(PATIENCE / 2).await;
        assert!(activity.is_busy());
        tokio::time::advance(PATIENCE).await;
        assert!(!activity.is_busy());
        request.finish();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_the_excuse_and_an_abandoned_request_does_not() {
        let activity = EngineActivity::default();
        activity.begin(PATIENCE).finish();
        assert!(!activity.is_busy());
        drop(activity.begin(PATIENCE));
        assert!(activity.is_busy());
        activity.alive();
        assert!(!activity.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_keep_coming_do_not_hide_a_hung_engine() {
        let activity = EngineActivity::default();
        for _ in 0..4 {
            drop(activity.begin(PATIENCE));
            tokio::time::advance(PATIENCE / 3).await;
        }
        assert!(!activity.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_of_a_streamed_answer_renews_the_patience() {
        let activity = EngineActivity::default();
        let request = activity.begin(PATIENCE);
        for _ in 0..4 {
            tokio::time::advance(PATIENCE * 2 / 3).await;
            request.progress();
        }
        tokio::time::advance(PATIENCE / 2).await;
        assert!(activity.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn only_clients_that_stay_await_answers() {
        let activity = EngineActivity::default();
        let (mut left, stays) = (activity.begin(PATIENCE), activity.begin(PATIENCE));
        left.abandon();
        let answered = tokio::time::timeout(PATIENCE, activity.answered());
        assert!(answered.await.is_err());
        stays.finish();
        activity.answered().await;
        drop(left);
        activity.answered().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_engine_owes_nothing_for_the_last_one() {
        let activity = EngineActivity::default();
        let old = activity.begin(PATIENCE);
        activity.reset();
        assert!(!activity.is_busy());
        let new = activity.begin(PATIENCE);
        drop(old);
        new.finish();
        assert!(!activity.is_busy());
    }
}
