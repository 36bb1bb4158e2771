//! SHA-256: digests, and computing them.
//!
//! ```
//! use gem_setup::sha256::Sha256;
//!
//! let digest = Sha256::of("hello");
//! let written = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
//! assert_eq!(digest.to_string(), written);
//! assert_eq!(written.parse(), Ok(digest));
//! ```

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use gem_platform::file::open_regular;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The first digits, for people to compare.
    #[must_use]
    pub fn short(self) -> String {
        self.to_string().chars().take(12).collect()
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// Whether both digests are equal. The duration does not reveal where they differ.
    pub(crate) fn is_secret(&self, other: &Self) -> bool {
        is_same_secret(&self.0, &other.0)
    }

    /// The digest of the file `path`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let digest = Self::of_file_within(path, Duration::MAX)?;
        digest.ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    /// Like [`Self::of_file`]; `None` if reading the file takes longer than `limit`.
    ///
    /// # Errors
    /// Like [`Self::of_file`].
    pub fn of_file_within(path: &Path, limit: Duration) -> io::Result<Option<Self>> {
        let start = Instant::now();
        let mut file = open_regular(path)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 18];
        while start.elapsed() <= limit {
            match file.read(&mut buffer)? {
                0 => return Ok(Some(hasher.finish())),
                read => hasher.update(&buffer[..read]),
            }
        }
        Ok(None)
    }
}

/// Computes a digest piece by piece.
pub struct Hasher(Context);

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Hasher {
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all added bytes.
    #[must_use]
    pub fn finish(self) -> Sha256 {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        Sha256(digest)
    }
}

/// Whether two secrets are equal. The duration does not reveal where they differ.
pub(crate) fn is_same_secret(left: &[u8], right: &[u8]) -> bool {
    let pairs = left.iter().zip(right);
    let difference = pairs.fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a SHA-256 digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a SHA-256 digest: expected 64 hexadecimal digits")]
pub struct ParseSha256Error(String);

impl FromStr for Sha256 {
    type Err = ParseSha256Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSha256Error(text.to_owned());
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ParseSha256Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_example_has_its_digest() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of("abc").to_string(), digest);
    }

    #[test]
    fn upper_case_digits_are_read_and_lower_case_written() {
        let digest: Sha256 = "AB".repeat(32).parse().unwrap();
        assert_eq!(digest.to_string(), "ab".repeat(32));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "ab", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }
}
