//! `install`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gem_platform::Target;
use gem_setup::error::{Failure, Kind};
use gem_setup::net::SafeUrl;
use gem_setup::runtime::RuntimeName;
use gem_setup::runtime::terms::How;
use gem_setup::settings::Destination;
use gem_setup::setup::{self, Chosen, ServerSpec, Setup, Verdict, Wanted};

use super::args::{InstallArgs, NetworkArgs, ScopeChoice};
use super::layers::Origin;
use super::session::{Session, or_recorded, runtime_of};
use crate::report::{Events, Printer, Terminal};

const NOTHING_CHANGED: &str = "Everything is in place; nothing changed.";

/// Brings the machine to working routing, or prints the plan.
pub(crate) fn run(session: &Session<'_>, args: InstallArgs, accepted: Option<Origin>) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::new(printer);
    let terminal = Terminal::new(printer);
    let outcome = prepare(session, &args, accepted, &events, &terminal).and_then(|mut setup| {
        session.block_on_until_signal(async {
            let outcome = if args.dry_run {
                setup::plan(&setup, &events).await
            } else {
                setup::install(&mut setup, &events).await
            };
            outcome.error.map_or(Ok(()), Err)?;
            if args.dry_run {
                return Ok(None);
            }
            let verdict = setup::verdict(&mut setup).await;
            Ok(Some((verdict, setup::next_steps(&setup))))
        })
    });
    if let Err(failure) = &outcome {
        events.cut_off(failure);
    }
    Ok(match outcome {
        Ok(None) => conclude_plan(printer, &events),
        Ok(Some((verdict, next_steps))) => conclude(printer, &events, &verdict, &next_steps),
        Err(failure) => fail(printer, &events, &failure),
    })
}

fn prepare<'s>(
    session: &'s Session<'_>,
    args: &InstallArgs,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
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
    let state = session.state()?;
    let network = or_recorded(args.network.clone(), state);
    let chosen = chosen(session, args, &network, target)?;
    ServerSpec::installed(&chosen, None, &[]).check()?;
    let recorded = recorded(args, &chosen);
    if !recorded.is_empty() {
        let remark = format!("using recorded options: {}", recorded.join(" "));
        session.printer.remark(&remark);
    }
    let wanted = Wanted {
        chosen,
        accepted: args.accept_terms.then(|| how(accepted)),
        force: args.force,
        verify: false,
        with_model: !args.no_model,
        with_settings: !args.no_settings,
        with_server: !args.no_start,
        with_smoke: !args.no_smoke,
    };
    session.setup(state.clone(), wanted, &network, target, events, terminal)
}

/// The recorded choices, with those of the options in their place.
fn chosen(session: &Session<'_>, args: &InstallArgs, network: &NetworkArgs, target: Target) -> Result<Chosen, Failure> {
    let absolute = |path: &PathBuf| session.environment.current_dir().join(path);
    let recorded = session.state()?.chosen.clone();
    let catalog = args.catalog.as_ref().map(absolute).or(recorded.catalog);
    let runtime = match args.runtime {
        Some(runtime) => runtime_of(runtime, &session.catalog(catalog.as_ref())?, target),
        None => recorded.runtime,
    };
    let model = args.model.clone().unwrap_or_else(|| recorded.model.clone());
    // The recorded file is one of the recorded model for the recorded runtime.
    let kept_file = recorded
        .model_file
        .filter(|_| runtime == recorded.runtime && model == recorded.model);
    check_model_file(args.model_file.as_ref(), runtime)?;
    Ok(Chosen {
        model_file: args.model_file.as_ref().map(absolute).or(kept_file),
        runtime,
        model,
        port: args.port.unwrap_or(recorded.port),
        scope: args.scope.map_or(recorded.scope, destination),
        catalog,
        ca_cert: network.ca_cert.as_ref().map(absolute),
        mirrors: network.mirror.clone(),
        mirror_only: network.mirror_only,
        direct: args.direct,
    })
}

/// Refuses a model file for a runtime that imports none.
pub(crate) fn check_model_file(file: Option<&PathBuf>, runtime: RuntimeName) -> Result<(), Failure> {
    let Some(file) = file.filter(|_| runtime != RuntimeName::LitertLm) else {
        return Ok(());
    };
    let message = format!(
        "cannot import `{}`: the runtime `{runtime}` imports no model file",
        file.display()
    );
    Err(Failure::new(Kind::Usage, message).with_hint("add `--runtime litert-lm`, or leave out `--model-file`"))
}

/// The options that are as recorded and not as they are on a fresh machine.
fn recorded(args: &InstallArgs, chosen: &Chosen) -> Vec<String> {
    let fresh = Chosen::default();
    let mut options = Vec::new();
    let mut option = |is_given: bool, is_fresh: bool, text: String| {
        if !is_given && !is_fresh {
            options.push(text);
        }
    };
    let Chosen {
        runtime, port, model, ..
    } = chosen;
    option(
        args.runtime.is_some(),
        *runtime == fresh.runtime,
        format!("--runtime {runtime}"),
    );
    option(args.port.is_some(), *port == fresh.port, format!("--port {port}"));
    option(args.model.is_some(), *model == fresh.model, format!("--model {model}"));
    option(
        args.scope.is_some(),
        chosen.scope == fresh.scope,
        "--scope workspace".to_owned(),
    );
    for (name, given, file) in [
        ("catalog", &args.catalog, &chosen.catalog),
        ("model-file", &args.model_file, &chosen.model_file),
        ("ca-cert", &args.network.ca_cert, &chosen.ca_cert),
    ] {
        let shown = file.as_deref().unwrap_or(Path::new("")).display();
        option(given.is_some(), file.is_none(), format!("--{name} {shown}"));
    }
    let are_mirrors_given = !args.network.mirror.is_empty();
    for mirror in &chosen.mirrors {
        let mirror = SafeUrl::from(mirror.clone());
        option(are_mirrors_given, false, format!("--mirror {mirror}"));
    }
    option(
        are_mirrors_given || args.network.mirror_only,
        !chosen.mirror_only,
        "--mirror-only".to_owned(),
    );
    options
}

/// How the terms were accepted, by where `--accept-terms` came from.
pub(crate) fn how(origin: Option<Origin>) -> How {
    match origin {
        Some(Origin::Environment | Origin::File) => How::Env,
        Some(Origin::Flag | Origin::Server | Origin::Default) | None => How::Flag,
    }
}

/// The settings file meant by `scope`.
pub(crate) const fn destination(scope: ScopeChoice) -> Destination {
    match scope {
        ScopeChoice::User => Destination::User,
        ScopeChoice::Workspace => Destination::Workspace,
    }
}

fn conclude_plan(printer: &Printer, events: &Events<'_>) -> ExitCode {
    let changed = events.changed();
    events.result(&changed, None);
    if !printer.json() {
        printer.line(&match changed.is_empty() {
            true => NOTHING_CHANGED.to_owned(),
            false => format!(
                "{} steps would change something: {}.",
                changed.len(),
                changed.join(", ")
            ),
        });
    }
    ExitCode::SUCCESS
}

fn fail(printer: &Printer, events: &Events<'_>, failure: &Failure) -> ExitCode {
    events.result(&events.changed(), Some(failure));
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}

/// Prints whether routing works now; the exit status is that of the remaining fault.
fn conclude(printer: &Printer, events: &Events<'_>, verdict: &Verdict, next_steps: &[String]) -> ExitCode {
    let changed = events.changed();
    let failure = verdict.failure();
    events.verdict(&changed, &verdict.options(), failure.as_ref());
    if printer.json() {
        if let Some(failure) = &failure {
            printer.failure(failure);
        }
    } else {
        report(printer, verdict, &changed);
        if failure.is_none() {
            printer.remark("\nWhat to do next:");
            for step in next_steps {
                printer.remark(&printer.tilde(&format!("  {step}")));
            }
        }
    }
    failure.map_or(ExitCode::SUCCESS, |failure| ExitCode::from(failure.kind.exit_status()))
}

fn report(printer: &Printer, verdict: &Verdict, changed: &[&str]) {
    let changes = match changed {
        [] => "nothing changed".to_owned(),
        changed => format!("changed: {}", changed.join(", ")),
    };
    printer.line(&match (verdict.faults.len(), verdict.left_out.is_empty()) {
        (0, true) if changed.is_empty() => NOTHING_CHANGED.to_owned(),
        (0, true) => format!("Local model routing is set up; {changes}."),
        (0, false) => format!("Local model routing does not work yet, because options left steps out; {changes}."),
        (1, _) => format!("Local model routing does not work: 1 fault remains; {changes}."),
        (faults, _) => format!("Local model routing does not work: {faults} faults remain; {changes}."),
    });
    if verdict.is_untried {
        printer.line("No prompt was sent to try it (--no-smoke).");
    }
    let left_out = verdict.left_out.iter().map(|(check, option)| (check, Some(*option)));
    for (check, option) in verdict.faults.iter().map(|check| (check, None)).chain(left_out) {
        let mark = match option {
            Some(_) => printer.out().dim("left out"),
            None => printer.out().bad("FAIL"),
        };
        let option = option.map_or_else(String::new, |option| format!(" ({option})"));
        printer.line(&format!("  {mark} {}: {}{option}", check.id, check.detail));
        if let Some(fix) = &check.fix {
            printer.line(&format!("    {} {fix}", printer.out().dim("fix:")));
        }
    }
}
