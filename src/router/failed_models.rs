//! Hosted models that failed, as one program tells another of them.
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

/// A hosted model that failed, without the upstream's words: they may name a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedModel {
    /// The model.
    pub model: ModelName,
    /// How it failed.
    pub kind: FailureKind,
    /// True when the model lacks capacity, false when a quota is used up.
    pub lacks_capacity: bool,
    /// In how many seconds it will answer again, if that is known.
    pub available_in_s: Option<u64>,
    /// Whether requests go to the next model of its chain by now.
    pub passed_over: bool,
    /// The model to which the server's owner has consented instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ModelName>,
}

impl FailedModel {
    /// The failed models that `availability` knows, with the `consent` of the server's owner.
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
            // A try that is spent comes back with the next turn.
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

    /// Tells `availability` of it.
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

    /// Why it failed, in words.
    fn cause(&self) -> &'static str {
        match self.kind {
            _ if self.lacks_capacity => "it has no capacity",
            FailureKind::Terminal => "its quota is used up",
            FailureKind::Transient => "it is overloaded",
            FailureKind::NotFound => "the upstream does not know it",
            FailureKind::Unknown => "the upstream gave an error",
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
