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
    let coding = headers
        .get(CONTENT_ENCODING)
        .and_then(|coding| coding.to_str().ok())
        .map(|coding| coding.trim().to_ascii_lowercase());
    match coding.as_deref() {
        Some("gzip" | "x-gzip") => read(MultiGzDecoder::new(&**body), limit),
        Some("deflate") => {
            let text = read(ZlibDecoder::new(&**body), limit);
            if text.is_empty() {
                // Some servers leave zlib's frame out (RFC 9110, section 8.4.1.2).
                return read(DeflateDecoder::new(&**body), limit);
            }
            text
        }
        _ => body.clone(),
    }
}

fn read(decoder: impl Read, limit: usize) -> Bytes {
    let mut text = Vec::new();
    // The bytes before the fault are still usable.
    let _ = decoder.take(limit as u64).read_to_end(&mut text);
    text.into()
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

    fn decode(coding: &'static str, body: Vec<u8>, limit: usize) -> Bytes {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        decoded(&headers, &body.into(), limit)
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
    }
}
