//! Gemini CLI's settings files: where they are, what is in effect, and how the router's keys get in and out of them.
//!
//! [`load`] reads all scopes and [`Settings::router`] says what is in effect and why; [`plan`] and [`apply`] write the
//! router's keys; [`remove`] takes back what `apply` recorded, and [`clear`] does without a record. Edits go through the
//! syntax tree, so that comments, order, indentation and line endings stay as they were typed.

mod backup;
mod edit;
mod error;
mod expand;
mod read;
mod remove;
mod router;
mod scope;
mod strict;
mod trust;
mod write;

#[cfg(test)]
mod tests;

pub use edit::KeyChange;
pub use error::Error;
pub use read::{Content, Document, ScopeFile, Settings, load};
pub use remove::{Outcome, Removed, clear, remove};
pub use router::{Effective, Key, Malformed, Origin, Router, Setting};
pub use scope::{Places, Scope};
pub use strict::Refusal;
pub use trust::Trust;
pub use write::{Applied, AppliedFile, Destination, FilePlan, Plan, RouterValues, apply, plan};
