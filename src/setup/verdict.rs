//! The verdict of `install`: the result of `doctor`'s checks, with the exit status.

use super::check::{Check, Fix};
use super::doctor::{Extras, examine};
use super::port::{OPTIONS, PORT};
use super::step_id::StepId;
use super::{Setup, Wanted};
use crate::error::{Failure, Kind};
use crate::net::is_loopback_down;

/// Whether routing works after `install` has done its work.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The faults that prevent routing, except for parts that options left out.
    pub faults: Vec<Check>,
    /// The missing parts that prevent routing, each with the option that left it out.
    pub left_out: Vec<(Check, &'static str)>,
    /// Whether the installed server was never tested because of `--no-smoke`.
    pub is_untried: bool,
}

/// Examines the machine like `doctor`, including parts that options left out.
pub async fn verdict(setup: &mut Setup<'_>) -> Verdict {
    setup.forget_listing();
    let asked = setup.wanted.clone();
    setup.wanted = Wanted {
        with_model: true,
        with_settings: true,
        with_server: true,
        ..asked.clone()
    };
    let examination = examine(setup, Extras::default()).await;
    let is_tried = setup.is_tried();
    setup.wanted = asked;
    let mut verdict = Verdict {
        faults: Vec::new(),
        left_out: Vec::new(),
        is_untried: !setup.wanted.with_smoke && !is_tried,
    };
    for check in examination.checks.into_iter().filter(Check::has_failed) {
        match left_out_by(&setup.wanted, &check) {
            Some(option) => verdict.left_out.push((check, option)),
            None => verdict.faults.push(check),
        }
    }
    verdict
}

impl Verdict {
    /// The options that left out a part.
    #[must_use]
    pub fn options(&self) -> Vec<&'static str> {
        let mut options: Vec<_> = self.left_out.iter().map(|(_, option)| *option).collect();
        options.extend(self.is_untried.then_some("--no-smoke"));
        options.dedup();
        options
    }

    /// The advice that adds the parts that options left out.
    #[must_use]
    pub fn remedies(&self) -> Vec<String> {
        let fixes = || self.left_out.iter().filter_map(|(check, _)| check.fix.as_ref());
        // A repair adds every part. The one that also accepts the terms is the longest.
        let repairs = fixes().filter(|fix| fix.is_repair());
        if let Some(repair) = repairs.max_by_key(|fix| fix.args().map(str::len)) {
            return vec![repair.to_string()];
        }
        let mut remedies: Vec<String> = fixes().map(Fix::to_string).collect();
        remedies.dedup();
        remedies
    }

    /// The failure that reports the faults; `None` without faults.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        failure("routing does not work yet", &self.faults)
    }
}

/// The option that prevents `install` from fixing `check`. `--no-start` does not count for a port that another program
/// uses or for faulty options, because `install` would not start a server with them.
fn left_out_by(wanted: &Wanted, check: &Check) -> Option<&'static str> {
    match check.step? {
        StepId::Terms | StepId::Model if !wanted.with_model => Some("--no-model"),
        StepId::Settings if !wanted.with_settings => Some("--no-settings"),
        // A machine that is only prepared may bring its loopback interface up later.
        StepId::Server
            if !wanted.with_server && check.id != OPTIONS.id && (check.id != PORT.id || is_loopback_down()) =>
        {
            Some("--no-start")
        }
        _ => None,
    }
}

/// The kind that stands for all of `kinds`: faults of different kinds share one exit status.
fn common(kinds: impl IntoIterator<Item = Kind>) -> Option<Kind> {
    let kinds = kinds.into_iter();
    kinds.reduce(|one, other| if one == other { one } else { Kind::Unhealthy })
}

/// One failure for all of `failures`.
pub(super) fn combine(failures: &[Failure]) -> Option<Failure> {
    let kind = common(failures.iter().map(|failure| failure.kind))?;
    let messages: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    let mut hints: Vec<&str> = failures.iter().filter_map(|failure| failure.hint.as_deref()).collect();
    hints.dedup();
    Some(Failure {
        kind,
        message: messages.join("; "),
        hint: (!hints.is_empty()).then(|| hints.join("; ")),
    })
}

/// The failure that reports `faults`, introduced by `summary`.
pub(super) fn failure(summary: &str, faults: &[Check]) -> Option<Failure> {
    let kind = common(faults.iter().map(kind_of))?;
    let details: Vec<&str> = faults.iter().map(|check| check.detail.as_str()).collect();
    let fixes: Vec<String> = faults
        .iter()
        .filter_map(|check| Some(check.fix.as_ref()?.to_string()))
        .collect();
    let failure = Failure::new(kind, format!("{summary}: {}", details.join("; ")));
    Some(failure.with_hint(fixes.join("; ")))
}

/// The kind of failure, and so the exit status, of a failed check (docs/contract.md section 2).
fn kind_of(check: &Check) -> Kind {
    match check.id.split_once('.') {
        Some(("settings", _)) => Kind::Settings,
        Some(("server", "port")) => Kind::Conflict,
        Some(("server", "options")) => Kind::Usage,
        Some(("runtime" | "server", _)) | Some(("model", "present")) => Kind::Runtime,
        Some(("model", "terms")) => Kind::TermsNotAccepted,
        Some(("platform", "target")) => Kind::Unsupported,
        _ => Kind::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Subject;

    fn fault(id: &'static str) -> Check {
        Subject::new(id, "title").fail(format!("{id} is wrong"), Fix::by_hand(format!("repair {id}")))
    }

    #[test]
    fn a_fault_has_the_status_of_its_kind() {
        for (id, kind) in [
            ("settings.file", Kind::Settings),
            ("server.port", Kind::Conflict),
            ("server.health", Kind::Runtime),
            ("runtime.loader", Kind::Runtime),
            ("model.terms", Kind::TermsNotAccepted),
            ("routing.override", Kind::Unhealthy),
        ] {
            assert_eq!(failure("no", &[fault(id)]).unwrap().kind, kind, "{id}");
        }
    }

    #[test]
    fn faults_of_several_kinds_are_unhealthy() {
        let both = failure("no", &[fault("settings.file"), fault("server.port")]).unwrap();
        assert_eq!(both.kind, Kind::Unhealthy);
        assert_eq!(both.message, "no: settings.file is wrong; server.port is wrong");
        assert_eq!(both.hint.unwrap(), "repair settings.file; repair server.port");
        let same = failure("no", &[fault("settings.file"), fault("settings.shadowed")]).unwrap();
        assert_eq!(same.kind, Kind::Settings);
        assert_eq!(failure("no", &[]), None);
    }
}
