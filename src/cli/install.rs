//! The command `install`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use gem_platform::{Os, Target};
use gem_setup::error::{Failure, Kind};
use gem_setup::net::SafeUrl;
use gem_setup::runtime::terms::How;
use gem_setup::runtime::{NO_MODEL, RuntimeName};
use gem_setup::settings::Destination;
use gem_setup::setup::{
    self, Chosen, NewHostedModels, NextStep, OpenBundle, ServerSpec, Setup, SignedCatalog, State, StepId, StepState,
    Verdict, Wanted,
};
use gem_setup::shell;
use tempfile::TempDir;

use super::args::{InstallArgs, NetworkArgs};
use super::layers::Origin;
use super::news;
use super::next_server;
use super::server_args::RuntimeChoice;
use super::session::{Session, asynchronous, or_recorded, runtime_of};
use crate::report::{Events, Printer, Terminal};

/// The steps whose files come from a bundle.
pub(crate) const BUNDLED: [StepId; 3] = [StepId::Runtime, StepId::Companions, StepId::Model];

/// Not a step: only catalogs that deliver a models file have it.
pub(crate) const HOSTED_MODELS: &str = "hosted-models";

const NOTHING_CHANGED: &str = "Everything is in place; nothing changed.";

/// Sets up working routing on this machine, or prints the plan.
/// `origin` says where the value of an option came from.
pub(crate) fn run(
    session: &Session<'_>,
    mut args: InstallArgs,
    accepted: Option<Origin>,
    origin: &dyn Fn(&str) -> Origin,
) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::new(printer);
    let terminal = Terminal::new(printer).offering("The option `--runtime builtin` needs no model and no terms.");
    keep_bundle(session, &mut args, origin);
    let is_first = !session.is_installed();
    let mut bundle = open_bundle(session, &mut args, &events);
    let mut scratch = None;
    let prepared = bundle.as_ref().map_err(Clone::clone).and_then(|_| {
        let signed = signed_catalog(session, &mut args, origin("catalog-url"), &mut scratch)?;
        prepare(session, &args, signed, accepted, &events, &terminal)
    });
    // Later, `rollback hosted-models` is not undone.
    let has_new_catalog = is_first || args.catalog.is_some();
    let outcome = prepared.and_then(|mut setup| {
        session.work_until_signal(async {
            if args.bundle.is_none() {
                bundle = Ok(setup.reopen_bundle(&BUNDLED, args.dry_run).await?);
            }
            work(&mut setup, &args, has_new_catalog, &events).await
        })
    });
    match (&outcome, bundle) {
        (Err(failure), _) => events.cut_off(failure),
        (Ok(_), Ok(Some(bundle))) => bundle.close(),
        (Ok(_), _) => {}
    }
    Ok(match outcome {
        Ok(None) => conclude_plan(printer, &events),
        Ok(Some((verdict, next_steps))) => conclude(printer, &events, &verdict, &next_steps),
        Err(failure) => fail(printer, &events, &failure),
    })
}

/// Leaves out what the configuration file says of other sources if a bundle is recorded: `--bundle` excludes it too, and the
/// next `install` must not leave the bundle for it.
fn keep_bundle(session: &Session<'_>, args: &mut InstallArgs, origin: &dyn Fn(&str) -> Origin) {
    let is_named = |name: &&str| matches!(origin(name), Origin::Flag | Origin::Environment);
    let is_left = ["bundle", "catalog", "catalog-url", "mirror"].iter().any(is_named);
    if is_left || !session.has_bundle() {
        return;
    }
    args.network.leave_out_file(origin);
    args.catalog = None;
}

/// Installs or plans the steps, and the models file of a new catalog; `None` for a plan.
async fn work(
    setup: &mut Setup<'_>,
    args: &InstallArgs,
    has_new_catalog: bool,
    events: &Events<'_>,
) -> Result<Option<(Verdict, Vec<NextStep>)>, Failure> {
    let models = match has_new_catalog {
        true => setup::installable_hosted_models(setup)?,
        false => None,
    };
    let outcome = if args.dry_run {
        setup::plan(setup, events).await
    } else {
        setup::install(setup, events).await
    };
    let brought = bring(setup, models, args, events).await;
    outcome.error.map_or(brought, Err)?;
    if args.dry_run {
        return Ok(None);
    }
    let verdict = setup::verdict(setup).await;
    Ok(Some((verdict, setup::next_steps(setup))))
}

/// Checks the given bundle and makes it the only source.
fn open_bundle(
    session: &Session<'_>,
    args: &mut InstallArgs,
    events: &Events<'_>,
) -> Result<Option<OpenBundle>, Failure> {
    let Some(path) = &args.bundle else {
        return Ok(None);
    };
    let path = session.environment.current_dir().join(path);
    let downloads = session.layout.downloads();
    let downloads = (!args.dry_run).then_some(downloads.as_path());
    let target = match args.target {
        Some(target) if args.dry_run => target,
        _ => session.target()?,
    };
    let key = args.public_key.as_ref().map(|key| key.0.as_str());
    let bundle = OpenBundle::open(&path, key, target, downloads, events);
    let bundle = session.work_until_signal(bundle)?;
    args.bundle = Some(path);
    args.catalog = Some(bundle.catalog.clone());
    args.network.mirror = vec![bundle.mirror.clone()];
    args.network.mirror_only = Some(true);
    Ok(Some(bundle))
}

/// Fetches the signed catalog that is named, and makes it the catalog to install from. In an installed machine's configuration it is
/// named for `upgrade`. A plan keeps it in `scratch`.
fn signed_catalog(
    session: &Session<'_>,
    args: &mut InstallArgs,
    named: Origin,
    scratch: &mut Option<TempDir>,
) -> Result<Option<SignedCatalog>, Failure> {
    let is_wanted = !session.is_installed() || matches!(named, Origin::Flag | Origin::Environment);
    let has_other = args.catalog.is_some() || args.bundle.is_some();
    let Some(url) = args.signed.catalog_url.as_ref().filter(|_| is_wanted && !has_other) else {
        return Ok(None);
    };
    let mut file = session.layout.signed_catalog_file();
    if args.dry_run {
        let directory = tempfile::tempdir();
        let directory = directory.map_err(|error| Failure::cannot("make a directory for the signed catalog", error))?;
        file = directory.path().join("catalog.json");
        *scratch = Some(directory);
    }
    let network = or_recorded(args.network.clone(), &left_bundle(session)?);
    let found = news::signed(session, url, &args.signed, &network, &file)?;
    args.catalog = found.file;
    Ok(found.signed)
}

/// The record, without the bundle that was installed from.
fn left_bundle(session: &Session<'_>) -> Result<State, Failure> {
    let mut state = session.state()?.clone();
    state.chosen.leave_bundle();
    Ok(state)
}

/// Brings the catalog's models file, or says so.
async fn bring(
    setup: &Setup<'_>,
    models: Option<NewHostedModels>,
    args: &InstallArgs,
    events: &Events<'_>,
) -> Result<(), Failure> {
    // An installation that failed early has recorded nothing.
    let is_begun = args.dry_run || setup.site.layout.state_file().exists();
    let Some(models) = models.filter(|_| is_begun) else {
        return Ok(());
    };
    let detail = match args.dry_run {
        true => format!("would take the models file {} from the catalog", models.to),
        false => setup::upgrade_hosted_models(setup).await?.detail,
    };
    events.ended(HOSTED_MODELS, StepState::Changed, &detail);
    Ok(())
}

fn prepare<'s>(
    session: &'s Session<'_>,
    args: &InstallArgs,
    signed: Option<SignedCatalog>,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let target = target_of(session, args)?;
    let state = session.state()?;
    let network = match args.catalog {
        Some(_) => or_recorded(args.network.clone(), &left_bundle(session)?),
        None => or_recorded(args.network.clone(), state),
    };
    let chosen = chosen(session, args, signed, &network, target)?;
    // Without settings, the scope is only kept.
    let scope = args.scope.or(args.no_settings.then_some(chosen.scope));
    session.check_scope(state, scope, chosen.scope)?;
    ServerSpec::installed(&chosen, None, &[]).check()?;
    let recorded = match session.is_installed() {
        true => recorded(args, &chosen),
        false => Vec::new(),
    };
    if !recorded.is_empty() {
        let remark = format!("using recorded options: {}", recorded.join(" "));
        session
            .printer
            .remark_in_prose(&session.printer.tilde_everywhere(&remark), 2);
    }
    warn_of_idle_options(session, args, accepted, chosen.runtime);
    warn_of_left_out_parts(session, args);
    let wanted = wanted(args, accepted, chosen);
    let given = given(args, &wanted.chosen, target);
    let mut setup = session.setup(state.clone(), wanted, &network, target, events, terminal)?;
    setup.site.given = given;
    setup.server_fault = next_server::fault(session, &setup);
    Ok(setup)
}

fn target_of(session: &Session<'_>, args: &InstallArgs) -> Result<Target, Failure> {
    match args.target {
        Some(target) if args.dry_run => Ok(target),
        // clap checks this only on the command line, but the target may come from the environment or the configuration.
        Some(target) => {
            let message = format!("cannot install for {target}: `target` is only for plans");
            Err(Failure::new(Kind::Usage, message).with_hint(
                "add `--dry-run`, or unset `GEM_SETUP_TARGET` and remove `target` from the configuration file",
            ))
        }
        None => session.target(),
    }
}

fn warn_of_idle_options(session: &Session<'_>, args: &InstallArgs, accepted: Option<Origin>, runtime: RuntimeName) {
    let is_flag = accepted == Some(Origin::Flag);
    let no_model = NO_MODEL.to_owned();
    let no_files = format!("the runtime `{runtime}` needs no download; it is recorded for later commands");
    // A signed catalog is downloaded for every runtime.
    let is_idle = |option: &str| session.is_given(option) && args.signed.catalog_url.is_none() && args.bundle.is_none();
    let options = [
        (args.no_model, "--no-model", &no_model),
        (args.accept_terms && is_flag, "--accept-terms", &no_model),
        (is_idle("--mirror"), "--mirror", &no_files),
        (is_idle("--mirror-only"), "--mirror-only", &no_files),
    ];
    let idle = options
        .iter()
        .filter(|(is_given, ..)| *is_given && !runtime.has_models());
    for (_, option, reason) in idle {
        session.printer.warning(&format!("`{option}` has no effect: {reason}"));
    }
}

/// Warns of options about a part that this installation leaves out.
fn warn_of_left_out_parts(session: &Session<'_>, args: &InstallArgs) {
    let left_out = [
        (
            args.no_settings && args.scope != Some(Destination::System),
            "--scope",
            "--no-settings",
        ),
        (args.no_model, "--model-file", "--no-model"),
    ];
    for (_, option, by) in left_out.iter().filter(|(is_left_out, ..)| *is_left_out) {
        if session.is_given(option) {
            let text = format!("`{option}` has no effect now because of `{by}`; it is recorded for later commands");
            session.printer.warning(&text);
        }
    }
}

fn wanted(args: &InstallArgs, accepted: Option<Origin>, chosen: Chosen) -> Wanted {
    Wanted {
        chosen,
        accepted: args.accept_terms.then(|| how(accepted)),
        force: args.force,
        verify: false,
        compare_file: args.model_file.is_some(),
        allow_older: false,
        with_model: !args.no_model,
        with_settings: !args.no_settings,
        with_server: !args.no_start,
        with_smoke: !args.no_smoke,
    }
}

/// The options of this call that a later `install` would take from the record.
fn given(args: &InstallArgs, chosen: &Chosen, target: Target) -> Vec<String> {
    let word = |text: &OsStr| shell::word(target.os, text);
    let path = |file: &Option<PathBuf>| file.as_ref().map(|file| word(file.as_os_str()));
    let scope = serde_json::to_value(chosen.scope).ok();
    let scope = scope.and_then(|scope| scope.as_str().map(str::to_owned));
    let options = [
        ("runtime", args.runtime.map(|_| chosen.runtime.to_string())),
        ("port", args.port.map(|port| port.to_string())),
        ("model", args.model.as_ref().map(|model| word(model.as_str().as_ref()))),
        (
            "scope",
            scope.filter(|_| args.scope.is_some() && chosen.scope != Destination::System),
        ),
        ("bundle", path(&args.bundle)),
        ("catalog", path(&args.catalog.clone().filter(|_| args.bundle.is_none()))),
        ("model-file", path(&args.model_file)),
        ("ca-cert", path(&args.network.ca_cert)),
    ];
    let options = options.into_iter();
    let mut given: Vec<String> = options
        .filter_map(|(name, value)| Some(format!("--{name} {}", value?)))
        .collect();
    let mirrors = args.network.mirror.iter().filter(|_| args.bundle.is_none());
    given.extend(mirrors.map(|mirror| format!("--mirror {}", word(SafeUrl::from(mirror).to_string().as_ref()))));
    let switches = [
        ("--accept-terms", args.accept_terms),
        (
            "--mirror-only",
            args.network.mirror_only == Some(true) && args.bundle.is_none(),
        ),
        ("--no-model", args.no_model),
        ("--no-settings", args.no_settings),
        ("--no-start", args.no_start),
        ("--direct", args.direct == Some(true)),
    ];
    given.extend(
        switches
            .into_iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(name, _)| name.to_owned()),
    );
    given
}

/// The recorded choices, overridden by the options.
fn chosen(
    session: &Session<'_>,
    args: &InstallArgs,
    signed: Option<SignedCatalog>,
    network: &NetworkArgs,
    target: Target,
) -> Result<Chosen, Failure> {
    let absolute = |path: &PathBuf| session.environment.current_dir().join(path);
    let recorded = session.state()?.chosen.clone();
    let is_recorded = session.is_installed();
    let catalog = args.catalog.as_ref().map(absolute).or(recorded.catalog);
    let runtime = match args.runtime {
        Some(RuntimeChoice::Auto) => automatic(session, catalog.as_ref(), target)?,
        Some(runtime) => runtime_of(runtime, &session.catalog(catalog.as_ref())?, target),
        None if is_recorded => recorded.runtime,
        None => automatic(session, catalog.as_ref(), target)?,
    };
    let is_same_source = args.catalog.is_none() && args.network.mirror.is_empty();
    let bundle = args.bundle.clone().or(recorded.bundle.filter(|_| is_same_source));
    let model = args.model.clone().unwrap_or_else(|| recorded.model.clone());
    // The recorded model file fits only the recorded model and runtime.
    let kept_file = recorded
        .model_file
        .filter(|_| runtime == recorded.runtime && model == recorded.model);
    check_model_file(args.model_file.as_ref(), runtime)?;
    Ok(Chosen {
        model_file: args.model_file.as_ref().map(absolute).or(kept_file),
        runtime,
        model,
        port: args.port.unwrap_or(recorded.port),
        scope: args.scope.unwrap_or(recorded.scope),
        signed: signed.or_else(|| recorded.signed.filter(|_| args.catalog.is_none())),
        catalog,
        ca_cert: network.ca_cert.as_ref().map(absolute),
        mirrors: network.mirror.clone(),
        mirror_only: network.mirror_only == Some(true),
        bundle,
        direct: args.direct == Some(true),
    })
}

/// The runtime that `auto` selects; prints the reason.
fn automatic(session: &Session<'_>, catalog: Option<&PathBuf>, target: Target) -> Result<RuntimeName, Failure> {
    let catalog = session.catalog(catalog)?;
    let choice = setup::installable(&catalog, target, &session.environment);
    let choice = asynchronous()?.block_on(choice);
    let remark = format!("chose the runtime `{}`: {}", choice.runtime, choice.reason);
    session.printer.remark_in_prose(&remark, 2);
    Ok(choice.runtime)
}

/// Refuses a model file for a runtime that cannot import one.
pub(crate) fn check_model_file(file: Option<&PathBuf>, runtime: RuntimeName) -> Result<(), Failure> {
    let Some(file) = file.filter(|_| runtime != RuntimeName::LitertLm) else {
        return Ok(());
    };
    let message = format!(
        "cannot import `{}`: the runtime `{runtime}` cannot import a model file",
        file.display()
    );
    Err(Failure::new(Kind::Usage, message).with_hint("add `--runtime litert-lm`, or leave out `--model-file`"))
}

/// The options whose recorded value applies and differs from the default.
fn recorded(args: &InstallArgs, chosen: &Chosen) -> Vec<String> {
    let fresh = Chosen::default();
    let option = |name: &str, is_given: bool, value: Option<String>| {
        value.filter(|_| !is_given).map(|value| format!("--{name} {value}"))
    };
    let path = |file: &Option<PathBuf>| file.as_ref().map(|file| shell::word(Os::HOST, file.as_os_str()));
    // A bundle has its own catalog and replaces the mirrors.
    let is_bundled = chosen.bundle.is_some();
    let are_mirrors_given = !args.network.mirror.is_empty() || is_bundled;
    let is_only_given = are_mirrors_given || args.network.mirror_only.is_some();
    let scope = match chosen.scope {
        Destination::User => None,
        Destination::Workspace => Some("workspace".to_owned()),
        Destination::System => Some("system".to_owned()),
    };
    let given = [
        option(
            "runtime",
            args.runtime.is_some(),
            other(&chosen.runtime, &fresh.runtime),
        ),
        option("port", args.port.is_some(), other(&chosen.port, &fresh.port)),
        option("model", args.model.is_some(), other(&chosen.model, &fresh.model)),
        option("scope", args.scope.is_some(), scope),
        option("bundle", args.bundle.is_some(), path(&chosen.bundle)),
        option("catalog", args.catalog.is_some() || is_bundled, path(&chosen.catalog)),
        option("model-file", args.model_file.is_some(), path(&chosen.model_file)),
        option("ca-cert", args.network.ca_cert.is_some(), path(&chosen.ca_cert)),
    ];
    let mirrors = chosen.mirrors.iter().map(|mirror| SafeUrl::from(mirror).to_string());
    let mirrors = mirrors.map(|mirror| option("mirror", are_mirrors_given, Some(mirror)));
    let only = (chosen.mirror_only && !is_only_given).then(|| "--mirror-only".to_owned());
    given.into_iter().chain(mirrors).chain([only]).flatten().collect()
}

fn other<T: PartialEq + ToString>(value: &T, fresh: &T) -> Option<String> {
    (value != fresh).then(|| value.to_string())
}

/// What the user has to do after a change of the settings.
pub(crate) const RESTART_CLIENT: &str =
    "Restart Gemini CLI if it is running: it reads its settings only when it starts.";

/// How the terms were accepted, derived from the source of `--accept-terms`.
pub(crate) fn how(origin: Option<Origin>) -> How {
    match origin {
        Some(Origin::Environment | Origin::File) => How::Env,
        Some(Origin::Flag | Origin::Server | Origin::Default) | None => How::Flag,
    }
}

fn conclude_plan(printer: &Printer, events: &Events<'_>) -> ExitCode {
    let changed = events.changed();
    events.result(&changed, None);
    if !printer.json() {
        let conclusion = match changed.is_empty() {
            true => NOTHING_CHANGED.to_owned(),
            false => {
                let plural = if changed.len() == 1 { "" } else { "s" };
                format!(
                    "{} step{plural} would change something: {}.",
                    changed.len(),
                    changed.join(", ")
                )
            }
        };
        printer.prose(&conclusion, 2);
    }
    ExitCode::SUCCESS
}

fn fail(printer: &Printer, events: &Events<'_>, failure: &Failure) -> ExitCode {
    events.result(&events.changed(), Some(failure));
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}

/// Prints whether routing works now. The exit status is that of the remaining fault.
fn conclude(printer: &Printer, events: &Events<'_>, verdict: &Verdict, next_steps: &[NextStep]) -> ExitCode {
    let changed = events.changed();
    let failure = verdict.failure();
    events.verdict(&changed, &verdict.options(), failure.as_ref());
    if printer.json() {
        if let Some(failure) = &failure {
            printer.failure(failure);
        }
    } else {
        report(printer, verdict, &changed);
        if changed.contains(&"settings") {
            printer.remark_in_prose(RESTART_CLIENT, 2);
        }
        if failure.is_none() {
            printer.remark("");
            printer.remark("What to do next:");
            for remedy in verdict.remedies() {
                printer.remark(&printer.tilde(&format!(
                    "  first {remedy}, which applies the steps that options left out"
                )));
            }
            for step in next_steps {
                printer.remark(&printer.tilde(&format!("  {}:", step.purpose)));
                if let Some(condition) = &step.condition {
                    printer.remark_in_prose(&printer.tilde(&format!("    {condition}, then:")), 4);
                }
                // On a line of its own: a command that wraps cannot be copied.
                printer.remark(&printer.tilde(&format!("    {}", printer.typed(&step.way))));
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
    let conclusion = match (verdict.faults.len(), verdict.left_out.is_empty()) {
        (0, true) if changed.is_empty() => NOTHING_CHANGED.to_owned(),
        (0, true) => format!("Local model routing is set up; {changes}."),
        (0, false) => format!("Local model routing does not work yet, because options left out steps; {changes}."),
        (1, _) => format!("Local model routing does not work: 1 fault remains; {changes}."),
        (faults, _) => format!("Local model routing does not work: {faults} faults remain; {changes}."),
    };
    printer.prose(&conclusion, 2);
    if verdict.is_untried {
        printer.prose("It was not tested with a prompt (--no-smoke).", 2);
    }
    let left_out = verdict.left_out.iter().map(|(check, option)| (check, Some(*option)));
    for (check, option) in verdict.faults.iter().map(|check| (check, None)).chain(left_out) {
        let mark = match option {
            Some(_) => printer.out().dim("left out"),
            None => printer.out().bad("FAIL"),
        };
        let option = option.map_or_else(String::new, |option| format!(" ({option})"));
        let detail = printer.tilde(&check.detail);
        printer.prose(&format!("  {mark} {}: {detail}{option}", check.id), 4);
        if let Some(fix) = &check.fix {
            let fix = printer.tilde(&fix.to_string());
            printer.prose(&format!("    {} {fix}", printer.out().dim("fix:")), 9);
        }
    }
}
