//! Parses request paths (docs/contract.md section 4).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `/healthz`.
    Health,
    /// `/readyz`.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/status`.
    Status,
    /// `/shutdown`.
    Shutdown,
    /// `/consent`.
    Consent,
    /// A method of a model.
    Model {
        /// The model's name, without `models/`.
        model: Cow<'a, str>,
        /// The method's name, such as `generateContent`.
        method: Cow<'a, str>,
    },
    /// A model itself, by its name without `models/`.
    Resource(Cow<'a, str>),
    /// Another path of the Gemini API.
    Api,
    /// A path that is not served.
    Nothing,
}

/// The format of a stream of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// Server-sent events, requested with `alt=sse` or `$alt=sse`.
    Events,
    /// The elements of one JSON array.
    Array,
}

/// The versions of the Gemini API. Google's Python SDK 3 prefers `v1`.
const VERSIONS: [&str; 3] = ["/v1beta/", "/v1/", "/v1alpha/"];
/// The other paths that pass to the upstream: files in both directions.
const FILES: [&str; 2] = ["/upload/", "/download/"];

/// Clients list and send files in the other versions (docs/contract.md section 4).
const ALPHA_FILES: &str = "/v1alpha/files";

/// Parses a request's path.
pub(super) fn target(path: &str) -> Target<'_> {
    match path {
        "/healthz" => Target::Health,
        "/readyz" => Target::Ready,
        "/metrics" => Target::Metrics,
        "/status" => Target::Status,
        "/shutdown" => Target::Shutdown,
        "/consent" => Target::Consent,
        _ => match version_and_model(path).and_then(|(_, rest)| of_model(rest)) {
            Some(target) => target,
            None if names_two_versions(path) || path == ALPHA_FILES => Target::Nothing,
            None if VERSIONS.iter().chain(&FILES).any(|api| path.starts_with(api)) => Target::Api,
            None => Target::Nothing,
        },
    }
}

/// Why nothing is served at `path`, as the end of a sentence; empty if there is no more to say.
pub(super) fn why_nothing(path: &str) -> &'static str {
    if path.starts_with("/ws/") {
        "; the gateway does not pass on the Live API (WebSockets): connect to the upstream itself"
    } else if path == ALPHA_FILES {
        "; files are listed and sent under `/v1beta/files`"
    } else if names_two_versions(path) {
        "; it names two API versions: the client's base URL must end before the version"
    } else {
        ""
    }
}

/// Whether `path` has the API version of a base URL before that of the request.
fn names_two_versions(path: &str) -> bool {
    let mut rests = VERSIONS.iter().filter_map(|version| path.strip_prefix(version));
    rests.any(|rest| VERSIONS.iter().any(|version| rest.starts_with(&version[1..])))
}

/// The API version at the beginning of `path`, with its slashes, and the rest of the path after `models/`. Servers differ in
/// whether they accept repeated slashes, so a model must be found behind them too.
pub(super) fn version_and_model(path: &str) -> Option<(&'static str, &str)> {
    VERSIONS.into_iter().find_map(|version| {
        let rest = path.strip_prefix(version)?.trim_start_matches('/');
        Some((version, rest.strip_prefix("models/")?.trim_start_matches('/')))
    })
}

/// Whether a POST to `path` makes a cache.
pub(super) fn creates_cache(path: &str) -> bool {
    let mut rests = VERSIONS.iter().filter_map(|version| path.strip_prefix(version));
    rests.any(|rest| rest.trim_end_matches('/') == "cachedContents")
}

/// The target in the path after `models/`, one segment.
fn of_model(rest: &str) -> Option<Target<'_>> {
    let plain = percent_decode_str(rest.trim_end_matches('/')).decode_utf8().ok()?;
    if plain.is_empty() || plain.contains('/') {
        return None;
    }
    let Some(colon) = plain.rfind(':') else {
        return Some(Target::Resource(plain));
    };
    let (model, method) = match plain {
        Cow::Borrowed(plain) => (plain[..colon].into(), plain[colon + 1..].into()),
        Cow::Owned(plain) => (
            Cow::Owned(plain[..colon].to_owned()),
            Cow::Owned(plain[colon + 1..].to_owned()),
        ),
    };
    (!model.is_empty() && !method.is_empty()).then_some(Target::Model { model, method })
}

/// The stream format that `query` requests.
pub(super) fn stream_format(query: Option<&str>) -> StreamFormat {
    let events = query.is_some_and(|query| {
        query
            .split('&')
            .any(|pair| matches!(pair, "alt=sse" | "$alt=sse" | "%24alt=sse"))
    });
    if events {
        StreamFormat::Events
    } else {
        StreamFormat::Array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model<'a>(model: &'a str, method: &'a str) -> Target<'a> {
        Target::Model {
            model: model.into(),
            method: method.into(),
        }
    }

    #[test]
    fn paths_are_what_the_contract_says() {
        for (path, expected) in [
            ("/healthz", Target::Health),
            ("/readyz", Target::Ready),
            ("/metrics", Target::Metrics),
            ("/status", Target::Status),
            ("/consent", Target::Consent),
            ("/v1beta/models/a:generateContent", model("a", "generateContent")),
            ("/v1beta/models/a%3AcountTokens", model("a", "countTokens")),
            ("/v1beta/models/ns:a:embedContent", model("ns:a", "embedContent")),
            ("/v1beta/models/a", Target::Resource("a".into())),
            ("/v1beta/models/gem%2Dauto", Target::Resource("gem-auto".into())),
            ("/v1beta/models/a:generateContent/", model("a", "generateContent")),
            ("/v1beta//models//a:generateContent", model("a", "generateContent")),
            ("/v1beta/models/a/", Target::Resource("a".into())),
            ("/v1beta/models/a/b", Target::Api),
            ("/v1beta/models/", Target::Api),
            ("/v1beta/models/a/b:c", Target::Api),
            ("/v1beta/models/:generateContent", Target::Api),
            ("/v1beta/models/a:", Target::Api),
            ("/v1beta/models", Target::Api),
            ("/v1/models/a:generateContent", model("a", "generateContent")),
            ("/v1/models/a", Target::Resource("a".into())),
            ("/v1alpha/models/a:generateContent", model("a", "generateContent")),
            ("/v1alpha/models/a", Target::Resource("a".into())),
            ("/v1alpha/auth_tokens", Target::Api),
            ("/v1alpha/files", Target::Nothing),
            ("/v1alpha/files/a", Target::Api),
            ("/v1alpha/batches/b", Target::Api),
            ("/v1alpha", Target::Nothing),
            ("/v1beta/v1beta/models/gem-auto:generateContent", Target::Nothing),
            ("/v1/v1beta/files", Target::Nothing),
            ("/v1beta/v1betas", Target::Api),
            (
                "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
                Target::Nothing,
            ),
            ("/download/v1beta/files/a:download", Target::Api),
            ("/v2/models/a:generateContent", Target::Nothing),
            ("/upload/v1beta/files", Target::Api),
            ("/v1beta", Target::Nothing),
            ("/", Target::Nothing),
            ("/healthz/", Target::Nothing),
        ] {
            assert_eq!(target(path), expected, "{path}");
        }
    }

    #[test]
    fn events_are_asked_for_with_alt_sse() {
        assert_eq!(stream_format(Some("key=k&alt=sse")), StreamFormat::Events);
        assert_eq!(stream_format(Some("$alt=sse")), StreamFormat::Events);
        assert_eq!(stream_format(Some("%24alt=sse&key=k")), StreamFormat::Events);
        assert_eq!(stream_format(Some("alt=json")), StreamFormat::Array);
        assert_eq!(stream_format(None), StreamFormat::Array);
    }
}
