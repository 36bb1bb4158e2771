//! Decides which model a request goes to, and what happens when that model fails.

pub mod classify;
mod decision;
mod decisions;

pub use decision::{AnsweredBy, ParseTierError, Role, Tier, Turn, Verdict};
pub use decisions::{DecisionLog, DecisionRecord, DecisionWriter};
