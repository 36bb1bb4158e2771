//! The current availability of each model (docs/facts.md section 4).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{FailureKind, ModelFailure, ModelName};

/// How long a model without capacity is not asked.
pub const CAPACITY_RECOVERY: Duration = Duration::from_secs(30);
/// How long a model is asked once per request after a request has used all its attempts: clients retry by themselves.
const SPENT_FOR: Duration = Duration::from_secs(60);
/// How long a failure without a known end is reported, unless it ends earlier by its nature.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// Why a model must not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The quota is used up.
    Quota,
    /// The upstream had no capacity, or did not know the model.
    Capacity,
    /// The one additional attempt of this turn has been made.
    RetryConsumed,
    /// A person chose another model for the session.
    SetAside,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::RetryConsumed => "already retried in this turn",
            Self::SetAside => "set aside for the session",
        })
    }
}

/// Why a model is terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The quota is used up. The model is unavailable until the quota is renewed, if that time is known, or until it
    /// answers.
    Quota {
        /// When the upstream will answer again, if it has said so.
        until: Option<Instant>,
    },
    /// The model lacks capacity. It is available again after [`CAPACITY_RECOVERY`].
    Capacity,
    /// A person chose another model for the session. The model is unavailable until it answers.
    SetAside,
}

impl Terminal {
    /// When the state ends, if it began at `since` and its end is known.
    fn end(self, since: Instant) -> Option<Instant> {
        match self {
            Self::Quota { until } => until,
            Self::Capacity => Some(since + CAPACITY_RECOVERY),
            Self::SetAside => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Terminal { why: Terminal, since: Instant },
    StickyRetry { consumed: bool },
}

impl State {
    fn is_over(self, now: Instant) -> bool {
        match self {
            Self::Terminal { why, since } => why.end(since).is_some_and(|end| now >= end),
            Self::StickyRetry { .. } => false,
        }
    }

    const fn unavailable(self) -> Option<Unavailable> {
        match self {
            Self::Terminal { why, .. } => Some(match why {
                Terminal::Quota { .. } => Unavailable::Quota,
                Terminal::Capacity => Unavailable::Capacity,
                Terminal::SetAside => Unavailable::SetAside,
            }),
            Self::StickyRetry { consumed: true } => Some(Unavailable::RetryConsumed),
            Self::StickyRetry { consumed: false } => None,
        }
    }
}

/// A failure after which consent to another model was requested. The model may still be asked.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    failure: ModelFailure,
    until: Instant,
}

impl Told {
    /// `failure`, from now on; `None` if its end is beyond the clock.
    pub(crate) fn of(failure: &ModelFailure) -> Option<Self> {
        let passes = failure.lacks_capacity || matches!(failure.kind, FailureKind::Transient | FailureKind::Unknown);
        let usual = if passes { CAPACITY_RECOVERY } else { TOLD_FOR };
        Some(Self {
            failure: failure.clone(),
            until: Instant::now().checked_add(failure.delay.unwrap_or(usual))?,
        })
    }

    /// The failure, with the time that is left of its delay; `None` once it is over.
    pub(crate) fn current(&self) -> Option<ModelFailure> {
        let left = self.until.checked_duration_since(Instant::now())?;
        let failure = self.failure.clone();
        let delay = failure.delay.map(|_| left);
        (!left.is_zero()).then_some(ModelFailure { delay, ..failure })
    }
}

/// The health of every model in one session, shared by all requests. A model without a record is available.
#[derive(Debug, Default)]
pub struct ModelAvailability {
    states: Mutex<HashMap<ModelName, State>>,
    told: Mutex<HashMap<ModelName, Told>>,
    /// When a request last used all its attempts at a model.
    spent: Mutex<HashMap<ModelName, Instant>>,
    /// Another record that gets the same failures and answers.
    reader: Option<Arc<ModelAvailability>>,
}

impl ModelAvailability {
    /// A record in which every model is available.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A record in which every model is available, and whose failures and answers `reader` gets too.
    #[must_use]
    pub fn reporting_to(reader: Arc<Self>) -> Self {
        Self {
            reader: Some(reader),
            ..Self::default()
        }
    }

    /// Why `model` must not be asked; `None` if it is available.
    #[must_use]
    pub fn unavailable(&self, model: &ModelName) -> Option<Unavailable> {
        current(&mut self.states(), model).and_then(State::unavailable)
    }

    /// Whether every model is available without a recorded failure.
    #[must_use]
    pub fn is_untroubled(&self) -> bool {
        self.states().is_empty()
    }

    /// Makes `model` unavailable for the time that `why` implies.
    pub fn mark_terminal(&self, model: &ModelName, why: Terminal) {
        let since = Instant::now();
        self.states().insert(model.clone(), State::Terminal { why, since });
        if let Some(reader) = &self.reader {
            reader.mark_terminal(model, why);
        }
    }

    /// Allows `model` one additional attempt per turn. A terminal state stays, and so does an attempt already made.
    pub fn mark_sticky_retry(&self, model: &ModelName) {
        let mut states = self.states();
        if current(&mut states, model).is_none() {
            states.insert(model.clone(), State::StickyRetry { consumed: false });
        }
    }

    /// Uses the additional attempt of `model`; `true` if it had one.
    pub fn consume_sticky_retry(&self, model: &ModelName) -> bool {
        let mut states = self.states();
        match current(&mut states, model) {
            Some(State::StickyRetry { consumed: false }) => {
                states.insert(model.clone(), State::StickyRetry { consumed: true });
                true
            }
            _ => false,
        }
    }

    /// Clears the state of `model` after an answer.
    pub fn mark_healthy(&self, model: &ModelName) {
        self.states().remove(model);
        self.told().remove(model);
        self.spent().remove(model);
        if let Some(reader) = &self.reader {
            reader.mark_healthy(model);
        }
    }

    /// Records a failure of `model` without making the model unavailable.
    pub fn note(&self, model: &ModelName, failure: &ModelFailure) {
        if let Some(told) = Told::of(failure) {
            self.told().insert(model.clone(), told);
        }
        if let Some(reader) = &self.reader {
            reader.note(model, failure);
        }
    }

    /// The recorded failure of `model`, with the rest of its delay; `None` after the delay.
    #[must_use]
    pub fn noted(&self, model: &ModelName) -> Option<ModelFailure> {
        self.told().get(model)?.current()
    }

    /// Records that a request has used all its attempts at `model`.
    pub(super) fn spend(&self, model: &ModelName) {
        self.spent().insert(model.clone(), Instant::now());
    }

    /// Whether the attempts at `model` have been used, so that a request asks it only once.
    pub(super) fn is_spent(&self, model: &ModelName) -> bool {
        self.spent().get(model).is_some_and(|since| since.elapsed() < SPENT_FOR)
    }

    /// The kind of failure that makes `model` unavailable; `None` if it is available.
    pub(super) fn cause(&self, model: &ModelName) -> Option<FailureKind> {
        let why = self.unavailable(model)?;
        let noted = self.noted(model).map(|failure| failure.kind);
        Some(noted.unwrap_or(match why {
            Unavailable::RetryConsumed => FailureKind::Transient,
            Unavailable::Quota | Unavailable::Capacity | Unavailable::SetAside => FailureKind::Terminal,
        }))
    }

    /// Begins a new turn: every model may make its additional attempt again.
    pub fn new_turn(&self) {
        for state in self.states().values_mut() {
            if let State::StickyRetry { consumed } = state {
                *consumed = false;
            }
        }
    }

    /// Makes every model available. Recorded failures stay.
    pub fn reset(&self) {
        self.states().clear();
    }

    /// Every model with a state or a recorded failure, ordered by name.
    pub(super) fn troubled(&self) -> BTreeSet<ModelName> {
        let held: Vec<_> = self.states().keys().cloned().collect();
        self.told().keys().cloned().chain(held).collect()
    }

    /// When `model` will be available; `None` if it is available or the time is unknown.
    pub(super) fn available_in(&self, model: &ModelName) -> Option<Duration> {
        match current(&mut self.states(), model)? {
            State::Terminal { why, since } => why.end(since)?.checked_duration_since(Instant::now()),
            State::StickyRetry { .. } => None,
        }
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<ModelName, Instant>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<ModelName, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn states(&self) -> MutexGuard<'_, HashMap<ModelName, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of `model`; an expired state is removed first.
fn current(states: &mut HashMap<ModelName, State>, model: &ModelName) -> Option<State> {
    let state = *states.get(model)?;
    if state.is_over(Instant::now()) {
        states.remove(model);
        return None;
    }
    Some(state)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn name(text: &str) -> ModelName {
        text.parse().unwrap()
    }

    #[test]
    fn a_model_nothing_is_known_of_is_available() {
        assert_eq!(ModelAvailability::new().unavailable(&name("m")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn terminal_for_quota_lasts_until_reset() {
        let availability = ModelAvailability::new();
        availability.mark_terminal(&name("m"), Terminal::Quota { until: None });
        advance(Duration::from_secs(1_000_000)).await;
        availability.new_turn();
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::Quota));
        availability.reset();
        assert_eq!(availability.unavailable(&name("m")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn terminal_for_quota_ends_when_the_upstream_said_it_would() {
        let availability = ModelAvailability::new();
        let until = Some(Instant::now() + Duration::from_secs(3600));
        availability.mark_terminal(&name("m"), Terminal::Quota { until });
        advance(Duration::from_secs(3599)).await;
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::Quota));
        advance(Duration::from_secs(1)).await;
        assert_eq!(availability.unavailable(&name("m")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn terminal_for_capacity_recovers_after_30_s() {
        let availability = ModelAvailability::new();
        availability.mark_terminal(&name("m"), Terminal::Capacity);
        advance(Duration::from_millis(29_999)).await;
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::Capacity));
        advance(Duration::from_millis(1)).await;
        assert_eq!(availability.unavailable(&name("m")), None);
    }

    #[test]
    fn sticky_retry_is_one_more_try_per_turn() {
        let availability = ModelAvailability::new();
        availability.mark_sticky_retry(&name("m"));
        assert_eq!(availability.unavailable(&name("m")), None);
        assert!(availability.consume_sticky_retry(&name("m")));
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::RetryConsumed));
        assert!(!availability.consume_sticky_retry(&name("m")));
    }

    #[test]
    fn a_consumed_sticky_retry_stays_consumed_when_marked_again_in_the_same_turn() {
        let availability = ModelAvailability::new();
        availability.mark_sticky_retry(&name("m"));
        availability.consume_sticky_retry(&name("m"));
        availability.mark_sticky_retry(&name("m"));
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::RetryConsumed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_state_is_never_overwritten_by_a_transient_one() {
        for why in [Terminal::Quota { until: None }, Terminal::Capacity, Terminal::SetAside] {
            let availability = ModelAvailability::new();
            availability.mark_terminal(&name("m"), why);
            availability.mark_sticky_retry(&name("m"));
            assert!(!availability.consume_sticky_retry(&name("m")));
            assert!(availability.unavailable(&name("m")).is_some(), "{why:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_capacity_failure_that_is_over_makes_room_for_a_sticky_retry() {
        let availability = ModelAvailability::new();
        availability.mark_terminal(&name("m"), Terminal::Capacity);
        advance(CAPACITY_RECOVERY).await;
        availability.mark_sticky_retry(&name("m"));
        assert!(availability.consume_sticky_retry(&name("m")));
    }

    #[test]
    fn a_terminal_state_replaces_a_transient_one() {
        let availability = ModelAvailability::new();
        availability.mark_sticky_retry(&name("m"));
        availability.mark_terminal(&name("m"), Terminal::Quota { until: None });
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::Quota));
    }

    #[test]
    fn a_prefixed_name_and_a_plain_one_are_one_model() {
        let availability = ModelAvailability::new();
        availability.mark_terminal(&name("models/m"), Terminal::Quota { until: None });
        assert_eq!(availability.unavailable(&name("m")), Some(Unavailable::Quota));
        availability.mark_healthy(&name("m"));
        assert_eq!(availability.unavailable(&name("models/m")), None);
    }

    #[test]
    fn a_new_turn_makes_consumed_sticky_models_available_again() {
        let availability = ModelAvailability::new();
        availability.mark_sticky_retry(&name("m"));
        availability.consume_sticky_retry(&name("m"));
        availability.new_turn();
        assert_eq!(availability.unavailable(&name("m")), None);
        assert!(
            availability.consume_sticky_retry(&name("m")),
            "once more in the new turn"
        );
    }

    #[test]
    fn a_success_clears_the_state() {
        let availability = ModelAvailability::new();
        availability.mark_sticky_retry(&name("m"));
        availability.consume_sticky_retry(&name("m"));
        availability.mark_healthy(&name("m"));
        assert_eq!(availability.unavailable(&name("m")), None);
        assert!(
            !availability.consume_sticky_retry(&name("m")),
            "nothing is left to consume"
        );
    }

    #[test]
    fn a_reader_gets_the_failures_and_answers_of_several_records() {
        let reader = Arc::new(ModelAvailability::new());
        let (one, two) = (
            ModelAvailability::reporting_to(Arc::clone(&reader)),
            ModelAvailability::reporting_to(Arc::clone(&reader)),
        );
        one.mark_terminal(&name("m"), Terminal::Quota { until: None });
        one.note(&name("n"), &ModelFailure::new(FailureKind::NotFound, ""));
        assert_eq!(reader.unavailable(&name("m")), Some(Unavailable::Quota));
        assert!(reader.noted(&name("n")).is_some());
        assert!(two.is_untroubled());
        two.mark_healthy(&name("m"));
        assert_eq!(reader.unavailable(&name("m")), None);
        assert_eq!(one.unavailable(&name("m")), Some(Unavailable::Quota));
    }
}
