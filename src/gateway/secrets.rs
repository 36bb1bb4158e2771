//! A request's credentials: where they are, and how they are kept out of texts, because the upstream may repeat them in
//! its errors.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem::find_iter;
use percent_encoding::percent_decode_str;

/// The header with an API key.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// The query parameters with credentials. Google's servers accept each with a `$` before it too.
const PARAMETERS: [&[u8]; 4] = [b"key", b"api_key", b"access_token", b"oauth_token"];

/// What stands in place of a credential.
const MASK: &str = "***";
/// A credential up to this length may be part of a word, so only the whole word is replaced.
const SHORT: usize = 7;
/// The number of characters of an upstream's text that are kept.
const LONGEST: usize = 300;

/// The headers with credentials.
fn in_headers(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    [API_KEY, AUTHORIZATION]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
}

/// The credentials in `query`, as they are written there.
fn in_query(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name: Cow<'_, [u8]> = percent_decode_str(name).into();
        let name = name.strip_prefix(b"$").unwrap_or(&name);
        PARAMETERS.contains(&name).then_some(value)
    })
}

/// The credential by which the upstream knows the client; `None` for an empty one, which several clients may have.
pub(super) fn credential<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, [u8]>> {
    let in_headers = in_headers(headers).map(|value| Cow::Borrowed(value.as_bytes()));
    let in_query = query.into_iter().flat_map(in_query);
    let in_query = in_query.map(|value| Cow::from(percent_decode_str(value)));
    let mut all = in_headers.chain(in_query);
    all.find(|value| !value.trim_ascii().is_empty())
}

/// The gateway's own key for the upstream, in a request of a client that must not see it.
#[derive(Clone)]
pub(super) struct LentKey(Arc<str>);

impl LentKey {
    pub(super) fn new(key: &str) -> Self {
        Self(key.into())
    }

    /// `text` with `*` for each letter of the key, so that its length stays. A short key may be part of any text and stays.
    pub(super) fn overwritten_in(&self, text: Bytes) -> Bytes {
        let key = self.0.as_bytes();
        let mut found = find_iter(&text, key).filter(|_| key.len() > SHORT).peekable();
        if found.peek().is_none() {
            return text;
        }
        let mut masked = text.to_vec();
        found.for_each(|at| masked[at..at + key.len()].fill(b'*'));
        masked.into()
    }
}

/// The credentials with which a request is sent. They are read only when there is a text to clean.
pub(super) struct Secrets {
    headers: Vec<HeaderValue>,
    uri: Uri,
    query: Option<String>,
    lent: Option<LentKey>,
}

impl Secrets {
    /// The credentials in the request's `headers` and in the query of its `uri`, and those of the upstream's URL: its
    /// `login` and its `query`.
    pub(super) fn of(headers: &HeaderMap, uri: &Uri, login: Option<&HeaderValue>, query: Option<&str>) -> Self {
        Self {
            headers: in_headers(headers).chain(login).cloned().collect(),
            uri: uri.clone(),
            query: query.map(str::to_owned),
            lent: None,
        }
    }

    /// The same, among them the gateway's own key.
    pub(super) fn with_lent(self, lent: Option<&LentKey>) -> Self {
        let lent = lent.cloned();
        Self { lent, ..self }
    }

    /// `text` without the gateway's own key.
    pub(super) fn lent_overwritten_in(&self, text: Bytes) -> Bytes {
        match &self.lent {
            Some(key) => key.overwritten_in(text),
            None => text,
        }
    }

    /// All of them in each spelling, a longer one before a shorter one, which it may contain.
    fn spellings(&self) -> Vec<String> {
        let in_headers = self
            .headers
            .iter()
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        let in_headers = in_headers.flat_map(|value| [value, value.split_once(' ').map_or("", |(_, rest)| rest)]);
        let in_query = self
            .uri
            .query()
            .into_iter()
            .chain(self.query.as_deref())
            .flat_map(in_query);
        let in_query =
            in_query.flat_map(|value| [value.to_owned(), percent_decode_str(value).decode_utf8_lossy().into()]);
        let all = in_headers.map(str::to_owned).chain(in_query);
        let mut all: Vec<String> = all.map(|value| value.trim().to_owned()).collect();
        all.retain(|value| !value.is_empty());
        all.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
        all.dedup();
        all
    }

    /// The beginning of the upstream's `text`, without the credentials.
    pub(super) fn without(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.spellings() {
            if text.contains(&secret) {
                text = masked(&text, &secret);
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

    fn without(headers: &[(&str, &str)], uri: &str, text: &str) -> String {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let login = HeaderValue::from_static("Basic dXNlcjpwYXNz");
        Secrets::of(
            request.headers(),
            request.uri(),
            Some(&login),
            Some("x=1&key=UPSTREAM5"),
        )
        .without(text)
    }

    #[test]
    fn every_credential_of_the_request_is_masked() {
        let headers = [
            ("x-goog-api-key", "AIzaONE111"),
            ("authorization", "Bearer ya29.TWO222"),
        ];
        let uri = "/v1?alt=sse&key=AIza%2BTHREE&access_token=FOUR4444";
        let text = "AIzaONE111, `Bearer ya29.TWO222`, xya29.TWO222x, key=AIza%2BTHREE, AIza+THREE, FOUR4444, dXNlcjpwYXNz, UPSTREAM5, alt=sse";
        assert_eq!(
            without(&headers, uri, text),
            "***, `***`, x***x, key=***, ***, ***, ***, ***, alt=sse"
        );
    }

    #[test]
    fn a_credential_is_found_under_each_name_in_each_spelling() {
        for name in [
            "key",
            "%6Bey",
            "$key",
            "%24key",
            "api_key",
            "access_token",
            "oauth_token",
        ] {
            let query = format!("alt=sse&{name}=SECRET%31");
            let uri = format!("/v1?{query}");
            assert_eq!(without(&[], &uri, "SECRET1 SECRET%31"), "*** ***", "{name}");
            assert_eq!(
                credential(&HeaderMap::new(), Some(&query)).as_deref(),
                Some(&b"SECRET1"[..]),
                "{name}"
            );
        }
        assert_eq!(credential(&HeaderMap::new(), Some("monkey=k&key=")), None);
    }

    #[test]
    fn a_short_credential_is_masked_as_a_word_and_an_empty_one_not_at_all() {
        let headers = [("x-goog-api-key", "k1"), ("authorization", " ")];
        let text = "api_key:k1, k12, ok1";
        assert_eq!(without(&headers, "/?key=", text), "api_key:***, k12, ok1");
    }

    #[test]
    fn a_lent_key_is_overwritten_in_equal_length() {
        let overwritten =
            |key: &str, text: &'static str| LentKey::new(key).overwritten_in(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            overwritten("AIzaOWNER", "xAIzaOWNER, AIzaOWNER"),
            "x*********, *********"
        );
        assert_eq!(overwritten("AIzaOWNER", "AIzaOTHER"), "AIzaOTHER");
        assert_eq!(overwritten("key", "key"), "key");
    }

    #[test]
    fn a_long_text_is_cut_after_it_is_masked() {
        let headers = [("x-goog-api-key", "AIzaONE111")];
        let text = format!("{}AIzaONE111 and more", "ä".repeat(LONGEST - 3));
        assert_eq!(
            without(&headers, "/", &text),
            format!("{}***…", "ä".repeat(LONGEST - 3))
        );
        assert_eq!(without(&headers, "/", "short"), "short");
    }
}
