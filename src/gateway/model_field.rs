//! The model's name inside a body: some methods repeat there what the path says, and the API refuses a mismatch.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Where a request names its model: at the top, in a request to count tokens, in each request of a batch.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
    #[serde(
        borrow,
        default,
        rename = "generateContentRequest",
        alias = "generate_content_request"
    )]
    counted: Option<Box<Named<'a>>>,
    #[serde(borrow, default)]
    requests: Option<Vec<Named<'a>>>,
    #[serde(borrow, default)]
    request: Option<Box<Named<'a>>>,
    #[serde(borrow, default)]
    batch: Option<Box<Named<'a>>>,
}

impl<'a> Named<'a> {
    fn names(&self, found: &mut Vec<&'a str>) {
        found.extend(self.model.map(RawValue::get));
        let inner = [&self.counted, &self.request, &self.batch];
        inner.into_iter().flatten().for_each(|named| named.names(found));
        self.requests.iter().flatten().for_each(|named| named.names(found));
    }
}

/// `body` with `meant` wherever it names the model `asked`; everything else stays as it is.
pub(super) fn renamed(body: &Bytes, asked: &str, meant: &str) -> Bytes {
    if asked == meant || memmem::find(body, b"\"model\"").is_none() {
        return body.clone();
    }
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let Ok(named) = serde_json::from_slice::<Named<'_>>(json) else {
        return body.clone();
    };
    let mut names = Vec::new();
    named.names(&mut names);
    let mut places: Vec<_> = names
        .into_iter()
        .filter_map(|name| {
            let start = name.as_ptr() as usize - body.as_ptr() as usize;
            let prefix = prefix(name, asked)?;
            Some((start, name.len(), prefix))
        })
        .collect();
    places.sort_unstable_by_key(|(start, ..)| *start);
    let mut renamed = BytesMut::with_capacity(body.len() + places.len() * meant.len());
    let mut copied = 0;
    for (start, length, prefix) in places {
        renamed.extend_from_slice(&body[copied..start]);
        renamed.extend_from_slice(format!("\"{prefix}{meant}\"").as_bytes());
        copied = start + length;
    }
    renamed.extend_from_slice(&body[copied..]);
    renamed.freeze()
}

/// What stands before `asked` in the JSON string `name`, if it names that model.
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
        String::from_utf8(renamed(&Bytes::from_static(body.as_bytes()), "flash", "gemini-3.8-flash").to_vec()).unwrap()
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
                "\u{feff}{\"model\":\"flash\"}",
                "\u{feff}{\"model\":\"gemini-3.8-flash\"}",
            ),
        ] {
            assert_eq!(sent(body), expected);
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
