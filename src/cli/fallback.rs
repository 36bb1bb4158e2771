//! What `route` does when this home's server knows that the chosen model has failed.

use std::sync::Arc;
use std::time::Duration;

use gem_setup::error::{Failure, Kind};
use gem_setup::router::consent::{Choice, Question, Ruling};
use gem_setup::router::walk::{End, Next, OnFallback, Walk};
use gem_setup::router::{FailedModel, ModelAvailability, ModelName, Models, Repeat, RoutingDecision};
use gem_setup::supervise::{self, Running, ServerRecord};
use serde::Serialize;

use super::session::Session;
use crate::report::Terminal;

/// How long a consent for the session lasts; the header `x-gem-consent` uses the same words.
const SESSION: &str = "yes, for an hour";

/// The hosted models that failed, and how to react to a failure.
pub(crate) struct Fallback<'a> {
    session: &'a Session<'a>,
    server: Option<Box<ServerRecord>>,
    failed: Vec<FailedModel>,
    availability: Arc<ModelAvailability>,
    reaction: OnFallback,
}

/// A decision, and the question that only the user can answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    pub(crate) decision: RoutingDecision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) needs_consent: Option<NeedsConsent>,
}

/// The failure of the chosen model, and the model that could answer instead.
#[derive(Debug, Serialize)]
pub(crate) struct NeedsConsent {
    failed: ModelName,
    kind: &'static str,
    message: String,
    available_in_s: Option<u64>,
    candidate: ModelName,
}

impl NeedsConsent {
    fn of(question: Question) -> Self {
        Self {
            failed: question.failed,
            kind: question.kind.as_str(),
            message: question.message,
            available_in_s: question.available_in.map(|time| time.as_secs()),
            candidate: question.candidate,
        }
    }

    /// The failure, the model that could answer, and the ways to consent.
    pub(crate) fn in_words(&self) -> String {
        let Self {
            failed,
            message,
            candidate,
            ..
        } = self;
        format!(
            "`{failed}` failed ({message}); `{candidate}` could answer: to allow that, pass `--on-fallback silent` \
            here, or `x-gem-consent: once` in a request to the gateway"
        )
    }
}

impl<'a> Fallback<'a> {
    /// Asks the server `running` of this home, if there is one.
    pub(crate) fn new(session: &'a Session<'a>, running: &Running, reaction: OnFallback) -> Result<Self, Failure> {
        let server = match running {
            Running::Supervised(record) if !record.server.direct => Some(record.clone()),
            _ => None,
        };
        let failed = match &server {
            Some(record) => session.block_on(async { Ok(supervise::ask(record).await) })?,
            None => None,
        };
        let failed = failed.map_or_else(Vec::new, |remote| remote.failed_models);
        let availability = Arc::new(ModelAvailability::default());
        failed.iter().for_each(|failed| failed.teach(&availability));
        Ok(Self {
            session,
            server,
            failed,
            availability,
            reaction,
        })
    }

    /// The models' health as the server knows it.
    pub(crate) const fn availability(&self) -> &Arc<ModelAvailability> {
        &self.availability
    }

    /// Returns `decision`, or a decision for another model if the chosen one has failed. Asks at the terminal where
    /// consent is needed.
    pub(crate) async fn settle(&self, decision: RoutingDecision, models: &Models) -> Result<Answer, Failure> {
        let terminal = Terminal::new(self.session.printer);
        self.walk(decision, models, async |question| {
            let choice = match self.session.printer.json() {
                true => None,
                false => terminal.consent(question, SESSION).await,
            };
            if choice == Some(Choice::Session) {
                self.remember(question).await;
            }
            choice.map_or(Ruling::TellClient, Ruling::Chosen)
        })
        .await
    }

    /// Like [`Self::settle`] without a question, for rows that are decided one after the other.
    pub(crate) async fn settle_unasked(&self, decision: RoutingDecision, models: &Models) -> Result<Answer, Failure> {
        self.walk(decision, models, async |_| Ruling::TellClient).await
    }

    async fn walk(
        &self,
        decision: RoutingDecision,
        models: &Models,
        ask: impl AsyncFn(&Question) -> Ruling,
    ) -> Result<Answer, Failure> {
        let availability = Arc::clone(&self.availability);
        let mut walk = Walk::new(decision.chain.clone(), availability, self.reaction, Duration::ZERO);
        let mut asked = None;
        loop {
            match walk.next() {
                Next::Ask(model) => match self.availability.noted(&model) {
                    Some(failure) => walk.failed(failure, Repeat::Safe),
                    None => break,
                },
                Next::Wait(_) => {}
                Next::Settle(question) => {
                    let ruling = match self.has_consent(&question) {
                        true => Ruling::ClientConsents,
                        false => ask(&question).await,
                    };
                    walk.settled(ruling);
                    asked = Some(question);
                }
                Next::Over => break,
            }
        }
        match walk.end() {
            Some(End::Declined(choice)) => Err(declined(*choice, asked)),
            Some(End::NeedsConsent { .. }) => Ok(Answer {
                needs_consent: asked.map(NeedsConsent::of),
                decision,
            }),
            _ => Ok(Answer {
                decision: led_to(&walk, decision, models),
                needs_consent: None,
            }),
        }
    }

    fn has_consent(&self, question: &Question) -> bool {
        let mut failed = self.failed.iter();
        failed.any(|failed| failed.model == question.failed && failed.consent.as_ref() == Some(&question.candidate))
    }

    /// Stores the consent in the server, for the next `route`.
    async fn remember(&self, question: &Question) {
        let noted = match &self.server {
            Some(server) => supervise::consent(server, &question.failed, &question.candidate).await,
            None => false,
        };
        if !noted {
            let printer = self.session.printer;
            printer.warning("the server could not store this consent: it is valid for this command only");
        }
    }
}

/// `decision`, changed to the model that `walk` has reached.
fn led_to(walk: &Walk, decision: RoutingDecision, models: &Models) -> RoutingDecision {
    let Some(left) = walk.left().filter(|_| *walk.model() != decision.model) else {
        return decision;
    };
    let tier = models.tier(walk.model());
    decision.switched(walk.model().clone(), tier, left.to_string())
}

fn declined(choice: Choice, question: Option<Question>) -> Failure {
    let failed = question.map_or_else(String::new, |question| {
        format!(
            "`{}` failed, and `{}` is not allowed to answer",
            question.failed, question.candidate
        )
    });
    let failure = Failure::new(Kind::Unexpected, format!("no model was chosen: {failed}"));
    match choice {
        Choice::Later => failure.with_hint("run the command again later"),
        _ => failure,
    }
}
