//! Reads turns in all forms that programs send, without copying parts that routing does not use (images can be large).
//!
//! The Gemini API allows a single element in place of a list, text in place of a part or a turn, null in place of a
//! missing value, and numbers in strings. Engines are stricter, so the reader notes such forms.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Content, Part};
use crate::router::Role;

/// Whether the turns contained a form that only lenient readers accept.
#[derive(Debug, Default)]
pub(crate) struct Form(Cell<bool>);

impl Form {
    /// Whether every engine accepts the turns unchanged.
    pub(crate) fn is_regular(&self) -> bool {
        !self.0.get()
    }

    fn irregular(&self) {
        self.note(false);
    }

    fn note(&self, is_regular: bool) {
        self.0.set(self.0.get() || !is_regular);
    }
}

/// A request for content, reduced to the fields used here.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    /// The turns, oldest first.
    pub(crate) contents: Vec<Content>,
    /// The system instruction, in the form of a turn.
    pub(crate) system: Option<&'a RawValue>,
    /// The generation configuration, an object.
    pub(crate) config: Option<&'a RawValue>,
    /// The form of `contents`.
    pub(crate) form: Form,
}

impl<'a> Request<'a> {
    /// Reads `body`, a JSON object that [`repaired`](super::repaired) has accepted.
    ///
    /// # Errors
    /// When it is not an object, or when a part of its contents is neither text nor an object.
    pub(crate) fn read(body: &'a [u8]) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let request = json.deserialize_map(Body(PhantomData))?;
        json.end()?;
        Ok(request)
    }
}

/// Reads a turn, for example a system instruction; `None` for null.
///
/// # Errors
/// When it is neither text nor an object.
pub(crate) fn turn(json: &RawValue, form: &Form) -> serde_json::Result<Option<Content>> {
    Items::read_one(form, &mut serde_json::Deserializer::from_str(json.get()))
}

/// The keys that are used.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Contents,
    #[serde(alias = "system_instruction")]
    SystemInstruction,
    #[serde(alias = "generation_config")]
    GenerationConfig,
    Role,
    Parts,
    Text,
    Thought,
    #[serde(alias = "function_call")]
    FunctionCall,
    #[serde(alias = "function_response")]
    FunctionResponse,
    #[serde(other)]
    Other,
}

struct Body<'a>(PhantomData<&'a ()>);

impl<'de> Visitor<'de> for Body<'de> {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut request = Request::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Contents => request.contents = map.next_value_seed(Many(&request.form, PhantomData))?,
                Key::SystemInstruction => {
                    request.system = map.next_value()?;
                    request.form.note(request.system.is_some());
                }
                Key::GenerationConfig => {
                    request.config = map.next_value()?;
                    request.form.note(request.config.is_some());
                }
                _ => request.form.note(map.next_value::<Option<IgnoredAny>>()?.is_some()),
            }
        }
        Ok(request)
    }
}

/// A value that is given as text or as an object.
trait Item: Sized {
    const EXPECTED: &str;

    fn from_text(text: String) -> Self;

    fn from_map<'de, A: MapAccess<'de>>(map: A, form: &Form) -> Result<Self, A::Error>;
}

impl Item for Part {
    const EXPECTED: &str = "a part: text or an object";

    fn from_text(text: String) -> Self {
        Self::Text(text)
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A, form: &Form) -> Result<Self, A::Error> {
        let (mut text, mut function, mut is_thought) = (None, None, false);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Text => text = map.next_value_seed(Text(form))?,
                Key::Thought => is_thought = map.next_value::<serde_json::Value>()? == true,
                Key::FunctionCall => {
                    function = map.next_value::<Option<IgnoredAny>>()?.map(|_| Self::FunctionCall);
                }
                Key::FunctionResponse => {
                    function = map.next_value::<Option<IgnoredAny>>()?.map(|_| Self::FunctionResponse);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(match (function, text) {
            (Some(function), _) => function,
            (None, Some(text)) if !is_thought => Self::Text(text.into_owned()),
            _ => Self::Other,
        })
    }
}

impl Item for Content {
    const EXPECTED: &str = "a turn: text or an object";

    fn from_text(text: String) -> Self {
        Self::text(Role::User, text)
    }

    fn from_map<'de, A: MapAccess<'de>>(mut map: A, form: &Form) -> Result<Self, A::Error> {
        let mut role = Role::User;
        let mut parts = Vec::new();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Role => {
                    let name = map.next_value_seed(Text(form))?;
                    form.note(matches!(name.as_deref(), Some("user" | "model")));
                    role = match name.as_deref() {
                        Some("model" | "assistant") => Role::Model,
                        _ => Role::User,
                    }
                }
                Key::Parts => parts.append(&mut map.next_value_seed(Many(form, PhantomData))?),
                Key::Text => {
                    form.irregular();
                    let text = map.next_value_seed(Text(form))?;
                    parts.extend(text.map(|text| Part::Text(text.into_owned())));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        form.note(!parts.is_empty());
        Ok(Self { role, parts })
    }
}

/// Adds one item or a list of items, or nothing for null. An element of a list cannot be a list.
struct Items<'a, T> {
    items: &'a mut Vec<T>,
    form: &'a Form,
    is_element: bool,
}

impl<'a, T: Item> Items<'a, T> {
    /// Reads an item or null.
    fn read_one<'de, D: Deserializer<'de>>(form: &'a Form, deserializer: D) -> Result<Option<T>, D::Error> {
        let mut items = Vec::new();
        let is_element = true;
        Items {
            items: &mut items,
            form,
            is_element,
        }
        .deserialize(deserializer)?;
        Ok(items.pop())
    }
}

/// The items of a value as a list.
struct Many<'a, T>(&'a Form, PhantomData<T>);

impl<'de, T: Item> DeserializeSeed<'de> for Many<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let mut items = Vec::new();
        let is_element = false;
        Items {
            items: &mut items,
            form: self.0,
            is_element,
        }
        .deserialize(deserializer)?;
        Ok(items)
    }
}

impl<'de, T: Item> DeserializeSeed<'de> for Items<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Item> Visitor<'de> for Items<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = if self.is_element { "" } else { ", or a list of them" };
        write!(f, "{}{list}", T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.form.irregular();
        self.items.push(T::from_text(text.to_owned()));
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.form.irregular();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.form.note(self.is_element);
        self.items.push(T::from_map(map, self.form)?);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.is_element {
            return Err(Error::invalid_type(Unexpected::Seq, &self));
        }
        let Self { items, form, .. } = self;
        let is_element = true;
        while list
            .next_element_seed(Items {
                items: &mut *items,
                form,
                is_element,
            })?
            .is_some()
        {}
        Ok(())
    }
}

/// Reads text, a number or a boolean as text; skips anything else.
struct Text<'f>(&'f Form);

impl Text<'_> {
    fn written<'de, E>(self, value: impl ToString) -> Result<Option<Cow<'de, str>>, E> {
        self.0.irregular();
        Ok(Some(value.to_string().into()))
    }
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned().into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        self.written(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        self.written(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        self.written(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        self.written(value)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.0.irregular();
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        self.0.irregular();
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        self.0.irregular();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads a turn.
///
/// # Errors
/// When it is neither text nor an object.
pub(super) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
    let turn = Items::read_one(&Form::default(), deserializer)?;
    turn.ok_or_else(|| Error::custom("expected a turn"))
}

/// Reads turns, for example the history of a row in a batch: a list, a single turn, or an object with `contents`.
///
/// # Errors
/// When the value has none of these forms.
pub(crate) fn turns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Content>, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?.get();
    let form = Form::default();
    let turns = match Request::read(json.as_bytes()) {
        Ok(request) if !request.contents.is_empty() => Ok(request.contents),
        _ => Many(&form, PhantomData).deserialize(&mut serde_json::Deserializer::from_str(json)),
    };
    let turns = turns.map_err(Error::custom)?;
    if !turns.is_empty() && turns.iter().all(|turn| turn.parts.is_empty()) {
        return Err(Error::custom(
            "expected turns with `text` or `parts`, or an object with `contents`",
        ));
    }
    Ok(turns)
}

/// Reads a text, which may be given as a number.
///
/// # Errors
/// When it is null, a list or an object.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = Text(&Form::default()).deserialize(deserializer)?;
    text.map(Cow::into_owned).ok_or_else(|| Error::custom("expected text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_regular(body: &str) -> bool {
        Request::read(body.as_bytes()).unwrap().form.is_regular()
    }

    #[test]
    fn forms_that_engines_refuse_are_noted() {
        assert!(is_regular(
            r#"{"contents": [{"role": "user", "parts": [{"text": "a"}, {"inlineData": {"data": null}}]}]}"#
        ));
        for contents in [
            r#"{"parts": [{"text": "a"}]}"#,
            r#""a""#,
            r#"["a"]"#,
            r#"[{"parts": {"text": "a"}}]"#,
            r#"[{"parts": ["a"]}]"#,
            r#"[{"parts": [{"text": "a"}, null]}]"#,
            r#"[{"parts": [{"text": 1}]}]"#,
            r#"[{"parts": [{"text": null}]}]"#,
            r#"[{"role": null, "parts": [{"text": "a"}]}]"#,
            r#"[{"text": "a"}]"#,
            r#"[null, {"parts": [{"text": "a"}]}]"#,
        ] {
            assert!(!is_regular(&format!(r#"{{"contents": {contents}}}"#)), "{contents}");
        }
    }
}
