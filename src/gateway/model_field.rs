//! The model's name in a path and in a body. Some methods repeat the path's model there, and the API refuses a mismatch.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use memchr::memmem;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::body::{Budget, Share, parse};
use super::coding;
use super::fault::Fault;
use super::path::version_and_model;

/// The model names in a body, as JSON strings: at the top level, in a request to count tokens, and in each request of a
/// batch. If a key occurs twice, both values are found, because servers differ in which one they use.
#[derive(Default)]
struct Names<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Search)
    }
}

/// Collects the names; skips values of an unexpected type.
struct Search;

impl<'de> Visitor<'de> for Search {
    type Value = Names<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Names::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "model" => names.0.push(map.next_value::<&RawValue>()?.get()),
                "generateContentRequest"
                | "generate_content_request"
                | "requests"
                | "request"
                | "batch"
                | "inputConfig"
                | "input_config" => {
                    names.0.extend(map.next_value::<Names<'de>>()?.0);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(names)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut names = Names::default();
        while let Some(Names(more)) = items.next_element()? {
            names.0.extend(more);
        }
        Ok(names)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Names::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Names::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Names::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Names::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Names::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Names::default())
    }
}

/// A key, with its escapes decoded.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// `uri` with `model` in its path, and with `method` if the path names one.
pub(super) fn in_path(uri: &Uri, model: &str, method: Option<&str>) -> Result<Uri, Fault> {
    let version = version_and_model(uri.path()).map_or("/v1beta/", |(version, _)| version);
    let mut path = [version, "models/", model].concat();
    if let Some(method) = method {
        // It was decoded.
        path.extend([":"].into_iter().chain(utf8_percent_encode(method, NON_ALPHANUMERIC)));
    }
    path.extend(uri.query().into_iter().flat_map(|query| ["?", query]));
    Uri::try_from(path).map_err(|_| Fault::Invalid(format!("`{model}` is not valid in a path")))
}

/// `body` without the mark that some programs put before it.
fn json(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether `body` may have a key of one of these names. Its letters may be escaped. A string before no `:` is a value.
fn may_have_key(body: &[u8], quoted: &[&str]) -> bool {
    let is_key = |end: usize| body[end..].trim_ascii_start().first() == Some(&b':');
    let is_plain = |name: &&str| memmem::find_iter(body, name.as_bytes()).any(|at| is_key(at + name.len()));
    let is_letter = |at: usize| matches!(body.get(at + 4), Some(b'4'..=b'7'));
    quoted.iter().any(is_plain) || memmem::find_iter(body, b"\\u00").any(is_letter)
}

/// The model that `body` names at its top level.
pub(super) async fn model(body: Bytes) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        model: Option<String>,
    }
    let size = body.len();
    let read = move || serde_json::from_slice::<Named>(json(&body)).ok()?.model;
    parse(size, read).await?
}

/// Whether `body` names a cache, which belongs to one model.
pub(super) fn names_cache(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Cached {
        #[serde(rename = "cachedContent", alias = "cached_content")]
        cache: Option<String>,
    }
    may_have_key(body, &["\"cachedContent\"", "\"cached_content\""])
        && serde_json::from_slice::<Cached>(json(body))
            .is_ok_and(|cached| cached.cache.is_some_and(|cache| !cache.is_empty()))
}

/// Replaces the model name `asked` by `meant` wherever `body` contains it; the rest stays unchanged. `headers` belong
/// to the body. A coded body is decoded, up to `limit` bytes. The changed body uses memory of
/// `budget`.
pub(super) async fn rename(
    headers: &mut HeaderMap,
    body: &Bytes,
    (asked, meant): (&str, &str),
    limit: usize,
    budget: &Arc<Budget>,
) -> Result<Bytes, Fault> {
    if asked == meant {
        return Ok(body.clone());
    }
    let decoded = coding::plain(headers, body, limit, budget).await?;
    let size = decoded.len();
    let (asked, meant, budget) = (asked.to_owned(), meant.to_owned(), Arc::clone(budget));
    let rename = move || renamed(&decoded, &asked, &meant, &budget);
    let Some(renamed) = parse(size, rename).await.unwrap_or(Ok(None))? else {
        return Ok(body.clone());
    };
    headers.remove(CONTENT_ENCODING);
    Ok(renamed)
}

/// The changed body, in memory of `budget`; `None` if `body` does not name the model `asked`.
fn renamed(body: &Bytes, asked: &str, meant: &str, budget: &Arc<Budget>) -> Result<Option<Bytes>, Fault> {
    if !may_have_key(body, &["\"model\""]) {
        return Ok(None);
    }
    let Names(names) = serde_json::from_slice(json(body)).unwrap_or_default();
    let places = names.into_iter().filter_map(|name| {
        let start = name.as_ptr() as usize - body.as_ptr() as usize;
        Some((start, name.len(), prefix(name, asked)?))
    });
    let places: Vec<_> = places.collect();
    if places.is_empty() {
        return Ok(None);
    }
    let added = |prefix: &str| prefix.len() + meant.len() + 2;
    let growth: usize = places.iter().map(|(_, _, prefix)| added(prefix)).sum();
    let removed: usize = places.iter().map(|(_, length, _)| length).sum();
    let length = body.len() + growth - removed;
    let mut share = Share::of(budget);
    share.cover(length)?;
    let mut renamed = Vec::with_capacity(length);
    let mut copied = 0;
    for (start, length, prefix) in places {
        renamed.extend_from_slice(&body[copied..start]);
        for piece in ["\"", prefix, meant, "\""] {
            renamed.extend_from_slice(piece.as_bytes());
        }
        copied = start + length;
    }
    renamed.extend_from_slice(&body[copied..]);
    Ok(Some(share.hold(renamed.into())))
}

/// The prefix before `asked` in the JSON string `name`; `None` if the string names another model.
fn prefix(name: &str, asked: &str) -> Option<&'static str> {
    let name: String = serde_json::from_str(name).ok()?;
    ["models/", ""]
        .into_iter()
        .find(|prefix| name.strip_prefix(prefix) == Some(asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(body: &'static str) -> String {
        let bytes = Bytes::from_static(body.as_bytes());
        let renamed = renamed(&bytes, "flash", "gemini-3.8-flash", &Budget::new(0)).unwrap();
        let renamed = renamed.unwrap_or(bytes);
        String::from_utf8(renamed.to_vec()).unwrap()
    }

    #[test]
    fn the_model_is_renamed_where_the_api_repeats_it() {
        for (body, expected) in [
            (r#"{ "model" : "flash" }"#, r#"{ "model" : "gemini-3.8-flash" }"#),
            (
                r#"{"generateContentRequest":{"model":"models/flash","contents":[{"text":"\ud83d"}]},"n":1.10}"#,
                r#"{"generateContentRequest":{"model":"models/gemini-3.8-flash","contents":[{"text":"\ud83d"}]},"n":1.10}"#,
            ),
            (
                r#"{"requests":[{"model":"models/flash"},{"model":"models/other"}]}"#,
                r#"{"requests":[{"model":"models/gemini-3.8-flash"},{"model":"models/other"}]}"#,
            ),
            (
                r#"{"model":"flash","requests":[1,null,{"model":"flash"}],"model":"models\/flash","batch":"x"}"#,
                r#"{"model":"gemini-3.8-flash","requests":[1,null,{"model":"gemini-3.8-flash"}],"model":"models/gemini-3.8-flash","batch":"x"}"#,
            ),
            (
                r#"{"batch":{"model":"models/flash","inputConfig":{"requests":{"requests":[{"request":{"model":"models/flash"}}]}}}}"#,
                r#"{"batch":{"model":"models/gemini-3.8-flash","inputConfig":{"requests":{"requests":[{"request":{"model":"models/gemini-3.8-flash"}}]}}}}"#,
            ),
            (r#"{"mod\u0065l":"fl\u0061sh"}"#, r#"{"mod\u0065l":"gemini-3.8-flash"}"#),
            (
                "\u{feff}{\"model\":\"flash\"}",
                "\u{feff}{\"model\":\"gemini-3.8-flash\"}",
            ),
        ] {
            assert_eq!(sent(body), expected);
        }
    }

    #[test]
    fn a_cache_is_named_at_the_top_level() {
        for (body, expected) in [
            (r#"{"contents": [], "cachedContent": "cachedContents/x"}"#, true),
            (r#"{"cached_content": "cachedContents/x"}"#, true),
            (r#"{"cachedContent": null}"#, false),
            (r#"{"cachedContent": ""}"#, false),
            (r#"{"contents": [{"cachedContent": "x"}]}"#, false),
            (r#"{"text": "\"cachedContent\""}"#, false),
            ("\u{feff}{\"cachedContent\" : \"cachedContents/x\"}", true),
            (r#"{"cached\u0043ontent": "cachedContents/x"}"#, true),
        ] {
            assert_eq!(names_cache(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn only_a_body_that_may_have_the_key_is_parsed() {
        for (body, expected) in [
            (r#"{"role":"model","parts":[{"text":"a \u003c b"}]}"#, false),
            (r#"{"role" : "model" , "parts":[]}"#, false),
            ("{\"role\":\"model\",\"model\"\n:1}", true),
            (r#"{"mod\u0065l":1}"#, true),
            (r#""model""#, false),
        ] {
            assert_eq!(may_have_key(body.as_bytes(), &["\"model\""]), expected, "{body}");
        }
    }

    #[tokio::test]
    async fn a_mark_before_the_body_hides_no_model() {
        let named = model(Bytes::from_static("\u{feff}{\"model\": \"models/m\"}".as_bytes()));
        assert_eq!(named.await.as_deref(), Some("models/m"));
    }

    #[test]
    fn a_path_gets_the_model_and_keeps_method_and_query() {
        for (uri, method, expected) in [
            (
                "/v1/models/a:countTokens?key=k",
                Some("countTokens"),
                "/v1/models/m:countTokens?key=k",
            ),
            ("/v1beta/models/a:x%3Fy?z", Some("x?y"), "/v1beta/models/m:x%3Fy?z"),
            ("/v1alpha/models/a", None, "/v1alpha/models/m"),
        ] {
            assert_eq!(in_path(&Uri::from_static(uri), "m", method).unwrap(), expected);
        }
    }

    #[test]
    fn other_bodies_pass_unchanged() {
        for body in [
            r#"{ "contents": [{"parts": [{"text": "model: flash"}]}] }"#,
            r#"{ "contents": [{"parts": [{"functionCall": {"args": {"model": "flash"}}}]}] }"#,
            r#"{ "model": 1, "x": "flash" "#,
            r#"{ "model": "models/other" }"#,
            r#"{ "model": 7 }"#,
        ] {
            assert_eq!(sent(body), body);
        }
    }
}
