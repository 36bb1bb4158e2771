//! A server's identity on its port, and the token that stops it where no signal can reach it.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use serde::{Deserialize, Serialize};

/// A running server's public name, and the token that stops it, which only its owner can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    id: String,
    token: String,
}

impl Instance {
    /// Creates an instance that cannot be guessed; `None` without a source of random numbers.
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

    /// Whether a request with `headers` may stop the server.
    #[must_use]
    pub fn authorizes(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        given.is_some_and(|given| is_same(given, self.authorization().as_bytes()))
    }
}

/// Compares without telling by its duration where the first difference is.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    let difference = left
        .iter()
        .zip(right)
        .fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && difference == 0
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
