//! The rubric in words: what a verdict gives as its reason.

use crate::router::Tier;

/// Why a request deserves `tier`; `rule` is the rule of the rubric, 1 to 4, that makes it complex.
pub(super) const fn reasoning(tier: Tier, rule: u8) -> &'static str {
    match (tier, rule) {
        (Tier::Flash, _) => "specific and bounded, a few steps at most (no rule of the rubric applies)",
        (Tier::Pro, 2) => "asks for design, strategy or a weighing of trade-offs (rubric 2)",
        (Tier::Pro, 3) => "broad or vague, needs wide investigation before the first change (rubric 3)",
        (Tier::Pro, 4) => "a problem with an unknown cause, to be diagnosed from its symptoms (rubric 4)",
        (Tier::Pro, _) => "needs many dependent steps or several coordinated changes (rubric 1)",
    }
}
