use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::net::{Client, Network};
use crate::router::classify::local::LocalClassifier;
use crate::router::contents::{Content, Part};
use crate::router::policy::Action;
use crate::router::{ApprovalMode, Asked, ClassifierChoice, Conversation, FailureKind, Role, Terminal, chained};

const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-2.5-flash";

fn name(text: &str) -> ModelName {
    text.parse().unwrap()
}

fn router() -> Router {
    router_with(None)
}

fn router_with(local: Option<LocalClassifier>) -> Router {
    let router = Router::new(Arc::new(chained()), Arc::default());
    match local {
        Some(local) => router.with_local(local),
        None => router,
    }
}

fn context(request: &str) -> RoutingContext {
    RoutingContext {
        conversation: Conversation::of(request, Vec::new()),
        asked: Asked {
            path: Some(name("auto-gemini-2.5")),
            ..Asked::default()
        },
        ..RoutingContext::default()
    }
}

fn asking(asked: Asked) -> RoutingContext {
    RoutingContext { asked, ..context("hi") }
}

fn consulted(decision: &RoutingDecision) -> Vec<Source> {
    decision.trace.iter().map(|entry| entry.strategy).collect()
}

fn unavailable(router: &Router, model: &str) {
    router
        .availability()
        .mark_terminal(&name(model), Terminal::Quota { until: None });
}

/// A local classifier at a server that answers every request with `text`.
async fn local(text: &str) -> LocalClassifier {
    local_answered_by(text, AnsweredBy::Model).await
}

/// The same, of a gateway that says who answered.
async fn local_answered_by(text: &str, who: AnsweredBy) -> LocalClassifier {
    let body = json!({"candidates": [{"content": {"parts": [{"text": text}]}}]}).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    let service = move |_| {
        let body = body.clone();
        let response = hyper::Response::builder().header("x-gem-answered-by", who.as_str());
        async move { response.body(body) }
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let io = hyper_util::rt::TokioIo::new(stream);
            let service = hyper::service::service_fn(service.clone());
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    // Fails when another test was first, which is as good.
    let client = Client::new(&Network::default());
    LocalClassifier::new(client, &host, &name("gemma"), Duration::from_secs(8)).unwrap()
}

#[tokio::test]
async fn the_strategies_are_consulted_in_order_until_one_decides() {
    let decision = router().route(&context("hi")).await;
    assert_eq!(
        consulted(&decision),
        [
            Source::Fallback,
            Source::Override,
            Source::ApprovalMode,
            Source::GemmaClassifier,
            Source::BuiltinClassifier,
        ]
    );
    assert_eq!(decision.source, Source::BuiltinClassifier);
    assert_eq!(decision.answered_by, Some(AnsweredBy::Builtin));
    let (last, before) = decision.trace.split_last().unwrap();
    assert!(matches!(last.outcome, Outcome::Decided { .. }), "{last:?}");
    assert!(
        before.iter().all(|entry| matches!(entry.outcome, Outcome::Passed(_))),
        "{before:?}"
    );
}

#[tokio::test]
async fn the_flag_goes_before_gemini_model_and_model_name() {
    let asked = |flag: Option<&str>, environment: Option<&str>| Asked {
        path: None,
        flag: flag.map(name),
        environment: environment.map(name),
        settings: Some(name("c")),
    };
    for (asked, model, place) in [
        (asked(Some("a"), Some("b")), "a", "`--model`"),
        (asked(None, Some("b")), "b", "`GEMINI_MODEL`"),
        (asked(None, None), "c", "`model.name`"),
    ] {
        let decision = router().route(&asking(asked)).await;
        assert_eq!((decision.model.as_str(), decision.source), (model, Source::Override));
        assert_eq!(
            consulted(&decision),
            [Source::Fallback, Source::Override],
            "no classification"
        );
        assert!(decision.reasoning.contains(place), "{}", decision.reasoning);
        assert!(
            decision.trace[1].outcome.to_string().contains(place),
            "{:?}",
            decision.trace
        );
    }
}

#[tokio::test]
async fn an_auto_that_was_asked_for_hides_a_concrete_model_asked_for_behind_it() {
    let asked = Asked {
        flag: Some(name("auto-gemini-2.5")),
        environment: Some(name("gemini-3.8-flash")),
        ..Asked::default()
    };
    let decision = router().route(&asking(asked)).await;
    assert_eq!(decision.source, Source::BuiltinClassifier);
    assert!(decision.model.as_str().starts_with("gemini-2.5"));
}

#[tokio::test]
async fn an_alias_is_asked_for_like_its_model() {
    let asked = Asked {
        flag: Some(name("flash")),
        ..Asked::default()
    };
    let decision = router().route(&asking(asked)).await;
    assert_eq!((decision.tier, decision.source), (Some(Tier::Flash), Source::Override));
    assert_ne!(decision.model, name("flash"));
}

#[tokio::test]
async fn a_custom_model_is_passed_through_and_has_no_tier() {
    let asked = Asked {
        path: Some(name("my-model")),
        ..Asked::default()
    };
    let decision = router().route(&asking(asked)).await;
    assert_eq!((decision.model.as_str(), decision.tier), ("my-model", None));
    assert_eq!(decision.chain.models().count(), 1);
}

#[tokio::test]
async fn without_any_model_asked_for_it_is_auto() {
    let decision = router().route(&asking(Asked::default())).await;
    assert_eq!(decision.source, Source::BuiltinClassifier);
    assert!(
        decision.trace[1].outcome.to_string().contains("`auto`"),
        "{:?}",
        decision.trace
    );
}

#[tokio::test]
async fn an_unavailable_model_falls_back_before_anything_else_is_considered() {
    for (asked, expected) in [
        (PRO, FLASH),
        ("auto-gemini-2.5", FLASH),
        ("gemini-2.5-flash-lite", FLASH),
    ] {
        let router = router();
        unavailable(&router, PRO);
        unavailable(&router, "gemini-2.5-flash-lite");
        let context = asking(Asked {
            flag: Some(name(asked)),
            ..Asked::default()
        });
        let decision = router.route(&context).await;
        assert_eq!(
            (decision.model.as_str(), decision.source),
            (expected, Source::Fallback),
            "{asked}"
        );
        assert_eq!(decision.tier, Some(Tier::Flash));
        assert_eq!(consulted(&decision), [Source::Fallback]);
        let failed = decision.instead_of.map(|(model, _)| model.as_str().to_owned());
        let first = if asked == "auto-gemini-2.5" { PRO } else { asked };
        assert_eq!(failed.as_deref(), Some(first));
    }
}

#[tokio::test]
async fn an_unavailable_model_without_stand_in_is_taken_as_asked() {
    let router = router();
    unavailable(&router, "my-model");
    let context = asking(Asked {
        flag: Some(name("my-model")),
        ..Asked::default()
    });
    let decision = router.route(&context).await;
    assert_eq!(
        (decision.model.as_str(), decision.source),
        ("my-model", Source::Override)
    );
}

#[tokio::test]
async fn when_flash_is_unavailable_a_simple_request_goes_to_pro() {
    let router = router();
    unavailable(&router, FLASH);
    let decision = router.route(&context("hi")).await;
    assert_eq!((decision.model.as_str(), decision.tier), (PRO, Some(Tier::Pro)));
    assert!(decision.reasoning.contains("unavailable"), "{}", decision.reasoning);
    assert_eq!(decision.source, Source::Fallback);
    assert_eq!(decision.instead_of, Some((name(FLASH), FailureKind::Terminal)));
    let asked = consulted(&decision);
    assert_eq!(asked[asked.len() - 2..], [Source::BuiltinClassifier, Source::Fallback]);
}

#[tokio::test]
async fn plan_mode_takes_pro_and_asks_nobody() {
    let decision = router()
        .route(&RoutingContext {
            approval: ApprovalMode::Plan,
            ..context("hi")
        })
        .await;
    assert_eq!((decision.model.as_str(), decision.source), (PRO, Source::ApprovalMode));
    for policy in decision.chain.policies() {
        assert_eq!(policy.actions.of(FailureKind::Terminal), Action::Silent);
    }
}

#[tokio::test]
async fn an_approved_plan_takes_flash() {
    let decision = router()
        .route(&RoutingContext {
            approval: ApprovalMode::ApprovedPlan("plans/a.md".into()),
            ..context("hi")
        })
        .await;
    assert_eq!(
        (decision.model.as_str(), decision.source),
        (FLASH, Source::ApprovalMode)
    );
    assert!(decision.reasoning.contains("plans/a.md"));
}

#[tokio::test]
async fn the_local_model_goes_before_the_built_in_classifier() {
    let local = local(r#"{"reasoning": "because", "model_choice": "pro"}"#).await;
    let decision = router_with(Some(local)).route(&context("hi")).await;
    assert_eq!(
        (decision.model.as_str(), decision.source),
        (PRO, Source::GemmaClassifier)
    );
    assert_eq!(decision.reasoning, "because");
    assert_eq!(decision.answered_by, Some(AnsweredBy::Model));
}

#[tokio::test]
async fn an_answer_without_the_model_is_skipped() {
    let text = r#"{"reasoning": "because", "model_choice": "pro"}"#;
    let local = local_answered_by(text, AnsweredBy::Builtin).await;
    let decision = router_with(Some(local)).route(&context("rename x to y in a.py")).await;
    assert_eq!(
        (decision.model.as_str(), decision.source),
        (FLASH, Source::BuiltinClassifier)
    );
    assert!(
        decision.trace[3].outcome.to_string().contains("in its place"),
        "{decision:?}"
    );
}

#[tokio::test]
async fn a_local_model_that_fails_is_skipped_and_shows_in_the_trace() {
    let local = local("no JSON").await;
    let decision = router_with(Some(local)).route(&context("hi")).await;
    assert_eq!(decision.source, Source::BuiltinClassifier);
    let failed = decision
        .trace
        .iter()
        .find(|entry| entry.strategy == Source::GemmaClassifier)
        .unwrap();
    assert!(
        matches!(&failed.outcome, Outcome::Failed(why) if why.contains("no JSON")),
        "{failed:?}"
    );
}

#[tokio::test]
async fn the_built_in_classifier_can_be_asked_for() {
    let local = local(r#"{"reasoning": "because", "model_choice": "pro"}"#).await;
    let decision = router_with(Some(local))
        .route(&RoutingContext {
            classifier: ClassifierChoice::Builtin,
            ..context("hi")
        })
        .await;
    assert_eq!(decision.source, Source::BuiltinClassifier);
}

#[tokio::test]
async fn a_request_without_text_goes_to_the_default_model() {
    let image = Content {
        role: Role::User,
        parts: vec![Part::Other],
    };
    let decision = router()
        .route(&RoutingContext {
            conversation: Conversation::from_contents(vec![image]),
            ..context("")
        })
        .await;
    assert_eq!((decision.model.as_str(), decision.source), (PRO, Source::Default));
    assert_eq!(decision.trace.len(), 6);
}

#[tokio::test]
async fn the_chain_of_a_decision_begins_with_its_model() {
    let decision = router().route(&context("hi")).await;
    let chain: Vec<_> = decision.chain.models().collect();
    assert_eq!(chain, [&decision.model, &name(PRO)], "flash, and round to pro");
}

#[tokio::test]
async fn as_json_a_decision_has_the_fields_of_the_contract() {
    let asked = Asked {
        flag: Some(name("models/my-model")),
        ..Asked::default()
    };
    let mut decision = router().route(&asking(asked)).await;
    decision.latency_ms = 0;
    decision.trace.drain(..1);
    decision.trace[0].latency_ms = 0;
    assert_eq!(
        serde_json::to_value(&decision).unwrap(),
        json!({
            "model": "my-model",
            "tier": null,
            "source": "override",
            "latency_ms": 0,
            "reasoning": "`--model` asks for `my-model`",
            "trace": [{
                "strategy": "override",
                "outcome": "decided: `my-model`: `--model` asks for `my-model`",
                "latency_ms": 0,
            }],
        })
    );
}

#[test]
fn the_words_of_the_sources_are_the_same_everywhere() {
    for source in [
        Source::Fallback,
        Source::Override,
        Source::ApprovalMode,
        Source::GemmaClassifier,
        Source::BuiltinClassifier,
        Source::Default,
    ] {
        assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
    }
}
