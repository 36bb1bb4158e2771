//! The rubric in words: what a verdict gives as its reason.

/// Why a request deserves the fast model.
pub(super) const SIMPLE: &str = "specific and bounded, a few steps at most (no rule of the rubric applies)";

/// Why a request deserves the powerful model: the words of a rule of the rubric, 1 to 4.
pub(super) const fn complex(rule: u8) -> &'static str {
    match rule {
        2 => "asks for design, strategy or a weighing of trade-offs (rubric 2)",
        3 => "broad or vague, needs wide investigation before the first change (rubric 3)",
        4 => "a problem with an unknown cause, to be diagnosed from its symptoms (rubric 4)",
        _ => "needs many dependent steps or several coordinated changes (rubric 1)",
    }
}
