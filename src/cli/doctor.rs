//! `doctor`.

use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::setup::{self, Check, Examination, Extras, Fix, RECORDS, Setup, State, Status, Wanted};
use serde_json::json;

use super::args::DoctorArgs;
use super::install::how;
use super::layers::Origin;
use super::session::{Session, or_recorded};
use crate::report::{Events, Palette, Printer, Terminal};

/// Examines the machine; with `--fix` mends it and examines it again.
pub(crate) fn run(session: &Session<'_>, args: DoctorArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::remarks(printer);
    let terminal = Terminal::new(printer);
    let extras = Extras {
        smoke: args.smoke,
        network: args.network,
    };
    let fix = args.fix;
    let (state, unreadable) = match session.state() {
        Ok(state) => (state.clone(), None),
        Err(failure) => (State::default(), Some(failure)),
    };
    let mut setup = match prepare(session, state, args, accepted, &events, &terminal) {
        Ok(setup) => setup,
        Err(failure) => {
            let examination = unexamined(&failure);
            show(printer, &examination);
            return if fix { Err(failure) } else { Ok(status_of(&examination)) };
        }
    };
    session.block_on_until_signal(async {
        let mut examination = setup::examine(&setup, extras).await;
        let mut outcome = Ok(());
        if let Some(failure) = unreadable {
            // What was chosen cannot be mended by choosing the defaults.
            let mut check = records_fault(&failure);
            setup::defer(&mut examination.checks, check.id);
            check.detail += "; the other checks go by the defaults";
            examination.checks.insert(0, check);
            if fix {
                outcome = Err(failure);
            }
        } else if fix && !examination.unfinished.is_empty() {
            let done = setup::repair(&mut setup, &events).await;
            outcome = done.error.map_or(Ok(()), Err);
            examination = setup::examine(&setup, extras).await;
        }
        show(printer, &examination);
        outcome.map(|()| status_of(&examination))
    })
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
    session.setup(state, wanted, &network, session.target()?, events, terminal)
}

/// The one thing that can be said of a machine when not even the defaults can be gone by.
fn unexamined(failure: &Failure) -> Examination {
    Examination {
        checks: vec![records_fault(failure)],
        unfinished: Vec::new(),
    }
}

/// The records cannot even be read.
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

fn show(printer: &Printer, examination: &Examination) {
    if printer.json() {
        printer.json_line(&json!({"ok": examination.is_ok(), "checks": examination.checks}));
        return;
    }
    let palette = printer.out();
    for group in groups(examination) {
        printer.line(&palette.strong(group));
        for check in examination.checks.iter().filter(|check| group_of(check) == group) {
            let name = check.id.strip_prefix(group).unwrap_or(check.id).trim_start_matches('.');
            printer.line(&format!(
                "  {} {name:<11} {}: {}",
                mark(palette, check),
                check.title,
                check.detail
            ));
            if let Some(fix) = &check.fix {
                printer.line(&format!("    {} {fix}", palette.dim("fix:")));
            }
        }
    }
    printer.line(&verdict(examination));
}

fn group_of(check: &Check) -> &'static str {
    check.id.split_once('.').map_or(check.id, |(group, _)| group)
}

/// The groups in the order of their first checks.
fn groups(examination: &Examination) -> Vec<&'static str> {
    let mut groups = Vec::new();
    for group in examination.checks.iter().map(group_of) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn mark(palette: Palette, check: &Check) -> String {
    match check.status {
        Status::Ok => palette.good("ok  "),
        Status::Skip => palette.dim("skip"),
        Status::Warn => palette.doubtful("warn"),
        Status::Fail => palette.bad("FAIL"),
    }
}

fn verdict(examination: &Examination) -> String {
    let count = |status| examination.checks.iter().filter(|check| check.status == status).count();
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => "\nRouting works on this machine.".to_owned(),
        (0, warnings) => format!("\nRouting works on this machine; {warnings} to know about."),
        (1, _) => "\n1 fault keeps routing from working.".to_owned(),
        (faults, _) => format!("\n{faults} faults keep routing from working."),
    }
}
