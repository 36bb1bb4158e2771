//! Decides which model a request goes to, and what happens when that model fails.

mod availability;
pub mod classify;
pub mod consent;
pub mod contents;
mod decision;
mod failure;
pub mod fallback;
mod model_name;
pub mod models;
pub mod policy;

pub use availability::{CAPACITY_RECOVERY, ModelAvailability, Terminal, Unavailable};
pub use contents::{Content, Conversation, Part};
pub use decision::{AnsweredBy, ParseTierError, Role, Tier, Turn, Verdict};
pub use failure::{ErrorResponse, FailureKind, LONGEST_TRANSIENT_DELAY, ModelFailure, Repeat, parse_retry_after};
pub use model_name::{ModelName, ParseModelNameError};
pub use models::{Models, Selection};
