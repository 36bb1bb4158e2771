//! Finds the well-formed JSON objects in a text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Found;

/// The number of objects in one answer that are read.
const MOST_OBJECTS: usize = 32;
/// The number of braces without a well-formed object that are tried.
const MOST_ATTEMPTS: usize = 64;

/// The verdict in the well-formed objects of `text`, and the text around them.
pub(super) fn scan(text: &str) -> (Found, String) {
    let mut found = Found::default();
    let mut around = String::new();
    let mut rest = text;
    let mut objects = 0;
    for _ in 0..MOST_ATTEMPTS {
        let Some(start) = rest.find('{').filter(|_| objects < MOST_OBJECTS) else {
            break;
        };
        around.push_str(&rest[..start]);
        match object(&rest[start..]) {
            Some((length, said)) => {
                objects += 1;
                found.merge(said);
                rest = &rest[start + length..];
            }
            None => {
                around.push('{');
                rest = &rest[start + 1..];
            }
        }
    }
    around.push_str(rest);
    (found, around)
}

impl Found {
    /// Adds a further object.
    fn merge(&mut self, other: Self) {
        if let Some(tier) = other.tier {
            self.note_tier(tier);
            if self.reasoning.is_none() {
                self.reasoning = other.reasoning;
            }
        }
        self.unclear |= other.unclear;
    }
}

/// The object at the beginning of `text`: its length in bytes and its verdict.
fn object(text: &str) -> Option<(usize, Found)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Said>();
    let said = values.next()?.ok()?;
    Some((values.byte_offset(), said.0))
}

/// The verdict in one JSON value, at any depth. Duplicate keys are all read; a map type would hide them.
struct Said(Found);

impl<'de> serde::Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = Found::default();
        deserializer.deserialize_any(Collector(&mut found))?;
        Ok(Self(found))
    }
}

/// Visits a value; returns scalars as text, so that the caller can note them with their key.
struct Collector<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Collector<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collector<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(item) = items.next_element_seed(Collector(self.0))? {
            texts.extend(item);
        }
        Ok((!texts.is_empty()).then(|| texts.join(" ")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            if let Some(text) = entries.next_value_seed(Collector(self.0))? {
                self.0.note(&key, &text);
            }
        }
        Ok(None)
    }
}
