//! `route` while the server knows that the chosen model has failed.

use gem_setup_support::upstream::{Fault, Upstream};
use serde_json::{Value, json};

use super::harness::{Gem, Run, assert_says, on_a_terminal};
use super::upstream::{Scene, text};

const COMPLEX: &str = "why does this architecture lose messages?";
const PRO: &str = "gemini-2.5-pro";
const FLASH: &str = "gemini-3.8-flash";
const QUESTION: &str = "Answer [1-4]: ";

/// A server whose powerful model has just failed for a client that gave no consent.
fn after_a_failure(on_fallback: &str) -> Scene {
    after_failures(on_fallback, None)
}

/// The same; the model fails this many times.
fn after_failures(on_fallback: &str, times: Option<u32>) -> Scene {
    let scene = Scene::before(Upstream::start(), &["--on-fallback", on_fallback], &[]);
    let quota = json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
                        "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}]);
    scene.upstream.fail(Fault {
        times,
        ..Fault::api(PRO, 429, "quota exceeded for project 4711", &quota)
    });
    scene.generate("auto-gemini-2.5", COMPLEX);
    scene
}

fn route(scene: &Scene) -> Gem {
    let route = [
        "route",
        "--model",
        "auto-gemini-2.5",
        "--classifier",
        "builtin",
        COMPLEX,
    ];
    scene.home.gem(&route)
}

fn answered(scene: &Scene, answer: &str) -> Run {
    on_a_terminal(route(scene), QUESTION, answer)
}

#[test]
fn a_terminal_is_asked_whether_another_model_may_answer() {
    let scene = after_a_failure("policy");
    let once = answered(&scene, "1\n");
    assert_says(
        &once.stdout,
        &[
            "`gemini-2.5-pro` failed (its quota is used up; it answers again in about ",
            "ask `gemini-3.8-flash` instead?",
            "yes, for an hour",
            "\r\ngemini-3.8-flash\r\n",
        ],
    );
    assert!(!once.stdout.contains("4711"), "{once:#?}");
    for (answer, hint) in [("3\n", "later"), ("4\n", "is not allowed to answer")] {
        let declined = answered(&scene, answer);
        assert_eq!(declined.status, 1, "{declined:#?}");
        assert_says(&declined.stdout, &["no model was chosen", hint]);
    }
    let unanswered = answered(&scene, "\u{4}");
    assert_says(&unanswered.stdout, &["\r\ngemini-2.5-pro\r\n", "--on-fallback silent"]);
    let interrupted = on_a_terminal(route(&scene).with_terminal(), QUESTION, "\u{3}");
    assert_eq!(interrupted.status, 130, "{interrupted:#?}");
    assert_eq!(scene.upstream.models(), [PRO], "`route` asks no hosted model");
}

#[test]
fn consent_for_the_session_is_asked_once() {
    let scene = after_a_failure("policy");
    assert_eq!(answered(&scene, "session\n").status, 0);
    let again = route(&scene).ok();
    assert_eq!((&*again.stdout, &*again.stderr), (&*format!("{FLASH}\n"), ""));
    assert_eq!(
        scene.generate("auto-gemini-2.5", COMPLEX).status,
        429,
        "other clients have not consented"
    );
    scene.home.gem(&["restart", "--upstream", &scene.upstream.url()]).ok();
    scene.generate("auto-gemini-2.5", COMPLEX);
    assert_eq!(route(&scene).ok().stdout, format!("{PRO}\n"), "kept in memory only");
}

#[test]
fn without_a_terminal_the_output_says_which_model_could_answer() {
    let scene = after_a_failure("policy");
    let unasked = route(&scene).ok();
    assert_eq!(unasked.stdout, format!("{PRO}\n"));
    assert_says(
        &unasked.stderr,
        &[
            "`gemini-3.8-flash` could answer",
            "--on-fallback silent",
            "x-gem-consent: once",
        ],
    );
    let json = route(&scene).args(["--json"]).ok().json();
    let needed = |line: &Value| ["failed", "kind", "candidate"].map(|field| line["needs_consent"][field].clone());
    assert_eq!(json["model"], PRO);
    assert_eq!(needed(&json), [PRO, "terminal", FLASH]);
    assert!(json["needs_consent"]["available_in_s"].as_u64() > Some(0), "{json}");
    let rows = scene.home.path().join("rows.jsonl");
    let row = json!({"id": 7, "request": COMPLEX}).to_string();
    scene.home.write(&rows, &row);
    let batch = scene.home.gem(&["route", "--model", "auto-gemini-2.5", "--batch"]);
    let batch = batch.arg(&rows).args(["--classifier", "builtin"]).ok().json();
    assert_eq!((&batch["id"], needed(&batch)), (&json!(7), needed(&json)));
    let silent = route(&scene).args(["--on-fallback", "silent", "--json"]).ok().json();
    assert_eq!(
        (&silent["model"], &silent["source"]),
        (&json!(FLASH), &json!("fallback"))
    );
    let never = route(&scene).args(["--on-fallback", "never"]).ok();
    assert_eq!((&*never.stdout, &*never.stderr), (&*format!("{PRO}\n"), ""));
}

#[test]
fn a_failure_that_is_over_is_forgotten() {
    let scene = after_failures("policy", Some(1));
    assert_eq!(
        text(&scene.generate("auto-gemini-2.5", COMPLEX)),
        format!("Hello from {PRO}")
    );
    assert_eq!(route(&scene).ok().stderr, "");
}

#[test]
fn a_model_that_the_server_skips_is_not_chosen() {
    let scene = after_a_failure("silent");
    let run = route(&scene).args(["--explain"]).ok();
    assert_says(&run.stdout, &["gemini-3.8-flash (flash)", "is unavailable (quota)"]);
    assert_eq!(run.stderr, "");
}
