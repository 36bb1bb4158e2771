//! Decides which model a request goes to, and what happens when that model fails.
//!
//! [`Router::route`] turns a [`RoutingContext`] into a [`RoutingDecision`]; [`walk::Walk`] leads along
//! the decision's chain, one model after the other, whatever asking may mean to the caller. Both use one
//! [`ModelAvailability`] per session, to which walks add. Names, families and chains are data: [`Models`].

mod availability;
pub mod batch;
pub mod classify;
pub mod consent;
pub mod contents;
mod decision;
mod decisions;
mod failure;
mod model_name;
pub mod models;
pub mod policy;
mod routing;
mod strategy;
pub mod walk;

pub use availability::{CAPACITY_RECOVERY, ModelAvailability, Terminal, Unavailable};
pub use contents::{Content, Conversation, Part};
pub use decision::{AnsweredBy, ParseTierError, Role, Tier, Turn, Verdict};
pub use decisions::{DecisionLog, DecisionRecord, DecisionWriter};
pub use failure::{ErrorResponse, FailureKind, LONGEST_TRANSIENT_DELAY, ModelFailure, Repeat};
pub use model_name::{ModelName, ParseModelNameError};
pub use models::{Models, Selection};
pub use routing::{
    ApprovalMode, Asked, ClassifierChoice, Outcome, ParseClassifierError, Router, RoutingContext, RoutingDecision,
    Source, TraceEntry,
};
