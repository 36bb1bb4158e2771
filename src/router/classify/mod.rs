//! Classifiers: choose a tier for a request and its history.
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

/// The body of a classification request for `request` after `history` (oldest turn first), as it is sent to the local model.
#[must_use]
pub fn classification_request(request: &str, history: &[Turn]) -> Value {
    prompt::Prompt::new(request, history).body()
}
