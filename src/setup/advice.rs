//! Advice that works: what `doctor` tells people to run is checked against everything else it found.

use super::check::{Check, Command, Fix};
use super::step::{Inspection, StepId};
use super::{Setup, Status};

/// Corrects the advice of each inspection in `found`, so that no command is advised that would fail on this machine.
pub(super) fn settle(setup: &Setup<'_>, found: &mut [(StepId, Inspection)]) {
    let obstacles = Obstacles::of(found);
    for (id, inspection) in found.iter_mut() {
        for check in &mut inspection.checks {
            check.step = Some(*id);
            check.fix = check.fix.take().map(|fix| obstacles.around(*id, fix));
        }
    }
    for check in found.iter_mut().flat_map(|(_, inspection)| &mut inspection.checks) {
        finish(setup, check);
    }
}

/// Names the home in a command where the user named it on the command line.
pub(super) fn finish(setup: &Setup<'_>, check: &mut Check) {
    check.fix = check.fix.take().map(|fix| named(setup, fix));
}

/// As [`finish`], for advice that is no check's.
pub(super) fn named(setup: &Setup<'_>, mut fix: Fix) -> Fix {
    if let Fix::Command(command) = &mut fix {
        command.args.push_str(&setup.globals);
    }
    fix
}

/// Turns commands into advice to resolve the check `obstacle` first.
pub fn defer(checks: &mut [Check], obstacle: &str) {
    for check in checks {
        if check.fix.as_ref().is_some_and(|fix| fix.args().is_some()) {
            check.fix = Some(first_resolve(obstacle));
        }
    }
}

fn first_resolve(obstacle: &str) -> Fix {
    Fix::by_hand(format!("resolve `{obstacle}` first, then run `gem-setup doctor` again"))
}

/// What keeps commands from working.
struct Obstacles {
    /// The steps that cannot be applied, with the id of the check that says so and what a person can do.
    blocked: Vec<(StepId, &'static str, String)>,
    /// The steps that have to be applied.
    needed: Vec<StepId>,
}

impl Obstacles {
    fn of(found: &[(StepId, Inspection)]) -> Self {
        let blocked = found.iter().filter_map(|(id, inspection)| {
            let failure = inspection.blocked.as_ref()?;
            let check = inspection.checks.iter().find(|check| check.status == Status::Fail)?;
            let advice = failure.hint.clone().unwrap_or_else(|| failure.message.clone());
            Some((*id, check.id, advice))
        });
        Self {
            blocked: blocked.collect(),
            needed: found
                .iter()
                .filter(|(_, inspection)| !inspection.is_settled())
                .map(|(id, _)| *id)
                .collect(),
        }
    }

    /// The advice `fix` of a check of step `id`, or what to do instead.
    fn around(&self, id: StepId, fix: Fix) -> Fix {
        let Fix::Command(command) = fix else {
            return fix;
        };
        let is_start = id == StepId::Server && matches!(command.args.as_str(), "start" | "restart");
        let is_lacking = id.prerequisites().iter().any(|step| self.needed.contains(step));
        let fix = if is_start && is_lacking {
            Fix::repair()
        } else {
            Fix::Command(command)
        };
        if fix.is_repair() {
            self.around_repair(id, fix)
        } else if is_start {
            fix
        } else {
            self.around_install(id, fix)
        }
    }

    /// `doctor --fix` applies each step whose prerequisites are in place.
    fn around_repair(&self, id: StepId, fix: Fix) -> Fix {
        if let Some((_, _, advice)) = self.blocked.iter().find(|(step, ..)| *step == id) {
            return Fix::by_hand(advice.clone());
        }
        let missing = id.prerequisites().iter().filter(|step| self.needed.contains(step));
        for step in missing {
            if let Some((_, check, _)) = self.blocked.iter().find(|(blocked, ..)| blocked == step) {
                return first_resolve(check);
            }
        }
        if id > StepId::Terms && self.waits_for_terms(id) {
            return Fix::repair_accepting();
        }
        fix
    }

    /// Whether the model has to be pulled for the step `id`, and its terms are not on record.
    fn waits_for_terms(&self, id: StepId) -> bool {
        let needs_model = id == StepId::Model || id.prerequisites().contains(&StepId::Model);
        needs_model && self.needed.contains(&StepId::Model) && self.needed.contains(&StepId::Terms)
    }

    /// `install` with another choice refuses to begin while anything else is blocked.
    fn around_install(&self, id: StepId, fix: Fix) -> Fix {
        if let Some((_, check, _)) = self.blocked.iter().find(|(step, ..)| *step != id) {
            return first_resolve(check);
        }
        let Fix::Command(Command { mut args, or }) = fix else {
            return fix;
        };
        if self.needed.contains(&StepId::Terms) && !args.contains("--accept-terms") {
            args.push_str(" --accept-terms");
        }
        Fix::Command(Command { args, or })
    }
}
