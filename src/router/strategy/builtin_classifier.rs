//! Chooses the tier of the built-in classifier's verdict.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use lru::LruCache;

use super::{AnsweredBy, Case, Finding, Source, Strategy, Turn, Verdict, nothing_to_classify, ready};
use crate::router::classify::builtin;

/// The number of verdicts that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// Asks the built-in classifier.
#[derive(Default)]
pub(super) struct Builtin {
    seen: Seen,
}

impl Strategy for Builtin {
    fn source(&self) -> Source {
        Source::BuiltinClassifier
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        ready(nothing_to_classify(case).unwrap_or_else(|| {
            let request = &case.context.conversation.request;
            let verdict = self.seen.verdict(request, &case.turns, |request, turns| {
                builtin::classify_from(case.threshold, request, turns)
            });
            Finding::classified(verdict, AnsweredBy::Builtin)
        }))
    }
}

/// The last verdicts. An assistant asks for a model at each step of a task, always with the same user request.
struct Seen {
    hasher: RandomState,
    /// Verdicts by the keyed hash of request and history. A router's threshold does not change.
    verdicts: Mutex<LruCache<u64, Verdict>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            verdicts: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }
}

impl Seen {
    /// The remembered verdict, or else that of `classify`.
    fn verdict(&self, request: &str, turns: &[Turn], classify: impl FnOnce(&str, &[Turn]) -> Verdict) -> Verdict {
        let key = self.hasher.hash_one((request, turns));
        let verdicts = || self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts().get(&key) {
            return verdict.clone();
        }
        // The lock is not held here, so that other requests need not wait.
        let verdict = classify(request, turns);
        verdicts().put(key, verdict.clone());
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{REMEMBERED, Seen, Turn};
    use crate::router::classify::builtin;
    use crate::router::{Role, Tier};

    #[test]
    fn the_same_request_after_the_same_turns_is_classified_once() {
        let seen = Seen::default();
        let classified = Cell::new(0);
        let tier = |request: &str, turns: &[Turn]| {
            let classify = |request: &str, turns: &[Turn]| {
                classified.set(classified.get() + 1);
                builtin::classify(request, turns)
            };
            seen.verdict(request, turns, classify).tier
        };
        let turns = [
            (Role::User, "why do the nightly builds fail at random?"),
            (
                Role::Model,
                "Shall I investigate all 14 pipelines and redesign the cache?",
            ),
        ]
        .map(|(role, text)| Turn {
            role,
            text: text.to_owned(),
        });
        for _ in 0..2 {
            assert_eq!(tier("yes, do it", &turns), Tier::Pro);
            assert_eq!(tier("rename x to y in a.py", &[]), Tier::Flash);
        }
        assert_eq!(classified.get(), 2);
        for other in 0..REMEMBERED.get() {
            tier(&format!("rename x to y{other} in a.py"), &[]);
        }
        tier("yes, do it", &turns);
        assert_eq!(classified.get(), 3 + REMEMBERED.get());
    }
}
