//! A request's walk along a chain of models, as a value: it states the next step and receives the result (docs/facts.md
//! section 4).
//!
//! The caller of a [`Walk`] asks the models, waits, and asks people. A walk uses neither HTTP nor clocks.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use gem_setup::router::policy::Chain;
//! use gem_setup::router::walk::{Next, OnFallback, Walk};
//! use gem_setup::router::{FailureKind, ModelAvailability, ModelFailure, Repeat};
//!
//! let model: gem_setup::router::ModelName = "gemini-2.5-pro".parse()?;
//! let availability = Arc::new(ModelAvailability::default());
//! let mut walk = Walk::new(Chain::alone(model.clone()), availability, OnFallback::Policy, Duration::ZERO);
//! assert_eq!(walk.next(), Next::Ask(model));
//! walk.failed(ModelFailure::new(FailureKind::NotFound, "no such model"), Repeat::Safe);
//! assert_eq!(walk.next(), Next::Over);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gem_platform::Backoff;
use tokio::time::Instant;

use super::consent::{Choice, Question, Ruling};
use super::policy::{Action, Chain, Policy, Transition};
use super::{FailureKind, ModelAvailability, ModelFailure, ModelName, Repeat, Terminal};

/// The longest total wait of a request, unless another limit is set.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(30);

/// The pause before the first retry if the upstream states none. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pauses between attempts at a model that lacks capacity. After them it counts as unavailable.
const CAPACITY_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Whether another model may be asked when one fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFallback {
    /// According to the failed model's policy; `prompt` requires consent.
    #[default]
    Policy,
    /// Always, without consent.
    Silent,
    /// Never.
    Never,
    /// Only with consent, even if the policy says `silent`.
    Ask,
}

/// The next step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this model, then call [`Walk::answered`] or [`Walk::failed`].
    Ask(ModelName),
    /// Wait, then request the next step again.
    Wait(Duration),
    /// Ask this question, then call [`Walk::settled`].
    Settle(Question),
    /// The walk has ended, with or without an answer.
    Over,
}

/// Why no further model was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No model of the chain is left.
    Exhausted,
    /// The upstream may have acted on the request.
    MayHaveActed,
    /// Every model would refuse the request.
    Pointless,
    /// An option excludes other models.
    Never,
    /// A person refused.
    Declined(Choice),
    /// The client must decide whether to ask this model instead.
    NeedsConsent {
        /// The model that would be asked.
        candidate: ModelName,
    },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted => f.write_str("no other model is left"),
            Self::MayHaveActed => f.write_str("not repeated: the upstream may have acted on the request"),
            Self::Pointless => f.write_str("not repeated: the request itself was refused"),
            Self::Never => f.write_str("no other model may be asked"),
            Self::Declined(choice) => write!(f, "consent was not given ({choice})"),
            Self::NeedsConsent { candidate } => write!(f, "consent is needed to ask `{candidate}`"),
        }
    }
}

/// The first model of a walk, and why another one was asked after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The model.
    pub model: ModelName,
    /// The failure.
    pub failure: ModelFailure,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` failed ({}): {}",
            self.model, self.failure.kind, self.failure.message
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ask,
    Wait(Duration),
    Settle(Question),
    Answered,
    Ended(End),
}

/// How far the consent to a switch extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consented {
    Needless,
    Once,
    Session,
}

/// The walk of one request along a chain.
#[derive(Debug)]
pub struct Walk {
    chain: Chain,
    availability: Arc<ModelAvailability>,
    on_fallback: OnFallback,
    wait_left: Duration,
    /// The policy of the current model.
    policy: Policy,
    tried: Vec<ModelName>,
    /// The number of attempts at the current model, and the allowed number.
    made: u32,
    allowed: u32,
    backoff: Backoff,
    attempts: u32,
    /// The latest failure of the current model.
    failure: Option<ModelFailure>,
    left: Option<Left>,
    state: State,
}

impl Walk {
    /// Starts a walk along `chain` that uses and updates `availability` and waits at most `max_wait` in total.
    #[must_use]
    pub fn new(
        chain: Chain,
        availability: Arc<ModelAvailability>,
        on_fallback: OnFallback,
        max_wait: Duration,
    ) -> Self {
        // If every model is unavailable and there is no last resort, the requested model is tried.
        let policy = chain.select(&availability, &[]).unwrap_or(&chain.policies()[0]).clone();
        Self::at(policy, chain, availability, on_fallback, max_wait)
    }

    /// Starts a walk that asks the first model of `chain` even if that one is unavailable, because the client names it. The
    /// walk makes no pauses, and every switch needs consent.
    #[must_use]
    pub fn from_first(chain: Chain, availability: Arc<ModelAvailability>) -> Self {
        let policy = chain.policies()[0].clone();
        Self::at(policy, chain, availability, OnFallback::Ask, Duration::ZERO)
    }

    fn at(
        policy: Policy,
        chain: Chain,
        availability: Arc<ModelAvailability>,
        on_fallback: OnFallback,
        max_wait: Duration,
    ) -> Self {
        let mut walk = Self {
            chain,
            availability,
            on_fallback,
            wait_left: max_wait,
            policy,
            tried: Vec::new(),
            made: 0,
            allowed: 0,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            attempts: 0,
            failure: None,
            left: None,
            state: State::Ask,
        };
        walk.arrive();
        walk
    }

    /// The next step. After a wait, the walk continues.
    #[expect(
        clippy::should_implement_trait,
        reason = "the next step depends on the results in between"
    )]
    pub fn next(&mut self) -> Next {
        match &self.state {
            State::Ask => Next::Ask(self.policy.model.clone()),
            State::Wait(pause) => {
                let pause = *pause;
                self.state = State::Ask;
                Next::Wait(pause)
            }
            State::Settle(question) => Next::Settle(question.clone()),
            State::Answered | State::Ended(_) => Next::Over,
        }
    }

    /// Records that the current model answers.
    pub fn answered(&mut self) {
        self.attempts += 1;
        self.availability.mark_healthy(&self.policy.model);
        self.state = State::Answered;
    }

    /// Records that the current model failed, and whether the request may be sent again.
    pub fn failed(&mut self, failure: ModelFailure, repeat: Repeat) {
        self.attempts += 1;
        self.made += 1;
        let pause = self.pause_after(&failure);
        match pause.filter(|pause| repeat == Repeat::Safe && *pause <= self.wait_left) {
            Some(pause) => {
                self.wait_left -= pause;
                self.backoff.fail(0.0);
                self.state = State::Wait(pause);
            }
            None => self.state = self.after(&failure, repeat),
        }
        // A request that may not be repeated says less about the model than about itself.
        if repeat == Repeat::Safe && !matches!(self.state, State::Wait(_)) {
            self.availability.note(&self.policy.model, &failure);
        }
        // The client gets this failure, and will probably retry.
        if self.made > 1 && matches!(self.state, State::Settle(_) | State::Ended(_)) {
            self.availability.spend(&self.policy.model);
        }
        self.failure = Some(failure);
        if self.state == State::Ask {
            self.switch(Consented::Needless);
        }
    }

    /// The wait that is left.
    #[must_use]
    pub const fn wait_left(&self) -> Duration {
        self.wait_left
    }

    /// Shortens the wait that is left to `most`.
    pub fn wait_at_most(&mut self, most: Duration) {
        self.wait_left = self.wait_left.min(most);
    }

    /// The pause before another attempt at the current model; `None` if no attempt is left.
    fn pause_after(&self, failure: &ModelFailure) -> Option<Duration> {
        if self.made >= self.allowed {
            return None;
        }
        if failure.lacks_capacity {
            let retries = usize::try_from(self.made).ok()?.checked_sub(1)?;
            return CAPACITY_PAUSES.get(retries).copied();
        }
        let is_transient = failure.kind == FailureKind::Transient;
        is_transient.then(|| failure.delay.unwrap_or(self.backoff.pause(0.0)))
    }

    /// Leaves the current model unasked, if `candidate` comes next and other models are not excluded: the client has consented to it,
    /// and `failure`, which it got before, lasts. True if the model was left.
    pub fn passed_over(&mut self, failure: ModelFailure, candidate: &ModelName) -> bool {
        let next = self.candidate().filter(|next| next.model == *candidate);
        let Some(next) = next.filter(|_| self.on_fallback != OnFallback::Never) else {
            return false;
        };
        self.leave_for(next, failure);
        true
    }

    /// Records the result of the question.
    pub fn settled(&mut self, ruling: Ruling) {
        let State::Settle(question) = &self.state else { return };
        match ruling {
            Ruling::Chosen(Choice::Once) | Ruling::ClientConsents => self.switch(Consented::Once),
            Ruling::Chosen(Choice::Session) => self.switch(Consented::Session),
            Ruling::Chosen(choice @ (Choice::Later | Choice::Stop)) => self.state = State::Ended(End::Declined(choice)),
            Ruling::TellClient => {
                let candidate = question.candidate.clone();
                self.state = State::Ended(End::NeedsConsent { candidate });
            }
        }
    }

    /// The latest failure of the current model.
    #[must_use]
    pub const fn failure(&self) -> Option<&ModelFailure> {
        self.failure.as_ref()
    }

    /// The model that is being asked or was asked last.
    #[must_use]
    pub const fn model(&self) -> &ModelName {
        &self.policy.model
    }

    /// The number of attempts.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The first model, if another one was asked after it.
    #[must_use]
    pub const fn left(&self) -> Option<&Left> {
        self.left.as_ref()
    }

    /// Why no further model was asked; `None` during the walk and after an answer.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        match &self.state {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Makes the next model the current one.
    fn arrive(&mut self) {
        let model = &self.policy.model;
        let has_one_more_try = self.availability.consume_sticky_retry(model);
        self.tried.push(model.clone());
        self.made = 0;
        self.allowed = if has_one_more_try || self.availability.is_spent(model) {
            1
        } else {
            self.policy.max_attempts.get()
        };
        self.backoff.reset();
        self.state = State::Ask;
    }

    /// The state after a failure that is not retried; [`State::Ask`] if the next model may be asked.
    fn after(&self, failure: &ModelFailure, repeat: Repeat) -> State {
        match repeat {
            Repeat::Safe => {}
            Repeat::MayHaveActed => return State::Ended(End::MayHaveActed),
            Repeat::Pointless => return State::Ended(End::Pointless),
        }
        let Some(next) = self.chain.select(&self.availability, &self.tried) else {
            return State::Ended(End::Exhausted);
        };
        match (self.on_fallback, self.policy.actions.of(failure.kind)) {
            (OnFallback::Never, _) => State::Ended(End::Never),
            (OnFallback::Silent, _) | (OnFallback::Policy, Action::Silent) => State::Ask,
            (OnFallback::Ask, _) | (OnFallback::Policy, Action::Prompt) => State::Settle(Question {
                failed: self.policy.model.clone(),
                kind: failure.kind,
                message: failure.message.clone(),
                available_in: failure.delay,
                candidate: next.model.clone(),
                request: None,
            }),
        }
    }

    /// Switches to the next model. Also records the failure of the current one, unless consent was given for this
    /// switch only: later requests would skip the model without a question.
    fn switch(&mut self, consent: Consented) {
        let Some(failure) = self.failure.take() else { return };
        let Some(next) = self.candidate() else {
            self.state = State::Ended(End::Exhausted);
            return;
        };
        match consent {
            Consented::Once => {}
            Consented::Session => self.availability.mark_terminal(&self.policy.model, Terminal::SetAside),
            Consented::Needless => mark(&self.availability, &self.policy, &failure),
        }
        self.leave_for(next, failure);
    }

    /// The policy of the model that comes next.
    fn candidate(&self) -> Option<Policy> {
        self.chain.select(&self.availability, &self.tried).cloned()
    }

    fn leave_for(&mut self, next: Policy, failure: ModelFailure) {
        tracing::debug!(
            "`{}` failed ({}): {}; asking `{}`",
            self.policy.model,
            failure.kind,
            failure.message,
            next.model
        );
        let failed = std::mem::replace(&mut self.policy, next);
        self.left.get_or_insert(Left {
            model: failed.model,
            failure,
        });
        self.arrive();
    }
}

/// Marks the model of `policy` after `failure`, so that later walks skip it.
pub fn mark(availability: &ModelAvailability, policy: &Policy, failure: &ModelFailure) {
    let model = &policy.model;
    match policy.transitions.of(failure.kind) {
        Transition::StickyRetry => {
            availability.mark_sticky_retry(model);
            availability.consume_sticky_retry(model);
        }
        Transition::Terminal if failure.kind == FailureKind::Terminal && !failure.lacks_capacity => {
            let until = failure.delay.and_then(|delay| Instant::now().checked_add(delay));
            availability.mark_terminal(model, Terminal::Quota { until });
        }
        Transition::Terminal => availability.mark_terminal(model, Terminal::Capacity),
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
