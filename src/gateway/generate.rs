//! The parts of a `GenerateContentRequest` that matter to the gateway.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::reply::Fault;

/// A request for content.
#[derive(Debug, serde::Deserialize)]
pub(super) struct GenerateRequest<'a> {
    #[serde(borrow, default)]
    contents: Many<Content<'a>>,
    #[serde(borrow, default, rename = "systemInstruction", alias = "system_instruction")]
    system_instruction: Option<Object<Content<'a>>>,
    #[serde(borrow, default, rename = "generationConfig", alias = "generation_config")]
    generation_config: Option<Object<GenerationConfig<'a>>>,
}

/// One turn.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    parts: Many<Part<'a>>,
}

#[derive(Debug, serde::Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

#[derive(Debug, Default, serde::Deserialize)]
struct GenerationConfig<'a> {
    #[serde(borrow, default, rename = "responseMimeType", alias = "response_mime_type")]
    response_mime_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "responseSchema", alias = "response_schema")]
    response_schema: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "responseJsonSchema", alias = "response_json_schema")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(default, rename = "maxOutputTokens", alias = "max_output_tokens")]
    max_output_tokens: Option<u32>,
}

impl<'a> GenerateRequest<'a> {
    /// Reads `body`.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        if body.trim_ascii().is_empty() {
            return Err(Fault::Invalid("the request has no body".to_owned()));
        }
        let Object(request) = serde_json::from_slice::<Object<Self>>(body)
            .map_err(|error| Fault::Invalid(format!("the request's body is not a request for content: {error}")))?;
        if request.contents.items.is_empty() {
            return Err(Fault::Invalid("the request has no `contents`".to_owned()));
        }
        Ok(request)
    }

    /// The turns, oldest first, at least one.
    pub(super) fn contents(&self) -> &[Content<'a>] {
        &self.contents.items
    }

    /// The system instruction's text.
    pub(super) fn system_text(&self) -> Option<Cow<'_, str>> {
        self.system_instruction.as_ref().map(|instruction| instruction.0.text())
    }

    /// Whether the answer is to be JSON.
    pub(super) fn wants_json(&self) -> bool {
        self.schema().is_some()
            || self
                .config()
                .and_then(|config| config.response_mime_type.as_deref())
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    }

    /// The schema of the answer, as JSON text.
    pub(super) fn schema(&self) -> Option<&'a str> {
        let config = self.config()?;
        config
            .response_schema
            .or(config.response_json_schema)
            .map(RawValue::get)
    }

    /// The most tokens the answer may have.
    pub(super) fn max_output_tokens(&self) -> Option<u32> {
        self.config()?.max_output_tokens
    }

    fn config(&self) -> Option<&GenerationConfig<'a>> {
        self.generation_config.as_ref().map(|config| &config.0)
    }

    /// `body`, which this was read from, as every engine takes it: with lists where Google's API lets single objects pass.
    pub(super) fn regular_body(&self, body: &Bytes) -> Bytes {
        let single = self.contents.single
            || self
                .contents
                .items
                .iter()
                .chain(self.system_instruction.as_ref().map(|instruction| &instruction.0))
                .any(|content| content.parts.single);
        if !single {
            return body.clone();
        }
        let Ok(mut request) = serde_json::from_slice::<Value>(body) else {
            return body.clone();
        };
        if let Some(contents) = request.get_mut("contents") {
            make_list(contents);
            contents.as_array_mut().into_iter().flatten().for_each(make_parts_list);
        }
        for name in ["systemInstruction", "system_instruction"] {
            request.get_mut(name).into_iter().for_each(make_parts_list);
        }
        request.to_string().into()
    }
}

fn make_parts_list(content: &mut Value) {
    content.get_mut("parts").into_iter().for_each(make_list);
}

fn make_list(value: &mut Value) {
    if value.is_object() {
        *value = Value::Array(vec![value.take()]);
    }
}

impl Content<'_> {
    /// Whether a person said it; so it is where no role is given.
    pub(super) fn is_users(&self) -> bool {
        self.role
            .as_deref()
            .is_none_or(|role| role.is_empty() || role == "user")
    }

    /// The text of its parts, one per line.
    pub(super) fn text(&self) -> Cow<'_, str> {
        let mut texts = self
            .parts
            .items
            .iter()
            .map(|part| &*part.text)
            .filter(|text| !text.is_empty());
        match (texts.next(), texts.next()) {
            (None, _) => Cow::Borrowed(""),
            (Some(only), None) => Cow::Borrowed(only),
            (Some(first), Some(second)) => {
                let mut joined = format!("{first}\n{second}");
                for text in texts {
                    joined.push('\n');
                    joined.push_str(text);
                }
                Cow::Owned(joined)
            }
        }
    }
}

/// What is read from a JSON object only; serde would take a list for a struct, too.
#[derive(Debug)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

/// A list of objects that may be written as its only element.
#[derive(Debug)]
struct Many<T> {
    items: Vec<T>,
    single: bool,
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            single: false,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Many::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Object(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Many { items, single: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        Ok(Many {
            items: vec![T::deserialize(MapAccessDeserializer::new(fields))?],
            single: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_invalid() {
        for body in [
            "",
            "  \n",
            "{",
            "[]",
            "null",
            "{}",
            "\"x\"",
            "{\"contents\": []}",
            "{\"contents\": \"x\"}",
            "{\"contents\": [{\"parts\": [{\"text\": 1}]}]}",
            "{\"contents\": [1]}",
            "{\"contents\": null}",
            "[[{\"parts\": [{\"text\": \"hi\"}]}]]",
            "{\"contents\": [[\"user\", [{\"text\": \"hi\"}]]]}",
            "{\"contents\": [{\"parts\": [[\"hi\"]]}]}",
            "{\"contents\": [{\"parts\": [{\"text\": \"hi\"}]}], \"systemInstruction\": [\"user\", []]}",
        ] {
            assert_eq!(
                GenerateRequest::parse(body.as_bytes()).unwrap_err().status(),
                400,
                "{body}"
            );
        }
    }

    #[test]
    fn both_spellings_are_read() {
        for body in [
            r#"{"contents":[{"parts":[{"text":"a"},{"inlineData":{}},{"text":"b"}]}],"systemInstruction":{"parts":[{"text":"s"}]},
                "generationConfig":{"responseMimeType":"application/json","maxOutputTokens":7},"tools":[]}"#,
            r#"{"contents":{"parts":[{"text":"a"},{"text":"b"}]},"system_instruction":{"parts":{"text":"s"}},
                "generation_config":{"response_mime_type":"application/json","max_output_tokens":7}}"#,
        ] {
            let request = GenerateRequest::parse(body.as_bytes()).unwrap();
            assert_eq!(request.contents()[0].text(), "a\nb");
            assert!(request.contents()[0].is_users());
            assert_eq!(request.system_text().unwrap(), "s");
            assert!(request.wants_json());
            assert_eq!(request.max_output_tokens(), Some(7));
        }
    }

    #[test]
    fn single_objects_become_lists_for_the_engine() {
        let body =
            Bytes::from_static(br#"{"contents":{"parts":{"text":"a"}},"systemInstruction":{"parts":{"text":"s"}}}"#);
        let regular = GenerateRequest::parse(&body).unwrap().regular_body(&body);
        assert_eq!(
            serde_json::from_slice::<Value>(&regular).unwrap(),
            serde_json::json!({"contents": [{"parts": [{"text": "a"}]}], "systemInstruction": {"parts": [{"text": "s"}]}})
        );
        let body = Bytes::from_static(br#"{ "contents": [{"parts": [{"text": "a"}]}] }"#);
        assert_eq!(GenerateRequest::parse(&body).unwrap().regular_body(&body), body);
    }
}
