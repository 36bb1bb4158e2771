use serde_json::{Value, json};

use super::*;

fn user(text: &str) -> Content {
    Content::text(Role::User, text)
}

fn conversation(contents: &Value) -> Conversation {
    Conversation::from_body(json!({"contents": contents, "tools": [{}]}).to_string().as_bytes()).unwrap()
}

fn texts(turns: &[Turn]) -> Vec<&str> {
    turns.iter().map(|turn| turn.text.as_str()).collect()
}

#[test]
fn the_request_is_the_last_turn_and_the_history_what_is_before_it() {
    let conversation = conversation(&json!([
        {"role": "user", "parts": [{"text": "hello"}]},
        {"role": "model", "parts": [{"text": "hi"}]},
        {"role": "user", "parts": [{"text": "rename x"}, {"text": "to y"}]},
    ]));
    assert_eq!(conversation.request, "rename x\nto y");
    assert_eq!(conversation.history, [user("hello"), Content::text(Role::Model, "hi")]);
    assert!(conversation.is_new_turn);
}

#[test]
fn a_function_response_is_routed_like_the_request_it_serves() {
    let conversation = conversation(&json!([
        {"role": "user", "parts": [{"text": "first"}]},
        {"role": "model", "parts": [{"text": "done"}]},
        {"role": "user", "parts": [{"text": "second"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "ls", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "ls", "response": {}}}]},
    ]));
    assert_eq!(conversation.request, "second");
    assert_eq!(conversation.history.len(), 2);
    assert!(!conversation.is_new_turn);
}

#[test]
fn a_conversation_without_the_users_words_has_no_request() {
    for contents in [
        json!([]),
        Value::Null,
        json!([{"role": "model", "parts": [{"text": "hi"}]}]),
        json!([{"parts": [{"inlineData": {"data": "AAAA"}}]}]),
    ] {
        assert_eq!(conversation(&contents).request, "", "{contents}");
    }
    assert_eq!(Conversation::from_body(b"{}").unwrap(), Conversation::default());
}

#[test]
fn every_form_that_programs_send_is_read() {
    for contents in [
        json!("hello"),
        json!({"parts": [{"text": "hello"}]}),
        json!(["hello"]),
        json!([{"role": "user", "parts": {"text": "hello"}}]),
        json!([{"role": null, "parts": ["hello"], "extra": {"a": [1, 2]}}]),
        json!([{"role": 3, "text": "hello"}]),
        json!([{"parts": [{"text": "hello", "thoughtSignature": "x"}]}]),
        json!([{"parts": [{"text": "hello"}, {"text": null}, {"text": [{"a": 1}]}, {"inlineData": {"data": "AAAA"}}]}]),
    ] {
        assert_eq!(conversation(&contents).request, "hello", "{contents}");
    }
}

#[test]
fn parts_are_told_apart_in_both_spellings() {
    let content: Content = serde_json::from_value(json!({"role": "model", "parts": [
        {"text": "a"},
        {"functionCall": {"name": "f"}}, {"function_call": {"name": "f"}},
        {"functionResponse": {}}, {"function_response": {}},
        {"text": "musing", "thought": true},
        {"functionCall": null, "text": "b"},
        {"fileData": {"fileUri": "x"}},
    ]}))
    .unwrap();
    assert_eq!(
        content.parts,
        [
            Part::Text("a".to_owned()),
            Part::FunctionCall,
            Part::FunctionCall,
            Part::FunctionResponse,
            Part::FunctionResponse,
            Part::Other,
            Part::Text("b".to_owned()),
            Part::Other,
        ]
    );
}

#[test]
fn a_body_that_is_no_json_object_is_refused() {
    for body in ["", "[", "[[]]", "\"hello\"", "nonsense", "{\"contents\": [", "{} {}"] {
        assert!(Conversation::from_body(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn only_the_last_20_turns_are_looked_at() {
    let mut history = vec![user("too old")];
    history.extend((0..19).map(|_| Content {
        role: Role::Model,
        parts: vec![Part::FunctionCall],
    }));
    assert_eq!(texts(&turns_for_context(&history)), ["too old"]);
    history.push(Content {
        role: Role::User,
        parts: vec![Part::FunctionResponse],
    });
    assert!(turns_for_context(&history).is_empty());
}

#[test]
fn turns_with_function_calls_or_responses_are_dropped() {
    let with = |part: Part| Content {
        role: Role::Model,
        parts: vec![Part::Text("let me see".to_owned()), part],
    };
    let history = [
        user("a"),
        with(Part::FunctionCall),
        with(Part::FunctionResponse),
        user("b"),
    ];
    assert_eq!(texts(&turns_for_context(&history)), ["a", "b"]);
}

#[test]
fn the_last_4_turns_are_kept() {
    let history: Vec<_> = ["a", "b", "c", "d", "e"].map(user).into();
    assert_eq!(texts(&turns_for_context(&history)), ["b", "c", "d", "e"]);
}

#[test]
fn parts_that_are_no_text_are_dropped_after_the_last_4_are_counted() {
    let image = Content {
        role: Role::User,
        parts: vec![Part::Other],
    };
    let both = Content {
        role: Role::User,
        parts: vec![Part::Other, Part::Text("look".to_owned())],
    };
    let history = [user("a"), user("b"), image, both, user("c")];
    assert_eq!(texts(&turns_for_context(&history)), ["b", "look", "c"]);
}

#[test]
fn a_history_is_turns_or_contents() {
    let expected = [user("a"), Content::text(Role::Model, "b")];
    for text in [
        r#"[{"role": "user", "text": "a"}, {"role": "model", "text": "b"}]"#,
        r#"[{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]"#,
        r#"{"contents": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}]}"#,
    ] {
        assert_eq!(parse_history(text.as_bytes(), "h.json").unwrap(), expected, "{text}");
    }
}

#[test]
fn a_history_of_another_form_is_refused_by_name() {
    for (text, reason) in [
        ("[{]", "line 1"),
        ("{\"turns\": []}", "an object with `contents`"),
        ("[1]", "expected a turn"),
    ] {
        let error = parse_history(text.as_bytes(), "h.json").unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        let message = error.to_string();
        assert!(message.contains("h.json") && message.contains(reason), "{message}");
    }
}

const SESSION: &str = "<session_context>\nToday is Monday.\n├───why.md\n</session_context>";

#[test]
fn the_clients_additions_are_in_no_turn() {
    let contents = json!([
        {"role": "user", "parts": [{"text": SESSION}]},
        {"role": "user", "parts": [{"text": "hello"}, {"text": "<hook_context>why</hook_context>"}]},
        {"role": "model", "parts": [{"text": "<session_context> opens a session"}]},
        {"role": "user", "parts": [{"text": "an image"}, {"inlineData": {"data": "AAAA"}}, {"text": "<hook_context>b</hook_context>"}]},
        {"role": "user", "parts": [{"text": "The editor:\n```json\n{\"activeFile\": {}}\n```"}]},
        {"role": "user", "parts": [
            {"text": "explain @a.ts"},
            {"text": "\n--- Content from referenced files ---"},
            {"text": "\nContent from @a.ts:\n"},
            {"text": "why"},
            {"text": "\n--- End of content ---"},
        ]},
    ]);
    let expected = Conversation {
        request: "explain @a.ts".to_owned(),
        history: vec![
            user("hello"),
            Content::text(Role::Model, "<session_context> opens a session"),
            Content {
                role: Role::User,
                parts: vec![Part::Text("an image".to_owned()), Part::Other],
            },
        ],
        is_new_turn: true,
    };
    assert_eq!(conversation(&contents), expected);
    let history: Vec<Content> = serde_json::from_value(json!(contents.as_array().unwrap()[..5])).unwrap();
    assert_eq!(Conversation::of("explain @a.ts", history), expected);
}

#[test]
fn a_turn_of_additions_is_not_the_request() {
    let asked = conversation(
        &json!([{"text": SESSION}, {"text": "list the files"}, {"text": "<hook_context>why</hook_context>"}]),
    );
    assert_eq!(asked, Conversation::of("list the files", Vec::new()));
    assert_eq!(
        conversation(&json!([{"text": format!("{SESSION}\n\nlist the files")}])),
        asked
    );
    assert_eq!(conversation(&json!([{"text": SESSION}])).request, "");
}

#[test]
fn half_a_surrogate_pair_hides_nothing() {
    let body =
        br#"{"contents": [{"text": "see \ud83d"}, {"role": "model", "text": "ok"}, {"text": "list the files\udc00"}]}"#;
    let conversation = Conversation::from_body(body).unwrap();
    assert_eq!(conversation.request, "list the files\u{fffd}");
    assert_eq!(conversation.history[0], user("see \u{fffd}"));
    assert_eq!(
        parse_history(br#"[{"text": "see \ud83d"}]"#, "h.json").unwrap(),
        [user("see \u{fffd}")]
    );
}
