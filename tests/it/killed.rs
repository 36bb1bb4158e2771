//! The built program answers every classification in time, whatever happens to the runtime.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gem_platform::process::{Owner, is_alive, kill};
use gem_setup::runtime::local::{self, Peer};
use serde_json::{Value, json};

use super::harness::{Home, MODEL};

const REQUESTS: usize = 500;
const CLIENTS: usize = 4;
/// Gemini CLI gives up a classification after this time (docs/facts.md section 3).
const CLIENT_DEADLINE: Duration = Duration::from_secs(10);
/// The pause of each client between two requests, so that the run outlasts several kills.
const PAUSE: Duration = Duration::from_millis(60);
const BETWEEN_KILLS: Duration = Duration::from_secs(1);
/// The number of kills, at least.
const KILLS: usize = 3;

/// A request like Gemini CLI's, with only those of its words that make it a classification.
fn classification(request: &str) -> String {
    let schema = json!({"type": "object", "properties": {"reasoning": {"type": "string"}, "model_choice": {"enum": ["flash", "pro"]}}});
    json!({
        "systemInstruction": {"parts": [{"text": "Answer in JSON with `reasoning` and `model_choice`, `flash` or `pro`."}]},
        "contents": [{"role": "user", "parts": [{"text": request}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
    })
    .to_string()
}

/// The part that answered; fails unless the client can use the answer.
pub(super) fn classify(port: u16, request: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let path = format!("/v1beta/models/{MODEL}:generateContent");
    let body = Some(classification(request).into());
    let answer = runtime
        .block_on(local::post(Peer::new(port, Owner::User), &path, body, CLIENT_DEADLINE))
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

/// The counts so far.
#[derive(Default)]
struct Tally {
    asked: AtomicUsize,
    by_model: AtomicUsize,
    killed: AtomicUsize,
    is_over: AtomicBool,
}

impl Tally {
    /// The number of the next request, as long as more are needed: a slow machine takes longer to restart the engine.
    fn next(&self) -> Option<usize> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_wanted = number < REQUESTS || self.killed.load(Ordering::Relaxed) < KILLS;
        (is_wanted && number < 10 * REQUESTS).then_some(number)
    }
}

/// Kills the engine of `home`'s server, every second if the model has answered since the last kill.
fn kill_engines(home: &Home, tally: &Tally) {
    let mut next = Instant::now();
    let mut answered = 0;
    while !tally.is_over.load(Ordering::Relaxed) {
        let by_model = tally.by_model.load(Ordering::Relaxed);
        // The server file names the engine first; without an engine, only the server.
        if Instant::now() >= next
            && by_model > answered
            && let [child, _server] = &home.processes()[..]
            && is_alive(child)
            && kill(child).is_ok()
        {
            tally.killed.fetch_add(1, Ordering::Relaxed);
            next = Instant::now() + BETWEEN_KILLS;
            answered = by_model;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn five_hundred_classifications_survive_kills_of_the_engine() {
    let mut home = Home::new();
    // So that requests are in progress when the engine dies.
    home.set("STAND_IN_SERVE", "delay=20");
    home.install(&[]).ok();
    let tally = Tally::default();
    thread::scope(|scope| {
        let killer = scope.spawn(|| kill_engines(&home, &tally));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(number) = tally.next() {
                        // Different requests, so that none is answered from the cache.
                        let who = classify(home.port, &format!("rename the file number {number}"));
                        tally.by_model.fetch_add(usize::from(who == "model"), Ordering::Relaxed);
                        thread::sleep(PAUSE);
                    }
                })
            })
            .collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        tally.is_over.store(true, Ordering::Relaxed);
        killer.join().unwrap();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    });
    let (by_model, killed) = (tally.by_model.into_inner(), tally.killed.into_inner());
    println!("killed {killed} times, {by_model} answers by the model");
    // Each engine but the first was a restarted one, and had answered.
    assert!(killed >= KILLS, "killed {killed} times");
    home.gem(&["stop"]).ok();
}
