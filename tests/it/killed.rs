//! The promise of the gateway, kept by the built program: whatever happens to the runtime, a classification is answered in time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gem_platform::process::{is_alive, kill};
use gem_setup::runtime::local;
use serde_json::{Value, json};

use super::harness::{Home, MODEL};

const REQUESTS: usize = 500;
const CLIENTS: usize = 4;
/// After so long Gemini CLI gives up a classification (FACTS section 3).
const CLIENT_DEADLINE: Duration = Duration::from_secs(10);
/// What each client waits between two requests, so that the run outlasts several kills.
const PAUSE: Duration = Duration::from_millis(60);
const BETWEEN_KILLS: Duration = Duration::from_secs(1);

/// What Gemini CLI sends, of its own wording only what makes it a classification.
fn classification(request: &str) -> String {
    let schema = json!({"type": "object", "properties": {"reasoning": {"type": "string"}, "model_choice": {"enum": ["flash", "pro"]}}});
    json!({
        "systemInstruction": {"parts": [{"text": "Answer in JSON with `reasoning` and `model_choice`, `flash` or `pro`."}]},
        "contents": [{"role": "user", "parts": [{"text": request}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
    })
    .to_string()
}

/// Who answered; fails unless the answer is one that the client can use.
fn classify(port: u16, request: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = format!("/v1beta/models/{MODEL}:generateContent");
    let body = Some(classification(request).into());
    let answer = runtime
        .block_on(local::post(port, &path, body, CLIENT_DEADLINE))
        .unwrap_or_else(|e| panic!("`{request}` was not answered: {e}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let text = body
        .pointer("/candidates/0/content/parts/0/text")
        .and_then(Value::as_str)
        .unwrap();
    let decision: Value = serde_json::from_str(text).unwrap();
    assert!(decision["reasoning"].is_string(), "{text}");
    assert!(
        ["flash", "pro"].contains(&decision["model_choice"].as_str().unwrap()),
        "{text}"
    );
    answer.answered_by.unwrap()
}

/// Kills the child of `home`'s server every second until `is_over`; says how many it killed.
fn kill_children(home: &Home, is_over: &AtomicBool) -> usize {
    let mut killed = 0;
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        // The server file names the child first; while there is none, only the server.
        if Instant::now() >= next
            && let [child, _server] = &home.processes()[..]
            && is_alive(child)
            && kill(child).is_ok()
        {
            killed += 1;
            next = Instant::now() + BETWEEN_KILLS;
        }
        thread::sleep(Duration::from_millis(5));
    }
    killed
}

#[test]
fn five_hundred_classifications_are_answered_while_the_child_is_killed_every_second() {
    let mut home = Home::new();
    // So that requests are under way when the child dies.
    home.set("STAND_IN_SERVE", "delay=20");
    home.install(&[]).ok();
    let (next, by_model, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let killed = thread::scope(|scope| {
        let killer = scope.spawn(|| kill_children(&home, &is_over));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= REQUESTS {
                            return;
                        }
                        // Each another request, so that none is answered from the cache.
                        let who = classify(home.port, &format!("rename the file number {number}"));
                        by_model.fetch_add(usize::from(who == "model"), Ordering::Relaxed);
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        let killed = killer.join().unwrap();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        killed
    });
    let by_model = by_model.into_inner();
    println!("killed {killed} times, {by_model} of {REQUESTS} answers by the model");
    assert!(killed >= 3, "killed {killed} times");
    assert!(by_model > REQUESTS / 10, "{by_model} answers by the model");
    home.gem(&["stop"]).ok();
}
