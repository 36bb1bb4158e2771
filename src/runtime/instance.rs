//! A server's identity on its port, and the token that stops the server where no signal can reach it.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::sha256::is_same_secret;

/// The header with a client's token for the gateway, or with the server's own token.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-gem-token");

/// A running server's public name, and the token that stops it; only the owner can read the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    id: String,
    token: String,
}

/// The token of an [`Instance`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnerToken([u8; 32]);

impl OwnerToken {
    /// The value of the header [`TOKEN`].
    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for OwnerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerToken")
    }
}

impl Instance {
    /// Creates an instance with a random name and token; `None` if there is no source of random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        Some(Self {
            id: random_word()?,
            token: random_word()?,
        })
    }

    /// The name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value of the `Authorization` header that stops the server.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// The token, for the owner's requests.
    #[must_use]
    pub fn token(&self) -> Option<OwnerToken> {
        self.token.as_bytes().try_into().ok().map(OwnerToken)
    }

    /// Whether `token` is this server's token.
    pub(crate) fn has_token(&self, token: &[u8]) -> bool {
        is_same_secret(token, self.token.as_bytes())
    }

    /// Whether a request with `headers` may stop the server.
    #[must_use]
    pub fn authorizes(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        given.is_some_and(|given| is_same_secret(given, self.authorization().as_bytes()))
    }
}

fn random_word() -> Option<String> {
    let random = ring::rand::generate::<[u8; 16]>(&ring::rand::SystemRandom::new()).ok()?;
    Some(format!("{:032x}", u128::from_ne_bytes(random.expose())))
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_token_stops_a_server() {
        let instance = Instance::random().unwrap();
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert!(instance.authorizes(&with(&instance.authorization())));
        assert!(!instance.authorizes(&HeaderMap::new()));
        let other = Instance::random().unwrap();
        for wrong in ["", "Bearer ", instance.id(), &other.authorization()] {
            assert!(!instance.authorizes(&with(wrong)), "{wrong}");
        }
    }

    #[test]
    fn debug_output_hides_the_token() {
        let instance = Instance::random().unwrap();
        assert!(!format!("{instance:?}").contains(&instance.token));
    }
}
