//! Asks the models of a chain one after the other until one answers: retries, pauses, consent, and a record of it all
//! (FACTS section 4). What an attempt is, the caller says; nothing here knows of HTTP.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::consent::{Choice, Consent, Question, Ruling};
use super::policy::{Action, Chain, Policy, Transition};
use super::{FailureKind, ModelAvailability, ModelFailure, ModelName, Repeat, Terminal, Unavailable};

/// The longest that one request waits in all, unless something else is asked for.
pub const MAX_RETRY_WAIT: Duration = Duration::from_secs(30);

/// The pause before the first retry when the upstream names none; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether another model may be asked when one fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFallback {
    /// As the failed model's policy says; where it says `prompt`, consent is sought.
    #[default]
    Policy,
    /// Without a word.
    Silent,
    /// Never.
    Never,
    /// Only with consent, also where the policy says `silent`.
    Ask,
}

impl OnFallback {
    /// Every value, the default first.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Silent, Self::Never, Self::Ask];

    /// The word of the `--on-fallback` option.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Silent => "silent",
            Self::Never => "never",
            Self::Ask => "ask",
        }
    }
}

impl fmt::Display for OnFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no way to fall back.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is none of `policy`, `silent`, `never`, `ask`")]
pub struct ParseOnFallbackError(String);

impl FromStr for OnFallback {
    type Err = ParseOnFallbackError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|way| way.as_str() == text)
            .ok_or_else(|| ParseOnFallbackError(text.to_owned()))
    }
}

/// One attempt to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The model to ask.
    pub model: ModelName,
    /// Which attempt of the request this is, all models counted, from 1.
    pub number: u32,
}

/// An attempt that did not succeed.
#[derive(Clone, Debug)]
pub struct Refusal<E> {
    /// What it says of the model.
    pub failure: ModelFailure,
    /// Whether the request may be sent again.
    pub repeat: Repeat,
    /// What the client gets if this was the last attempt.
    pub response: E,
}

/// One thing that happened on the way through a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A model was not asked.
    Skipped {
        /// Which.
        model: ModelName,
        /// Why.
        why: Unavailable,
    },
    /// A model failed.
    Failed {
        /// Which.
        model: ModelName,
        /// How.
        kind: FailureKind,
        /// The upstream's words.
        message: String,
    },
    /// There was a pause before the same model was asked again.
    Waited {
        /// Which model.
        model: ModelName,
        /// How long.
        pause: Duration,
    },
    /// Another model was asked instead.
    Switched {
        /// The model that failed.
        from: ModelName,
        /// The one asked instead.
        to: ModelName,
        /// What was chosen; `None` when nobody had to.
        consent: Option<Choice>,
    },
    /// A model answered.
    Answered {
        /// Which.
        model: ModelName,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped { model, why } => write!(f, "`{model}` skipped: {why}"),
            Self::Failed { model, kind, message } => write!(f, "`{model}` failed ({kind}): {message}"),
            Self::Waited { model, pause } => write!(f, "waited {:.1} s for `{model}`", pause.as_secs_f64()),
            Self::Switched {
                from,
                to,
                consent: None,
            } => write!(f, "switched from `{from}` to `{to}`"),
            Self::Switched {
                from,
                to,
                consent: Some(choice),
            } => write!(f, "switched from `{from}` to `{to}` (consent: {choice})"),
            Self::Answered { model } => write!(f, "`{model}` answered"),
        }
    }
}

/// Why no further attempt was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No model of the chain is left.
    Exhausted,
    /// The upstream may have acted on the request.
    MayHaveActed,
    /// Every model would refuse the request.
    Pointless,
    /// Another model is never to be asked.
    Never,
    /// A person chose to leave it, for now or for good.
    Declined(Choice),
    /// The client must decide whether this model is asked instead.
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

/// A walk that ended without an answer.
#[derive(Clone, Debug)]
pub struct Unanswered<E> {
    /// Why no further attempt was made.
    pub end: End,
    /// What it says of the model that failed last.
    pub failure: ModelFailure,
    /// What the client gets: the last attempt's.
    pub response: E,
}

/// How a request fared.
#[derive(Clone, Debug)]
pub struct Walk<T, E> {
    /// The answer, or why there is none.
    pub result: Result<T, Unanswered<E>>,
    /// The model that was asked last.
    pub model: ModelName,
    /// How many attempts were made.
    pub attempts: u32,
    /// What happened, in order.
    pub trace: Vec<Step>,
}

/// Walks chains for the requests of one session.
#[derive(Clone, Copy)]
pub struct Walker<'a> {
    /// The models' health, which a walk goes by and adds to.
    pub availability: &'a ModelAvailability,
    /// Who is asked where consent is needed.
    pub consent: &'a dyn Consent,
    /// Whether another model may be asked at all.
    pub on_fallback: OnFallback,
    /// The longest that one request waits in all.
    pub max_wait: Duration,
}

impl Walker<'_> {
    /// Asks the models of `chain` through `attempt` until one answers.
    pub async fn walk<T, E, F, A>(&self, chain: &Chain, attempt: F) -> Walk<T, E>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, Refusal<E>>>,
    {
        let first = chain.select(self.availability, &[]);
        let mut progress = Progress {
            wait_left: self.max_wait,
            attempt,
            attempts: 0,
            trace: Vec::new(),
        };
        let mut policy = match first {
            Some(selected) => {
                record_skipped(selected.skipped, &mut progress.trace);
                selected.policy
            }
            // Everything is unavailable and there is no last resort: then what was asked for is asked.
            None => &chain.policies()[0],
        };
        let mut tried = Vec::new();
        let result = loop {
            tried.push(policy.model.clone());
            let refusal = match self.ask(policy, &mut progress).await {
                Ok(answer) => break Ok(answer),
                Err(refusal) => refusal,
            };
            match self.next(chain, policy, &tried, &refusal, &mut progress.trace).await {
                Ok(next) => policy = next,
                Err(end) => {
                    break Err(Unanswered {
                        end,
                        failure: refusal.failure,
                        response: refusal.response,
                    });
                }
            }
        };
        Walk {
            result,
            model: policy.model.clone(),
            attempts: progress.attempts,
            trace: progress.trace,
        }
    }

    /// Asks one model, again after transient failures as often as its policy and the time allow.
    async fn ask<T, E, F, A>(&self, policy: &Policy, progress: &mut Progress<F>) -> Result<T, Refusal<E>>
    where
        F: FnMut(Attempt) -> A,
        A: Future<Output = Result<T, Refusal<E>>>,
    {
        let model = &policy.model;
        let one_more_try = self.availability.consume_sticky_retry(model);
        let allowed = if one_more_try { 1 } else { policy.max_attempts.get() };
        let mut pause = FIRST_PAUSE;
        let mut made = 0;
        loop {
            made += 1;
            progress.attempts += 1;
            let attempt = Attempt {
                model: model.clone(),
                number: progress.attempts,
            };
            let refusal = match (progress.attempt)(attempt).await {
                Ok(answer) => {
                    self.availability.mark_healthy(model);
                    progress.trace.push(Step::Answered { model: model.clone() });
                    return Ok(answer);
                }
                Err(refusal) => refusal,
            };
            progress.trace.push(Step::Failed {
                model: model.clone(),
                kind: refusal.failure.kind,
                message: refusal.failure.message.clone(),
            });
            let retryable = refusal.repeat == Repeat::Safe && refusal.failure.kind == FailureKind::Transient;
            let delay = refusal.failure.delay.unwrap_or(pause);
            if !retryable || made >= allowed || delay > progress.wait_left {
                return Err(refusal);
            }
            progress.wait(model, delay).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The policy of the model to ask after that of `failed`, or why there is none.
    async fn next<'c, E>(
        &self,
        chain: &'c Chain,
        failed: &Policy,
        tried: &[ModelName],
        refusal: &Refusal<E>,
        trace: &mut Vec<Step>,
    ) -> Result<&'c Policy, End> {
        match refusal.repeat {
            Repeat::Safe => {}
            Repeat::MayHaveActed => return Err(End::MayHaveActed),
            Repeat::Pointless => return Err(End::Pointless),
        }
        let failure = &refusal.failure;
        let selected = chain.select(self.availability, tried).ok_or(End::Exhausted)?;
        let candidate = &selected.policy.model;
        let consent = match (self.on_fallback, failed.actions.of(failure.kind)) {
            (OnFallback::Never, _) => return Err(End::Never),
            (OnFallback::Silent, _) | (OnFallback::Policy, Action::Silent) => None,
            (OnFallback::Ask, _) | (OnFallback::Policy, Action::Prompt) => {
                Some(self.consent_to(candidate, failed, failure).await?)
            }
        };
        self.record_failure(failed, failure, consent);
        record_skipped(selected.skipped, trace);
        trace.push(Step::Switched {
            from: failed.model.clone(),
            to: candidate.clone(),
            consent,
        });
        Ok(selected.policy)
    }

    async fn consent_to(&self, candidate: &ModelName, failed: &Policy, failure: &ModelFailure) -> Result<Choice, End> {
        let question = Question {
            failed: failed.model.clone(),
            kind: failure.kind,
            message: failure.message.clone(),
            available_in: failure.delay,
            candidate: candidate.clone(),
        };
        match self.consent.settle(&question).await {
            Ruling::Chosen(choice @ (Choice::Once | Choice::Session)) => Ok(choice),
            Ruling::Chosen(choice @ (Choice::Later | Choice::Stop)) => Err(End::Declined(choice)),
            Ruling::TellClient => Err(End::NeedsConsent {
                candidate: candidate.clone(),
            }),
        }
    }

    /// A failure is held against a model only when another is asked instead: whoever declines meets the model again.
    fn record_failure(&self, failed: &Policy, failure: &ModelFailure, consent: Option<Choice>) {
        let model = &failed.model;
        if consent == Some(Choice::Session) {
            return self.availability.mark_terminal(model, Terminal::SetAside);
        }
        match failed.transitions.of(failure.kind) {
            Transition::StickyRetry => {
                self.availability.mark_sticky_retry(model);
                self.availability.consume_sticky_retry(model);
            }
            Transition::Terminal if failure.kind == FailureKind::Terminal && !failure.lacks_capacity => {
                let until = failure.delay.and_then(|delay| Instant::now().checked_add(delay));
                self.availability.mark_terminal(model, Terminal::Quota { until });
            }
            Transition::Terminal => self.availability.mark_terminal(model, Terminal::Capacity),
        }
    }
}

/// What one request has used up so far.
struct Progress<F> {
    attempt: F,
    attempts: u32,
    wait_left: Duration,
    trace: Vec<Step>,
}

impl<F> Progress<F> {
    async fn wait(&mut self, model: &ModelName, pause: Duration) {
        sleep(pause).await;
        self.wait_left = self.wait_left.saturating_sub(pause);
        self.trace.push(Step::Waited {
            model: model.clone(),
            pause,
        });
    }
}

/// Records each model that was passed over, once.
fn record_skipped(unavailable: Vec<(&ModelName, Unavailable)>, trace: &mut Vec<Step>) {
    for (model, why) in unavailable {
        let step = Step::Skipped {
            model: model.clone(),
            why,
        };
        if !trace.contains(&step) {
            trace.push(step);
        }
    }
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
