//! Classifiers: from a request and its history to a tier.
//!
//! ```
//! use gem_setup::router::Tier;
//! use gem_setup::router::classify::{builtin, clean};
//!
//! let verdict = builtin::classify("rename x to y in a.py", &[]);
//! assert_eq!(verdict.tier, Tier::Flash);
//! let answer = clean::clean("Sure! {'model_choice': 'pro',}")?;
//! assert_eq!(answer.tier, Tier::Pro);
//! # Ok::<(), clean::Unusable>(())
//! ```

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
