//! Content codings that the gateway can decode.
//!
//! Answers pass through in the upstream's coding. Only errors are decoded here, because the failure policy needs their
//! text, independently of the codings that the client accepts.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};

/// The codings that [`decoded`] reads.
const READABLE: [&str; 4] = ["gzip", "x-gzip", "deflate", "identity"];

/// Leaves of what the client accepts only what [`decoded`] reads.
pub(super) fn accept_readable(headers: &mut HeaderMap) {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return;
    }
    let readable: Vec<&str> = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| {
            let coding = item.split(';').next().unwrap_or_default().trim();
            READABLE.iter().any(|known| coding.eq_ignore_ascii_case(known))
        })
        .collect();
    // Without the field any coding would do.
    let accepted = HeaderValue::try_from(readable.join(", ")).ok();
    let accepted = accepted.filter(|accepted| !accepted.is_empty());
    headers.insert(
        ACCEPT_ENCODING,
        accepted.unwrap_or_else(|| HeaderValue::from_static("identity")),
    );
}

/// The beginning of a body that came with `headers`, as it was before it was coded and at most `limit` bytes of it. A body that breaks
/// off gives what can be read of it; one in a coding that is not known stays as it is.
pub(super) fn decoded(headers: &HeaderMap, body: &Bytes, limit: usize) -> Bytes {
    decode(headers, body, limit).map_or_else(|| body.clone(), |decoded| decoded.text)
}

/// The same, if the coding is known and the body is whole and shorter than `limit`.
pub(super) fn wholly_decoded(headers: &HeaderMap, body: &Bytes, limit: usize) -> Option<Bytes> {
    let decoded = decode(headers, body, limit)?;
    decoded.is_whole.then_some(decoded.text)
}

struct Decoded {
    text: Bytes,
    is_whole: bool,
}

fn decode(headers: &HeaderMap, body: &Bytes, limit: usize) -> Option<Decoded> {
    let coding = headers.get(CONTENT_ENCODING)?.to_str().ok()?;
    match &*coding.trim().to_ascii_lowercase() {
        "gzip" | "x-gzip" => Some(read(MultiGzDecoder::new(&**body), limit)),
        "deflate" => {
            let decoded = read(ZlibDecoder::new(&**body), limit);
            if decoded.text.is_empty() {
                // Some servers leave zlib's frame out (RFC 9110, section 8.4.1.2).
                return Some(read(DeflateDecoder::new(&**body), limit));
            }
            Some(decoded)
        }
        "identity" => Some(Decoded {
            text: body.clone(),
            is_whole: true,
        }),
        _ => None,
    }
}

fn read(decoder: impl Read, limit: usize) -> Decoded {
    let mut text = Vec::new();
    // The bytes before a fault are still usable.
    let ended = decoder.take(limit as u64).read_to_end(&mut text);
    Decoded {
        is_whole: ended.is_ok() && text.len() < limit,
        text: text.into(),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn accepted(values: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        accept_readable(&mut headers);
        assert!(headers.get_all(ACCEPT_ENCODING).iter().count() <= 1);
        headers
            .get(ACCEPT_ENCODING)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_readable_codings_are_asked_for() {
        for (values, left) in [
            (&["gzip, deflate, br, zstd"][..], "gzip, deflate"),
            (&["br;q=1.0, GZIP;q=0.8, *;q=0.1"], "GZIP;q=0.8"),
            (&["br", "deflate"], "deflate"),
            (&["br"], "identity"),
            (&["*"], "identity"),
            (&[""], "identity"),
        ] {
            assert_eq!(accepted(values).as_deref(), Some(left), "{values:?}");
        }
        assert_eq!(accepted(&[]), None);
    }

    fn headers(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))])
    }

    fn decode(coding: &'static str, body: Vec<u8>, limit: usize) -> Bytes {
        decoded(&headers(coding), &body.into(), limit)
    }

    fn all(mut encoder: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn codings_are_read() {
        let text = b"{\"error\": {\"code\": 429}}";
        let best = Compression::best();
        for (coding, body) in [
            ("gzip", all(GzEncoder::new(&text[..], best))),
            ("X-GZIP", all(GzEncoder::new(&text[..], best))),
            ("deflate", all(ZlibEncoder::new(&text[..], best))),
            ("deflate", all(DeflateEncoder::new(&text[..], best))),
            ("identity", text.to_vec()),
            ("br", text.to_vec()),
        ] {
            assert_eq!(decode(coding, body, 1_000), &text[..], "{coding}");
        }
    }

    #[test]
    fn what_is_read_is_bounded_and_what_breaks_off_is_read_so_far() {
        let zeros = vec![0; 1_000_000];
        let bomb = all(GzEncoder::new(&zeros[..], Compression::best()));
        assert_eq!(decode("gzip", bomb, 1_000).len(), 1_000);
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        let mut cut = all(GzEncoder::new(&noise[..], Compression::best()));
        cut.truncate(cut.len() / 2);
        let text = decode("gzip", cut, 1_000_000);
        assert!(!text.is_empty() && noise.starts_with(&text));
        assert_eq!(decode("gzip", b"no gzip".to_vec(), 1_000), "");
        let whole = all(GzEncoder::new(&b"text"[..], Compression::best()));
        let read = |body: &[u8], limit| wholly_decoded(&headers("gzip"), &Bytes::copy_from_slice(body), limit);
        assert_eq!(read(&whole, 5).unwrap(), "text");
        assert_eq!(read(&whole, 4), None);
        assert_eq!(read(&whole[..whole.len() - 1], 5), None);
    }
}
