//! Prompts for the local model.

use std::io::Read;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzEncoder;
use gem_setup_support::engine::{EngineStandIn, Gate, Say, answer, event, reply, stream_head};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;

use super::{GENERATE, MODEL, Running, STREAM, chooses, classification, prompt};
use crate::runtime::EngineState;

#[tokio::test]
async fn an_empty_or_malformed_body_is_invalid_even_while_the_engine_starts() {
    let gateway = Running::start(|_| {}).await;
    for path in [GENERATE, STREAM] {
        for body in ["", "{", "[]", "{}", "not json"] {
            let got = gateway.post(path, body).await;
            got.error(400, "INVALID_ARGUMENT");
            assert_eq!(got.header("content-type"), "application/json; charset=UTF-8");
        }
    }
}

#[tokio::test]
async fn a_prompt_is_answered_by_the_engine() {
    let engine = EngineStandIn::start(vec![answer("hello")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let body = prompt("say hello");
    let got = gateway
        .send(
            Method::POST,
            &format!("{GENERATE}?key=secret"),
            &[("x-goog-api-key", "secret")],
            body.clone(),
        )
        .await;
    assert_eq!(got.answer(), "hello");
    assert_eq!(got.header("content-length"), got.body.len().to_string());
    let seen = &engine.seen()[0];
    assert_eq!(seen.line, format!("POST {GENERATE} HTTP/1.1"));
    assert_eq!(seen.body, body.as_bytes());
    assert!(!seen.head.contains("secret"), "{}", seen.head);
}

#[tokio::test]
async fn a_coded_prompt_is_decoded() {
    let engine = EngineStandIn::start(vec![answer("fine")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let (mut coded, text) = (Vec::new(), prompt("Hello"));
    let mut encoder = GzEncoder::new(text.as_bytes(), Compression::default());
    encoder.read_to_end(&mut coded).unwrap();
    let headers = [("content-encoding", "gzip")];
    let got = gateway.send(Method::POST, GENERATE, &headers, coded).await;
    assert_eq!(got.answer(), "fine");
}

#[tokio::test]
async fn a_prompt_waits_for_an_engine_that_starts() {
    let engine = EngineStandIn::start(vec![answer("hello")]).await.unwrap();
    let gateway = Running::start(|_| {}).await;
    let (got, ()) = tokio::join!(gateway.post(GENERATE, prompt("x")), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(engine.seen().is_empty());
        gateway.ready(engine.address());
    });
    assert_eq!(got.answer(), "hello");
}

#[tokio::test]
async fn a_prompt_survives_an_engine_that_is_replaced() {
    let first = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let second = EngineStandIn::start(vec![answer("second")]).await.unwrap();
    let gateway = Running::before(&first, |_| {}).await;
    let (got, ()) = tokio::join!(gateway.post(GENERATE, prompt("x")), async {
        super::eventually(|| !first.seen().is_empty()).await;
        first.kill();
        // Until the supervisor notices, the dead engine's address is still given out.
        tokio::time::sleep(Duration::from_millis(50)).await;
        gateway.state(EngineState::Restarting);
        gateway.ready(second.address());
    });
    assert_eq!(got.answer(), "second");
}

#[tokio::test]
async fn an_engine_that_always_breaks_off_gives_an_error() {
    let half = Say::Bytes("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{\"candidates\": [".into());
    for says in [
        vec![],
        vec![half],
        vec![Say::Bytes("garbage\r\n\r\n".into())],
        vec![reply("200 OK", "text/html", "<p>x")],
    ] {
        let engine = EngineStandIn::start(says).await.unwrap();
        let gateway = Running::before(&engine, |_| {}).await;
        gateway.post(GENERATE, prompt("x")).await.error(502, "UNAVAILABLE");
        gateway.post(STREAM, prompt("x")).await.error(502, "UNAVAILABLE");
        assert_eq!(engine.seen().len(), 4, "each is tried twice");
    }
}

#[tokio::test]
async fn broken_status_lines_and_html_become_errors_of_google_s_shape() {
    let page = "<html><body><p>Error code: 500</p><p>Message: RuntimeError: too long\n.</p></body></html>";
    for (status, client, name) in [
        ("500 RuntimeError: too long\n", 500, "INTERNAL"),
        ("404 FileNotFoundError: no model\n", 404, "NOT_FOUND"),
        ("400 No contents provided", 400, "INVALID_ARGUMENT"),
    ] {
        let engine = EngineStandIn::start(vec![reply(status, "text/html;charset=utf-8", page)])
            .await
            .unwrap();
        let gateway = Running::before(&engine, |_| {}).await;
        for path in [GENERATE, STREAM] {
            let message = gateway.post(path, prompt("x")).await.error(client, name);
            assert!(
                message.contains("RuntimeError: too long") && !message.contains('<'),
                "{message}"
            );
        }
        assert_eq!(engine.seen().len(), 2, "a refusal is not tried again");
    }
}

#[tokio::test]
async fn an_engine_in_a_crash_loop_is_not_waited_for() {
    let gateway = Running::start(|_| {}).await;
    gateway
        .status
        .send_modify(|status| status.last_exit = Some("exit status 1".to_owned()));
    gateway.state(EngineState::CrashLoop);
    let message = gateway.post(GENERATE, prompt("x")).await.error(503, "UNAVAILABLE");
    assert!(message.contains("exit status 1"), "{message}");
}

#[tokio::test]
async fn a_prompt_s_wait_ends_at_the_deadline() {
    let engine = EngineStandIn::start(vec![Say::Hang]).await.unwrap();
    let gateway = Running::before(&engine, |config| config.limits.prompt_time = Duration::from_millis(100)).await;
    gateway
        .post(GENERATE, prompt("x"))
        .await
        .error(504, "DEADLINE_EXCEEDED");
    let gateway = Running::before(&engine, |_| {}).await;
    let own = [("x-server-timeout", "0.1")];
    gateway
        .send(Method::POST, GENERATE, &own, prompt("x"))
        .await
        .error(504, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn the_engine_gets_one_request_at_a_time_and_the_queue_is_bounded() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![Say::Wait(gate.clone()), answer("done")])
        .await
        .unwrap();
    let gateway = Running::before(&engine, |config| config.limits.engine_queue = 1).await;
    let refused = async {
        super::eventually(|| engine.seen().len() == 1).await;
        loop {
            if gateway.get("/status").await.json()["waiting"] == 1 {
                break;
            }
        }
        let got = gateway.post(GENERATE, prompt("x")).await;
        got.error(429, "RESOURCE_EXHAUSTED");
        assert_eq!(got.header("retry-after"), "1");
        assert_eq!(engine.seen().len(), 1);
        gate.open();
    };
    let (first, second, ()) = tokio::join!(
        gateway.post(GENERATE, prompt("x")),
        gateway.post(GENERATE, prompt("x")),
        refused
    );
    assert_eq!(
        (first.answer(), second.answer()),
        ("done".to_owned(), "done".to_owned())
    );
}

#[tokio::test]
async fn the_next_request_is_sent_when_the_engine_is_done_with_one_whose_client_left() {
    let gate = Gate::default();
    let engine = EngineStandIn::start(vec![answer("next")]).await.unwrap();
    engine.then(vec![Say::Wait(gate.clone()), answer("unread")]);
    let gateway = Running::before(&engine, |_| {}).await;
    gateway.leave(&engine, prompt("leaves")).await;
    let own = [("x-server-timeout", "0.2")];
    let impatient = gateway.send(Method::POST, GENERATE, &own, prompt("x")).await;
    impatient.error(504, "DEADLINE_EXCEEDED");
    assert_eq!(engine.seen().len(), 1, "the engine is still at work");
    gate.open();
    assert_eq!(gateway.post(GENERATE, prompt("x")).await.answer(), "next");
}

#[tokio::test]
async fn an_answer_longer_than_the_client_s_limit_is_cut() {
    let engine = EngineStandIn::start(vec![answer("0123456789")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let body =
        json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 2}}).to_string();
    let got = gateway.post(GENERATE, body).await;
    assert_eq!(got.answer(), "01234567");
    assert_eq!(got.json()["candidates"][0]["finishReason"], "MAX_TOKENS");
}

#[tokio::test]
async fn a_stream_is_passed_on_piece_by_piece_in_both_formats() {
    for (path, first, whole) in [
        (format!("{STREAM}?alt=sse"), "data: {", "sse"),
        (STREAM.to_owned(), "[{", "array"),
    ] {
        let gate = Gate::default();
        let engine = EngineStandIn::start(vec![
            stream_head(),
            event("one", ""),
            Say::Wait(gate.clone()),
            event("two", ""),
            event("", "STOP"),
        ])
        .await
        .unwrap();
        let gateway = Running::before(&engine, |_| {}).await;
        let mut body = gateway.open(Method::POST, &path, &[], prompt("x")).await.into_body();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(piece.starts_with(first.as_bytes()), "{piece:?}");
        assert!(!engine.seen()[0].line.contains("key"));
        gate.open();
        let mut text = String::from_utf8(piece.to_vec()).unwrap();
        text.push_str(std::str::from_utf8(&body.collect().await.unwrap().to_bytes()).unwrap());
        let texts = if whole == "array" {
            array_texts(&text)
        } else {
            event_texts(&text)
        };
        assert_eq!(texts, ["one", "two", ""]);
    }
}

fn array_texts(text: &str) -> Vec<String> {
    let answers: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    answers.iter().map(text_of).collect()
}

fn event_texts(text: &str) -> Vec<String> {
    text.split_terminator("\r\n\r\n")
        .map(|event| text_of(&serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()))
        .collect()
}

fn text_of(answer: &serde_json::Value) -> String {
    answer["candidates"][0]["content"]["parts"][0]["text"]
        .as_str()
        .unwrap_or("?")
        .to_owned()
}

#[tokio::test]
async fn a_stream_is_cut_at_the_client_s_limit() {
    let engine = EngineStandIn::start(vec![stream_head(), event("12345", ""), event("67890", ""), Say::Hang])
        .await
        .unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let body =
        json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": 2}}).to_string();
    let got = gateway.post(&format!("{STREAM}?alt=sse"), body).await;
    assert_eq!(event_texts(got.text()), ["12345", "678"]);
    assert!(got.text().contains("MAX_TOKENS"));
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_piece_is_begun_again() {
    let engine = EngineStandIn::start(vec![stream_head(), event("whole", "STOP")])
        .await
        .unwrap();
    engine.then(vec![stream_head()]);
    let gateway = Running::before(&engine, |_| {}).await;
    let got = gateway.post(&format!("{STREAM}?alt=sse"), prompt("x")).await;
    assert_eq!(event_texts(got.text()), ["whole"]);
}

#[tokio::test]
async fn a_stream_that_breaks_later_ends_with_an_error() {
    let engine = EngineStandIn::start(vec![stream_head(), event("half", "")])
        .await
        .unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let got = gateway.post(STREAM, prompt("x")).await;
    assert_eq!(got.status, 200);
    let answers: Vec<serde_json::Value> = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1]["error"]["code"], 502);
}

#[tokio::test]
async fn a_stream_of_an_engine_that_answers_with_json_is_a_stream_all_the_same() {
    let engine = EngineStandIn::start(vec![answer("whole")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let got = gateway.post(&format!("{STREAM}?alt=sse"), prompt("x")).await;
    assert_eq!(event_texts(got.text()), ["whole"]);
}

#[tokio::test]
async fn a_runtime_without_a_model_says_so_in_a_normal_answer() {
    let gateway = Running::without_engine().await;
    let got = gateway.post(GENERATE, prompt("tell a joke")).await;
    assert!(got.answer().contains("only classifies"), "{}", got.text());
    assert_eq!(got.json()["modelVersion"], MODEL);
    let got = gateway.post(&format!("{STREAM}?alt=sse"), prompt("tell a joke")).await;
    assert_eq!(event_texts(got.text()).len(), 1);
}

#[tokio::test]
async fn an_idle_client_keeps_nobody_from_the_engine() {
    let engine = EngineStandIn::start(vec![chooses("pro")]).await.unwrap();
    let gateway = Running::before(&engine, |_| {}).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(tokio::net::TcpStream::connect(gateway.address).await.unwrap());
    }
    for at in 0..50 {
        let got = gateway.post(GENERATE, classification(&format!("request {at}"))).await;
        assert_eq!(got.choice(), ("pro".to_owned(), "model".to_owned()));
    }
}

#[tokio::test]
async fn other_methods_of_the_local_model_stay_on_this_machine() {
    let gateway = Running::without_engine().await;
    let path = GENERATE.replace("generateContent", "countTokens");
    gateway.post(&path, prompt("x")).await.error(501, "UNIMPLEMENTED");
    let got = gateway.get(GENERATE).await;
    got.error(405, "UNIMPLEMENTED");
    assert_eq!(got.header("allow"), "POST");
}
