//! Advice that works: each command that `doctor` suggests is checked against the other findings.

use super::check::{Check, Command, Fix};
use super::step::Inspection;
use super::step_id::StepId;
use super::{Setup, Site, Status};
use crate::error::Failure;

/// The advice for an engine that keeps ending, unless it lacks something that a repair puts in place.
pub(super) const READ_LOG: &str = "fix the error shown by `gem-setup logs`, then run `gem-setup restart`";

/// Corrects the advice of each inspection in `found`, and of the `others`, which belong to no step. No command is
/// suggested that would fail on this machine.
pub(super) fn settle(setup: &Setup<'_>, found: &mut [(StepId, Inspection)], others: &mut [Check]) {
    let obstacles = Obstacles::of(found);
    for check in others.iter_mut() {
        check.fix = check.fix.take().map(|fix| obstacles.around(StepId::Platform, fix));
    }
    for (id, inspection) in found.iter_mut() {
        for check in &mut inspection.checks {
            check.step = Some(*id);
            check.fix = check.fix.take().map(|fix| obstacles.around(*id, fix));
        }
    }
    let checks = found.iter_mut().flat_map(|(_, inspection)| &mut inspection.checks);
    checks.chain(others).for_each(|check| finish(setup, check));
}

/// Adds the home to a suggested command if the user named the home on the command line.
pub(super) fn finish(setup: &Setup<'_>, check: &mut Check) {
    check.fix = check.fix.take().map(|fix| named(setup, fix));
}

/// Like [`finish`], for advice without a check.
pub(super) fn named(setup: &Setup<'_>, fix: Fix) -> Fix {
    named_at(&setup.site, fix)
}

/// Like [`named`], for the machine `site`.
pub(super) fn named_at(site: &Site<'_>, mut fix: Fix) -> Fix {
    if site.layout.is_of_system() && matches!(fix.args(), Some("start" | "restart")) {
        // For all users only systemd starts the server, and a repair makes it do so.
        fix = Fix::repair();
    }
    if let Fix::Command(command) = &mut fix {
        let has_scope = ["install", "doctor"].contains(&command.args.split(' ').next().unwrap_or_default());
        if command.args.starts_with("install") && !site.layout.state_file().exists() {
            // A plain `install` would choose otherwise.
            let is_named = |option: &str| {
                command
                    .args
                    .split(' ')
                    .any(|word| option.split(' ').next() == Some(word))
            };
            let more: Vec<&String> = site.given.iter().filter(|option| !is_named(option)).collect();
            let more: String = more.into_iter().map(|option| format!(" {option}")).collect();
            command.args.push_str(&more);
        }
        if site.layout.is_of_system() && has_scope {
            command.args.push_str(" --scope system");
        } else {
            command.args.push_str(&site.globals);
        }
    }
    fix
}

/// `failure` with the options of this `install` where it says to run the command again, if they are not on record: a plain `install`
/// would choose otherwise.
pub(super) fn repeatable(setup: &Setup<'_>, failure: Failure) -> Failure {
    let Site { layout, given, .. } = &setup.site;
    if given.is_empty() || layout.state_file().exists() {
        return failure;
    }
    let command = format!("run `gem-setup install {}` again", given.join(" "));
    let again = ["run the same command again", "run the command again"];
    let hint = failure.hint.map(|hint| {
        let found = again.iter().find(|again| hint.contains(**again));
        found.map_or_else(|| hint.clone(), |again| hint.replacen(again, &command, 1))
    });
    Failure { hint, ..failure }
}

/// Replaces suggested commands by the advice to resolve the check `obstacle` first.
pub fn defer(checks: &mut [Check], obstacle: &str) {
    for check in checks {
        if check.fix.as_ref().is_some_and(|fix| fix.args().is_some()) {
            check.fix = Some(first_resolve(obstacle, None));
        }
    }
}

/// The advice to resolve the check `obstacle` first, or to do `otherwise`.
fn first_resolve(obstacle: &str, otherwise: Option<String>) -> Fix {
    let first = format!("resolve `{obstacle}` first, then run `gem-setup doctor` again");
    match otherwise {
        Some(otherwise) => Fix::by_hand(format!("{otherwise}, or {first}")),
        None => Fix::Later(first),
    }
}

/// What prevents suggested commands from working.
struct Obstacles {
    /// The steps that cannot be applied, each with the id of the failed check and the person's task.
    blocked: Vec<(StepId, &'static str, String)>,
    /// The steps that must be applied.
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

    /// The advice `fix` for a check of step `id`, replaced if it would not work.
    fn around(&self, id: StepId, fix: Fix) -> Fix {
        let is_lacking = id.prerequisites().iter().any(|step| self.needed.contains(step));
        let fix = if is_lacking && fix == Fix::by_hand(READ_LOG) {
            Fix::repair()
        } else {
            fix
        };
        let Fix::Command(command) = fix else {
            return fix;
        };
        let is_start = id == StepId::Server && matches!(command.args.as_str(), "start" | "restart");
        let fix = if is_start && is_lacking {
            Fix::repair()
        } else {
            Fix::Command(command)
        };
        if fix.is_repair() {
            self.around_repair(id, fix)
        } else if fix.args().is_some_and(|args| args.starts_with("install")) {
            self.around_install(id, fix)
        } else {
            fix
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
                return first_resolve(check, None);
            }
        }
        if id > StepId::Terms && self.waits_for_terms(id) {
            return Fix::repair_accepting();
        }
        fix
    }

    /// Whether step `id` needs a model whose terms are not accepted.
    fn waits_for_terms(&self, id: StepId) -> bool {
        let needs_model = id == StepId::Model || id.prerequisites().contains(&StepId::Model);
        needs_model && self.needed.contains(&StepId::Model) && self.needed.contains(&StepId::Terms)
    }

    /// `install` with another choice does not begin while anything else is blocked.
    fn around_install(&self, id: StepId, fix: Fix) -> Fix {
        let Fix::Command(Command { mut args, or }) = fix else {
            return fix;
        };
        if let Some((_, check, _)) = self.blocked.iter().find(|(step, ..)| *step != id) {
            return first_resolve(check, or);
        }
        if self.needed.contains(&StepId::Terms) && !args.contains("--accept-terms") {
            args.push_str(" --accept-terms");
        }
        Fix::Command(Command { args, or })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::setup::Subject;
    use crate::setup::step::Condition;

    fn blocked(id: &'static str, fix: Fix) -> Inspection {
        let failure = Failure::new(Kind::Unexpected, "blocked").with_hint("do it yourself");
        Inspection::needed("do it", vec![Subject::new(id, "title").fail("wrong", fix)]).blocked_by(failure)
    }

    fn needed(id: &'static str, fix: Fix) -> Inspection {
        Inspection::needed("do it", vec![Subject::new(id, "title").fail("wrong", fix)])
    }

    /// The advice for each of `found`, on a machine where the other steps are in place.
    fn advice(found: Vec<(StepId, Inspection)>) -> Vec<String> {
        let obstacles = Obstacles::of(&found);
        let fixes = found.into_iter().map(|(id, inspection)| {
            assert!(matches!(inspection.condition, Condition::Needed(_)));
            obstacles
                .around(id, inspection.checks[0].fix.clone().unwrap())
                .to_string()
        });
        fixes.collect()
    }

    #[test]
    fn a_blocked_step_is_for_a_person_and_holds_up_what_needs_it() {
        let advice = advice(vec![
            (StepId::Space, blocked("platform.disk", Fix::repair())),
            (StepId::Runtime, needed("runtime.binary", Fix::repair())),
            (StepId::Settings, needed("settings.router", Fix::repair())),
            (StepId::Server, needed("server.process", Fix::run("start"))),
        ]);
        assert_eq!(advice[0], "do it yourself");
        assert!(advice[1].starts_with("resolve `platform.disk` first"), "{advice:?}");
        assert_eq!(advice[2], "run `gem-setup doctor --fix`");
        assert!(
            advice[3].starts_with("resolve `platform.disk` first"),
            "a start needs room for its log: {advice:?}"
        );
    }

    #[test]
    fn an_engine_that_lacks_its_runtime_is_repaired() {
        let engine = || (StepId::Server, needed("server.health", Fix::by_hand(READ_LOG)));
        let runtime = (StepId::Runtime, needed("runtime.executable", Fix::repair()));
        assert_eq!(advice(vec![engine()]), [READ_LOG]);
        assert_eq!(advice(vec![runtime, engine()])[1], "run `gem-setup doctor --fix`");
    }

    #[test]
    fn two_obstacles_do_not_wait_for_each_other() {
        let advice = advice(vec![
            (
                StepId::Platform,
                blocked("platform.target", Fix::run("install --runtime auto")),
            ),
            (
                StepId::Server,
                blocked("server.port", Fix::run_or("install --port 1", "end that process")),
            ),
        ]);
        assert!(advice[0].starts_with("resolve `server.port` first"), "{advice:?}");
        assert!(advice[1].starts_with("end that process"), "{advice:?}");
    }

    #[test]
    fn a_model_whose_terms_are_not_on_record_is_pulled_with_acceptance() {
        let found = || {
            vec![
                (StepId::Terms, needed("model.terms", Fix::repair_accepting())),
                (StepId::Model, needed("model.present", Fix::repair())),
                (StepId::Server, needed("server.process", Fix::run("start"))),
            ]
        };
        assert!(
            advice(found())
                .iter()
                .all(|fix| fix == "run `gem-setup doctor --fix --accept-terms`")
        );
        let mut without_model = found();
        without_model.remove(1);
        assert_eq!(advice(without_model)[1], "run `gem-setup start`");
    }
}
