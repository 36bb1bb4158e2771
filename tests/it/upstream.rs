//! The gateway with a mock of the hosted Gemini API: the models it requests, and its reaction to failures.

use std::io::{Read, Write};
use std::time::Duration;

use gem_platform::process::Owner;
use gem_setup::runtime::local::{self, Answer, Peer};
use gem_setup_support::upstream::{Fault, Upstream};
use serde_json::{Value, json};

use super::harness::{Home, wait_until};
#[cfg(unix)]
use super::harness::{assert_says, on_a_terminal, on_a_terminal_of};

const SIMPLE: &str = "list the files here";
const COMPLEX: &str = "why does this architecture lose messages?";
/// The model that `auto-gemini-2.5` leads to for complex requests.
const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-3.8-flash";

pub(super) struct Scene {
    pub(super) home: Home,
    pub(super) upstream: Upstream,
}

impl Scene {
    fn new(on_fallback: &str) -> Self {
        Self::before(
            Upstream::start(),
            &["--on-fallback", on_fallback, "--max-retry-wait", "5"],
            &[],
        )
    }

    /// A server with the upstream `upstream`, started with these options and variables.
    pub(super) fn before(upstream: Upstream, options: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::on(Home::installed(), upstream, options, variables)
    }

    /// A server without a model.
    pub(super) fn builtin() -> Self {
        let home = Home::new();
        let port = home.port.to_string();
        Self::on(home, Upstream::start(), &["--runtime", "builtin", "--port", &port], &[])
    }

    /// The same on the test's own `home`.
    pub(super) fn on(home: Home, upstream: Upstream, options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut gem = home.gem(&["start", "--upstream", &upstream.url()]).args(options);
        for (name, value) in variables {
            gem = gem.env(name, value);
        }
        gem.ok();
        Self { home, upstream }
    }

    pub(super) fn ask(&self, path: &str, request: &str) -> Answer {
        self.post(
            path,
            &json!({"contents": [{"role": "user", "parts": [{"text": request}]}]}),
        )
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string().into_bytes())
    }

    pub(super) fn post_bytes(&self, path: &str, body: Vec<u8>) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(local::post(
                Peer::new(self.home.port, Owner::User),
                path,
                Some(body.into()),
                Duration::from_secs(60),
            ))
            .unwrap()
    }

    pub(super) fn generate(&self, model: &str, request: &str) -> Answer {
        self.ask(&format!("/v1beta/models/{model}:generateContent"), request)
    }
}

pub(super) fn text(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    body.pointer("/candidates/0/content/parts/0/text")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

fn per_day(model: &str) -> Fault {
    let quota = json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]);
    Fault::api(model, 429, "quota exceeded", &quota)
}

#[test]
fn auto_names_are_classified_and_other_models_pass_unchanged() {
    let scene = Scene::new("policy");
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", SIMPLE)),
        format!("Hello from {FLASH}")
    );
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", COMPLEX)),
        format!("Hello from {PRO}")
    );
    assert_eq!(text(&scene.generate("my-model", COMPLEX)), "Hello from my-model");
    assert_eq!(scene.upstream.models(), [FLASH, PRO, "my-model"]);
    for version in ["v1", "v1alpha"] {
        let answer = scene.ask(
            &format!("/{version}/models/auto-gemini-2.5:generateContent?key=k"),
            SIMPLE,
        );
        assert_eq!(text(&answer), format!("Hello from {FLASH}"));
        let last = scene.upstream.seen().pop().unwrap();
        assert_eq!(last.target, format!("/{version}/models/{FLASH}:generateContent?key=k"));
    }
}

#[test]
fn an_exhausted_daily_quota_switches_models_if_allowed() {
    let scene = Scene::new("silent");
    scene.upstream.fail(per_day(PRO));
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", COMPLEX)),
        format!("Hello from {FLASH}")
    );
    // The model is known to be unavailable, so it is not requested.
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", COMPLEX)),
        format!("Hello from {FLASH}")
    );
    assert_eq!(scene.upstream.models(), [PRO, FLASH, FLASH]);
}

#[test]
fn every_routed_request_logs_one_decision_with_its_final_model() {
    let scene = Scene::new("silent");
    scene.generate("auto-gemini-2.5", SIMPLE);
    scene.upstream.fail(per_day(PRO));
    scene.generate("auto-gemini-2.5", COMPLEX);
    scene.home.gem(&["stop"]).ok();
    let file = scene.home.layout().decisions_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let decisions: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let models: Vec<&Value> = decisions.iter().map(|decision| &decision["model"]).collect();
    assert_eq!(models, [FLASH, FLASH], "{text}");
    assert_eq!(decisions[0]["source"], "gemma-classifier");
    let fallback = ["tier", "source", "asked_first", "fallback_cause"].map(|field| &decisions[1][field]);
    assert_eq!(fallback, ["flash", "fallback", PRO, "terminal"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = std::fs::metadata(&file).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "it may hold what people asked");
    }
}

#[test]
fn the_local_model_classifies_on_an_ipv6_only_gateway() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // A machine without IPv6 has only one loopback address.
        return;
    }
    let home = Home::installed();
    let upstream = Upstream::start();
    home.gem(&["start", "--listen", "::1", "--upstream", &upstream.url()])
        .ok();
    let body = json!({"contents": [{"role": "user", "parts": [{"text": COMPLEX}]}]}).to_string();
    let mut stream = std::net::TcpStream::connect(("::1", home.port)).unwrap();
    let head = "POST /v1beta/models/auto-gemini-2.5:generateContent HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("x-gem-source: gemma-classifier"), "{reply}");
}

#[test]
fn without_consent_the_client_gets_the_failure() {
    for on_fallback in ["policy", "never", "ask"] {
        let scene = Scene::new(on_fallback);
        scene.upstream.fail(per_day(PRO));
        let answer = scene.generate("auto-gemini-2.5", COMPLEX);
        assert_eq!(answer.status, 429, "{on_fallback}");
        assert!(
            String::from_utf8_lossy(&answer.body).contains("quota exceeded"),
            "{on_fallback}"
        );
        assert_eq!(scene.upstream.models(), [PRO], "{on_fallback}");
    }
}

#[test]
fn a_transient_failure_is_retried_after_the_stated_delay() {
    for (status, message, details) in [
        (
            429,
            "slow down",
            json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.1s"}]),
        ),
        (429, "Please retry in 0.1s.", json!([])),
        (503, "overloaded", json!([])),
        (499, "cancelled", json!([])),
    ] {
        let scene = Scene::new("policy");
        let mut fault = Fault::api(PRO, status, message, &details);
        fault.times = Some(1);
        scene.upstream.fail(fault);
        let answer = scene.generate("auto-gemini-2.5", COMPLEX);
        assert_eq!(text(&answer), format!("Hello from {PRO}"), "{status} {message}");
        assert_eq!(scene.upstream.models(), [PRO, PRO], "{status} {message}");
    }
}

#[test]
fn a_request_that_every_model_would_refuse_is_not_repeated() {
    let scene = Scene::new("silent");
    scene.upstream.fail(Fault::api(PRO, 400, "bad request", &json!([])));
    assert_eq!(scene.generate("auto-gemini-2.5", COMPLEX).status, 400);
    assert_eq!(scene.upstream.models(), [PRO]);
}

#[test]
fn the_log_has_one_line_for_each_kind_of_failure() {
    let scene = Scene::new("policy");
    scene
        .upstream
        .fail(Fault::api(PRO, 403, "no permission\nto do this", &json!([])));
    for model in ["auto-gemini-2.5", PRO, PRO] {
        assert_eq!(scene.generate(model, COMPLEX).status, 403, "{model}");
    }
    let line = format!("the upstream answered 403 for `{PRO}`: no permission; ");
    let log = || std::fs::read_to_string(scene.home.layout().log_file()).unwrap();
    wait_until("the failure is logged", || log().contains(&line));
    assert_eq!(log().matches("403").count(), 1, "{}", log());
}

#[test]
fn the_first_server_error_of_a_model_has_one_line() {
    let scene = Scene::new("policy");
    scene.upstream.fail(Fault::api(PRO, 503, "overloaded", &json!([])));
    assert_eq!(scene.generate(PRO, COMPLEX).status, 503);
    let line = format!("the upstream answered 503 for `{PRO}`: overloaded; ");
    let log = || std::fs::read_to_string(scene.home.layout().log_file()).unwrap();
    wait_until("the failure is logged", || log().contains(&line));
    scene.home.gem(&["stop"]).ok();
    assert_eq!(log().matches("503").count(), 1, "{}", log());
}

#[test]
fn an_error_inside_a_stream_is_in_the_log_and_in_its_decision() {
    let scene = Scene::new("policy");
    let mut fault = Fault::api(PRO, 200, "x", &json!([]));
    fault.headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    fault.body =
        "data: {\"candidates\": []}\n\ndata: {\"error\": {\"code\": 503, \"message\": \"overloaded\"}}\n\n".to_owned();
    scene.upstream.fail(fault);
    let stream = |model: &str| format!("/v1beta/models/{model}:streamGenerateContent?alt=sse");
    for model in ["auto-gemini-2.5", PRO] {
        assert_eq!(scene.ask(&stream(model), COMPLEX).status, 200);
    }
    scene.home.gem(&["stop"]).ok();
    let log = std::fs::read_to_string(scene.home.layout().log_file()).unwrap();
    let line = format!("the upstream answered 503 for `{PRO}`: overloaded (in a reply that began as a success)");
    assert_eq!(log.matches(&line).count(), 1, "{log}");
    let decisions = std::fs::read_to_string(scene.home.layout().decisions_file()).unwrap();
    let statuses: Vec<Value> = decisions
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].take())
        .collect();
    assert_eq!(statuses, [json!(503), json!(503)], "{decisions}");
}

#[test]
fn counting_tokens_ends_no_failure_in_the_log() {
    let scene = Scene::new("policy");
    for model in [PRO, FLASH] {
        let fault = Fault::api(model, 429, "busy", &json!([]));
        scene.upstream.fail(Fault {
            times: Some(1),
            ..fault
        });
    }
    assert_eq!(scene.generate(PRO, COMPLEX).status, 429);
    let count = format!("/v1beta/models/{PRO}:countTokens");
    assert_eq!(scene.ask(&count, COMPLEX).status, 200);
    assert_eq!(scene.generate(FLASH, COMPLEX).status, 429);
    let log = || std::fs::read_to_string(scene.home.layout().log_file()).unwrap();
    wait_until("the second failure is logged", || {
        log().contains(&format!("429 for `{FLASH}`"))
    });
    assert!(!log().contains("answers again"), "{}", log());
    assert_eq!(scene.generate(PRO, COMPLEX).status, 200);
    wait_until("the answer is logged", || {
        log().contains(&format!("`{PRO}` answers again"))
    });
}

#[test]
fn a_removed_model_is_replaced() {
    let scene = Scene::new("silent");
    scene.upstream.fail(Fault::api(PRO, 404, "no such model", &json!([])));
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", COMPLEX)),
        format!("Hello from {FLASH}")
    );
    assert_eq!(scene.upstream.models(), [PRO, FLASH]);
}

#[test]
fn a_broken_reply_is_never_requested_again() {
    let scene = Scene::new("silent");
    let mut fault = Fault::api(PRO, 200, "x", &json!([]));
    fault.cut = true;
    scene.upstream.fail(fault);
    let path = "/v1beta/models/auto-gemini-2.5:streamGenerateContent?alt=sse";
    let body = json!({"contents": [{"role": "user", "parts": [{"text": COMPLEX}]}]}).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(local::post(
        Peer::new(scene.home.port, Owner::User),
        path,
        Some(body.into()),
        Duration::from_secs(60),
    ));
    // The network decides how much arrives before the break; the client must notice that the reply is incomplete.
    let is_broken = answer.as_ref().map_or(true, |answer| answer.status == 502);
    assert!(is_broken, "{answer:?}");
    assert_eq!(scene.upstream.models(), [PRO]);
}

#[cfg(unix)]
#[test]
fn serve_asks_the_person_at_its_terminal() {
    let home = Home::new();
    let upstream = Upstream::start();
    upstream.fail(per_day(PRO));
    let port = home.port.to_string();
    let serve = home.gem(&["serve", "--runtime", "builtin", "--port", &port, "--on-fallback", "ask"]);
    let serve = serve.args(["--upstream", &upstream.url()]);
    let scene = Scene { home, upstream };
    std::thread::scope(|threads| {
        let client = threads.spawn(|| {
            wait_until("the server listens", || scene.home.gem(&["status"]).run().status == 0);
            let answer = scene.generate("auto-gemini-2.5", COMPLEX);
            scene.home.gem(&["stop"]).ok();
            answer
        });
        let run = on_a_terminal(serve, "Answer [1-4]: ", "1\n");
        assert_says(
            &run.stdout,
            &[
                &format!("Request: {COMPLEX}\r\n"),
                &format!("`{PRO}` failed"),
                &format!("ask `{FLASH}` instead?"),
            ],
        );
        assert_eq!(text(&client.join().unwrap()), format!("Hello from {FLASH}"));
    });
}

/// Reads what the program writes to its terminal until `words` appear.
#[cfg(unix)]
fn read_until(terminal: &mut std::fs::File, words: &str) {
    let mut said = String::new();
    while !said.contains(words) {
        let mut bytes = [0; 1024];
        let read = terminal.read(&mut bytes).unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
}

#[cfg(unix)]
#[test]
fn a_question_ends_when_its_client_leaves() {
    let home = Home::new();
    let upstream = Upstream::start();
    upstream.fail(per_day(PRO));
    let port = home.port.to_string();
    let serve = home.gem(&["serve", "--runtime", "builtin", "--port", &port, "--on-fallback", "ask"]);
    let serve = serve.args(["--upstream", &upstream.url()]);
    let scene = Scene { home, upstream };
    let (go_on, next) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        let scene = &scene;
        let client = threads.spawn(move || {
            wait_until("the server listens", || scene.home.gem(&["status"]).run().status == 0);
            let body = json!({"contents": [{"role": "user", "parts": [{"text": COMPLEX}]}]}).to_string();
            let mut leaving = std::net::TcpStream::connect(("127.0.0.1", scene.home.port)).unwrap();
            let head = "POST /v1beta/models/auto-gemini-2.5:generateContent HTTP/1.1\r\nHost: localhost\r\n";
            write!(leaving, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            next.recv().unwrap();
            drop(leaving);
            next.recv().unwrap();
            let answer = scene.generate("auto-gemini-2.5", COMPLEX);
            scene.home.gem(&["stop"]).ok();
            answer
        });
        on_a_terminal_of(None, serve, "Answer [1-4]: ", |terminal| {
            go_on.send(()).unwrap();
            read_until(terminal, "No answer is needed any more");
            go_on.send(()).unwrap();
            read_until(terminal, "Answer [1-4]: ");
            terminal.write_all(b"1\n").unwrap();
        });
        assert_eq!(text(&client.join().unwrap()), format!("Hello from {FLASH}"));
    });
}
