//! No download before the terms are accepted: no request reaches an engine whose model is missing or whose terms are not accepted. The
//! stand-in downloads at the first request, as `lit` does (docs/facts.md section 2).

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use gem_platform::process::Owner;
use gem_setup::runtime::local::{self, Answer, Peer};
use serde_json::{Value, json};

use super::harness::{Bare, Home, MODEL, assert_says, finish, wait_until};

const GENERATE: &str = "/v1beta/models/gemma3-1b-gpu-custom:generateContent";
const STREAM: &str = "/v1beta/models/gemma3-1b-gpu-custom:streamGenerateContent?alt=sse";

/// A home with the runtime but without a model.
fn without_model(more: &[&str]) -> Home {
    let mut home = Home::new();
    home.set("STAND_IN_SERVE", "download");
    let run = home.install_unaccepted(&["--no-model"]).args(more).ok();
    assert_eq!(run.step("model"), "skipped");
    assert_nothing_reached(&home);
    home
}

/// A home whose model was pulled with the runtime itself: gem-setup has no record of acceptance.
fn pulled_by_hand() -> Home {
    let home = without_model(&["--no-start"]);
    let directory = home.layout().models().join(MODEL);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("model.litertlm"), "model").unwrap();
    home
}

#[track_caller]
fn assert_nothing_reached(home: &Home) {
    let trace = home.trace();
    let reached: Vec<_> = trace
        .iter()
        .filter(|event| event["request"].is_string() || event["downloaded"].is_string())
        .collect();
    assert!(reached.is_empty(), "{reached:?}");
}

fn post(home: &Home, path: &str, body: Option<Value>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let body = body.map(|body| body.to_string().into());
    runtime
        .block_on(local::post(
            Peer::new(home.port, Owner::User),
            path,
            body,
            Duration::from_secs(60),
        ))
        .unwrap()
}

fn prompt(text: &str) -> Option<Value> {
    Some(json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}))
}

fn classification(text: &str) -> Option<Value> {
    let schema = json!({"type": "object", "properties": {"reasoning": {"type": "string"}, "model_choice": {"enum": ["flash", "pro"]}}});
    let mut body = prompt(text)?;
    body["generationConfig"] = json!({"responseMimeType": "application/json", "responseJsonSchema": schema});
    Some(body)
}

/// Both faces answer, but neither with the model.
#[track_caller]
fn assert_answers_without_model(home: &Home, command: &str) {
    let answer = post(home, GENERATE, classification("list the files"));
    assert_eq!((answer.status, answer.answered_by.as_deref()), (200, Some("builtin")));
    for path in [GENERATE, STREAM] {
        let answer = post(home, path, prompt("Tell me a joke."));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(body["error"]["status"], "FAILED_PRECONDITION");
        assert_says(body["error"]["message"].as_str().unwrap(), &[MODEL, command]);
    }
    // Gemini CLI takes any other status for a running server.
    assert_ne!(post(home, GENERATE, None).status, 404);
    // The face that chooses a model also asks the local one; the upstream is unreachable.
    let routed = post(
        home,
        "/v1beta/models/auto-gemini-2.5:generateContent",
        prompt("list the files"),
    );
    assert_ne!(routed.status, 404);
    assert_nothing_reached(home);
}

fn status(home: &Home) -> Value {
    home.gem(&["status", "--json"]).run().json()
}

/// Waits until the model itself answers.
#[track_caller]
fn wait_for_model(home: &Home) {
    wait_until("the model answers", || {
        let answer = post(home, GENERATE, classification("rename one file"));
        ["model", "cache"].contains(&answer.answered_by.as_deref().unwrap())
    });
    let downloads = home
        .trace()
        .iter()
        .filter(|event| event["downloaded"].is_string())
        .count();
    assert_eq!(downloads, 0);
}

#[test]
fn an_install_without_a_model_downloads_none() {
    let home = without_model(&[]);
    assert_eq!(home.invocations("serve"), 0);
    let seen = status(&home);
    assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(false)));
    assert_says(
        seen["note"].as_str().unwrap(),
        &["terms", "gem-setup install --accept-terms"],
    );
    assert_answers_without_model(&home, "gem-setup install --accept-terms");
    // No step remains, and none is repeated.
    let again = home.install_unaccepted(&["--no-model"]).ok();
    assert_eq!(again.changed(), Vec::<String>::new());
    assert_nothing_reached(&home);
}

#[test]
fn start_and_restart_send_nothing_without_a_model() {
    let home = without_model(&["--no-start"]);
    let run = home.gem(&["start", "--upstream", "http://127.0.0.1:9"]).ok();
    assert_says(
        &run.stderr,
        &["built-in classifier", "gem-setup install --accept-terms"],
    );
    assert_answers_without_model(&home, "gem-setup install --accept-terms");
    home.gem(&["restart", "--upstream", "http://127.0.0.1:9"]).ok();
    assert_answers_without_model(&home, "gem-setup install --accept-terms");
    assert_eq!(home.invocations("serve"), 0);
}

#[test]
fn the_start_of_gemini_cli_sends_nothing_without_a_model() {
    let home = without_model(&["--no-start"]);
    let port = format!("--port={}", home.port);
    let mut server = home.gem(&["serve", &port, "--verbose"]).spawn();
    wait_until("the gateway listens", || {
        TcpStream::connect(("127.0.0.1", home.port)).is_ok()
    });
    assert_answers_without_model(&home, "gem-setup install --accept-terms");
    home.gem(&["stop"]).ok();
    assert!(server.wait().unwrap().success());
}

#[test]
fn smoke_and_doctor_send_nothing_without_a_model() {
    let home = without_model(&[]);
    let run = home.gem(&["smoke"]).ends(3);
    assert_says(&run.stderr, &[MODEL, "gem-setup install --accept-terms"]);
    let run = home.gem(&["doctor", "--json", "--smoke"]).ends(10);
    assert_eq!(run.check("server.smoke")["status"], "fail");
    assert_nothing_reached(&home);
}

#[test]
fn a_server_without_a_gateway_refuses_to_start_without_a_model() {
    let home = without_model(&["--no-start"]);
    for command in ["start", "serve", "restart"] {
        let run = home.gem(&[command, "--direct"]).ends(3);
        assert_says(&run.stderr, &[MODEL, "gem-setup install --accept-terms"]);
        assert_eq!(status(&home)["running"], false, "{command}");
    }
    home.gem(&["pull", MODEL, "--accept-terms"]).ok();
    fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
    let run = home.gem(&["start", "--direct"]).ends(7);
    assert_says(&run.stderr, &[&format!("gem-setup pull {MODEL}")]);
    assert_nothing_reached(&home);
}

#[test]
fn a_running_server_notices_a_pulled_model() {
    let home = without_model(&[]);
    let pid = status(&home)["pid"].clone();
    home.gem(&["pull", MODEL, "--accept-terms"]).ok();
    wait_for_model(&home);
    // The gateway knows the model before it is on record.
    wait_until("the record says so", || status(&home)["ready"] == true);
    let seen = status(&home);
    assert_eq!(seen["pid"], pid);
    assert_eq!(seen["note"], Value::Null);
    home.gem(&["smoke"]).ok();
}

#[test]
fn a_removed_model_gets_no_requests() {
    let mut home = Home::new();
    home.set("STAND_IN_SERVE", "download");
    home.install(&[]).ok();
    wait_for_model(&home);
    let asked = home.trace().len();
    fs::remove_dir_all(home.layout().models().join(MODEL)).unwrap();
    let answer = post(&home, GENERATE, prompt("Tell me a joke."));
    assert_eq!(answer.status, 400);
    assert_says(
        &String::from_utf8_lossy(&answer.body),
        &[&format!("gem-setup pull {MODEL}")],
    );
    wait_until("the engine is stopped", || status(&home)["child"]["state"] == "blocked");
    let later = home.trace().split_off(asked);
    assert!(!later.iter().any(|event| event["downloaded"].is_string()), "{later:?}");
    home.gem(&["pull", MODEL]).ok();
    wait_for_model(&home);
}

#[test]
fn a_model_pulled_by_hand_waits_for_its_terms() {
    let home = pulled_by_hand();
    home.gem(&["start", "--upstream", "http://127.0.0.1:9"]).ok();
    assert_answers_without_model(&home, "gem-setup install --accept-terms");
    assert_eq!(home.doctor().check("model.terms")["status"], "fail");
    home.gem(&["pull", MODEL]).ends(3);
    home.install(&[]).ok();
    wait_for_model(&home);
    assert_eq!(home.invocations("pull"), 0);
    assert_eq!(home.doctor().faults(), Vec::<String>::new());
}

#[test]
fn pull_records_the_terms_of_a_present_model() {
    let home = pulled_by_hand();
    home.gem(&["start"]).ok();
    home.gem(&["pull", MODEL, "--accept-terms"]).ok();
    wait_for_model(&home);
    assert_eq!(home.invocations("pull"), 0);
}

#[test]
fn a_bare_runtime_without_a_model_is_not_probed() {
    let home = without_model(&["--no-start"]);
    let bare = Bare::start(
        &home,
        &[
            ("STAND_IN_SERVE", "download"),
            ("STAND_IN_TRACE", &home.beside("trace").to_string_lossy()),
        ],
    );
    let seen = status(&home);
    assert_eq!((&seen["running"], &seen["ready"]), (&json!(true), &json!(false)));
    home.doctor();
    home.gem(&["doctor", "--json", "--smoke"]).ends(10);
    home.gem(&["smoke"]).ends(3);
    home.gem(&["route", "--classifier", "model", "list the files"]).run();
    home.gem(&["start"]).ends(9);
    assert_nothing_reached(&home);
    drop(bare);
    let stop = home.gem(&["stop"]).spawn();
    assert_eq!(finish(stop).status, 0);
}
