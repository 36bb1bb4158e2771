//! The clients of a gateway, read from a file: each line has a name and the hash of a token.
//!
//! Tokens have 256 random bits, so a plain hash is enough: there are too many to try.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::AccessError;
use crate::place;
use crate::sha256::Sha256;

/// The prefix of every token, by which scanners for leaked secrets recognise one.
const PREFIX: &str = "gst_";
/// The prefix of a hash.
const HASH: &str = "sha256:";
const WHAT: &str = "token file";

/// A client's token, as the gateway knows it. A client may have several tokens, so that an old one can be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken {
    name: Arc<str>,
    hash: Sha256,
}

/// A new token and its line in the token file.
pub struct NewToken {
    /// The token, for the client.
    pub token: String,
    /// The line, for the gateway.
    pub line: String,
}

impl NewToken {
    /// Makes a token for the client `name`; `None` if there is no source of random numbers.
    ///
    /// ```
    /// use gem_setup::gateway::NewToken;
    ///
    /// let made = NewToken::random("ada").unwrap();
    /// assert!(made.token.starts_with("gst_") && made.line.starts_with("ada sha256:"));
    /// ```
    #[must_use]
    pub fn random(name: &str) -> Option<Self> {
        let random = ring::rand::generate::<[u8; 32]>(&ring::rand::SystemRandom::new()).ok()?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random.expose()));
        let line = format!("{name} {HASH}{}", Sha256::of(&token));
        Some(Self { token, line })
    }
}

impl ClientToken {
    /// Whether `name` is a valid name for a client.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain)
    }

    /// Checks that `text` is the content of a token file, which may be empty. The error names the first invalid line.
    ///
    /// # Errors
    /// When a line is not a client's.
    pub fn check_file(text: &str) -> Result<(), String> {
        parse(text).map(drop)
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(hash), None) = (words.next(), words.next(), words.next()) else {
            return Err("it is not a name and a hash");
        };
        if !Self::is_name(name) {
            return Err("the name may have up to 64 letters, digits and `-_.@`");
        }
        let hash = hash.strip_prefix(HASH).and_then(|hash| hash.parse().ok());
        Ok(Self {
            name: name.into(),
            hash: hash.ok_or("the hash is not `sha256:` and 64 hexadecimal digits")?,
        })
    }
}

/// The clients from a token file.
#[derive(Debug, Default)]
pub(super) struct Tokens(Vec<ClientToken>);

impl Tokens {
    /// Reads the private file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, AccessError> {
        let unusable = |reason: String| AccessError::Unusable {
            what: WHAT,
            path: path.to_owned(),
            reason,
        };
        let text = read_private(WHAT, path)?;
        let tokens = parse(&text).map_err(unusable)?;
        if tokens.is_empty() {
            return Err(unusable("it names no client".to_owned()));
        }
        Ok(Self(tokens))
    }

    /// The client with the token `text`. Comparing a hash takes the same time whatever `text` is.
    pub(super) fn client(&self, text: &[u8]) -> Option<&Arc<str>> {
        let hash = Sha256::of(text);
        // Every hash is compared, so that the time does not reveal the position of a match either.
        let mut client = None;
        for token in &self.0 {
            if token.hash.is_secret(&hash) {
                client = Some(&token.name);
            }
        }
        client
    }
}

fn parse(text: &str) -> Result<Vec<ClientToken>, String> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let tokens = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    tokens
        .map(|(number, line)| ClientToken::parse(line).map_err(|reason| format!("line {number}: {reason}")))
        .collect()
}

/// The text of a file that other users cannot read.
pub(super) fn read_private(what: &'static str, path: &Path) -> Result<String, AccessError> {
    let read = |source| AccessError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    if gem_platform::file::is_exposed(path).map_err(read)? {
        return Err(AccessError::Exposed {
            what,
            path: path.to_owned(),
        });
    }
    place::read_text(path).map_err(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let (ada, bob) = (NewToken::random("ada").unwrap(), NewToken::random("bob").unwrap());
        let renewed = NewToken::random("ada").unwrap();
        let file = format!("# team\n\n  {}\n{}\r\n{}", ada.line, bob.line, renewed.line);
        let tokens = Tokens(parse(&file).unwrap());
        for (token, name) in [(&ada, "ada"), (&bob, "bob"), (&renewed, "ada")] {
            assert_eq!(tokens.client(token.token.as_bytes()).map(|name| &**name), Some(name));
            assert!(!file.contains(&token.token));
        }
        for wrong in ["", "gst_", &ada.line, &ada.token[..40]] {
            assert_eq!(tokens.client(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let hash = format!("sha256:{}", Sha256::of("x"));
        for (text, expected) in [
            ("# only\nada".to_owned(), "line 2: it is not a name and a hash"),
            (format!("ada {hash} more"), "line 1: it is not a name and a hash"),
            (format!("a/b {hash}"), "line 1: the name may have"),
            ("ada gst_secret".to_owned(), "line 1: the hash is not"),
            ("ada sha256:12".to_owned(), "line 1: the hash is not"),
        ] {
            let reason = parse(&text).unwrap_err();
            assert!(reason.starts_with(expected), "{reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
