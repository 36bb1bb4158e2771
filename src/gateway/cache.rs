//! Remembers model answers, and shares one call between equal requests.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::watch;

use super::fault::Fault;
use super::tokens::Usage;
use crate::router::classify::clean::Answer;

/// The answer, or why the model gave no usable one; all waiting requests share it.
pub(super) type AnswerResult = Result<Answer, Arc<Fault>>;

/// Identifies a request by the length and keyed hash of its body, and by the release that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    hash: u64,
    length: usize,
    release: u64,
}

/// A request as its client sent it.
#[derive(Clone, Copy)]
struct Sent {
    /// The key of the request to the engine.
    asked: Key,
    prompt: Usage,
}

/// Answers by request.
pub(super) struct Answers {
    hasher: RandomState,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    known: LruCache<Key, Answer>,
    sent: LruCache<Key, Sent>,
    asked: HashMap<Key, Arc<watch::Sender<Option<AnswerResult>>>>,
}

impl Answers {
    /// Remembers at most `capacity` answers. A cleaned answer has a bounded length, so the memory is bounded too.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self {
            hasher: RandomState::new(),
            shared: Arc::new(Mutex::new(Shared {
                known: LruCache::new(capacity),
                sent: LruCache::new(capacity),
                asked: HashMap::new(),
            })),
        }
    }

    /// The key of a request for the engine of this release; releases do not share answers.
    pub(super) fn key(&self, body: &[u8], release: u64) -> Key {
        Key {
            release,
            hash: self.hasher.hash_one(body),
            length: body.len(),
        }
    }

    /// The remembered answer.
    pub(super) fn known(&self, key: Key) -> Option<Answer> {
        lock(&self.shared).known.get(&key).cloned()
    }

    /// The remembered answer to a request that came before in the same bytes, and the size of its prompt.
    pub(super) fn repeated(&self, sent: Key) -> Option<(Answer, Usage)> {
        let mut shared = lock(&self.shared);
        let Sent { asked, prompt } = *shared.sent.get(&sent)?;
        Some((shared.known.get(&asked)?.clone(), prompt))
    }

    /// Notes that the client's request `sent` was `asked` of the engine, with a prompt of this size.
    pub(super) fn note(&self, sent: Key, asked: Key, prompt: Usage) {
        lock(&self.shared).sent.put(sent, Sent { asked, prompt });
    }

    /// Waits for the answer: from the current call for this request, or from the call that `ask` makes.
    ///
    /// The call continues when clients leave. [`Abandoned`] resolves when no client is waiting; as long as the engine
    /// has not been asked, the call may then end with `None`. A usable answer is remembered.
    pub(super) async fn wait<F>(&self, key: Key, ask: impl Fn(Abandoned) -> F) -> AnswerResult
    where
        F: Future<Output = Option<AnswerResult>> + Send + 'static,
    {
        loop {
            let mut waiting = self.join(key, &ask);
            // Without an outcome, the call was abandoned just before this request joined it: join or begin another.
            if let Ok(outcome) = waiting.wait_for(Option::is_some).await
                && let Some(outcome) = &*outcome
            {
                return outcome.clone();
            }
        }
    }

    fn join<F>(&self, key: Key, ask: impl Fn(Abandoned) -> F) -> watch::Receiver<Option<AnswerResult>>
    where
        F: Future<Output = Option<AnswerResult>> + Send + 'static,
    {
        let mut shared = lock(&self.shared);
        if let Some(call) = shared.asked.get(&key) {
            return call.subscribe();
        }
        // The call may have ended since `known` was checked.
        if let Some(answer) = shared.known.get(&key) {
            return watch::channel(Some(Ok(answer.clone()))).1;
        }
        let (sender, waiting) = watch::channel(None);
        let sender = Arc::new(sender);
        shared.asked.insert(key, Arc::clone(&sender));
        let under_way = UnderWay {
            shared: Arc::clone(&self.shared),
            key,
        };
        let call = ask(Abandoned(Arc::clone(&sender)));
        tokio::spawn(async move {
            let outcome = call.await;
            under_way.end(outcome.as_ref());
            if outcome.is_some() {
                sender.send_replace(outcome);
            }
        });
        waiting
    }
}

/// Resolves when no client is waiting for the answer.
pub(super) struct Abandoned(Arc<watch::Sender<Option<AnswerResult>>>);

impl Abandoned {
    /// Waits until then.
    pub(super) async fn wait(&self) {
        self.0.closed().await;
    }
}

/// A call that others can join. Dropping this removes it from the list, whatever the result.
struct UnderWay {
    shared: Arc<Mutex<Shared>>,
    key: Key,
}

impl UnderWay {
    fn end(self, outcome: Option<&AnswerResult>) {
        if let Some(Ok(answer)) = outcome {
            lock(&self.shared).known.put(self.key, answer.clone());
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.shared).asked.remove(&self.key);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Answer, Answers};
    use crate::router::Tier;

    #[tokio::test]
    async fn an_answer_that_came_after_it_was_looked_for_is_not_asked_for_again() {
        let answers = Answers::new(2);
        let key = answers.key(b"a request", 0);
        let asked = Cell::new(0);
        let answer = Answer {
            tier: Tier::Pro,
            reasoning: "as asked".to_owned(),
        };
        assert!(answers.known(key).is_none());
        // Neither knows an answer; the second asks after the first call has ended.
        for _ in 0..2 {
            let outcome = answers.wait(key, |_| {
                asked.set(asked.get() + 1);
                std::future::ready(Some(Ok(answer.clone())))
            });
            assert_eq!(outcome.await.ok().as_ref(), Some(&answer));
        }
        assert_eq!(asked.get(), 1);
    }
}
