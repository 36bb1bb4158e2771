//! The engine's answers: checks whether one is valid, and turns an error into a fault.

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::gateway::fault::Fault;

/// The longest part of an error page that is passed on, in characters.
const LONGEST_MESSAGE: usize = 400;

/// Whether `text` is one JSON object; every answer must be one.
pub(super) fn is_answer(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The fault for a status that is not a success.
pub(super) fn refusal(status: StatusCode, body: Bytes) -> Fault {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(rename = "error")]
        _error: serde_json::Map<String, serde_json::Value>,
    }
    if (status.is_client_error() || status.is_server_error()) && serde_json::from_slice::<Envelope>(&body).is_ok() {
        return Fault::Refused(status, body);
    }
    let message = message(&String::from_utf8_lossy(&body));
    match status {
        StatusCode::NOT_FOUND => Fault::ModelMissing(format!("the runtime does not have the model: {message}")),
        status if status.is_client_error() => {
            Fault::Invalid(format!("the local model does not accept the request: {message}"))
        }
        status if status.is_server_error() => Fault::Engine(message),
        status => Fault::BadEngine(format!("status {}", status.as_u16())),
    }
}

/// The message of an HTML error page, without markup.
fn message(page: &str) -> String {
    let mut text = String::new();
    let mut in_tag = false;
    let page = page.find("<body").map_or(page, |start| &page[start..]);
    for c in page.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                text.push(' ');
            }
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text
        .split_once("Message: ")
        .map_or(text.as_str(), |(_, message)| message);
    let text = text
        .split_once(" Error code explanation:")
        .map_or(text, |(message, _)| message);
    let text = text.trim().trim_end_matches('.').trim_end();
    if text.is_empty() {
        return "no reason given".to_owned();
    }
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .chars()
        .take(LONGEST_MESSAGE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Server: BaseHTTP/0.6\r\n\r\n<!DOCTYPE HTML>\n<html><head><title>Error response</title>\n\
        <style type=\"text/css\">:root { color: dark }</style></head>\n<body>\n<h1>Error response</h1>\n\
        <p>Error code: 500</p>\n<p>Message: RuntimeError: prompt &gt; 8192 tokens\n.</p>\n\
        <p>Error code explanation: 500 - Server got itself in trouble.</p>\n</body></html>";

    #[test]
    fn a_page_is_reduced_to_its_message() {
        assert_eq!(message(PAGE), "RuntimeError: prompt > 8192 tokens");
        assert_eq!(message(""), "no reason given");
        assert_eq!(message("plain words"), "plain words");
    }

    #[test]
    fn statuses_become_google_s() {
        for (engine, client) in [
            (400, 400),
            (404, 404),
            (422, 400),
            (500, 500),
            (503, 500),
            (301, 502),
            (204, 502),
        ] {
            let status = StatusCode::from_u16(engine).unwrap();
            let fault = refusal(status, Bytes::from_static(PAGE.as_bytes()));
            assert_eq!(fault.status(), client, "{engine}");
        }
    }

    #[test]
    fn an_error_object_is_left_alone() {
        let object = Bytes::from_static(br#"{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}"#);
        let fault = refusal(StatusCode::TOO_MANY_REQUESTS, object.clone());
        assert_eq!((fault.status().as_u16(), fault.to_json()), (429, object));
    }

    #[test]
    fn only_an_object_is_an_answer() {
        assert!(is_answer(b" {\"a\": 1}"));
        for text in ["", "[]", "{", "{} x", "null", "<html>"] {
            assert!(!is_answer(text.as_bytes()), "{text}");
        }
    }
}
