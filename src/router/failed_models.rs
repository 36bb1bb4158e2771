//! Hosted models that failed, in the form in which one program reports them to another.
//!
//! ```
//! use gem_setup::router::{FailedModel, FailureKind, ModelAvailability, ModelFailure, ModelName};
//!
//! let (here, there) = (ModelAvailability::default(), ModelAvailability::default());
//! let pro: ModelName = "gemini-2.5-pro".parse()?;
//! here.note(&pro, &ModelFailure::new(FailureKind::Terminal, "quota exceeded"));
//! for failed in FailedModel::all(&here, |_| None) {
//!     failed.teach(&there);
//! }
//! assert_eq!(there.noted(&pro).map(|failure| failure.kind), Some(FailureKind::Terminal));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{FailureKind, ModelAvailability, ModelFailure, ModelName, Terminal, Unavailable};

/// A hosted model that failed. The upstream's message is left out, because it may name a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedModel {
    /// The model.
    pub model: ModelName,
    /// The kind of failure.
    pub kind: FailureKind,
    /// Whether the model lacks capacity; if not, a quota is used up.
    pub lacks_capacity: bool,
    /// The number of seconds until it answers again, if known.
    pub available_in_s: Option<u64>,
    /// Whether requests already skip it and go to the next model of its chain.
    pub passed_over: bool,
    /// The model that the server's owner allows instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ModelName>,
}

impl FailedModel {
    /// The failed models in `availability`, with the `consent` of the server's owner.
    pub fn all(availability: &ModelAvailability, consent: impl Fn(&ModelName) -> Option<ModelName>) -> Vec<Self> {
        let known = availability.troubled();
        let failed = known.into_iter().filter_map(|model| Self::of(availability, model));
        let with_consent = failed.map(|failed| Self {
            consent: consent(&failed.model),
            ..failed
        });
        with_consent.collect()
    }

    fn of(availability: &ModelAvailability, model: ModelName) -> Option<Self> {
        let failed = |kind, lacks_capacity, time: Option<Duration>, passed_over| Self {
            model: model.clone(),
            kind,
            lacks_capacity,
            available_in_s: time.map(|time| time.as_secs()),
            passed_over,
            consent: None,
        };
        match availability.unavailable(&model) {
            // The additional attempt returns with the next turn.
            None | Some(Unavailable::RetryConsumed) => {
                let noted = availability.noted(&model)?;
                Some(failed(noted.kind, noted.lacks_capacity, noted.delay, false))
            }
            Some(why) => {
                let time = availability.available_in(&model);
                let lacks_capacity = why == Unavailable::Capacity;
                Some(failed(FailureKind::Terminal, lacks_capacity, time, true))
            }
        }
    }

    /// Adds this failure to `availability`.
    pub fn teach(&self, availability: &ModelAvailability) {
        let delay = self.available_in_s.map(Duration::from_secs);
        if self.passed_over {
            let until = delay.and_then(|delay| Instant::now().checked_add(delay));
            let why = match self.lacks_capacity {
                true => Terminal::Capacity,
                false => Terminal::Quota { until },
            };
            return availability.mark_terminal(&self.model, why);
        }
        let failure = ModelFailure {
            delay,
            lacks_capacity: self.lacks_capacity,
            ..ModelFailure::new(self.kind, self.cause())
        };
        availability.note(&self.model, &failure);
    }

    /// The cause of the failure, in words.
    fn cause(&self) -> &'static str {
        match self.kind {
            _ if self.lacks_capacity => "it has no capacity",
            FailureKind::Terminal => "its quota is used up",
            FailureKind::Transient => "it is overloaded",
            FailureKind::NotFound => "the upstream does not know this model",
            FailureKind::Unknown => "the upstream reported an error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn marks_and_notes_reach_the_other_side() {
        let (here, there) = (ModelAvailability::default(), ModelAvailability::default());
        let failure = ModelFailure {
            delay: Some(Duration::from_secs(60)),
            ..ModelFailure::new(FailureKind::Terminal, "project 4711")
        };
        here.note(&name("asked"), &failure);
        here.mark_terminal(&name("passed-over"), Terminal::Capacity);
        let told = serde_json::to_string(&FailedModel::all(&here, |_| None)).unwrap();
        assert!(!told.contains("4711"), "{told}");
        let heard: Vec<FailedModel> = serde_json::from_str(&told).unwrap();
        heard.iter().for_each(|failed| failed.teach(&there));
        assert_eq!(there.unavailable(&name("asked")), None);
        let noted = there.noted(&name("asked")).unwrap();
        assert_eq!((noted.kind, noted.delay), (failure.kind, failure.delay));
        assert_eq!(there.unavailable(&name("passed-over")), Some(Unavailable::Capacity));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(FailedModel::all(&there, |_| None), []);
    }

    #[test]
    fn an_answer_ends_a_failure() {
        let availability = ModelAvailability::default();
        availability.note(&name("m"), &ModelFailure::new(FailureKind::NotFound, ""));
        availability.mark_healthy(&name("m"));
        assert_eq!(FailedModel::all(&availability, |_| None), []);
    }
}
