//! The parts of a `GenerateContentRequest` that the gateway uses, and the form of the request for engines.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::tokens::Usage;
use crate::router::Role;
use crate::router::contents::{self, Content, Conversation, Flattened, Request};

/// A request for content.
#[derive(Debug)]
pub(super) struct GenerateRequest {
    contents: Vec<Content>,
    system: Option<Content>,
    config: Map<String, Value>,
    is_regular: bool,
}

/// The conversation in a classification request.
#[derive(Debug)]
pub(super) struct Question {
    /// The turns of user and model.
    pub(super) conversation: Conversation,
    /// The turns without the client's additions; `None` if there are no additions.
    slim: Option<Vec<Content>>,
}

impl GenerateRequest {
    /// Parses `body`, which [`repaired`](contents::repaired) has accepted.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Fault> {
        if body.trim_ascii().is_empty() {
            return Err(Fault::Invalid("the request has no body".to_owned()));
        }
        let Request {
            contents,
            system,
            config,
            form,
        } = Request::read(body).map_err(|error| invalid(&error))?;
        if contents.iter().all(|content| content.parts.is_empty()) {
            return Err(Fault::Invalid("the request has no `contents`".to_owned()));
        }
        let system = system.map(|system| contents::turn(system, &form)).transpose();
        let config: Map<_, _> = config
            .map_or_else(|| Ok(Map::new()), object)
            .map_err(|error| invalid(&error))?;
        Ok(Self {
            contents,
            system: system.map_err(|error| invalid(&error))?.flatten(),
            is_regular: form.is_regular() && is_regular_config(&config),
            config,
        })
    }

    /// The turns, oldest first; never empty.
    pub(super) fn contents(&self) -> &[Content] {
        &self.contents
    }

    /// The system instruction's text.
    pub(super) fn system_text(&self) -> Option<Cow<'_, str>> {
        self.system.as_ref()?.joined_text()
    }

    /// The estimated size of the prompt in tokens.
    pub(super) fn usage(&self) -> Usage {
        Usage::of_prompt(
            self.contents
                .iter()
                .chain(&self.system)
                .filter_map(Content::joined_text),
        )
    }

    /// Whether the answer must be JSON.
    pub(super) fn wants_json(&self) -> bool {
        let kind = self
            .option("responseMimeType", "response_mime_type")
            .and_then(Value::as_str);
        self.schema().is_some() || kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    }

    /// The schema of the answer, as JSON text.
    pub(super) fn schema(&self) -> Option<String> {
        let schema = self
            .option("responseSchema", "response_schema")
            .or_else(|| self.option("responseJsonSchema", "response_json_schema"))?;
        Some(schema.to_string())
    }

    /// The maximum number of tokens of the answer.
    pub(super) fn max_output_tokens(&self) -> Option<u32> {
        let limit = self.option("maxOutputTokens", "max_output_tokens")?;
        let limit = number(limit).unwrap_or_else(|| limit.clone());
        let whole = limit.as_u64().or_else(|| limit.as_f64().map(|limit| limit as u64))?;
        (whole > 0).then(|| u32::try_from(whole).unwrap_or(u32::MAX))
    }

    fn option(&self, name: &str, other_name: &str) -> Option<&Value> {
        let value = self.config.get(name).or_else(|| self.config.get(other_name))?;
        (!value.is_null()).then_some(value)
    }

    /// The conversation of a classification request: taken from a prompt that contains history and request under
    /// headings (docs/facts.md section 3), or else from the turns.
    pub(super) fn question(&self) -> Question {
        let asked = self.contents.iter().rposition(|content| content.role == Role::User);
        let text = asked
            .and_then(|asked| self.contents[asked].joined_text())
            .unwrap_or_default();
        let Some(flattened) = Flattened::find(&text) else {
            let slim = contents::without_additions(self.contents.clone());
            return Question {
                slim: (slim != self.contents && !slim.is_empty()).then_some(slim),
                conversation: Conversation::from_contents(self.contents.clone()),
            };
        };
        let slim = flattened.slim().zip(asked).map(|(slim, asked)| {
            let mut turns = self.contents.clone();
            turns[asked] = Content::text(Role::User, slim);
            turns
        });
        Question {
            conversation: flattened.conversation(),
            slim,
        }
    }

    /// `body`, from which this request was parsed, in a form that every engine accepts. Single objects, which Google's API
    /// allows, become lists. If `question` has fewer turns, they replace those of the body.
    ///
    /// # Errors
    /// When the body is nested too deeply to be rewritten.
    pub(super) fn engine_body(&self, body: &Bytes, question: Option<&Question>) -> Result<Bytes, Fault> {
        let slim = question.and_then(|question| question.slim.as_deref());
        if self.is_regular && slim.is_none() {
            return Ok(body.clone());
        }
        let mut request: Map<_, _> = serde_json::from_slice(body).map_err(|error| invalid(&error))?;
        make_regular(&mut request);
        if let Some(turns) = slim {
            request.insert("contents".to_owned(), turns.iter().filter_map(text_turn).collect());
        }
        Ok(Value::Object(request).to_string().into())
    }
}

fn invalid(error: &serde_json::Error) -> Fault {
    Fault::Invalid(format!(
        "the request's body is not a valid `generateContent` request: {error}"
    ))
}

fn object(json: &RawValue) -> serde_json::Result<Map<String, Value>> {
    let object: Option<_> = serde_json::from_str(json.get())?;
    Ok(object.unwrap_or_default())
}

/// A turn that consists only of text, in the API's form.
fn text_turn(turn: &Content) -> Option<Value> {
    let role = match turn.role {
        Role::User => "user",
        Role::Model => "model",
    };
    Some(json!({"role": role, "parts": [{"text": turn.joined_text()?}]}))
}

/// The numeric options.
const NUMBERS: [&str; 13] = [
    "temperature",
    "topP",
    "top_p",
    "topK",
    "top_k",
    "maxOutputTokens",
    "max_output_tokens",
    "candidateCount",
    "candidate_count",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "logprobs",
];

fn is_regular_config(config: &Map<String, Value>) -> bool {
    let is_regular =
        |(name, value): (&String, &Value)| !value.is_null() && (value.is_number() || !NUMBERS.contains(&name.as_str()));
    config.iter().all(is_regular)
}

/// Turns numbers in strings into numbers, and removes options of a wrong type, so that the engine uses its defaults.
fn make_regular_config(config: &mut Map<String, Value>) {
    for name in NUMBERS {
        if let Some(value) = config.get_mut(name)
            && let Some(number) = number(value)
        {
            *value = number;
        }
    }
    config.retain(|name, value| !value.is_null() && (value.is_number() || !NUMBERS.contains(&name.as_str())));
}

fn make_regular(request: &mut Map<String, Value>) {
    if let Some(contents) = request.get_mut("contents") {
        make_list(contents, make_regular_turn);
        if let Value::Array(turns) = contents {
            turns.retain(|turn| turn["parts"].as_array().is_none_or(|parts| !parts.is_empty()));
        }
    }
    for name in ["systemInstruction", "system_instruction"] {
        request.get_mut(name).into_iter().for_each(make_regular_turn);
    }
    for name in ["generationConfig", "generation_config"] {
        if let Some(Value::Object(config)) = request.get_mut(name) {
            make_regular_config(config);
        }
    }
    request.retain(|_, value| !value.is_null());
}

/// Makes `value` a list without nulls, and applies `make_item` to each item.
fn make_list(value: &mut Value, make_item: fn(&mut Value)) {
    if !value.is_array() {
        *value = Value::Array(vec![value.take()]);
    }
    if let Value::Array(items) = value {
        items.retain(|item| !item.is_null());
        items.iter_mut().for_each(make_item);
    }
}

fn make_regular_turn(turn: &mut Value) {
    if turn.is_string() {
        *turn = json!({"role": "user", "parts": [{"text": turn.take()}]});
    }
    let Value::Object(turn) = turn else { return };
    let text = turn.remove("text");
    let parts = turn.entry("parts").or_insert_with(|| json!([]));
    make_list(parts, make_regular_part);
    if let Value::Array(parts) = parts {
        parts.splice(0..0, text.map(|text| json!({"text": text})));
        parts.retain(|part| part.as_object().is_none_or(|part| !part.is_empty()));
    }
    if let Some(role) = turn.get_mut("role") {
        *role = match role.as_str() {
            Some("model" | "assistant") => "model",
            _ => "user",
        }
        .into();
    }
}

fn make_regular_part(part: &mut Value) {
    if part.is_string() {
        *part = json!({"text": part.take()});
    }
    let Value::Object(part) = part else { return };
    if let Some(text) = part.get_mut("text")
        && (text.is_number() || text.is_boolean())
    {
        *text = text.to_string().into();
    }
    part.retain(|name, value| name != "text" || value.is_string());
}

/// The number that the string `value` contains.
fn number(value: &Value) -> Option<Value> {
    let number: serde_json::Number = value.as_str()?.trim().parse().ok()?;
    Some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> GenerateRequest {
        GenerateRequest::parse(body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}"))
    }

    fn engine_body(body: &str) -> Value {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        serde_json::from_slice(&parse(body).engine_body(&bytes, None).unwrap()).unwrap()
    }

    #[test]
    fn malformed_requests_are_invalid() {
        for body in [
            "",
            "  \n",
            "{",
            "[]",
            "null",
            "{}",
            "\"x\"",
            "{\"contents\": []}",
            "{\"contents\": [1]}",
            "{\"contents\": null}",
            "{\"contents\": [null]}",
            "{\"contents\": [{\"role\": \"user\"}]}",
            "[[{\"parts\": [{\"text\": \"hi\"}]}]]",
            "{\"contents\": [[\"user\", [{\"text\": \"hi\"}]]]}",
            "{\"contents\": [{\"parts\": [[\"hi\"]]}]}",
            "{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"systemInstruction\": [\"user\", []]}",
            "{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"generationConfig\": []}",
        ] {
            let fault = GenerateRequest::parse(body.as_bytes()).unwrap_err();
            assert_eq!(fault.status(), 400, "{body}");
        }
    }

    #[test]
    fn both_spellings_are_read() {
        for body in [
            r#"{"contents":[{"parts":[{"text":"a"},{"inlineData":{}},{"text":"b"}]}],"systemInstruction":{"parts":[{"text":"s"}]},
                "generationConfig":{"responseMimeType":"application/json","maxOutputTokens":7},"tools":[]}"#,
            r#"{"contents":{"parts":[{"text":"a"},{"text":"b"}]},"system_instruction":{"parts":{"text":"s"}},
                "generation_config":{"response_mime_type":"application/json","max_output_tokens":"7"}}"#,
            r#"{"contents":"a\nb","systemInstruction":"s","tools":null,
                "generationConfig":{"responseMimeType":"application/json","maxOutputTokens":7.0,"topP":null}}"#,
        ] {
            let request = parse(body);
            assert_eq!(request.contents()[0].joined_text().unwrap(), "a\nb");
            assert_eq!(request.contents()[0].role, Role::User);
            assert_eq!(request.system_text().unwrap(), "s");
            assert!(request.wants_json());
            assert_eq!(request.max_output_tokens(), Some(7));
        }
    }

    #[test]
    fn engines_get_lists_objects_and_numbers() {
        let turn = json!({"role": "user", "parts": [{"text": "a"}]});
        for contents in [
            r#""a""#,
            r#"["a", null]"#,
            r#"[{"role": "user", "text": "a"}]"#,
            r#"{"role": "user", "parts": "a"}"#,
        ] {
            assert_eq!(
                engine_body(&format!(r#"{{"contents": {contents}}}"#)),
                json!({"contents": [turn]}),
                "{contents}"
            );
        }
        for odd in [
            r#""role": 5, "parts": [{"text": "a"}, {}]"#,
            r#""role": "system", "text": "a""#,
        ] {
            let body = format!(r#"{{"contents": [{{{odd}}}, {{"parts": []}}], "systemInstruction": null}}"#);
            assert_eq!(engine_body(&body), json!({"contents": [turn]}), "{odd}");
        }
        let body = r#"{"contents": [{"role": null, "parts": [{"text": 1}, null, {"text": null, "inlineData": {}}]}], "tools": null,
            "systemInstruction": {"parts": {"text": "s"}}, "generationConfig": {"temperature": "0", "topP": null, "maxOutputTokens": "256", "topK": "NaN"}}"#;
        let expected = json!({
            "contents": [{"role": "user", "parts": [{"text": "1"}, {"inlineData": {}}]}],
            "systemInstruction": {"parts": [{"text": "s"}]},
            "generationConfig": {"temperature": 0, "maxOutputTokens": 256},
        });
        assert_eq!(engine_body(body), expected);
    }

    #[test]
    fn regular_requests_go_to_engines_unchanged() {
        let body = Bytes::from_static(br#"{ "contents": [{"parts": [{"text": "a"}]}] }"#);
        assert_eq!(
            GenerateRequest::parse(&body).unwrap().engine_body(&body, None).unwrap(),
            body
        );
    }

    #[test]
    fn additions_are_left_out_for_engines() {
        let session = "<session_context>\n├───why.md\n</session_context>";
        let flat = |history: &str| {
            format!("#### Chat History:\n{history}\n\n#### Current Request:\n\"list the files\"\n\n### Reminder\nJSON")
        };
        let turn = |text: &str| json!({"role": "user", "parts": [{"text": text}]});
        for (sent, expected) in [
            (json!([turn(&flat(session))]), json!([turn(&flat(""))])),
            (
                json!([turn(session), turn("list the files")]),
                json!([turn("list the files")]),
            ),
        ] {
            let body = Bytes::from(json!({"contents": sent, "generationConfig": {"temperature": 0}}).to_string());
            let request = GenerateRequest::parse(&body).unwrap();
            let question = request.question();
            assert_eq!(question.conversation, Conversation::of("list the files", Vec::new()));
            let slim: Value = serde_json::from_slice(&request.engine_body(&body, Some(&question)).unwrap()).unwrap();
            assert_eq!(
                slim,
                json!({"contents": expected, "generationConfig": {"temperature": 0}})
            );
            assert_eq!(request.engine_body(&body, None).unwrap(), body);
        }
    }
}
