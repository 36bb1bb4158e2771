//! Decides which model a request goes to, and which model is asked if that one fails.
//!
//! [`Router::route`] turns a [`RoutingContext`] into a [`RoutingDecision`]. A [`walk::Walk`] then leads along the
//! decision's chain, one model after the other, while the caller sends the requests. Both use the session's
//! [`ModelAvailability`], which walks update. Names, families and chains are data: [`Models`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use gem_setup::router::{ClassifierChoice, Conversation, ModelAvailability, Models, Router, RoutingContext, Tier};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::new(Arc::new(Models::built_in()?), Arc::new(ModelAvailability::default()));
//! let context = RoutingContext {
//!     conversation: Conversation::of("rename x to y in a.py", Vec::new()),
//!     classifier: ClassifierChoice::Builtin,
//!     ..RoutingContext::default()
//! };
//! let decision = router.route(&context).await;
//! assert_eq!(decision.tier, Some(Tier::Flash));
//! # Ok(())
//! # }
//! ```

mod availability;
pub mod batch;
pub mod classify;
pub mod consent;
pub mod contents;
mod context;
mod decision;
mod decisions;
mod failed_models;
mod failure;
mod model_name;
pub mod models;
pub mod policy;
mod routing;
mod strategy;
pub mod walk;

pub(crate) use availability::Told;
pub use availability::{CAPACITY_RECOVERY, ModelAvailability, Terminal, Unavailable};
pub use contents::{Content, Conversation, Part};
pub use context::{ApprovalMode, Asked, ClassifierChoice, RoutingContext, Source};
pub use decision::{AnsweredBy, ParseTierError, Role, Tier, Turn, Verdict};
pub use decisions::{DecisionLog, DecisionRecord};
pub use failed_models::FailedModel;
pub use failure::{ErrorResponse, FailureKind, LONGEST_TRANSIENT_DELAY, ModelFailure, Repeat};
pub use model_name::{ModelName, ParseModelNameError};
#[cfg(test)]
pub(crate) use models::tests::chained;
pub use models::{Account, DeliveredModels, Models, Selection};
pub use routing::{Outcome, Router, RoutingDecision, TraceEntry};
