//! Classifiers: from a request and its history to a tier.

pub mod builtin;
pub mod clean;
pub mod local;
mod prompt;

use serde_json::Value;

use super::Turn;

/// The body of a classification request for `request` after `history` (oldest turn first), as the local model is sent it.
#[must_use]
pub fn classification_request(request: &str, history: &[Turn]) -> Value {
    prompt::Prompt::new(request, history).body()
}
