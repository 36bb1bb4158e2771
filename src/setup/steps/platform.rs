//! The platform: a runtime exists for it, and the machine meets its needs.

use crate::runtime::{RuntimeName, litert_lm};
use crate::setup::check::{Check, Fix};
use crate::setup::step::Inspection;
use crate::setup::{Condition, Setup};

const TARGET: (&str, &str) = ("platform.target", "runtime for this platform");

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    let target = setup.site.target;
    let runtime = setup.wanted.chosen.runtime;
    if is_supported(setup, runtime) {
        let detail = format!("{runtime} runs on {target}");
        return Inspection::in_place(detail.clone(), vec![Check::ok(TARGET.0, TARGET.1, detail)]);
    }
    let failure = setup.unsupported();
    let fix = Fix::run("install --runtime auto");
    let check = Check::fail(TARGET.0, TARGET.1, &failure.message, fix);
    Inspection {
        condition: Condition::Needed("find another runtime".to_owned()),
        checks: vec![check],
        blocked: Some(failure),
        remaining: Vec::new(),
    }
}

/// Whether `runtime` can be had for the target.
fn is_supported(setup: &Setup<'_>, runtime: RuntimeName) -> bool {
    match runtime {
        RuntimeName::Builtin => true,
        RuntimeName::Lit => setup.site.lit_path().is_some(),
        RuntimeName::LitertLm => {
            setup.site.catalog.runtime(litert_lm::PROGRAM).is_some() && litert_lm::is_published(setup.site.target)
        }
    }
}
