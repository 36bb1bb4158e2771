//! Gemini CLI's settings: the router is on and points at the local server.

use std::path::Path;

use jiff::Timestamp;

use crate::error::Failure;
use crate::runtime::LocalModelName;
use crate::settings::{self, Content, Destination, Effective, Key, Plan, Router};
use crate::setup::check::{Check, REINSTALL};
use crate::setup::launcher;
use crate::setup::step::Inspection;
use crate::setup::{Choices, Setup, shown};

const FILE: (&str, &str) = ("settings.file", "settings files");
const ROUTER: (&str, &str) = ("settings.router", "router switched on");
const SHADOWED: (&str, &str) = ("settings.shadowed", "settings in effect");

/// Why Gemini CLI heeds the settings that are chosen in no way, and what to do about it.
struct Vain {
    reason: String,
    fix: String,
}

impl Vain {
    fn of(setup: &Setup<'_>, found: &settings::Settings) -> Option<Self> {
        let Choices { model, scope, .. } = &setup.choices;
        // The only one that Gemini CLI asks (FACTS section 3).
        let asked = LocalModelName::default();
        if *model != asked {
            return Some(Self {
                reason: format!("Gemini CLI asks the local model `{asked}` alone and refuses `{model}`"),
                fix: format!("run `gem-setup install --model {asked}`"),
            });
        }
        let is_ignored = *scope == Destination::Workspace && !found.trust.is_trusted();
        is_ignored.then(|| Self {
            reason: format!(
                "Gemini CLI does not trust {}, so it ignores the settings there",
                shown(setup.environment.current_dir())
            ),
            fix: "trust the folder in Gemini CLI (`/permissions trust`), or run `gem-setup install --scope user`"
                .to_owned(),
        })
    }
}

/// What should be known of the chosen settings before they are written.
#[must_use]
pub fn caution(setup: &Setup<'_>) -> Option<String> {
    if !setup.choices.with_settings || !setup.is_for_this_machine() {
        return None;
    }
    let found = settings::load(&setup.places(), setup.environment);
    Vain::of(setup, &found).map(|vain| format!("{}; {}", vain.reason, vain.fix))
}

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    if !setup.choices.with_settings {
        let reason = "no settings wanted (--no-settings)";
        let skipped = [FILE, ROUTER, SHADOWED].map(|(id, title)| Check::skip(id, title, reason));
        let skipped = skipped.into_iter().chain([launcher::skipped(reason)]);
        return Inspection::not_needed(reason, skipped.collect());
    }
    let places = setup.places();
    let planned = settings::plan(&places, setup.environment, setup.choices.scope, &setup.router_values());
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return broken(error.into()),
    };
    let found = settings::load(&places, setup.environment);
    let mut checks = vec![inspect_files(&found)];
    let router = found.router();
    let vain = Vain::of(setup, &found);
    checks.push(match &vain {
        Some(vain) if plan.is_empty() => Check::fail(ROUTER.0, ROUTER.1, &vain.reason, &vain.fix),
        _ => inspect_router(&router, &plan),
    });
    checks.push(if plan.is_empty() && vain.is_none() {
        inspect_shadowed(setup, &router)
    } else {
        Check::skip(SHADOWED.0, SHADOWED.1, "the router is not set up")
    });
    let launcher = launcher::inspect(setup);
    checks.push(launcher.check);
    if plan.is_empty() && launcher.plan.is_none() {
        let detail = format!("{} has what it needs", shown(places.user()));
        return Inspection::in_place(detail, checks);
    }
    let files = plan.files.iter().map(|file| {
        let keys: Vec<String> = file
            .changes
            .iter()
            .map(|change| format!("{} = {}", change.key, change.to))
            .collect();
        format!("set in {}: {}", shown(&file.path), keys.join(", "))
    });
    let todo: Vec<String> = launcher.plan.into_iter().chain(files).collect();
    Inspection::needed(todo.join("; "), checks)
}

fn broken(failure: Failure) -> Inspection {
    let fix = failure
        .hint
        .clone()
        .unwrap_or_else(|| "mend the file by hand".to_owned());
    let checks = vec![
        Check::fail(FILE.0, FILE.1, &failure.message, fix),
        Check::skip(ROUTER.0, ROUTER.1, "the settings cannot be read"),
        Check::skip(SHADOWED.0, SHADOWED.1, "the settings cannot be read"),
    ];
    Inspection::needed("write the router's settings", checks).blocked_by(failure)
}

fn inspect_files(found: &settings::Settings) -> Check {
    let errors: Vec<Failure> = found.errors().map(Failure::of).collect();
    if let Some(first) = errors.first() {
        let texts: Vec<&str> = errors.iter().map(|failure| failure.message.as_str()).collect();
        let fix = first.hint.clone().unwrap_or_else(|| "mend the file by hand".to_owned());
        return Check::fail(FILE.0, FILE.1, texts.join("; "), fix);
    }
    if let Some((path, reason)) = refused(found) {
        let detail = format!("Gemini CLI refuses {}: {reason}", shown(path));
        return Check::fail(FILE.0, FILE.1, detail, "mend the file by hand");
    }
    Check::ok(FILE.0, FILE.1, "all that exist can be read")
}

/// The first file that Gemini CLI would not start with.
fn refused(found: &settings::Settings) -> Option<(&Path, &str)> {
    found.scopes.iter().find_map(|file| match &file.content {
        Content::Parsed(document) => Some((file.path.as_path(), document.refused.as_deref()?)),
        Content::Absent | Content::Broken(_) => None,
    })
}

fn inspect_router(router: &Router, plan: &Plan) -> Check {
    if let Some(malformed) = router.malformed.first() {
        let detail = format!(
            "`{}` in {} is {} where {} is expected",
            malformed.key,
            shown(&malformed.path),
            malformed.found,
            malformed.expected
        );
        return Check::fail(ROUTER.0, ROUTER.1, detail, REINSTALL);
    }
    let changes: Vec<_> = plan
        .files
        .iter()
        .flat_map(|file| file.changes.iter().map(move |change| (file, change)))
        .collect();
    if changes.is_empty() {
        let detail = format!("on, at {}", router.classifier_host.value);
        return Check::ok(ROUTER.0, ROUTER.1, detail);
    }
    let texts: Vec<String> = changes
        .iter()
        .map(|(file, change)| {
            let from = change.from.as_deref().unwrap_or("not set");
            format!(
                "`{}` in {} is {from}, should be {}",
                change.key,
                shown(&file.path),
                change.to
            )
        })
        .collect();
    let starts_another = changes.iter().all(|(_, change)| change.key == Key::BinaryPath)
        && Path::new(&router.binary_path.value).is_file();
    if starts_another {
        // Gemini CLI starts some other server program that exists: a choice, not a fault.
        return Check::warn(ROUTER.0, ROUTER.1, texts.join("; "), REINSTALL);
    }
    Check::fail(ROUTER.0, ROUTER.1, texts.join("; "), REINSTALL)
}

/// Whether another scope's file says something else than ours: only looked at where ours says the right thing.
fn inspect_shadowed(setup: &Setup<'_>, router: &Router) -> Check {
    let wanted = setup.router_values();
    let host = format!("http://localhost:{}", wanted.port);
    let mut faults = Vec::new();
    differs(&router.enabled, &true, Key::Enabled, &mut faults);
    differs(&router.classifier_host, &host, Key::ClassifierHost, &mut faults);
    differs(
        &router.classifier_model,
        &wanted.model,
        Key::ClassifierModel,
        &mut faults,
    );
    if faults.is_empty() {
        return Check::ok(SHADOWED.0, SHADOWED.1, "no other settings file contradicts");
    }
    let fix = "take the key out of that file, or run gem-setup from another directory";
    Check::fail(SHADOWED.0, SHADOWED.1, faults.join("; "), fix)
}

fn differs<T: PartialEq + std::fmt::Display>(found: &Effective<T>, wanted: &T, key: Key, faults: &mut Vec<String>) {
    if found.value != *wanted {
        let place = found
            .path
            .as_deref()
            .map_or_else(|| "Gemini CLI's defaults".to_owned(), shown);
        faults.push(format!(
            "`{key}` is {} because of {place} ({} scope)",
            found.value, found.origin
        ));
    }
}

pub(super) fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    // First, so that the settings never name what is not there.
    let launcher = setup.launcher();
    launcher.restore()?;
    let applied = settings::apply(
        &setup.places(),
        setup.environment,
        setup.choices.scope,
        &setup.router_values(),
        &setup.layout.backups(),
        Timestamp::now(),
    )?;
    let files = applied.files.iter().map(|file| shown(&file.path));
    let files: Vec<String> = [shown(launcher.path())].into_iter().chain(files).collect();
    let earlier = std::mem::take(&mut setup.state.settings);
    setup.state.settings = earlier.then(applied);
    Ok(format!("wrote {}", files.join(" and ")))
}
