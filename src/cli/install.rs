//! `install`.

use std::path::PathBuf;
use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::runtime::terms::How;
use gem_setup::settings::Destination;
use gem_setup::setup::{self, Choices, Observer, Outcome, Setup, StepId, StepState};

use super::args::{InstallArgs, ScopeChoice};
use super::layers::Origin;
use super::session::{Session, runtime_of};
use crate::report::{Events, Printer, Terminal};

/// Converges the machine, or says what would be done.
pub(crate) fn run(session: &Session<'_>, args: InstallArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::new(printer);
    let terminal = Terminal::new(printer);
    let outcome = prepare(session, &args, accepted, &events, &terminal).and_then(|mut setup| {
        session.block_on_until_signal(async {
            Ok(if args.dry_run {
                setup::plan(&setup, &events).await
            } else {
                setup::install(&mut setup, &events).await
            })
        })
    });
    let outcome = outcome.unwrap_or_else(|failure| {
        for id in StepId::ALL {
            events.step(id, StepState::Skipped, "not begun");
        }
        Outcome {
            changed: Vec::new(),
            error: Some(failure),
        }
    });
    Ok(conclude(printer, &events, &outcome, args.dry_run))
}

fn prepare<'s>(
    session: &'s Session<'_>,
    args: &InstallArgs,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let absolute = |path: &PathBuf| session.environment.current_dir().join(path);
    let target = match args.target {
        Some(target) if args.dry_run => target,
        // clap sees to this on the command line alone; the target may come from the environment or the configuration.
        Some(target) => {
            let message = format!("cannot install for {target}: `target` is for plans alone");
            return Err(Failure::new(Kind::Usage, message)
                .with_hint("add `--dry-run`, or take `target` out of the environment and the configuration"));
        }
        None => session.target()?,
    };
    let catalog_file = args.catalog.as_ref().map(absolute);
    let catalog = session.catalog(catalog_file.as_ref())?;
    let choices = Choices {
        runtime: runtime_of(args.runtime, &catalog, target),
        model_file: args.model_file.as_ref().map(absolute),
        port: args.port,
        model: args.model.clone(),
        accepted: args.accept_terms.then(|| how(accepted)),
        scope: destination(args.scope),
        catalog: catalog_file,
        mirrors: args.network.mirror.clone(),
        direct: args.direct,
        force: args.force,
        with_model: !args.no_model,
        with_settings: !args.no_settings,
        with_server: !args.no_start,
        with_smoke: !args.no_smoke,
    };
    session.setup(choices, &args.network, target, events, terminal)
}

/// How the terms were accepted, by where `--accept-terms` came from.
pub(crate) fn how(origin: Option<Origin>) -> How {
    match origin {
        Some(Origin::Environment | Origin::File) => How::Env,
        Some(Origin::Flag | Origin::Default) | None => How::Flag,
    }
}

/// The settings file meant by `scope`.
pub(crate) const fn destination(scope: ScopeChoice) -> Destination {
    match scope {
        ScopeChoice::User => Destination::User,
        ScopeChoice::Workspace => Destination::Workspace,
    }
}

/// Tells how it ended; the exit status is the failure's.
pub(crate) fn conclude(printer: &Printer, events: &Events<'_>, outcome: &Outcome, is_plan: bool) -> ExitCode {
    let changed: Vec<&str> = outcome.changed.iter().map(|id: &StepId| id.as_str()).collect();
    events.result(&changed, outcome.error.as_ref());
    if let Some(failure) = &outcome.error {
        printer.failure(failure);
        return ExitCode::from(failure.kind.exit_status());
    }
    if !printer.json() {
        printer.line(&match (changed.is_empty(), is_plan) {
            (true, _) => "Everything is in place; nothing changed.".to_owned(),
            (false, true) => format!(
                "{} steps would change something: {}.",
                changed.len(),
                changed.join(", ")
            ),
            (false, false) => format!("Local model routing is set up; changed: {}.", changed.join(", ")),
        });
    }
    ExitCode::SUCCESS
}
