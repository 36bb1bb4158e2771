//! A request's token, which never leaves the gateway, and the key for the upstream.
//!
//! Clients of the Gemini API send one key: in `x-goog-api-key`, as `Authorization: Bearer`, or as `key=` in the query.
//! A client may put its token there. A client with its own key for the upstream puts the token into `x-gem-token`.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use percent_encoding::percent_decode_str;

use crate::gateway::secrets::{API_KEY, LentKey, credential};
use crate::runtime::{Instance, TOKEN};

/// The API's OpenAI-compatible paths accept the key only as a bearer token.
const OPENAI: &str = "/openai/";

/// The client whose token a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct ClientName(pub(in crate::gateway) Arc<str>);

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A client from the token file.
    Client(Arc<str>),
    /// A command run by this server's owner.
    Owner,
}

/// Removes the token from `request`. `client` looks up clients' tokens, and `owner` recognises the server's own. If
/// `x-gem-token` is present, only its token counts, but tokens are removed from all places.
pub(super) fn take<B>(
    request: &mut Request<B>,
    owner: Option<&Instance>,
    client: impl Fn(&[u8]) -> Option<Arc<str>>,
) -> Option<Sender> {
    let own = request.headers_mut().remove(TOKEN);
    let usual = take_usual(request, &client);
    let Some(own) = own else {
        return usual.map(Sender::Client);
    };
    if owner.is_some_and(|owner| owner.has_token(own.as_bytes())) {
        return Some(Sender::Owner);
    }
    client(own.as_bytes()).map(Sender::Client)
}

/// Removes tokens from the places where clients send the upstream's key.
fn take_usual<B>(request: &mut Request<B>, client: &impl Fn(&[u8]) -> Option<Arc<str>>) -> Option<Arc<str>> {
    let headers = request.headers_mut();
    let in_key = take_header(headers, &API_KEY, |value| client(value));
    let in_bearer = take_header(headers, &AUTHORIZATION, |value| client(bearer(value)?));
    let in_query = take_from_query(request.uri_mut(), client);
    in_key.or(in_bearer).or(in_query)
}

fn take_header(
    headers: &mut HeaderMap,
    name: &HeaderName,
    client: impl Fn(&[u8]) -> Option<Arc<str>>,
) -> Option<Arc<str>> {
    let found = headers
        .get_all(name)
        .iter()
        .find_map(|value| client(value.as_bytes().trim_ascii()))?;
    headers.remove(name);
    Some(found)
}

/// The token in `Bearer TOKEN`; the scheme is case-insensitive.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn take_from_query(uri: &mut Uri, client: &impl Fn(&[u8]) -> Option<Arc<str>>) -> Option<Arc<str>> {
    let holder = |pair: &str| client(&percent_decode_str(pair.split_once('=')?.1).collect::<Vec<u8>>());
    let query = uri.query()?;
    let found = query.split('&').find_map(holder)?;
    let kept: Vec<&str> = query.split('&').filter(|pair| holder(pair).is_none()).collect();
    let path = match kept.as_slice() {
        [] => uri.path().to_owned(),
        kept => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = std::mem::take(uri).into_parts();
    // This cannot fail: the parts come from a valid query.
    parts.path_and_query = path.parse().ok();
    *uri = Uri::from_parts(parts).unwrap_or_default();
    Some(found)
}

/// Whether `request` carries a key for the upstream.
pub(super) fn has_key<B>(request: &Request<B>) -> bool {
    credential(request.headers(), request.uri().query()).is_some()
}

/// Adds the gateway's `key` for the upstream to `request`.
pub(super) fn lend<B>(request: &mut Request<B>, key: &str) {
    let (name, value) = if request.uri().path().contains(OPENAI) {
        (AUTHORIZATION, format!("Bearer {key}"))
    } else {
        (API_KEY, key.to_owned())
    };
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        request.extensions_mut().insert(LentKey::new(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = Request::builder().uri(uri);
        let add = |request: hyper::http::request::Builder, (name, value): &(&str, &str)| request.header(*name, *value);
        headers.iter().fold(request, add).body(()).unwrap()
    }

    fn clients(token: &[u8]) -> Option<Arc<str>> {
        matches!(token, b"t1" | b"t2").then(|| String::from_utf8_lossy(token).into())
    }

    fn taken(request: &mut Request<()>) -> Option<Sender> {
        take(request, None, clients)
    }

    #[test]
    fn a_token_is_found_where_clients_send_keys_and_goes_no_further() {
        let client = Some(Sender::Client("t1".into()));
        for (uri, headers) in [
            ("/v1/x?alt=sse", vec![("x-goog-api-key", "t1")]),
            ("/v1/x?alt=sse", vec![("authorization", "bearer t1")]),
            ("/v1/x?alt=sse", vec![("x-gem-token", "t1")]),
            ("/v1/x?key=t1&alt=sse", vec![]),
            ("/v1/x?alt=sse&key=%741", vec![]),
            (
                "/v1/x?alt=sse&key=t1",
                vec![("x-gem-token", "t1"), ("x-goog-api-key", "t2")],
            ),
        ] {
            let mut request = request(uri, &headers);
            assert_eq!(taken(&mut request), client, "{uri} {headers:?}");
            assert_eq!(request.uri(), "/v1/x?alt=sse");
            assert!(request.headers().is_empty(), "{:?}", request.headers());
            assert!(!has_key(&request));
        }
    }

    #[test]
    fn a_client_s_own_key_stays() {
        for (uri, header) in [
            ("/v1/x", Some(("x-goog-api-key", "AIza"))),
            ("/v1/x", Some(("authorization", "Bearer AIza"))),
            ("/v1/x?key=AIza", None),
            ("/v1/x?%24access_token=ya29", None),
        ] {
            let headers: Vec<_> = header.into_iter().chain([("x-gem-token", "t1")]).collect();
            let mut request = request(uri, &headers);
            assert!(taken(&mut request).is_some());
            assert!(has_key(&request), "{uri} {header:?}");
            assert_eq!(request.uri(), uri);
        }
    }

    #[test]
    fn a_wrong_own_token_is_not_made_good_by_another() {
        let mut wrong = request("/v1/x", &[("x-gem-token", "no"), ("x-goog-api-key", "t1")]);
        assert_eq!(taken(&mut wrong), None);
        for headers in [
            vec![],
            vec![("x-goog-api-key", "no")],
            vec![("authorization", "Basic t1")],
        ] {
            assert_eq!(taken(&mut request("/v1/x?key=", &headers)), None, "{headers:?}");
        }
    }

    #[test]
    fn a_lent_key_goes_where_the_face_reads_it() {
        for (uri, name, value) in [
            ("/v1beta/models/m:generateContent", "x-goog-api-key", "k"),
            ("/v1beta/openai/chat/completions", "authorization", "Bearer k"),
        ] {
            let mut request = request(uri, &[]);
            lend(&mut request, "k");
            assert_eq!(request.headers()[name], value);
        }
    }
}
