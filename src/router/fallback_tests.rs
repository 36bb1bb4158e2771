use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::router::consent::{Always, TellClient};
use crate::router::{Models, Selection};

/// What an upstream answers, per model, one after the other; the last answer is repeated.
struct Upstream {
    answers: HashMap<&'static str, Vec<Answer>>,
    asked: RefCell<Vec<String>>,
}

#[derive(Clone)]
struct Answer(Result<(), (ModelFailure, Repeat)>);

fn ok() -> Answer {
    Answer(Ok(()))
}

fn fails(kind: FailureKind) -> Answer {
    Answer(Err((ModelFailure::new(kind, "no"), Repeat::Safe)))
}

fn told_to_wait(seconds: f64) -> Answer {
    let failure = ModelFailure {
        delay: Some(Duration::from_secs_f64(seconds)),
        ..ModelFailure::new(FailureKind::Transient, "busy")
    };
    Answer(Err((failure, Repeat::Safe)))
}

fn unrepeatable(repeat: Repeat) -> Answer {
    Answer(Err((ModelFailure::new(FailureKind::Unknown, "no"), repeat)))
}

fn quota() -> Answer {
    fails(FailureKind::Terminal)
}

impl Upstream {
    fn new<const N: usize>(answers: [(&'static str, Vec<Answer>); N]) -> Self {
        Self {
            answers: answers.into_iter().collect(),
            asked: RefCell::default(),
        }
    }

    async fn answer(&self, attempt: Attempt) -> Result<String, Refusal<String>> {
        let model = attempt.model.as_str().to_owned();
        let earlier = self.asked.borrow().iter().filter(|asked| **asked == model).count();
        self.asked.borrow_mut().push(model.clone());
        let answers = &self.answers[model.as_str()];
        let Answer(answer) = &answers[earlier.min(answers.len() - 1)];
        match answer {
            Ok(()) => Ok(format!("answer of {model}")),
            Err((failure, repeat)) => Err(Refusal {
                failure: failure.clone(),
                repeat: *repeat,
                response: format!("error of {model}"),
            }),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }
}

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";
const LITE: &str = "gemini-2.5-flash-lite";

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn chain(asked: &str) -> Chain {
    let models = Models::built_in().unwrap();
    let selection = models.resolve(&name(asked));
    let first = match &selection {
        Selection::Model(model) => model.clone(),
        Selection::Choice { pro, .. } => pro.clone(),
    };
    models.chain(&selection, &first)
}

fn auto() -> Chain {
    chain("auto-gemini-2.5")
}

fn walker<'a>(availability: &'a ModelAvailability, consent: &'a dyn Consent) -> Walker<'a> {
    Walker {
        availability,
        consent,
        on_fallback: OnFallback::Policy,
        max_wait: MAX_RETRY_WAIT,
    }
}

async fn walk(walker: Walker<'_>, chain: &Chain, upstream: &Upstream) -> Walk<String, String> {
    walker.walk(chain, |attempt| upstream.answer(attempt)).await
}

#[tokio::test(start_paused = true)]
async fn a_model_that_answers_is_the_only_one_asked() {
    let upstream = Upstream::new([(PRO, vec![ok()])]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    assert_eq!(walk.result.unwrap(), "answer of gemini-2.5-pro");
    assert_eq!(walk.trace, [Step::Answered { model: name(PRO) }]);
}

#[tokio::test(start_paused = true)]
async fn auto_tries_pro_3_times_then_goes_to_flash_silently_on_transient_failures() {
    let upstream = Upstream::new([(PRO, vec![fails(FailureKind::Transient)]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    assert_eq!(walk.result.unwrap(), "answer of gemini-2.5-flash");
    assert_eq!(walk.model, name(FLASH));
    assert_eq!(upstream.asked(), [PRO, PRO, PRO, FLASH]);
    assert_eq!(availability.unavailable(&name(PRO)), Some(Unavailable::RetryConsumed));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_through_all_models() {
    let upstream = Upstream::new([(PRO, vec![fails(FailureKind::Transient)]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    let numbers = RefCell::new(Vec::new());
    let walk = walker(&availability, &TellClient)
        .walk(&auto(), |attempt| {
            numbers.borrow_mut().push(attempt.number);
            upstream.answer(attempt)
        })
        .await;
    assert_eq!(numbers.into_inner(), [1, 2, 3, 4]);
    assert_eq!(walk.attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn after_a_transient_failure_pro_is_tried_once_more_in_the_next_turn() {
    let upstream = Upstream::new([(PRO, vec![fails(FailureKind::Transient)]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    let walker = walker(&availability, &TellClient);
    walk(walker, &auto(), &upstream).await;
    walk(walker, &auto(), &upstream).await;
    assert_eq!(upstream.asked()[4..], [FLASH], "not again in the same turn");
    availability.new_turn();
    walk(walker, &auto(), &upstream).await;
    assert_eq!(upstream.asked()[5..], [PRO, FLASH]);
}

#[tokio::test(start_paused = true)]
async fn a_success_makes_a_model_healthy_again() {
    let transient = fails(FailureKind::Transient);
    let upstream = Upstream::new([
        (PRO, vec![transient.clone(), transient.clone(), transient, ok()]),
        (FLASH, vec![ok()]),
    ]);
    let availability = ModelAvailability::new();
    let walker = walker(&availability, &TellClient);
    walk(walker, &auto(), &upstream).await;
    availability.new_turn();
    walk(walker, &auto(), &upstream).await;
    assert_eq!(availability.unavailable(&name(PRO)), None);
    assert!(!availability.consume_sticky_retry(&name(PRO)));
}

#[tokio::test(start_paused = true)]
async fn the_servers_delay_is_waited_for() {
    let upstream = Upstream::new([(PRO, vec![told_to_wait(12.5), ok()])]);
    let availability = ModelAvailability::new();
    let start = Instant::now();
    let walk = walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    assert!(walk.result.is_ok());
    assert_eq!(upstream.asked(), [PRO, PRO]);
    assert_eq!(start.elapsed().as_secs_f64().round() as u64, 13);
    let waited = Step::Waited {
        model: name(PRO),
        pause: Duration::from_millis(12_500),
    };
    assert!(walk.trace.contains(&waited));
}

#[tokio::test(start_paused = true)]
async fn one_request_waits_no_longer_in_all_than_it_may() {
    let upstream = Upstream::new([(PRO, vec![told_to_wait(20.0)]), (FLASH, vec![told_to_wait(11.0)])]);
    let availability = ModelAvailability::new();
    let start = Instant::now();
    let walk = walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    let unanswered = walk.result.unwrap_err();
    assert_eq!(unanswered.end, End::Exhausted);
    assert_eq!(unanswered.response, "error of gemini-2.5-flash");
    assert_eq!(
        upstream.asked(),
        [PRO, PRO, FLASH],
        "20 s of 30 are gone, 11 more do not fit"
    );
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn the_last_resort_is_tried_10_times() {
    let upstream = Upstream::new([(FLASH, vec![fails(FailureKind::Transient)])]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &chain(FLASH), &upstream).await;
    assert_eq!(walk.result.unwrap_err().end, End::Exhausted);
    assert_eq!(walk.attempts, 10);
}

#[tokio::test(start_paused = true)]
async fn only_transient_failures_are_retried_at_the_same_model() {
    for kind in [FailureKind::Terminal, FailureKind::NotFound, FailureKind::Unknown] {
        let upstream = Upstream::new([(PRO, vec![fails(kind)]), (FLASH, vec![ok()])]);
        let availability = ModelAvailability::new();
        walk(walker(&availability, &Always(Choice::Once)), &auto(), &upstream).await;
        assert_eq!(upstream.asked(), [PRO, FLASH], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_policy_says_prompt_consent_is_sought() {
    for (choice, asked) in [
        (Choice::Once, vec![PRO, FLASH]),
        (Choice::Session, vec![PRO, FLASH]),
        (Choice::Later, vec![PRO]),
        (Choice::Stop, vec![PRO]),
    ] {
        let upstream = Upstream::new([(PRO, vec![quota()]), (FLASH, vec![ok()])]);
        let availability = ModelAvailability::new();
        let walk = walk(walker(&availability, &Always(choice)), &auto(), &upstream).await;
        assert_eq!(upstream.asked(), asked, "{choice}");
        match walk.result {
            Ok(_) => {
                let (from, to, consent) = (name(PRO), name(FLASH), Some(choice));
                assert!(walk.trace.contains(&Step::Switched { from, to, consent }));
            }
            Err(unanswered) => assert_eq!(unanswered.end, End::Declined(choice)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_must_consent_gets_the_failure_and_the_candidate() {
    let upstream = Upstream::new([(PRO, vec![quota()])]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    let unanswered = walk.result.unwrap_err();
    assert_eq!(unanswered.end, End::NeedsConsent { candidate: name(FLASH) });
    assert_eq!(unanswered.response, "error of gemini-2.5-pro");
    assert_eq!(
        availability.unavailable(&name(PRO)),
        None,
        "whoever was not asked meets the model again"
    );
}

#[tokio::test(start_paused = true)]
async fn consent_for_the_session_sets_the_model_aside_until_a_reset() {
    let upstream = Upstream::new([(PRO, vec![fails(FailureKind::NotFound)]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    let walker = walker(&availability, &Always(Choice::Session));
    walk(walker, &auto(), &upstream).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    availability.new_turn();
    walk(walker, &auto(), &upstream).await;
    assert_eq!(upstream.asked(), [PRO, FLASH, FLASH]);
    availability.reset();
    assert_eq!(availability.unavailable(&name(PRO)), None);
}

#[tokio::test(start_paused = true)]
async fn consent_once_leaves_the_model_to_its_policys_transition() {
    for (failure, unavailable) in [
        (ModelFailure::new(FailureKind::Terminal, "no"), Unavailable::Quota),
        (ModelFailure::new(FailureKind::NotFound, "no"), Unavailable::Capacity),
        (ModelFailure::new(FailureKind::Unknown, "no"), Unavailable::Capacity),
        (
            ModelFailure {
                lacks_capacity: true,
                ..ModelFailure::new(FailureKind::Terminal, "no")
            },
            Unavailable::Capacity,
        ),
    ] {
        let upstream = Upstream::new([(PRO, vec![Answer(Err((failure, Repeat::Safe)))]), (FLASH, vec![ok()])]);
        let availability = ModelAvailability::new();
        walk(walker(&availability, &Always(Choice::Once)), &auto(), &upstream).await;
        assert_eq!(availability.unavailable(&name(PRO)), Some(unavailable));
    }
}

#[tokio::test(start_paused = true)]
async fn silent_asks_nobody_and_never_asks_no_other_model() {
    for (on_fallback, asked) in [(OnFallback::Silent, vec![PRO, FLASH]), (OnFallback::Never, vec![PRO])] {
        let upstream = Upstream::new([(PRO, vec![quota()]), (FLASH, vec![ok()])]);
        let availability = ModelAvailability::new();
        let walker = Walker {
            on_fallback,
            ..walker(&availability, &TellClient)
        };
        let walk = walk(walker, &auto(), &upstream).await;
        assert_eq!(upstream.asked(), asked, "{on_fallback}");
        assert_eq!(
            walk.result.err().map(|unanswered| unanswered.end),
            match on_fallback {
                OnFallback::Never => Some(End::Never),
                _ => None,
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn never_holds_for_silent_policies_too() {
    let upstream = Upstream::new([(LITE, vec![quota()])]);
    let availability = ModelAvailability::new();
    let walker = Walker {
        on_fallback: OnFallback::Never,
        ..walker(&availability, &TellClient)
    };
    walk(walker, &chain(LITE), &upstream).await;
    assert_eq!(upstream.asked(), [LITE]);
}

#[tokio::test(start_paused = true)]
async fn ask_seeks_consent_for_silent_policies_too() {
    let upstream = Upstream::new([(PRO, vec![fails(FailureKind::Transient)]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    for (consent, expected) in [
        (
            &TellClient as &dyn Consent,
            Err(End::NeedsConsent { candidate: name(FLASH) }),
        ),
        (&Always(Choice::Stop), Err(End::Declined(Choice::Stop))),
        (&Always(Choice::Once), Ok("answer of gemini-2.5-flash".to_owned())),
    ] {
        let walker = Walker {
            on_fallback: OnFallback::Ask,
            ..walker(&availability, consent)
        };
        let walk = walk(walker, &auto(), &upstream).await;
        assert_eq!(walk.result.map_err(|unanswered| unanswered.end), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_utility_call_falls_back_silently_through_its_chain() {
    let upstream = Upstream::new([
        (LITE, vec![fails(FailureKind::NotFound)]),
        (FLASH, vec![quota()]),
        (PRO, vec![ok()]),
    ]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &chain(LITE), &upstream).await;
    assert!(walk.result.is_ok());
    assert_eq!(upstream.asked(), [LITE, FLASH, PRO]);
}

#[tokio::test(start_paused = true)]
async fn in_plan_mode_nobody_is_asked() {
    let upstream = Upstream::new([(PRO, vec![quota()]), (FLASH, vec![ok()])]);
    let availability = ModelAvailability::new();
    let walk = walk(walker(&availability, &TellClient), &auto().silent(), &upstream).await;
    assert!(walk.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_have_been_acted_on_is_never_repeated() {
    for (repeat, end) in [
        (Repeat::MayHaveActed, End::MayHaveActed),
        (Repeat::Pointless, End::Pointless),
    ] {
        let upstream = Upstream::new([(PRO, vec![unrepeatable(repeat)])]);
        let availability = ModelAvailability::new();
        let walker = Walker {
            on_fallback: OnFallback::Silent,
            ..walker(&availability, &Always(Choice::Once))
        };
        let walk = walk(walker, &auto(), &upstream).await;
        assert_eq!(walk.result.unwrap_err().end, end);
        assert_eq!(upstream.asked(), [PRO], "{repeat:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_that_may_have_been_acted_on_is_not_retried_either() {
    let failure = ModelFailure::new(FailureKind::Transient, "reset");
    let upstream = Upstream::new([(PRO, vec![Answer(Err((failure, Repeat::MayHaveActed)))])]);
    let availability = ModelAvailability::new();
    walk(walker(&availability, &TellClient), &auto(), &upstream).await;
    assert_eq!(upstream.asked(), [PRO]);
}

#[tokio::test(start_paused = true)]
async fn unavailable_models_are_skipped_and_no_model_is_met_twice() {
    let upstream = Upstream::new([(PRO, vec![quota()]), (FLASH, vec![quota()])]);
    let availability = ModelAvailability::new();
    availability.mark_terminal(&name(PRO), Terminal::Quota { until: None });
    let walker = Walker {
        on_fallback: OnFallback::Silent,
        ..walker(&availability, &TellClient)
    };
    let walk = walk(walker, &auto(), &upstream).await;
    assert_eq!(upstream.asked(), [FLASH]);
    assert_eq!(walk.result.unwrap_err().end, End::Exhausted);
    let skipped = Step::Skipped {
        model: name(PRO),
        why: Unavailable::Quota,
    };
    assert_eq!(walk.trace[0], skipped);
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_wraps_around_goes_back_to_the_models_before_it() {
    let models = Models::built_in().unwrap();
    let chain = models.chain(&models.resolve(&name("auto-gemini-2.5")), &name(FLASH));
    let upstream = Upstream::new([(FLASH, vec![quota()]), (PRO, vec![ok()])]);
    let availability = ModelAvailability::new();
    walk(walker(&availability, &Always(Choice::Once)), &chain, &upstream).await;
    assert_eq!(upstream.asked(), [FLASH, PRO]);
}

#[tokio::test(start_paused = true)]
async fn a_custom_model_has_nothing_to_fall_back_to() {
    let upstream = Upstream::new([("my-model", vec![quota()])]);
    let availability = ModelAvailability::new();
    let walk = walk(
        walker(&availability, &Always(Choice::Once)),
        &chain("my-model"),
        &upstream,
    )
    .await;
    assert_eq!(walk.result.unwrap_err().end, End::Exhausted);
    assert_eq!(availability.unavailable(&name("my-model")), None);
}

#[tokio::test(start_paused = true)]
async fn a_walk_can_run_on_a_task_of_its_own() {
    let walk = tokio::spawn(async {
        let availability = ModelAvailability::new();
        walker(&availability, &TellClient)
            .walk(&auto(), |attempt| async move { Ok::<_, Refusal<()>>(attempt.model) })
            .await
    });
    assert_eq!(walk.await.unwrap().result.unwrap(), name(PRO));
}

#[test]
fn the_words_of_the_option_can_be_read_back() {
    for way in OnFallback::ALL {
        assert_eq!(way.as_str().parse(), Ok(way));
    }
    assert!("maybe".parse::<OnFallback>().is_err());
}
