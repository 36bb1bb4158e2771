//! Classification requests.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use gem_setup_support::engine::{EngineStandIn, Gate, Say, answer, reply};
use gem_setup_support::scripted_upstream::UpstreamStandIn;
use serde_json::{Value, json};

use super::{GENERATE, Running, STREAM, chooses, classification, eventually, prompt};
use crate::gateway::{ChainRouter, OnClassifierFailure};
use crate::router::consent::TellClient;
use crate::router::walk::OnFallback;
use crate::router::{ClassifierChoice, Models};
use crate::runtime::EngineState;

fn by(choice: &str, who: &str) -> (String, String) {
    (choice.to_owned(), who.to_owned())
}

#[tokio::test]
async fn the_model_s_answer_is_cleaned_and_written_anew() {
    let text = "Sure!\n```json\n{'reasoning': 'it is \"hard\"', 'model_choice': 'PRO', extra: 1,}\n```";
    let engine = EngineStandIn::start(vec![answer(text)]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let got = gateway.post(GENERATE, classification("why?")).await;
    assert_eq!(got.choice(), by("pro", "model"));
    assert_eq!(got.answer(), r#"{"reasoning":"it is \"hard\"","model_choice":"pro"}"#);
}

#[tokio::test]
async fn a_classification_is_known_by_its_schema() {
    let engine = EngineStandIn::start(vec![chooses("flash")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let schema =
        json!({"type": "OBJECT", "properties": {"model_choice": {"type": "STRING", "enum": ["flash", "pro"]}}});
    for body in [
        json!({"contents": {"parts": {"text": "rename a"}}, "generationConfig": {"responseSchema": schema}}),
        json!({"contents": [{"parts": [{"text": "rename b"}]}],
            "generation_config": {"response_mime_type": "application/json", "response_json_schema": schema}}),
        json!({"contents": [{"parts": [{"text": "rename c"}]}],
            "system_instruction": {"parts": [{"text": "model_choice is `flash` or `pro`"}]},
            "generationConfig": {"responseMimeType": "application/json"}}),
    ] {
        assert_eq!(
            gateway.post(GENERATE, body.to_string()).await.choice(),
            by("flash", "model"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn other_requests_for_json_are_prompts() {
    let engine = EngineStandIn::start(vec![answer("{\"a\": 1}")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    for (text, kind) in [
        ("improve the model_choice of the flash provider", "application/json"),
        ("model_choice flash pro", "text/plain"),
    ] {
        let body = json!({"contents": [{"parts": [{"text": text}]}], "generationConfig": {"responseMimeType": kind}});
        let got = gateway.post(GENERATE, body.to_string()).await;
        assert_eq!(
            (got.answer().as_str(), got.header("x-gem-answered-by")),
            ("{\"a\": 1}", "")
        );
    }
}

#[tokio::test]
async fn a_classification_may_be_streamed() {
    let engine = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let events = gateway.post(&format!("{STREAM}?alt=sse"), classification("a")).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    let event = events
        .text()
        .strip_prefix("data: ")
        .unwrap()
        .strip_suffix("\r\n\r\n")
        .unwrap();
    let array = gateway.post(STREAM, classification("a")).await;
    assert_eq!(array.header("x-gem-answered-by"), "cache");
    let array: Vec<Value> = serde_json::from_slice(&array.body).unwrap();
    assert_eq!(array, [serde_json::from_str::<Value>(event).unwrap()]);
}

#[tokio::test]
async fn the_builtin_classifier_replaces_an_unusable_answer() {
    let half = Say::Bytes("HTTP/1.0 200 OK\r\n\r\n{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"{".into());
    for says in [
        vec![answer("I cannot say")],
        vec![answer(r#"{"reasoning": "x", "model_choice": "flash or pro"}"#)],
        vec![answer(r#"{"reasoning": "x", "model_ch"#)],
        vec![answer("")],
        vec![reply("200 OK", "application/json", "{}")],
        vec![reply("500 Error\n", "text/html", "<p>Message: x</p>")],
        vec![reply("200 OK", "text/html", "garbage")],
        vec![half],
        vec![],
    ] {
        let engine = EngineStandIn::start(says.clone()).await.unwrap();
        let gateway = Running::before(&engine, |_| {}).await;
        let (_, who) = gateway.post(GENERATE, classification("rename a file")).await.choice();
        assert_eq!(who, "builtin", "{says:?}");
        let errors = Running::before(&engine, |config| {
            config.on_classifier_failure = OnClassifierFailure::Error
        })
        .await;
        errors
            .post(GENERATE, classification("rename a file"))
            .await
            .error(502, "UNAVAILABLE");
    }
}

#[tokio::test]
async fn a_late_model_is_replaced_before_the_deadline_and_remembered_for_the_next_time() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![Say::Wait(gate.clone()), chooses("pro")])
        .await
        .unwrap();
    let deadline = Duration::from_millis(300);
    let gateway = Running::before(&engine, |config| config.classifier_deadline = deadline).await;
    let begun = std::time::Instant::now();
    let got = gateway.post(GENERATE, classification("slow")).await;
    assert_eq!(got.choice().1, "builtin");
    assert!(begun.elapsed() >= deadline / 2, "the model had its time");
    gate.open();
    loop {
        let got = gateway.post(GENERATE, classification("slow")).await;
        if got.choice() == by("pro", "cache") {
            break;
        }
    }
    assert_eq!(engine.seen().len(), 1);
}

#[tokio::test]
async fn waiting_for_an_engine_that_never_starts_counts_against_the_deadline() {
    let gateway = Running::start(|config| config.classifier_deadline = Duration::from_millis(200)).await;
    assert_eq!(gateway.post(GENERATE, classification("x")).await.choice().1, "builtin");
    gateway.state(EngineState::CrashLoop);
    assert_eq!(gateway.post(GENERATE, classification("y")).await.choice().1, "builtin");
    let gateway = Running::start(|config| {
        config.classifier_deadline = Duration::from_millis(200);
        config.on_classifier_failure = OnClassifierFailure::Error;
    })
    .await;
    gateway
        .post(GENERATE, classification("x"))
        .await
        .error(504, "DEADLINE_EXCEEDED");
    gateway.state(EngineState::CrashLoop);
    let got = gateway.post(GENERATE, classification("x")).await;
    got.error(503, "UNAVAILABLE");
    assert_eq!(got.header("retry-after"), "1");
}

#[tokio::test]
async fn a_full_queue_is_said_to_be_one_where_an_error_is_wanted() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let gateway = Running::before(&engine, |config| {
        config.limits.engine_queue = 0;
        config.on_classifier_failure = OnClassifierFailure::Error;
    })
    .await;
    gateway.leave(&engine, prompt("takes the place")).await;
    let got = gateway.post(GENERATE, classification("x")).await;
    got.error(429, "RESOURCE_EXHAUSTED");
    assert_eq!(got.header("retry-after"), "1");
}

#[tokio::test]
async fn an_engine_killed_in_the_middle_is_asked_again_when_it_is_back() {
    let first = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let second = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
    let gateway = Running::before(&first, |_| {}).await;
    let (got, ()) = tokio::join!(gateway.post(GENERATE, classification("x")), async {
        eventually(|| !first.seen().is_empty()).await;
        first.kill();
        gateway.state(EngineState::Restarting);
        gateway.ready(second.address());
    });
    assert_eq!(got.choice(), by("pro", "model"));
}

#[tokio::test]
async fn equal_requests_share_one_call_and_its_answer() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![Say::Wait(gate.clone()), chooses("pro")])
        .await
        .unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    // The one who began the call leaves; the others still get its answer.
    gateway.leave(&engine, classification("same")).await;
    let open = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        gate.open();
    };
    let same = classification("same");
    let (a, b, ()) = tokio::join!(
        gateway.post(GENERATE, same.clone()),
        gateway.post(GENERATE, same.clone()),
        open
    );
    assert_eq!((a.choice(), b.choice()), (by("pro", "model"), by("pro", "model")));
    assert_eq!(gateway.post(GENERATE, same).await.choice(), by("pro", "cache"));
    assert_eq!(engine.seen().len(), 1);
    gateway.post(GENERATE, classification("other")).await.choice();
    assert_eq!(engine.seen().len(), 2);
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.text().contains("gem_setup_cache_hits_total 1\n"));
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_never_reaches_the_engine() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
    engine.then(vec![Say::Wait(gate.clone()), answer("slow")]);
    let gateway = Running::before(&engine, |config| {
        config.classifier_deadline = Duration::from_millis(100)
    })
    .await;
    gateway.leave(&engine, prompt("slow")).await;
    assert_eq!(
        gateway.post(GENERATE, classification("given up")).await.choice().1,
        "builtin"
    );
    gate.open();
    let last = classification("last");
    while gateway.post(GENERATE, last.clone()).await.choice().1 == "builtin" {}
    let bodies: Vec<_> = engine
        .seen()
        .iter()
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    assert!(!bodies.iter().any(|body| body.contains("given up")), "{bodies:?}");
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let engine = EngineStandIn::start(vec![chooses("flash")]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.cached_answers = 2).await;
    for request in ["a", "b", "c"] {
        gateway.post(GENERATE, classification(request)).await.choice();
    }
    assert_eq!(
        gateway.post(GENERATE, classification("a")).await.choice(),
        by("flash", "model")
    );
    assert_eq!(
        gateway.post(GENERATE, classification("c")).await.choice(),
        by("flash", "cache")
    );
}

#[tokio::test]
async fn a_repeated_request_states_the_size_of_its_own_prompt() {
    let engine = EngineStandIn::start(vec![chooses("flash")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let within = |session: &str| {
        let session = format!("<session_context>\n{session}\n</session_context>");
        let schema = json!({"properties": {"model_choice": {"enum": ["flash", "pro"]}}});
        let turn = |text: &str| json!({"role": "user", "parts": [{"text": text}]});
        json!({"contents": [turn(&session), turn("rename it")], "generationConfig": {"responseSchema": schema}})
    };
    let (short, long) = (within("short").to_string(), within(&"long ".repeat(100)).to_string());
    let mut sizes = Vec::new();
    for (body, answered_by) in [(&short, "model"), (&long, "cache"), (&short, "cache"), (&long, "cache")] {
        let got = gateway.post(GENERATE, body.clone()).await;
        assert_eq!(got.choice(), by("flash", answered_by));
        sizes.push(got.json()["usageMetadata"]["promptTokenCount"].as_u64().unwrap());
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    assert_eq!(sizes[..2], sizes[2..]);
}

#[tokio::test]
async fn a_runtime_without_a_model_classifies() {
    let gateway = Running::without_engine().await;
    assert_eq!(gateway.post(GENERATE, classification("x")).await.choice().1, "builtin");
}

#[tokio::test]
async fn decisions_are_logged_without_the_request_s_text_unless_asked_for() {
    for log_requests in [false, true] {
        let engine = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
        let gateway = Running::before(&engine, |config| config.log_requests = log_requests).await;
        gateway
            .post(&format!("{GENERATE}?key=sesame"), classification("my words"))
            .await
            .choice();
        gateway
            .post(&format!("{GENERATE}?key=sesame"), classification("my words"))
            .await
            .choice();
        let decisions = gateway.finish().await;
        assert_eq!(decisions.len(), 2);
        let decision = &decisions[0];
        for (field, value) in [
            ("tier", "pro"),
            ("model", "pro"),
            ("answered_by", "model"),
            ("reasoning", "as scripted"),
        ] {
            assert_eq!(decision[field], value);
        }
        assert!(decision["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert!(decision["latency_ms"].is_u64() && decision["source"].is_string());
        assert_eq!(decisions[1]["answered_by"], "cache");
        assert_eq!(
            decision.get("request").and_then(Value::as_str),
            log_requests.then_some("my words")
        );
        assert!(!decisions.iter().any(|decision| decision.to_string().contains("sesame")));
    }
}

#[tokio::test]
async fn the_router_asks_the_local_model_without_a_connection() {
    let engine = EngineStandIn::start(vec![chooses("flash")]).await.unwrap();
    let upstream = UpstreamStandIn::replies(vec![(200, "{}"), (200, "{}")]).await.unwrap();
    let url = format!("http://{}/", upstream.address()).parse().unwrap();
    let gateway = Running::before(&engine, |config| {
        config.upstream.url = url;
        config.router = Some(Arc::new(ChainRouter {
            models: Arc::new(Models::built_in().unwrap()),
            health: Arc::default(),
            classifier: ClassifierChoice::Model,
            on_fallback: OnFallback::Policy,
            consent: Arc::new(TellClient),
            max_wait: Duration::ZERO,
        }));
    })
    .await;
    let auto = "/v1beta/models/gem-auto:generateContent";
    for _ in 0..2 {
        let got = gateway.post(auto, prompt("why is it slow?")).await;
        assert_eq!(got.header("x-gem-source"), "gemma-classifier");
    }
    assert_eq!(engine.seen().len(), 1);
    let metrics = gateway.get("/metrics").await;
    assert!(
        metrics
            .text()
            .contains("gem_setup_requests_total{face=\"classifier\",outcome=\"ok\"} 0\n")
    );
    let decisions = gateway.finish().await;
    let answered_by: Vec<_> = decisions.iter().map(|decision| &decision["answered_by"]).collect();
    assert_eq!(answered_by, ["model", "cache"]);
}

#[tokio::test]
async fn the_log_says_why_the_model_did_not_answer() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    engine.then(vec![chooses("perhaps")]);
    let gateway = Running::before(&engine, |config| {
        config.classifier_deadline = Duration::from_secs(2);
    })
    .await;
    for request in ["one", "two"] {
        gateway.post(GENERATE, classification(request)).await.choice();
    }
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.text().contains("gem_setup_model_failures_total 2\n"));
    let decisions = gateway.finish().await;
    for (decision, cause) in decisions
        .iter()
        .zip(["names no clear choice", "did not answer in time"])
    {
        let failure = decision["model_failure"].as_str().unwrap();
        assert!(failure.contains(cause), "{failure}");
        assert!(decision["probability"].is_f64(), "{decision}");
    }
}

#[tokio::test]
async fn a_decision_log_that_cannot_be_written_is_counted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let decisions = file.path().join("decisions.jsonl");
    let gateway = Running::start_with(|config| config.decisions = decisions, false).await;
    gateway.post(GENERATE, classification("x")).await.choice();
    loop {
        let metrics = gateway.get("/metrics").await;
        if metrics.text().contains("gem_setup_decisions_lost_total 1\n") {
            break;
        }
    }
}

#[tokio::test]
async fn every_request_is_answered_in_time_while_the_engine_is_killed_again_and_again() {
    let gateway = Running::start(|_| {}).await;
    let (by_model, kills) = (Cell::new(0), Cell::new(0));
    let killer = async {
        loop {
            let engine = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
            gateway.ready(engine.address());
            // Counted, not timed: a slow machine must not kill it before it could answer.
            let next = by_model.get() + 4;
            while by_model.get() < next {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            engine.kill();
            kills.set(kills.get() + 1);
            gateway.state(EngineState::Restarting);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let requests = async {
        for at in 0..200 {
            let got = gateway.post(GENERATE, classification(&format!("request {at}"))).await;
            by_model.set(by_model.get() + usize::from(got.choice().1 == "model"));
        }
    };
    tokio::select! {
        () = requests => {}
        () = killer => {}
    }
    let (by_model, kills) = (by_model.get(), kills.get());
    assert!(by_model > 100 && kills > 20, "{by_model} {kills}");
}
