//! The commands `upgrade` and `rollback`.

use std::ffi::OsString;
use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::net::SafeUrl;
use gem_setup::runtime::RuntimeName;
use gem_setup::setup::{self, OpenBundle, Setup, StepId, StepState, Upgraded, Wanted};
use gem_setup::shell;
use serde_json::json;

use super::args::NetworkArgs;
use super::install::{HOSTED_MODELS, how};
use super::layers::Origin;
use super::news::{self, Source};
use super::session::{Session, or_recorded};
use super::upgrade_args::{RollbackArgs, RollbackChoice, SignedArgs, UpgradeArgs};
use crate::report::{Events, Terminal};

const RUNTIME: &str = "runtime";
const MODEL: &str = "model";
const OWN: &str = "self";

/// Upgrades the parts for which the catalog has other versions.
pub(crate) fn run(
    session: &Session<'_>,
    args: &UpgradeArgs,
    accepted: Option<Origin>,
    is_flag: &dyn Fn(&str) -> bool,
) -> Result<ExitCode, Failure> {
    let events = Events::new(session.printer);
    let terminal = Terminal::new(session.printer);
    if args.to.is_some() && !args.runtime && !named(args).is_empty() {
        let failure = Failure::new(
            Kind::Usage,
            "`--to` is the version of the runtime, which is not among the named parts",
        );
        return Err(failure.with_hint("add `--runtime`, or leave out `--to`"));
    }
    if args.check {
        let setup = prepare(session, args, None, &events, &terminal)?;
        return show_offers(session, args, &setup, &source_options(args, &setup, is_flag));
    }
    let parts = match parts(session, args, &events, &terminal, is_flag) {
        Ok(parts) => parts,
        Err(failed) => return conclude(session, &events, &[], Some(failed)),
    };
    if args.model {
        let possible = prepare(session, args, None, &events, &terminal);
        if let Err(failure) = possible.and_then(|setup| setup::check_model_upgrade(&setup)) {
            return conclude(session, &events, &[], Some((MODEL, failure)));
        }
    }
    let mut outcomes = Vec::new();
    for what in parts {
        // Each part starts from the record that the previous part wrote.
        let is_bundled = args.network.mirror.is_empty();
        let outcome = prepare(session, args, accepted, &events, &terminal)
            .and_then(|mut setup| session.work_until_signal(upgrade(what, &mut setup, is_bundled)));
        match outcome {
            Ok(done) => outcomes.push((what, done)),
            Err(failure) => return conclude(session, &events, &outcomes, Some((what, failure))),
        }
    }
    conclude(session, &events, &outcomes, None)
}

/// The parts to upgrade: the named ones, else the runtime, and the hosted models if the catalog has newer ones. A
/// catalog with an invalid models file is refused before anything is changed. A failure comes with its part.
fn parts(
    session: &Session<'_>,
    args: &UpgradeArgs,
    events: &Events<'_>,
    terminal: &Terminal<'_>,
    is_flag: &dyn Fn(&str) -> bool,
) -> Result<Vec<&'static str>, (&'static str, Failure)> {
    let named = named(args);
    if !named.is_empty() {
        return Ok(named);
    }
    let setup = prepare(session, args, None, events, terminal).map_err(|failure| (RUNTIME, failure))?;
    let has_runtime = setup.wanted.chosen.runtime != RuntimeName::Builtin;
    let options = source_options(args, &setup, is_flag);
    let hosted = setup::new_hosted_models(&setup).map_err(|failure| (HOSTED_MODELS, with_source(failure, &options)));
    let has_hosted = session.is_installed() && hosted?.is_some();
    let mut parts = Vec::new();
    parts.extend((has_runtime || !has_hosted).then_some(RUNTIME));
    parts.extend(has_hosted.then_some(HOSTED_MODELS));
    Ok(parts)
}

/// The parts that `args` name.
fn named(args: &UpgradeArgs) -> Vec<&'static str> {
    let parts = [
        (RUNTIME, args.runtime),
        (MODEL, args.model),
        (OWN, args.own),
        (HOSTED_MODELS, args.hosted_models),
    ];
    let named = parts
        .into_iter()
        .filter_map(|(what, is_named)| is_named.then_some(what));
    named.collect()
}

/// Upgrades one part. Missing files of the current release may come from the recorded bundle.
async fn upgrade(what: &str, setup: &mut Setup<'_>, is_bundled: bool) -> Result<Upgraded, Failure> {
    match what {
        MODEL => setup::upgrade_model(setup).await,
        OWN => setup::upgrade_self(setup).await,
        HOSTED_MODELS => setup::upgrade_hosted_models(setup).await,
        _ if is_bundled => {
            let bundle = setup
                .reopen_bundle(&[StepId::Runtime, StepId::Companions], false)
                .await?;
            let done = setup::upgrade_runtime(setup).await?;
            bundle.into_iter().for_each(OpenBundle::close);
            Ok(done)
        }
        _ => setup::upgrade_runtime(setup).await,
    }
}

/// Returns to the previous version.
pub(crate) fn roll_back(session: &Session<'_>, args: RollbackArgs) -> Result<ExitCode, Failure> {
    let events = Events::new(session.printer);
    let terminal = Terminal::new(session.printer);
    let (what, outcome) = match args.what {
        RollbackChoice::Settings => return roll_back_settings(session),
        RollbackChoice::Own => {
            let rolling = setup::roll_back_self(&session.layout, &events);
            (OWN, session.work_until_signal(rolling))
        }
        RollbackChoice::HostedModels => {
            let rolling = setup::roll_back_hosted_models(&session.layout, &events);
            (HOSTED_MODELS, session.block_on_until_signal(rolling))
        }
        RollbackChoice::Runtime => {
            let rolled = installed(session, &events, &terminal)
                .and_then(|mut setup| session.work_until_signal(setup::roll_back_runtime(&mut setup)));
            (RUNTIME, rolled)
        }
        RollbackChoice::Model => {
            let rolled = installed(session, &events, &terminal)
                .and_then(|mut setup| session.work_until_signal(setup::roll_back_model(&mut setup)));
            (MODEL, rolled)
        }
    };
    match outcome {
        Ok(done) => conclude(session, &events, &[(what, done)], None),
        Err(failure) => conclude(session, &events, &[], Some((what, failure))),
    }
}

fn roll_back_settings(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let removed = session.block_on(async {
        let _lock = session.lock().await?.lock;
        setup::roll_back_settings(&session.layout)
    })?;
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"settings": removed}));
        return Ok(ExitCode::SUCCESS);
    }
    for file in &removed {
        let done = serde_json::to_value(file.outcome).unwrap_or_default();
        let path = printer.tilde(&format!("`{}`", file.path.display()));
        printer.prose(&format!("settings {path}: {}", done.as_str().unwrap_or_default()), 2);
    }
    printer.prose("`gem-setup settings apply` writes them again.", 2);
    Ok(ExitCode::SUCCESS)
}

/// The installation as it is recorded.
pub(crate) fn installed<'s>(
    session: &'s Session<'_>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let state = session.state()?.clone();
    let wanted = Wanted::from(session.chosen_to_read()?);
    let network = or_recorded(NetworkArgs::default(), &state);
    session.setup(state, wanted, &network, session.target()?, events, terminal)
}

/// The installation with the catalog to upgrade from.
fn prepare<'s>(
    session: &'s Session<'_>,
    args: &UpgradeArgs,
    accepted: Option<Origin>,
    events: &'s Events<'s>,
    terminal: &'s Terminal<'s>,
) -> Result<Setup<'s>, Failure> {
    let state = session.state_now()?;
    let mut known = state.clone();
    if args.catalog.is_some() || args.signed.catalog_url.is_some() {
        known.chosen.leave_bundle();
    }
    let network = or_recorded(args.network.clone(), &known);
    let Source { catalog, file, signed } = news::source(session, args, &network)?;
    let mut chosen = known.chosen;
    (chosen.catalog, chosen.signed) = (file, signed);
    let accepted = args.accept_terms.then(|| how(accepted));
    let wanted = Wanted {
        accepted,
        allow_older: args.allow_older,
        ..Wanted::from(chosen)
    };
    let mut setup = session.setup(state, wanted, &network, session.target()?, events, terminal)?;
    setup.site.catalog = catalog;
    check_version(&setup, args.to.as_deref())?;
    Ok(setup)
}

/// Refuses a version that the catalog does not have.
fn check_version(setup: &Setup<'_>, wanted: Option<&str>) -> Result<(), Failure> {
    let runtime = setup.wanted.chosen.runtime;
    let offered = setup
        .site
        .catalog
        .runtime(runtime.as_str())
        .map(|entry| entry.version.as_str());
    let Some(wanted) = wanted.filter(|wanted| Some(*wanted) != offered) else {
        return Ok(());
    };
    let offered = offered.unwrap_or("none");
    let message = format!("cannot upgrade `{runtime}` to `{wanted}`: the catalog has {offered}");
    let hint = "pass a catalog that has that version with `--catalog FILE`; `gem-setup rollback runtime` returns to \
        the previous version";
    Err(Failure::new(Kind::Usage, message).with_hint(hint))
}

/// `failure` with the options that named the catalog in the command that it advises.
fn with_source(failure: Failure, options: &str) -> Failure {
    let command = "`gem-setup upgrade --self";
    let hint = failure
        .hint
        .map(|hint| hint.replace(command, &format!("{command}{options}")));
    Failure { hint, ..failure }
}

/// The options that named the catalog, for the command that takes its offers.
fn source_options(args: &UpgradeArgs, setup: &Setup<'_>, is_flag: &dyn Fn(&str) -> bool) -> String {
    let SignedArgs {
        catalog_url,
        catalog_key,
    } = &args.signed;
    let url = catalog_url.as_ref().map(|url| SafeUrl::from(url).to_string());
    let named = [
        ("catalog", args.catalog.clone().map(OsString::from)),
        ("catalog-url", url.map(OsString::from)),
        ("catalog-key", catalog_key.as_ref().map(|key| key.to_string().into())),
    ];
    let given = named.into_iter().filter(|(name, _)| is_flag(name));
    given
        .filter_map(|(name, value)| Some([format!("--{name}").into(), value?]))
        .map(|words| format!(" {}", shell::line(setup.site.os(), words)))
        .collect()
}

fn show_offers(
    session: &Session<'_>,
    args: &UpgradeArgs,
    setup: &Setup<'_>,
    options: &str,
) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let named = named(args);
    let is_wanted = |what: &str| named.is_empty() || named.contains(&what);
    let offers = setup::offers(setup, is_wanted(HOSTED_MODELS));
    let mut offers = offers.map_err(|failure| with_source(failure, options))?;
    offers.retain(|offer| is_wanted(offer.what));
    match session.block_on_until_signal(setup::offer_of_hub(setup)) {
        Ok(changed) => offers.extend(changed.into_iter().filter(|offer| is_wanted(offer.what))),
        Err(failure) if failure.kind == Kind::Interrupted => return Err(failure),
        Err(failure) => printer.warning(&format!(
            "the model's file was not compared with the hub: {}",
            failure.message
        )),
    }
    if let Err(Failure { message, .. }) = setup::check_not_older(setup) {
        printer.warning(&message);
    }
    if printer.json() {
        printer.json_line(&json!({"upgrades": offers}));
        return Ok(ExitCode::SUCCESS);
    }
    for offer in &offers {
        printer.prose(&offer.in_words(options), 2);
    }
    if offers.is_empty() {
        printer.prose("There is nothing to upgrade.", 2);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports the finished parts, and the one that failed.
fn conclude(
    session: &Session<'_>,
    events: &Events<'_>,
    outcomes: &[(&str, Upgraded)],
    failed: Option<(&str, Failure)>,
) -> Result<ExitCode, Failure> {
    for (what, done) in outcomes {
        let state = if done.changed {
            StepState::Changed
        } else {
            StepState::Ok
        };
        events.step_named(what, state, &done.detail);
    }
    if let Some((what, failure)) = &failed {
        events.step_named(what, StepState::Failed, &failure.message);
    }
    let changed: Vec<&str> = outcomes
        .iter()
        .filter(|(_, done)| done.changed)
        .map(|(what, _)| *what)
        .collect();
    let failure = failed.map(|(_, failure)| failure);
    events.result(&changed, failure.as_ref());
    if !session.printer.json() {
        for (what, done) in outcomes {
            session.printer.prose(&sentence(what, done), 2);
        }
    }
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn sentence(what: &str, done: &Upgraded) -> String {
    let name = match what {
        OWN => "gem-setup",
        MODEL => "The model",
        HOSTED_MODELS => "The models file",
        _ => "The runtime",
    };
    let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "of unknown version".to_owned());
    let (from, to) = (version(&done.from), version(&done.to));
    if what == OWN && !done.changed && done.to.is_none() {
        format!("{name} stays at {from}: the catalog has no version of it; nothing changed.")
    } else if what == OWN && !done.changed && from != to {
        format!("{name} {from} is newer than the catalog's {to}; nothing changed.")
    } else if done.changed && from == to {
        format!("{name} {to} is complete again.")
    } else if done.changed {
        format!("{name} is now {to}; it was {from}.")
    } else {
        format!("{name} {from} is the catalog's version; nothing changed.")
    }
}
