//! Content codings that the gateway can decode.
//!
//! Replies keep the upstream's coding. Requests are decoded where the gateway reads or changes them, and errors because the
//! failure policy needs their text, whatever codings the client accepts.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue};

use super::body::{Budget, Share};
use super::fault::Fault;
use super::stream_watch::coding;

/// The size of the pieces in which a body is decoded.
const PIECE: usize = 16 << 10;
/// The codings that [`decoded`] reads.
const READABLE: [&str; 4] = ["gzip", "x-gzip", "deflate", "identity"];

/// Restricts `Accept-Encoding` to the codings that [`decoded`] reads.
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
    // Without this header, any coding would be allowed.
    let accepted = HeaderValue::try_from(readable.join(", ")).ok();
    let accepted = accepted.filter(|accepted| !accepted.is_empty());
    headers.insert(
        ACCEPT_ENCODING,
        accepted.unwrap_or_else(|| HeaderValue::from_static("identity")),
    );
}

/// The first `limit` bytes of the decoded body that came with `headers`. Returns the readable part of a body that
/// breaks off, and a body in an unknown coding unchanged.
pub(super) fn decoded(headers: &HeaderMap, body: &Bytes, limit: usize) -> Bytes {
    let decoded = decode(headers, body, limit, |_| Ok(()));
    decoded
        .ok()
        .flatten()
        .map_or_else(|| body.clone(), |decoded| decoded.text)
}

/// The whole text of a client's `body` that came with `headers`, of at most `limit` bytes. A decoded text uses memory of
/// `budget`.
pub(super) async fn plain(
    headers: &HeaderMap,
    body: &Bytes,
    limit: usize,
    budget: &Arc<Budget>,
) -> Result<Bytes, Fault> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(body.clone());
    }
    let coding = coding(headers);
    if coding.is_empty() {
        return Ok(body.clone());
    }
    if !READABLE.contains(&&*coding) {
        return Err(Fault::ContentCoding(coding));
    }
    let (headers, body, mut share) = (headers.clone(), body.clone(), Share::of(budget));
    let decode = move || {
        let most = limit.saturating_add(1);
        let decoded = decode(&headers, &body, most, |length| share.cover(length))?;
        match decoded {
            Some(decoded) if decoded.is_whole => Ok(share.hold(decoded.text)),
            Some(decoded) if decoded.text.len() == most => Err(Fault::TooLarge(limit)),
            _ => Err(Fault::Invalid(format!("the request's body is not valid `{coding}`"))),
        }
    };
    let broken = |_| Err(Fault::Invalid("the request's body cannot be decoded".to_owned()));
    tokio::task::spawn_blocking(decode).await.unwrap_or_else(broken)
}

struct Decoded {
    text: Bytes,
    is_whole: bool,
}

/// Decodes `body`. Before the text grows, `cover` is called with its length.
fn decode(
    headers: &HeaderMap,
    body: &Bytes,
    limit: usize,
    mut cover: impl FnMut(usize) -> Result<(), Fault>,
) -> Result<Option<Decoded>, Fault> {
    Ok(Some(match &*coding(headers) {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(&**body), limit, &mut cover)?,
        "deflate" => {
            let decoded = read(ZlibDecoder::new(&**body), limit, &mut cover)?;
            if decoded.text.is_empty() {
                // Some servers omit the zlib frame (RFC 9110, section 8.4.1.2).
                return read(DeflateDecoder::new(&**body), limit, &mut cover).map(Some);
            }
            decoded
        }
        "identity" => Decoded {
            text: body.clone(),
            is_whole: true,
        },
        _ => return Ok(None),
    }))
}

fn read(
    decoder: impl Read,
    limit: usize,
    cover: &mut impl FnMut(usize) -> Result<(), Fault>,
) -> Result<Decoded, Fault> {
    let mut decoder = decoder.take(limit as u64);
    let mut text = Vec::new();
    // The bytes before a fault can still be used.
    let is_sound = loop {
        cover(text.len() + PIECE)?;
        match decoder.by_ref().take(PIECE as u64).read_to_end(&mut text) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    Ok(Decoded {
        is_whole: is_sound && text.len() < limit,
        text: text.into(),
    })
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
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_bytes(coding.as_bytes()).unwrap())])
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

    #[tokio::test]
    async fn what_is_read_is_bounded_and_what_breaks_off_is_read_so_far() {
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
        let budget = Budget::new(0);
        let read = async |coding, body: &[u8], limit| {
            let body = Bytes::copy_from_slice(body);
            let plain = plain(&headers(coding), &body, limit, &budget).await;
            plain.map_err(|fault| fault.status().as_u16())
        };
        assert_eq!(read("gzip", &whole, 4).await.unwrap(), "text");
        assert_eq!(read("gzip", &whole, 3).await, Err(413));
        assert_eq!(read("gzip", &whole[..whole.len() - 1], 4).await, Err(400));
        assert_eq!(read("", &whole, 0).await.unwrap(), whole, "no coding");
        for unknown in ["br", "zstd", "gzip, gzip", "\u{e4}"] {
            assert_eq!(read(unknown, &whole, 4).await, Err(415), "{unknown}");
        }
    }

    #[tokio::test]
    async fn decoded_requests_share_the_budget_of_bodies() {
        let budget = Budget::new(2 << 20);
        let large = Bytes::from(all(GzEncoder::new(&vec![b' '; 1 << 20][..], Compression::best())));
        let headers = headers("gzip");
        let read = || plain(&headers, &large, usize::MAX, &budget);
        let first = read().await.unwrap();
        assert_eq!(first.len(), 1 << 20);
        assert_eq!(
            read().await.unwrap_err().status(),
            503,
            "both take more than the budget"
        );
        drop(first);
        assert!(read().await.is_ok(), "what is dropped is given back");
    }
}
