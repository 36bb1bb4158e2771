//! A request's credentials, which the upstream may repeat in its errors.

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// Headers and query parameters with credentials for the upstream.
const HEADERS: [HeaderName; 2] = [HeaderName::from_static("x-goog-api-key"), AUTHORIZATION];
const PARAMETERS: [&str; 2] = ["key", "access_token"];

/// What stands in place of a credential.
const MASK: &str = "***";
/// A credential up to this length may be part of a word, so only the whole word is replaced.
const SHORT: usize = 7;
/// The number of characters of an upstream's text that are kept.
const LONGEST: usize = 300;

/// The credentials with which a request is sent.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// The credentials in the request's `headers` and in the query of its `uri`; `login` is the one in the upstream's URL.
    pub(super) fn of(headers: &HeaderMap, uri: &Uri, login: Option<&HeaderValue>) -> Self {
        let values = HEADERS.into_iter().flat_map(|name| headers.get_all(name)).chain(login);
        let in_headers = values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        let in_headers = in_headers.flat_map(|value| [value, value.split_once(' ').map_or("", |(_, rest)| rest)]);
        let pairs = uri.query().into_iter().flat_map(|query| query.split('&'));
        let in_query = pairs.filter_map(|pair| pair.split_once('='));
        let in_query = in_query.filter(|(name, _)| PARAMETERS.contains(name));
        let in_query =
            in_query.flat_map(|(_, value)| [value.to_owned(), percent_decode_str(value).decode_utf8_lossy().into()]);
        let all = in_headers.map(str::to_owned).chain(in_query);
        let mut all: Vec<String> = all.map(|value| value.trim().to_owned()).collect();
        all.retain(|value| !value.is_empty());
        // A longer one may contain a shorter one.
        all.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        all.dedup();
        Self(all)
    }

    /// The beginning of the upstream's `text`, without the credentials.
    pub(super) fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = masked(&text, secret);
            }
        }
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

fn masked(text: &str, secret: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(secret) {
        let is_in_word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        let is_part = is_in_word(before.chars().next_back()) || is_in_word(after.chars().next());
        shown.push_str(before);
        shown.push_str(if secret.len() <= SHORT && is_part { secret } else { MASK });
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn secrets(headers: &[(&str, &str)], uri: &str) -> Secrets {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let login = HeaderValue::from_static("Basic dXNlcjpwYXNz");
        Secrets::of(request.headers(), request.uri(), Some(&login))
    }

    #[test]
    fn every_credential_of_the_request_is_masked() {
        let headers = [
            ("x-goog-api-key", "AIzaONE111"),
            ("authorization", "Bearer ya29.TWO222"),
        ];
        let secrets = secrets(&headers, "/v1?alt=sse&key=AIza%2BTHREE&access_token=FOUR4444");
        let text = "AIzaONE111, `Bearer ya29.TWO222`, xya29.TWO222x, key=AIza%2BTHREE, AIza+THREE, FOUR4444, dXNlcjpwYXNz, alt=sse";
        assert_eq!(
            secrets.without(text),
            "***, `***`, x***x, key=***, ***, ***, ***, alt=sse"
        );
    }

    #[test]
    fn a_short_credential_is_masked_as_a_word_and_an_empty_one_not_at_all() {
        let secrets = secrets(&[("x-goog-api-key", "k1"), ("authorization", " ")], "/?key=");
        assert_eq!(secrets.without("api_key:k1, k12, ok1"), "api_key:***, k12, ok1");
    }

    #[test]
    fn a_long_text_is_cut_after_it_is_masked() {
        let secrets = secrets(&[("x-goog-api-key", "AIzaONE111")], "/");
        let text = format!("{}AIzaONE111 and more", "ä".repeat(LONGEST - 3));
        assert_eq!(secrets.without(&text), format!("{}***…", "ä".repeat(LONGEST - 3)));
        assert_eq!(secrets.without("short"), "short");
    }
}
