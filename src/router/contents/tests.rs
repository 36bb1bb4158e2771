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
        json!([{"parts": [{"text": "hello"}, {"text": 7}, {"text": [{"a": 1}]}, {"inlineData": {"data": "AAAA"}}]}]),
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
        assert_eq!(parse_history(text, "h.json").unwrap(), expected, "{text}");
    }
}

#[test]
fn a_history_of_another_form_is_refused_by_name() {
    for (text, reason) in [
        ("[{]", "line 1"),
        ("{\"turns\": []}", "expected a list"),
        ("[1]", "expected a list"),
    ] {
        let error = parse_history(text, "h.json").unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        let message = error.to_string();
        assert!(message.contains("h.json") && message.contains(reason), "{message}");
    }
}
