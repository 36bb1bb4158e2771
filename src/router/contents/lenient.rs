//! Reads turns in any of the forms that programs send, without copying what routing has no use for (images can be large).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Content, Part};
use crate::router::Role;

/// The keys that matter.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Key {
    Contents,
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

/// A value of which only a text matters; anything else is read over.
struct MaybeText<'de>(Option<Cow<'de, str>>);

impl<'de> Deserialize<'de> for MaybeText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
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
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Some(text.into()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
        deserializer.deserialize_any(Text).map(Self)
    }
}

/// One or many; nothing where there is null.
struct OneOrMany<T>(Vec<T>);

impl<'de, T: Deserialize<'de> + FromText + FromMap> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de> + FromText + FromMap> Visitor<'de> for Items<T> {
            type Value = Vec<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one or a list")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(vec![T::from_text(text.to_owned())])
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Ok(vec![T::from_map(map)?])
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(items)
            }
        }
        deserializer.deserialize_any(Items(std::marker::PhantomData)).map(Self)
    }
}

trait FromText {
    fn from_text(text: String) -> Self;
}

trait FromMap: Sized {
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

impl FromText for Part {
    fn from_text(text: String) -> Self {
        Self::Text(text)
    }
}

impl FromMap for Part {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let (mut text, mut function, mut is_thought) = (None, None, false);
        while let Some(key) = map.next_key()? {
            match key {
                Key::Text => text = map.next_value::<MaybeText<'_>>()?.0,
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

impl FromText for Content {
    fn from_text(text: String) -> Self {
        Self::text(Role::User, text)
    }
}

impl FromMap for Content {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut role = Role::User;
        let mut parts = Vec::new();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Role => {
                    role = match map.next_value::<MaybeText<'_>>()?.0.as_deref() {
                        Some("model" | "assistant") => Role::Model,
                        _ => Role::User,
                    }
                }
                Key::Parts => parts.extend(map.next_value::<OneOrMany<Part>>()?.0),
                Key::Text => {
                    let text = map.next_value::<MaybeText<'_>>()?.0;
                    parts.extend(text.map(|text| Part::Text(text.into_owned())));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Self { role, parts })
    }
}

/// A text, or an object.
struct FromAny<T>(std::marker::PhantomData<T>);

impl<'de, T: FromText + FromMap> Visitor<'de> for FromAny<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an object")
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::from_text(text.to_owned()))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_map(map)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FromAny(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FromAny(std::marker::PhantomData))
    }
}

/// The `contents` of a request, which is an object; they are a list, a single turn, or a text.
pub(super) fn contents_of(body: &[u8]) -> serde_json::Result<Vec<Content>> {
    struct Body;
    impl<'de> Visitor<'de> for Body {
        type Value = Vec<Content>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut contents = Vec::new();
            while let Some(key) = map.next_key()? {
                match key {
                    Key::Contents => contents = map.next_value::<OneOrMany<Content>>()?.0,
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(contents)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let contents = json.deserialize_map(Body)?;
    json.end()?;
    Ok(contents)
}
