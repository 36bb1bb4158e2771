//! One table of walks: the models' results, and the walk's end.

use std::collections::HashMap;

use super::*;
use crate::router::{Selection, Unavailable, chained};

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";
const LITE: &str = "gemini-2.5-flash-lite";

/// A model's results, one after the other; the last one is repeated.
type Script = &'static [(&'static str, &'static [Say])];

/// A row of the table: name, chain and settings, script, models asked, end.
type Row = (
    &'static str,
    Chain,
    OnFallback,
    Ruling,
    Script,
    &'static [&'static str],
    Option<End>,
);

#[derive(Clone, Copy)]
enum Say {
    Ok,
    Fails(FailureKind),
    /// Transient, with a delay in seconds.
    Wait(f64),
    /// Terminal, for lack of capacity.
    NoCapacity,
    Unrepeatable(FailureKind, Repeat),
}
use FailureKind::{NotFound, Terminal as Quota, Transient, Unknown};
use Say::{Fails, NoCapacity, Ok, Unrepeatable, Wait};

impl Say {
    fn failure(self) -> Option<(ModelFailure, Repeat)> {
        let failure = |kind| ModelFailure::new(kind, "no");
        match self {
            Ok => None,
            Fails(kind) => Some((failure(kind), Repeat::Safe)),
            Wait(seconds) => {
                let delay = Some(Duration::from_secs_f64(seconds));
                Some((
                    ModelFailure {
                        delay,
                        ..failure(Transient)
                    },
                    Repeat::Safe,
                ))
            }
            NoCapacity => {
                let failure = ModelFailure {
                    lacks_capacity: true,
                    ..failure(Quota)
                };
                Some((failure, Repeat::Safe))
            }
            Unrepeatable(kind, repeat) => Some((failure(kind), repeat)),
        }
    }
}

/// One home of models, which several walks share.
struct World {
    availability: Arc<ModelAvailability>,
    asked: Vec<&'static str>,
    waited: Duration,
    script: Script,
}

impl World {
    fn new(script: Script) -> Self {
        Self {
            availability: Arc::default(),
            asked: Vec::new(),
            waited: Duration::ZERO,
            script,
        }
    }

    /// Walks `chain` to its end; every question gets the same ruling.
    fn walk(&mut self, chain: Chain, on_fallback: OnFallback, ruling: Ruling) -> Walk {
        let mut walk = Walk::new(chain, Arc::clone(&self.availability), on_fallback, MAX_RETRY_WAIT);
        loop {
            match walk.next() {
                Next::Ask(model) => match self.say(&model).failure() {
                    None => walk.answered(),
                    Some((failure, repeat)) => walk.failed(failure, repeat),
                },
                Next::Wait(pause) => self.waited += pause,
                Next::Settle(_) => walk.settled(ruling),
                Next::Over => return walk,
            }
        }
    }

    fn auto(&mut self) -> Walk {
        self.walk(auto(), OnFallback::Policy, Ruling::TellClient)
    }

    fn say(&mut self, model: &ModelName) -> Say {
        let script: HashMap<_, _> = self.script.iter().copied().collect();
        let (name, says) = script.get_key_value(model.as_str()).unwrap();
        let earlier = self.asked.iter().filter(|asked| *asked == name).count();
        self.asked.push(name);
        says[earlier.min(says.len() - 1)]
    }

    fn unavailable(&self, model: &str) -> Option<Unavailable> {
        self.availability.unavailable(&name(model))
    }
}

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn chain(asked: &str) -> Chain {
    let models = chained();
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

const ONCE: Ruling = Ruling::Chosen(Choice::Once);
const TELL: Ruling = Ruling::TellClient;

#[test]
fn walks_end_as_their_policies_say() {
    let needs_consent = || Some(End::NeedsConsent { candidate: name(FLASH) });
    let declined = |choice| Some(End::Declined(choice));
    let policy = OnFallback::Policy;
    #[rustfmt::skip]
    let table: &[Row] = &[
        ("the first answer ends it", auto(), policy, TELL, &[(PRO, &[Ok])], &[PRO], None),
        ("pro is tried three times, then flash silently", auto(), policy, TELL, &[(PRO, &[Fails(Transient)]), (FLASH, &[Ok])], &[PRO, PRO, PRO, FLASH], None),
        ("a delay that fits is waited for", auto(), policy, TELL, &[(PRO, &[Wait(12.5), Ok])], &[PRO, PRO], None),
        ("waiting is bounded for the request", auto(), policy, TELL, &[(PRO, &[Wait(20.0)]), (FLASH, &[Wait(11.0)])], &[PRO, PRO, FLASH], Some(End::Exhausted)),
        ("the last resort is tried ten times", chain(FLASH), policy, TELL, &[(FLASH, &[Fails(Transient)])], &[FLASH; 10], Some(End::Exhausted)),
        ("quotas are not retried", auto(), policy, ONCE, &[(PRO, &[Fails(Quota)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("unknown models are not retried", auto(), policy, ONCE, &[(PRO, &[Fails(NotFound)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("unknown failures are not retried", auto(), policy, ONCE, &[(PRO, &[Fails(Unknown)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("consent for the session counts", auto(), policy, Ruling::Chosen(Choice::Session), &[(PRO, &[Fails(Quota)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("later ends it", auto(), policy, Ruling::Chosen(Choice::Later), &[(PRO, &[Fails(Quota)])], &[PRO], declined(Choice::Later)),
        ("stop ends it", auto(), policy, Ruling::Chosen(Choice::Stop), &[(PRO, &[Fails(Quota)])], &[PRO], declined(Choice::Stop)),
        ("a client must consent", auto(), policy, TELL, &[(PRO, &[Fails(Quota)])], &[PRO], needs_consent()),
        ("silent needs no consent", auto(), OnFallback::Silent, TELL, &[(PRO, &[Fails(Quota)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("never asks no other model", auto(), OnFallback::Never, ONCE, &[(PRO, &[Fails(Quota)])], &[PRO], Some(End::Never)),
        ("never holds for silent policies", chain(LITE), OnFallback::Never, ONCE, &[(LITE, &[Fails(Quota)])], &[LITE], Some(End::Never)),
        ("ask holds for silent policies", auto(), OnFallback::Ask, TELL, &[(PRO, &[Fails(Transient)])], &[PRO, PRO, PRO], needs_consent()),
        ("ask goes on with consent", auto(), OnFallback::Ask, ONCE, &[(PRO, &[Fails(Transient)]), (FLASH, &[Ok])], &[PRO, PRO, PRO, FLASH], None),
        ("utility calls fall back silently", chain(LITE), policy, TELL, &[(LITE, &[Fails(NotFound)]), (FLASH, &[Fails(Quota)]), (PRO, &[Ok])], &[LITE, FLASH, PRO], None),
        ("plan mode is silent", auto().silent(), policy, TELL, &[(PRO, &[Fails(Quota)]), (FLASH, &[Ok])], &[PRO, FLASH], None),
        ("what may have acted is not repeated", auto(), OnFallback::Silent, ONCE, &[(PRO, &[Unrepeatable(Unknown, Repeat::MayHaveActed)])], &[PRO], Some(End::MayHaveActed)),
        ("nor is it at transient failures", auto(), OnFallback::Silent, ONCE, &[(PRO, &[Unrepeatable(Transient, Repeat::MayHaveActed)])], &[PRO], Some(End::MayHaveActed)),
        ("refused requests are not repeated", auto(), OnFallback::Silent, ONCE, &[(PRO, &[Unrepeatable(Unknown, Repeat::Pointless)])], &[PRO], Some(End::Pointless)),
        ("a chain wraps around", chained().chain(&chained().resolve(&name("auto-gemini-2.5")), &name(FLASH)), policy, ONCE, &[(FLASH, &[Fails(Quota)]), (PRO, &[Ok])], &[FLASH, PRO], None),
        ("a custom model stands alone", chain("my-model"), policy, ONCE, &[("my-model", &[Fails(Quota)])], &["my-model"], Some(End::Exhausted)),
    ];
    for (case, chain, on_fallback, ruling, script, asked, end) in table {
        let mut world = World::new(script);
        let walk = world.walk(chain.clone(), *on_fallback, *ruling);
        assert_eq!(world.asked, *asked, "{case}");
        assert_eq!(walk.end(), end.as_ref(), "{case}");
        assert_eq!(walk.attempts() as usize, asked.len(), "{case}");
        let left = walk.left().map(|left| left.model.as_str());
        let first = asked[0];
        assert_eq!(left, (walk.model().as_str() != first).then_some(first), "{case}");
    }
}

#[test]
fn pauses_double_and_are_bounded() {
    let mut world = World::new(&[(FLASH, &[Fails(Transient)])]);
    world.walk(chain(FLASH), OnFallback::Policy, TELL);
    assert_eq!(world.waited, Duration::from_millis(250 + 500 + 7 * 1000));
}

#[test]
fn pro_gets_one_try_in_the_next_turn() {
    let mut world = World::new(&[(PRO, &[Fails(Transient)]), (FLASH, &[Ok])]);
    world.auto();
    assert_eq!(world.unavailable(PRO), Some(Unavailable::RetryConsumed));
    world.auto();
    assert_eq!(world.asked[4..], [FLASH], "not again in the same turn");
    world.availability.new_turn();
    world.auto();
    assert_eq!(world.asked[5..], [PRO, FLASH]);
}

#[test]
fn success_makes_a_model_healthy() {
    let mut world = World::new(&[
        (PRO, &[Fails(Transient), Fails(Transient), Fails(Transient), Ok]),
        (FLASH, &[Ok]),
    ]);
    world.auto();
    world.availability.new_turn();
    world.auto();
    assert_eq!(world.unavailable(PRO), None);
    assert!(!world.availability.consume_sticky_retry(&name(PRO)));
}

#[test]
fn failures_count_only_when_another_model_is_asked() {
    let mut world = World::new(&[(PRO, &[Fails(Quota)])]);
    world.auto();
    assert_eq!(world.unavailable(PRO), None);
    for (says, unavailable) in [
        (&[Fails(Quota)], Unavailable::Quota),
        (&[Fails(NotFound)], Unavailable::Capacity),
        (&[Fails(Unknown)], Unavailable::Capacity),
        (&[NoCapacity], Unavailable::Capacity),
    ] {
        let script: Script = Box::leak(Box::new([(PRO, &says[..]), (FLASH, &[Ok][..])]));
        let mut world = World::new(script);
        world.walk(auto(), OnFallback::Silent, TELL);
        assert_eq!(world.unavailable(PRO), Some(unavailable));
    }
}

#[test]
fn consent_for_once_covers_one_switch() {
    for (ruling, says) in [
        (ONCE, Fails(Quota)),
        (ONCE, Fails(Transient)),
        (Ruling::ClientConsents, Fails(Quota)),
    ] {
        let script: Script = Box::leak(Box::new([(PRO, &*vec![says].leak()), (FLASH, &[Ok][..])]));
        let mut world = World::new(script);
        let walk = world.walk(auto(), OnFallback::Ask, ruling);
        assert_eq!(walk.model(), &name(FLASH), "{ruling:?}");
        assert_eq!(world.unavailable(PRO), None, "{ruling:?}");
        let walk = world.walk(auto(), OnFallback::Ask, TELL);
        let candidate = name(FLASH);
        assert_eq!(walk.end(), Some(&End::NeedsConsent { candidate }), "{ruling:?}");
    }
}

#[test]
fn a_lack_of_capacity_is_retried_twice() {
    let mut world = World::new(&[(PRO, &[NoCapacity, NoCapacity, Ok])]);
    let walk = world.auto();
    assert_eq!((walk.attempts(), walk.left()), (3, None));
    assert_eq!(world.waited, Duration::from_secs(4));

    let mut world = World::new(&[(PRO, &[NoCapacity]), (FLASH, &[Ok])]);
    world.walk(auto(), OnFallback::Silent, ONCE);
    assert_eq!(world.asked, [PRO, PRO, PRO, FLASH]);
}

#[tokio::test(start_paused = true)]
async fn consent_for_the_session_lasts_until_a_reset() {
    let mut world = World::new(&[(PRO, &[Fails(NotFound)]), (FLASH, &[Ok])]);
    let session = Ruling::Chosen(Choice::Session);
    world.walk(auto(), OnFallback::Policy, session);
    tokio::time::advance(Duration::from_secs(3600)).await;
    world.availability.new_turn();
    world.walk(auto(), OnFallback::Policy, session);
    assert_eq!(world.asked, [PRO, FLASH, FLASH]);
    world.availability.reset();
    assert_eq!(world.unavailable(PRO), None);
}

#[test]
fn unavailable_models_are_skipped() {
    let mut world = World::new(&[(FLASH, &[Fails(Quota)])]);
    world
        .availability
        .mark_terminal(&name(PRO), Terminal::Quota { until: None });
    let walk = world.walk(auto(), OnFallback::Silent, TELL);
    assert_eq!(world.asked, [FLASH]);
    assert_eq!(walk.end(), Some(&End::Exhausted));
}
