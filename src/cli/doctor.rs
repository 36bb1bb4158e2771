//! `doctor`.

use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::setup::{self, Check, Examination, Extras, Fix, RECORDS, Setup, State, Wanted};
use serde_json::json;

use super::args::DoctorArgs;
use super::install::how;
use super::layers::Origin;
use super::session::{Session, or_recorded};
use crate::report::{Diagnosis, Events, Terminal};

/// Examines the machine; with `--fix` repairs it and examines it again.
pub(crate) fn run(session: &Session<'_>, args: DoctorArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::remarks(printer);
    let terminal = Terminal::new(printer);
    let extras = Extras {
        smoke: args.smoke,
        network: args.network,
    };
    let fix = args.fix;
    let config_fault = session
        .config_fault
        .clone()
        .map(|fault| (fault, "the other checks ignore it"));
    let (state, unusable) = match session.state() {
        Ok(state) => (state.clone(), config_fault),
        Err(failure) => (State::default(), Some((failure, "the other checks use the defaults"))),
    };
    let mut setup = match prepare(session, state, args, accepted, &events, &terminal) {
        Ok(setup) => setup,
        Err(failure) => {
            let examination = unexamined(&failure);
            show(session, &examination, "");
            return if fix { Err(failure) } else { Ok(status_of(&examination)) };
        }
    };
    session.block_on_until_signal(async {
        let (examination, outcome) = examine(&mut setup, unusable, fix, extras, &events).await;
        if let Err(failure) = &outcome {
            printer.failure(failure);
        }
        show(session, &examination, &setup.site.globals);
        Ok(match outcome {
            Ok(()) => status_of(&examination),
            Err(failure) => ExitCode::from(failure.kind.exit_status()),
        })
    })
}

/// Examines the machine and repairs it if `fix` is given, unless the record or the configuration is `unusable`.
async fn examine(
    setup: &mut Setup<'_>,
    unusable: Option<(Failure, &str)>,
    fix: bool,
    extras: Extras,
    events: &Events<'_>,
) -> (Examination, Result<(), Failure>) {
    let mut examination = setup::examine(setup, extras).await;
    if let Some((failure, effect)) = unusable {
        // Repairing by the defaults would undo the recorded choices.
        let mut check = records_fault(&failure);
        setup::defer(&mut examination.checks, check.id);
        check.detail = format!("{}; {effect}", check.detail);
        examination.checks.insert(0, check);
        return (examination, if fix { Err(failure) } else { Ok(()) });
    }
    if !fix || examination.unfinished.is_empty() {
        return (examination, Ok(()));
    }
    let done = setup::repair(setup, events).await;
    let examination = setup::examine(setup, extras).await;
    (examination, done.error.map_or(Ok(()), Err))
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
    let mut wanted = Wanted::from(state.chosen.clone());
    wanted.accepted = args.accept_terms.then(|| how(accepted));
    wanted.verify = args.verify;
    session.setup(state, wanted, &network, session.target()?, events, terminal)
}

/// The only finding on a machine on which not even the defaults can be used.
fn unexamined(failure: &Failure) -> Examination {
    Examination {
        checks: vec![records_fault(failure)],
        unfinished: Vec::new(),
    }
}

/// The check that fails because the record or the configuration cannot be used.
fn records_fault(failure: &Failure) -> Check {
    let fix = failure.hint.as_deref().unwrap_or("see `gem-setup doctor --help`");
    Check::fail(RECORDS.0, RECORDS.1, &failure.message, Fix::by_hand(fix))
}

fn status_of(examination: &Examination) -> ExitCode {
    if examination.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Kind::Unhealthy.exit_status())
    }
}

fn show(session: &Session<'_>, examination: &Examination, globals: &str) {
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"ok": examination.is_ok(), "checks": examination.checks}));
        return;
    }
    let is_installed = session.layout.state_file().exists();
    let install = (!is_installed).then(|| format!("install{globals}"));
    Diagnosis::new(&examination.checks, install.as_deref()).print(printer);
}
