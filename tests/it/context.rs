//! The context that a client adds to a conversation does not change decisions and does not reach the engine.

use gem_setup_support::upstream::Upstream;
use serde_json::{Value, json};

use super::harness::MODEL;
use super::upstream::Scene;

const REQUESTS: [&str; 6] = [
    "hello",
    "git status",
    "list the files",
    "rename `total` to `sum` in src/cart/cart.ts",
    "why does checkout lose items when two tabs are open?",
    "plan the move of our session store to another database",
];

/// A session context like the one that begins Gemini CLI's conversations (docs/facts.md section 3), in our own words.
fn session_context(entries: usize) -> String {
    let tree: Vec<String> = (0..entries)
        .map(|number| {
            let name = ["why-it-fails", "debug", "architecture", "migration", "index"][number % 5];
            format!("│   ├───{name}-{number}.md")
        })
        .collect();
    format!(
        "<session_context>\nFacts about this session.\nToday's date is a Saturday.\n- **Directory Structure:**\n\n/home/dev/shop/\n{}\n\n</session_context>",
        tree.join("\n")
    )
}

fn editor_context() -> String {
    let state = json!({"activeFile": {"path": "/home/dev/shop/src/debug.ts", "cursor": {"line": 1, "character": 2}}});
    format!("What the editor shows.\n```json\n{state:#}\n```")
}

pub(super) fn turn(role: &str, text: &str) -> Value {
    json!({"role": role, "parts": [{"text": text}]})
}

pub(super) fn flattened(history: &[&str], request: &str) -> Value {
    let text = format!(
        "You get a **Chat History** and a **Current Request**.\n\n#### Chat History:\n{}\n\n#### Current Request:\n\"{request}\"\n\n\n\
         ### Reminder\nAnswer in JSON with reasoning and model_choice (flash or pro).",
        history.join("\n\n")
    );
    json!({
        "contents": [turn("user", &text)],
        "systemInstruction": {"parts": [{"text": "Choose flash or pro."}]},
        "generationConfig": {"responseMimeType": "application/json"},
    })
}

impl Scene {
    pub(super) fn tier_on_local_face(&self, body: &Value) -> String {
        let answer = self.post(&format!("/v1beta/models/{MODEL}:generateContent"), body);
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let text = answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap();
        serde_json::from_str::<Value>(text).unwrap()["model_choice"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The model that is requested from the upstream.
    fn model_on_upstream_face(&self, contents: &Value) -> String {
        self.post(
            "/v1beta/models/gem-auto:generateContent",
            &json!({"contents": contents}),
        );
        self.upstream.models().pop().unwrap()
    }

    pub(super) fn routed(&self, options: &[&str]) -> Value {
        let mut args = vec![
            "route",
            "--json",
            "--classifier",
            "builtin",
            "--account",
            "api-key",
            "--model",
            "gem-auto",
        ];
        args.extend(options);
        self.home.gem(&args).ok().json()
    }
}

#[test]
fn session_context_changes_no_decision() {
    let scene = Scene::builtin();
    for request in REQUESTS {
        let expected = scene.routed(&[request]);
        for entries in [2, 40, 200] {
            let session = session_context(entries);
            let case = format!("{request}, {entries} entries");
            let tier = scene.tier_on_local_face(&flattened(&[&session, &editor_context()], request));
            assert_eq!(tier, expected["tier"], "{case}");
            let model = scene.model_on_upstream_face(&json!([
                turn("user", &session),
                turn("user", &editor_context()),
                turn("user", request),
            ]));
            assert_eq!(model, expected["model"], "{case}");
        }
    }
}

#[test]
fn histories_lose_the_session_context_too() {
    let scene = Scene::builtin();
    let session = session_context(200);
    let said = [
        "what is in src/cart?",
        "One file: `cart.ts`, 300 lines. Shall I rewrite all of it?",
    ];
    let plain = json!([turn("user", said[0]), turn("model", said[1])]);
    let history = json!([turn("user", &session), turn("user", said[0]), turn("model", said[1])]);
    let file = scene.home.beside("history.json");
    for request in ["yes, do it", "no", "and src/list?"] {
        std::fs::write(&file, plain.to_string()).unwrap();
        let expected = scene.routed(&["--history", file.to_str().unwrap(), request]);
        std::fs::write(&file, history.to_string()).unwrap();
        let routed = scene.routed(&["--history", file.to_str().unwrap(), request]);
        assert_eq!(routed["reasoning"], expected["reasoning"], "{request}");
        let mut contents = history.clone();
        contents.as_array_mut().unwrap().push(turn("user", request));
        assert_eq!(scene.model_on_upstream_face(&contents), expected["model"], "{request}");
        let with = scene.tier_on_local_face(&flattened(&[&session, said[0], said[1]], request));
        let without = scene.tier_on_local_face(&flattened(&said, request));
        assert_eq!(with, without, "{request}");
    }
}

#[test]
fn named_files_are_not_part_of_the_request() {
    let scene = Scene::builtin();
    let request = "what does @src/cart.ts export?";
    let contents = ["why does it fail?\n"; 300].concat();
    let parts = json!([
        {"text": request},
        {"text": "\n--- Content from referenced files ---"},
        {"text": "\nContent from @src/cart.ts:\n"},
        {"text": contents},
        {"text": "\n--- End of content ---"},
    ]);
    let expected = scene.routed(&[request]);
    let turns = json!([turn("user", &session_context(40)), {"role": "user", "parts": parts}]);
    assert_eq!(scene.model_on_upstream_face(&turns), expected["model"]);
    let texts: Vec<&str> = parts
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["text"].as_str().unwrap())
        .collect();
    let asked = flattened(&[], &texts.join("\n\n"));
    assert_eq!(scene.tier_on_local_face(&asked), expected["tier"]);
}

/// The sizes of the engine's requests, in bytes, with and without a session context.
fn engine_bytes(options: &[&str]) -> [Value; 2] {
    let scene = Scene::before(Upstream::start(), options, &[]);
    let session = session_context(200);
    // Two different requests of one length: a repeated one would be answered from memory.
    [(vec![&session[..]], "list the files"), (Vec::new(), "list the tiles")].map(|(history, request)| {
        scene.tier_on_local_face(&flattened(&history, request));
        scene.home.trace().pop().unwrap()["bytes"].clone()
    })
}

#[test]
fn engines_get_no_session_context() {
    let [with, without] = engine_bytes(&[]);
    assert_eq!(with, without);
}

#[test]
fn engines_get_it_as_sent_on_request() {
    let [with, without] = engine_bytes(&["--classifier-prompt", "as-sent"]);
    assert!(
        with.as_u64() > without.as_u64().map(|bytes| bytes + 5_000),
        "{with} {without}"
    );
}

#[test]
fn engines_get_valid_text_lists_and_numbers() {
    let scene = Scene::before(Upstream::start(), &[], &[]);
    let cut = br#"{"contents": {"parts": {"text": "list the files \ud83d"}}, "systemInstruction": "model_choice: flash or pro",
        "generationConfig": {"responseMimeType": "application/json", "maxOutputTokens": "256", "topK": null}}"#;
    let answer = scene.post_bytes(&format!("/v1beta/models/{MODEL}:generateContent"), cut.to_vec());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.answered_by.as_deref(), Some("model"));
}
