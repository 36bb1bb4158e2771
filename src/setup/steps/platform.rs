//! The platform: checks that a runtime exists for it and that the machine meets the runtime's needs.

use crate::setup::check::{Fix, Subject};
use crate::setup::step::Inspection;
use crate::setup::{Condition, Setup, is_offered};

const TARGET: Subject = Subject::new("platform.target", "runtime for this platform");

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    let target = setup.site.target;
    let runtime = setup.wanted.chosen.runtime;
    if is_offered(&setup.site.catalog, runtime, target) {
        let detail = format!("{runtime} runs on {target}");
        return Inspection::in_place(detail.clone(), vec![TARGET.ok(detail)]);
    }
    let failure = setup.unsupported();
    let fix = Fix::run("install --runtime auto");
    let check = TARGET.fail(&failure.message, fix);
    Inspection {
        condition: Condition::Needed("find another runtime".to_owned()),
        checks: vec![check],
        blocked: Some(failure),
        remaining: Vec::new(),
    }
}
