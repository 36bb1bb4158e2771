//! The command `doctor`.

use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::setup::{self, Check, Examination, Extras, Fix, OpenBundle, RECORDS, Setup, State, Subject, Wanted};
use serde_json::json;

use super::args::DoctorArgs;
use super::install::{BUNDLED, how};
use super::layers::Origin;
use super::news;
use super::next_server;
use super::session::{Session, or_recorded};
use crate::report::{Diagnosis, Events, Printer, Terminal};

/// Examines the machine; with `--fix` repairs it and examines it again.
pub(crate) fn run(
    session: &Session<'_>,
    mut args: DoctorArgs,
    accepted: Option<Origin>,
    origin: &dyn Fn(&str) -> Origin,
) -> Result<ExitCode, Failure> {
    if session.has_bundle() {
        args.network_args.leave_out_file(origin);
    }
    let printer = session.printer;
    let events = Events::remarks(printer);
    let terminal = Terminal::new(printer);
    let extras = Extras {
        smoke: args.smoke,
        network: args.network,
    };
    let (fix, news) = (args.fix, args.news.clone());
    let (state, unusable) = match session.state() {
        Ok(state) => (state.clone(), session.config_fault.clone().map(Unusable::Configuration)),
        Err(failure) => (State::default(), Some(Unusable::Record(failure))),
    };
    let mut setup = match prepare(session, state, args, accepted, &events, &terminal) {
        Ok(setup) => setup,
        Err(failure) => {
            let examination = unexamined(&failure);
            show(session, &examination, "");
            return Ok(ExitCode::from(status(None, &examination)));
        }
    };
    session.block_on_until_signal(async {
        let (mut examination, outcome) = examine(&mut setup, unusable, fix, extras, (&events, printer)).await;
        examination.checks.extend(news::checks(session, &news));
        if let Some(other) = session.other() {
            wait_for(&other.to_string(), &other.remedy(), &mut examination.checks);
        }
        if let Err(failure) = &outcome {
            printer.failure(failure);
        }
        show(session, &examination, &session.install_options(setup.site.target));
        news::look_up(session, &news);
        Ok(ExitCode::from(status(outcome.err().as_ref(), &examination)))
    })
}

/// Adds to `checks` that `other` has the home: commands must wait for it, but not the tasks of a person. `remedy` says what
/// to do until then.
fn wait_for(other: &str, remedy: &str, checks: &mut Vec<Check>) {
    let wait = Fix::Later(format!("{remedy}, then run `gem-setup doctor` again"));
    let fixes = checks.iter_mut().filter_map(|check| check.fix.as_mut());
    fixes
        .filter(|fix| !matches!(fix, Fix::ByHand(_)))
        .for_each(|fix| *fix = wait.clone());
    let text = format!("{other}: the other findings may change");
    match checks.iter_mut().find(|check| check.id == RECORDS.id) {
        Some(records) => records.detail = format!("{}; {text}", records.detail),
        None => checks.insert(0, RECORDS.warn(text, wait)),
    }
}

/// A file that `install` needs but cannot use.
enum Unusable {
    Record(Failure),
    Configuration(Failure),
}

impl Unusable {
    /// Puts this fault first; checks that need the record become "unknown".
    fn lead(&self, checks: &mut Vec<Check>) {
        let (failure, effect) = match self {
            Self::Record(failure) => (failure, "the checks that need it were skipped"),
            Self::Configuration(failure) => (failure, "the other checks work without it"),
        };
        let mut lead = records_fault(failure);
        lead.detail = format!("{}; {effect}", lead.detail);
        if matches!(self, Self::Record(_)) {
            let depends = |check: &&mut Check| check.has_failed() && check.step.is_some();
            for check in checks.iter_mut().filter(depends) {
                *check = Subject::new(check.id, check.title).skip(format!("unknown until `{}` is fixed", lead.id));
            }
        }
        // A repair with the defaults would undo the recorded choices.
        setup::defer(checks, lead.id);
        checks.insert(0, lead);
    }
}

/// Examines the machine and, with `fix`, repairs it, unless the record or the configuration is `unusable`.
async fn examine(
    setup: &mut Setup<'_>,
    unusable: Option<Unusable>,
    fix: bool,
    extras: Extras,
    (events, printer): (&Events<'_>, &Printer),
) -> (Examination, Result<(), Failure>) {
    let mut examination = look(setup, extras, printer).await;
    if let Some(unusable) = unusable {
        unusable.lead(&mut examination.checks);
        return (examination, Ok(()));
    }
    if !fix || examination.unfinished.is_empty() {
        return (examination, Ok(()));
    }
    let bundle = setup.reopen_bundle(&BUNDLED, false).await;
    let done = setup::repair(setup, events).await;
    let examination = look(setup, extras, printer).await;
    let outcome = match (done.error, bundle) {
        (None, Ok(bundle)) => {
            bundle.into_iter().for_each(OpenBundle::close);
            Ok(())
        }
        // Steps fail because the bundle is missing, so its failure is the one to report.
        (Some(_), Err(failure)) | (Some(failure), Ok(_)) => Err(failure),
        (None, Err(_)) => Ok(()),
    };
    (examination, outcome)
}

async fn look(setup: &Setup<'_>, extras: Extras, printer: &Printer) -> Examination {
    let _shown = printer.meanwhile("examining this machine");
    setup::examine(setup, extras).await
}

fn prepare<'s>(
    session: &'s Session<'_>,
    state: State,
    args: DoctorArgs,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let network = or_recorded(args.network_args, &state);
    let options = [
        (accepted == Some(Origin::Flag) && args.fix, "--accept-terms"),
        (args.verify && session.is_given("--verify"), "--verify"),
    ];
    for (_, option) in options.iter().filter(|(is_given, _)| *is_given) {
        if !state.chosen.runtime.has_models() {
            let text = format!(
                "`{option}` has no effect: the runtime `{}` has no files",
                state.chosen.runtime
            );
            session.printer.warning(&text);
        }
    }
    let mut wanted = Wanted::from(session.configured(state.chosen.clone()));
    wanted.accepted = args.accept_terms.then(|| how(accepted));
    wanted.verify = args.verify;
    let workspace = state.workspace_elsewhere(session.environment.current_dir());
    let mut setup = session.setup(state, wanted, &network, session.target()?, events, terminal)?;
    setup.site.workspace = workspace;
    // A fault of the configuration itself is a check of its own.
    if session.config_fault.is_none() {
        setup.server_fault = next_server::fault(session, &setup);
    }
    Ok(setup)
}

/// The only finding if the machine cannot be examined even with the defaults.
fn unexamined(failure: &Failure) -> Examination {
    Examination {
        checks: vec![records_fault(failure)],
        unfinished: Vec::new(),
    }
}

/// The check that fails if the record or the configuration cannot be used.
fn records_fault(failure: &Failure) -> Check {
    let fix = failure.hint.as_deref().unwrap_or("see `gem-setup doctor --help`");
    RECORDS.fail(&failure.message, Fix::by_hand(fix))
}

/// The exit status after the repair failed with `failure`, if it did. A later step may have repaired what an earlier one could not.
fn status(failure: Option<&Failure>, examination: &Examination) -> u8 {
    let kind = failure.map(|failure| failure.kind);
    match kind.filter(|kind| *kind != Kind::Unexpected) {
        _ if examination.is_ok() => 0,
        Some(kind) => kind.exit_status(),
        None => Kind::Unhealthy.exit_status(),
    }
}

fn show(session: &Session<'_>, examination: &Examination, options: &str) {
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"ok": examination.is_ok(), "checks": examination.checks}));
        return;
    }
    let is_free = session.other().is_none();
    let install = (is_free && !session.is_installed_now()).then(|| format!("install{options}"));
    Diagnosis::new(&examination.checks, install.as_deref()).print(printer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_checks_decide_the_status_of_a_repair() {
        let of = |checks| Examination {
            checks,
            unfinished: Vec::new(),
        };
        let healthy = of(Vec::new());
        let faulty = of(vec![RECORDS.fail("wrong", Fix::by_hand("do it"))]);
        let failed = |kind| Failure::new(kind, "not repaired");
        for (kind, after) in [(Kind::Unexpected, 10), (Kind::TermsNotAccepted, 3), (Kind::Download, 5)] {
            assert_eq!(status(Some(&failed(kind)), &healthy), 0);
            assert_eq!(status(Some(&failed(kind)), &faulty), after);
        }
        assert_eq!((status(None, &healthy), status(None, &faulty)), (0, 10));
    }

    #[test]
    fn only_commands_wait_for_another_gem_setup() {
        let other = Subject::new("runtime.binary", "runtime");
        let mut checks = vec![
            RECORDS.fail("unknown key", Fix::by_hand("delete it")),
            other.fail("missing", Fix::run("install")),
        ];
        wait_for("another is at work", "wait", &mut checks);
        assert_eq!(checks.len(), 2);
        assert_eq!(checks[0].fix, Some(Fix::by_hand("delete it")));
        assert!(checks[0].detail.starts_with("unknown key; another is at work"));
        assert!(matches!(checks[1].fix, Some(Fix::Later(_))));
        checks.remove(0);
        wait_for("another is at work", "wait", &mut checks);
        assert_eq!(checks[0].id, RECORDS.id);
    }
}
