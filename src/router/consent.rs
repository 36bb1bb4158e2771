//! Decides whether a request may go to another model than the intended one (docs/facts.md section 4).
//!
//! ```
//! use gem_setup::router::consent::{Choice, ParseChoiceError};
//!
//! let choice: Choice = "session".parse()?;
//! assert_eq!(choice.as_str(), "session");
//! # Ok::<(), ParseChoiceError>(())
//! ```

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::Mutex;

use super::{FailureKind, ModelName};
use crate::text::{in_words, words};

/// A question for consent: may another model be asked?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The model that failed.
    pub failed: ModelName,
    /// The kind of failure.
    pub kind: FailureKind,
    /// The upstream's message.
    pub message: String,
    /// The time until the model answers again, if known.
    pub available_in: Option<Duration>,
    /// The model that would be asked instead.
    pub candidate: ModelName,
    /// The first words of the request, for a person who did not write it.
    pub request: Option<String>,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            failed,
            message,
            candidate,
            available_in,
            ..
        } = self;
        write!(f, "`{failed}` failed ({message}")?;
        if let Some(time) = available_in {
            write!(f, "; it answers again in about {}", in_words(*time))?;
        }
        write!(f, "); ask `{candidate}` instead?")
    }
}

words! {
    /// The choices that a person has.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub enum Choice {
        /// Ask the other model for this request.
        Once = "once",
        /// Ask the other model until the session ends.
        Session = "session",
        /// Do not switch; the model is asked again with the next request.
        Later = "later",
        /// Give up the request.
        Stop = "stop",
    }

    /// A text that is not a choice.
    #[error("`{0}` is not one of `once`, `session`, `later`, `stop`")]
    pub struct ParseChoiceError;
}

/// The result of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// A person has chosen.
    Chosen(Choice),
    /// The client consents for this request only.
    ClientConsents,
    /// No person can be asked, so the client gets the failure and the name of the other model.
    TellClient,
}

/// Gets consent to ask another model.
pub trait Consent: Send + Sync {
    /// Asks for consent and returns the result.
    fn settle<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Ruling>;
}

/// Passes every question on to the client.
#[derive(Clone, Copy, Debug)]
pub struct TellClient;

impl Consent for TellClient {
    fn settle<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, Ruling> {
        Box::pin(std::future::ready(Ruling::TellClient))
    }
}

/// Asks a person to choose.
pub trait Ask: Send + Sync {
    /// The person's choice.
    ///
    /// # Errors
    /// When there is no terminal, or no answer.
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, io::Result<Choice>>;
}

/// Asks a person, one question at a time, and does not ask again after a choice for the session.
#[derive(Debug)]
pub struct AskPerson<A> {
    person: A,
    for_the_session: Mutex<HashSet<(ModelName, ModelName)>>,
}

impl<A: Ask> AskPerson<A> {
    /// A consent that `person` gives.
    pub fn new(person: A) -> Self {
        Self {
            person,
            for_the_session: Mutex::default(),
        }
    }

    async fn choice(&self, question: &Question) -> Ruling {
        let mut settled = self.for_the_session.lock().await;
        let pair = (question.failed.clone(), question.candidate.clone());
        if settled.contains(&pair) {
            return Ruling::Chosen(Choice::Session);
        }
        match self.person.ask(question).await {
            Ok(choice) => {
                if choice == Choice::Session {
                    settled.insert(pair);
                }
                Ruling::Chosen(choice)
            }
            Err(error) => {
                tracing::warn!(failed = %question.failed, %error, "could not ask anybody for consent");
                Ruling::TellClient
            }
        }
    }
}

impl<A: Ask> Consent for AskPerson<A> {
    fn settle<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Ruling> {
        Box::pin(self.choice(question))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    struct Scripted(StdMutex<Vec<io::Result<Choice>>>);

    impl Ask for Scripted {
        fn ask<'a>(&'a self, _: &'a Question) -> BoxFuture<'a, io::Result<Choice>> {
            Box::pin(async { self.0.lock().unwrap().remove(0) })
        }
    }

    fn question() -> Question {
        Question {
            failed: "pro".parse().unwrap(),
            kind: FailureKind::Terminal,
            message: "quota exceeded".to_owned(),
            available_in: None,
            candidate: "flash".parse().unwrap(),
            request: None,
        }
    }

    #[tokio::test]
    async fn a_question_may_be_left_to_the_client() {
        assert_eq!(TellClient.settle(&question()).await, Ruling::TellClient);
    }

    #[tokio::test]
    async fn a_person_is_asked_each_time_until_they_choose_for_the_session() {
        let script = vec![Ok(Choice::Once), Ok(Choice::Session)];
        let consent = AskPerson::new(Scripted(StdMutex::new(script)));
        assert_eq!(consent.settle(&question()).await, Ruling::Chosen(Choice::Once));
        for _ in 0..3 {
            assert_eq!(consent.settle(&question()).await, Ruling::Chosen(Choice::Session));
        }
    }

    #[tokio::test]
    async fn when_nobody_can_be_asked_the_client_is_told() {
        let script = vec![Err(io::Error::other("no terminal"))];
        let consent = AskPerson::new(Scripted(StdMutex::new(script)));
        assert_eq!(consent.settle(&question()).await, Ruling::TellClient);
    }

    #[test]
    fn the_question_names_both_models_and_the_cause() {
        assert_eq!(
            question().to_string(),
            "`pro` failed (quota exceeded); ask `flash` instead?"
        );
        let question = Question {
            available_in: Some(Duration::from_secs(9000)),
            ..question()
        };
        assert_eq!(
            question.to_string(),
            "`pro` failed (quota exceeded; it answers again in about 3 h); ask `flash` instead?"
        );
    }

    #[test]
    fn the_words_for_the_choices_can_be_read_back() {
        for choice in Choice::ALL {
            assert_eq!(choice.as_str().parse(), Ok(choice));
        }
        assert!("maybe".parse::<Choice>().is_err());
    }
}
