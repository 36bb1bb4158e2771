//! Chooses the powerful model to make a plan, and the fast model to carry it out.

use futures_util::future::BoxFuture;

use super::{ApprovalMode, Case, Finding, Pick, Source, Strategy, Tier, ready};

/// Decides by the approval mode.
pub(super) struct Approval;

impl Strategy for Approval {
    fn source(&self) -> Source {
        Source::ApprovalMode
    }

    fn consider<'a>(&'a self, case: &'a Case<'a>) -> BoxFuture<'a, Result<Finding, String>> {
        ready(match &case.context.approval {
            ApprovalMode::Plan => Finding::decided(Pick::Tier(Tier::Pro), "a plan is being made"),
            ApprovalMode::ApprovedPlan(path) => Finding::decided(
                Pick::Tier(Tier::Flash),
                format!("the plan in `{}` was approved", path.display()),
            ),
            ApprovalMode::Default => Finding::passed("no plan is being made or carried out"),
        })
    }
}
