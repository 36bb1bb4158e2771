//! Reads the head of a response: the whole file, the requested part, or unusable.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
    RETRY_AFTER,
};

use super::partial::{Identity, Validator};
use super::retry::Fault;
use crate::net::parse_retry_after;

/// The kind of body in a successful response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The whole file from its first byte.
    Whole {
        identity: Identity,
        /// Whether the server states that it serves ranges.
        serves_ranges: bool,
    },
    /// The bytes of `range`; `identity` has the length of the whole file.
    Part { range: Range<u64>, identity: Identity },
}

/// The response to a request for the whole file (`asked` is `None`), or for the bytes from `asked.start` to at most `asked.end`.
pub(super) fn read(
    status: StatusCode,
    headers: &HeaderMap,
    asked: Option<&Range<u64>>,
    now: SystemTime,
) -> Result<Extent, Fault> {
    if !status.is_success() {
        return Err(refusal(status, headers, now));
    }
    if let Some(encoding) = text(headers, CONTENT_ENCODING).filter(|value| !value.eq_ignore_ascii_case("identity")) {
        return Err(Fault::Unusable(format!(
            "the server sent the content encoding `{encoding}`, which was not asked for"
        )));
    }
    let validator = validator(headers);
    match (status, asked) {
        (StatusCode::OK, _) => Ok(Extent::Whole {
            identity: Identity {
                validator,
                length: text(headers, CONTENT_LENGTH).and_then(|value| value.parse().ok()),
            },
            serves_ranges: text(headers, ACCEPT_RANGES).is_some_and(|value| value.eq_ignore_ascii_case("bytes")),
        }),
        (StatusCode::PARTIAL_CONTENT, Some(asked)) => {
            let (range, length) = requested_range(headers, asked)?;
            let length = Some(length);
            Ok(Extent::Part {
                range,
                identity: Identity { validator, length },
            })
        }
        _ => Err(Fault::Unusable(format!(
            "the server answered with the unexpected status {status}"
        ))),
    }
}

/// The fault for a response without a file, with the time that the server asks to wait.
pub(super) fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Fault {
    Fault::Status {
        code: status.as_u16(),
        retry_after: text(headers, RETRY_AFTER).and_then(|value| parse_retry_after(value, now)),
    }
}

/// The range in a response and the file's length, if the range begins where `asked` does and ends no later.
fn requested_range(headers: &HeaderMap, asked: &Range<u64>) -> Result<(Range<u64>, u64), Fault> {
    let described = text(headers, CONTENT_RANGE).unwrap_or_default();
    parse_content_range(described)
        .filter(|(range, _)| range.start == asked.start && range.end <= asked.end)
        .ok_or_else(|| {
            let (first, last) = (asked.start, asked.end.saturating_sub(1));
            let reason = format!("the server was asked for bytes {first}-{last} and sent the range `{described}`");
            Fault::Unusable(reason)
        })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The strong validator of a response, if any (RFC 9110 section 8.8): an entity tag that is not weak, or a modification date at least a
/// second before the response's date.
fn validator(headers: &HeaderMap) -> Option<Validator> {
    if let Some(tag) = text(headers, ETAG) {
        return (tag.starts_with('"') && tag.len() > 2).then(|| Validator::Etag(tag.to_owned()));
    }
    let modified = text(headers, LAST_MODIFIED)?;
    let made = httpdate::parse_http_date(text(headers, DATE)?).ok()?;
    let age = made.duration_since(httpdate::parse_http_date(modified).ok()?).ok()?;
    (age >= Duration::from_secs(1)).then(|| Validator::LastModified(modified.to_owned()))
}

/// `bytes FIRST-LAST/LENGTH` as a half-open range and the whole length.
fn parse_content_range(value: &str) -> Option<(Range<u64>, u64)> {
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let range = first.trim().parse().ok()?..last.trim().parse::<u64>().ok()?.checked_add(1)?;
    let length = length.trim().parse().ok()?;
    (range.start < range.end && range.end <= length).then_some((range, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn answer(status: u16, pairs: &[(&str, &str)], asked: Option<Range<u64>>) -> Result<Extent, Fault> {
        read(
            StatusCode::from_u16(status).unwrap(),
            &headers(pairs),
            asked.as_ref(),
            SystemTime::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let part = |range: &str| answer(206, &[("content-range", range), ("etag", "\"a\"")], Some(100..200));
        assert_eq!(
            part("bytes 100-199/1000").unwrap(),
            Extent::Part {
                range: 100..200,
                identity: Identity {
                    validator: Some(Validator::Etag("\"a\"".into())),
                    length: Some(1000)
                }
            }
        );
        assert!(part("bytes 100-149/1000").is_ok());
        for wrong in [
            "",
            "bytes 0-99/1000",
            "bytes 100-299/1000",
            "bytes 100-199/*",
            "bytes 100-199/150",
            "bytes 199-100/1000",
            "items 100-199/1000",
            "bytes 100-18446744073709551615/18446744073709551615",
        ] {
            assert!(matches!(part(wrong), Err(Fault::Unusable(_))), "{wrong}");
        }
        assert!(matches!(
            answer(206, &[("content-range", "bytes 0-9/10")], None),
            Err(Fault::Unusable(_))
        ));
    }

    #[test]
    fn an_encoded_body_is_of_no_use() {
        assert!(matches!(
            answer(200, &[("content-encoding", "gzip")], None),
            Err(Fault::Unusable(text)) if text.contains("`gzip`")
        ));
        assert!(answer(200, &[("content-encoding", "identity")], None).is_ok());
    }

    #[test]
    fn only_strong_validators_count() {
        let validator = |pairs: &[(&str, &str)]| validator(&headers(pairs));
        let (earlier, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(validator(&[("etag", "\"x\"")]), Some(Validator::Etag("\"x\"".into())));
        assert_eq!(
            validator(&[("etag", "W/\"x\""), ("last-modified", earlier), ("date", later)]),
            None
        );
        assert_eq!(
            validator(&[("last-modified", earlier), ("date", later)]),
            Some(Validator::LastModified(earlier.into()))
        );
        assert_eq!(validator(&[("last-modified", later), ("date", later)]), None);
        assert_eq!(validator(&[("last-modified", earlier)]), None);
        assert_eq!(validator(&[]), None);
    }

    #[test]
    fn a_refusal_carries_its_retry_after() {
        assert!(matches!(
            answer(503, &[("retry-after", "3")], None),
            Err(Fault::Status { code: 503, retry_after: Some(wait) }) if wait == Duration::from_secs(3)
        ));
    }
}
