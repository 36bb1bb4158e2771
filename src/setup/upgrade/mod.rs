//! Upgrade and rollback: another release of the runtime is installed next to the current one, tried, and only then made current
//! (docs/architecture.md).

mod hand_over;
mod hosted_models;
mod model;
mod own;
mod own_trial;
mod replace;
mod run;
mod swap;
mod trial;

pub use hosted_models::{
    NewHostedModels, installable_hosted_models, new_hosted_models, roll_back_hosted_models, upgrade_hosted_models,
};
pub use model::{check_model_upgrade, offer_of_hub, roll_back_model, upgrade_model};
pub(super) use own::{leftovers_of_self, previous_self};
pub use own::{roll_back_self, upgrade_self};
pub(super) use replace::replace;
pub(super) use run::note_older;
pub use run::{Upgraded, check_not_older, roll_back_runtime, upgrade_runtime};
pub(super) use swap::settle;
pub(super) use trial::logs as trial_logs;
