//! The model's name inside a body: some methods repeat there what the path says, and the API refuses a mismatch.

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

/// `body` with `meant` where it names the model `asked`: at the top, in a request to count tokens, in each request of a batch.
pub(super) fn renamed(body: &Bytes, asked: &str, meant: &str) -> Bytes {
    if asked == meant || memmem::find(body, b"\"model\"").is_none() {
        return body.clone();
    }
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else {
        return body.clone();
    };
    let mut is_changed = rename(&mut json, asked, meant);
    for nested in ["generateContentRequest", "generate_content_request"] {
        is_changed |= json
            .get_mut(nested)
            .is_some_and(|request| rename(request, asked, meant));
    }
    for request in json
        .get_mut("requests")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        is_changed |= rename(request, asked, meant);
    }
    if is_changed {
        json.to_string().into()
    } else {
        body.clone()
    }
}

fn rename(request: &mut Value, asked: &str, meant: &str) -> bool {
    let Some(Value::String(name)) = request.get_mut("model") else {
        return false;
    };
    let (prefix, bare) = match name.strip_prefix("models/") {
        Some(bare) => ("models/", bare),
        None => ("", name.as_str()),
    };
    let is_asked = bare == asked;
    if is_asked {
        *name = format!("{prefix}{meant}");
    }
    is_asked
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
            (r#"{"model":"flash"}"#, r#"{"model":"gemini-3.8-flash"}"#),
            (
                r#"{"generateContentRequest":{"model":"models/flash","contents":[]}}"#,
                r#"{"generateContentRequest":{"model":"models/gemini-3.8-flash","contents":[]}}"#,
            ),
            (
                r#"{"requests":[{"model":"models/flash"},{"model":"models/other"}]}"#,
                r#"{"requests":[{"model":"models/gemini-3.8-flash"},{"model":"models/other"}]}"#,
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
        ] {
            assert_eq!(sent(body), body);
        }
    }
}
