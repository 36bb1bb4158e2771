//! Gemini CLI's settings: the router is on and points at the local server.

use std::path::Path;

use crate::error::Failure;
use crate::runtime::LocalModelName;
use crate::runtime::terms::Terms;
use crate::settings::{self, Destination, Effective, Key, Plan, RouterSettings};
use crate::setup::apply_settings;
use crate::setup::check::{Check, Fix};
use crate::setup::launcher::{self, Launcher};
use crate::setup::step::Inspection;
use crate::setup::{Chosen, Setup, shown};

const FILE: (&str, &str) = ("settings.file", "settings files");
const ROUTER: (&str, &str) = ("settings.router", "router switched on");
const SHADOWED: (&str, &str) = ("settings.shadowed", "settings in effect");

/// Why Gemini CLI would ignore the chosen settings, and what to do about it.
struct Ignored {
    reason: String,
    fix: Fix,
}

impl Ignored {
    fn of(setup: &Setup<'_>, found: &settings::Settings) -> Option<Self> {
        let Chosen { model, scope, .. } = &setup.wanted.chosen;
        if let Some(reason) = refused_model(model) {
            let asked = LocalModelName::default();
            return Some(Self {
                reason,
                fix: Fix::run(format!("install --model {asked}{}", acceptance(setup, &asked))),
            });
        }
        let is_ignored = *scope == Destination::Workspace && !found.trust.is_trusted();
        is_ignored.then(|| Self {
            reason: format!(
                "Gemini CLI does not trust {}, so it ignores the settings there",
                shown(setup.site.environment.current_dir())
            ),
            fix: Fix::run_or(
                "install --scope user",
                "trust the folder in Gemini CLI (`/permissions trust`)",
            ),
        })
    }
}

/// Why Gemini CLI refuses `model`, if it does: it asks one model alone (docs/facts.md section 3).
#[must_use]
pub fn refused_model(model: &LocalModelName) -> Option<String> {
    let asked = LocalModelName::default();
    (*model != asked).then(|| format!("Gemini CLI asks the local model `{asked}` alone and refuses `{model}`"))
}

/// The option that `install` needs for `model` where its terms are not on record.
fn acceptance(setup: &Setup<'_>, model: &LocalModelName) -> &'static str {
    let is_covered = || {
        let terms = Terms::read(&setup.site.layout.terms_file()).ok()?;
        Some(terms.cover(setup.site.catalog.model(model.as_str())?))
    };
    if setup.wanted.chosen.runtime.has_models() && is_covered() != Some(true) {
        " --accept-terms"
    } else {
        ""
    }
}

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    if !setup.wanted.with_settings {
        let reason = "no settings wanted (--no-settings)";
        let skipped = [FILE, ROUTER, SHADOWED].map(|(id, title)| Check::skip(id, title, reason));
        let skipped = skipped.into_iter().chain([launcher::skipped(reason)]);
        return Inspection::not_needed(reason, skipped.collect());
    }
    if !setup.site.is_for_this_machine() {
        // The files of this machine say nothing about another.
        return Inspection::needed("switch the router on in the settings of Gemini CLI there", Vec::new());
    }
    let places = setup.site.places();
    let planned = settings::plan(
        &places,
        setup.site.environment,
        setup.wanted.chosen.scope,
        &setup.router_values(),
    );
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return broken(error.into()),
    };
    let found = settings::load(&places, setup.site.environment);
    let launcher = launcher::inspect(setup);
    let mut checks = checks_of(setup, &found, &plan);
    checks.push(launcher.check);
    if plan.is_empty() && launcher.plan.is_none() {
        let detail = format!("{} has what it needs", shown(places.user()));
        return Inspection::in_place(detail, checks);
    }
    let after = plan.preview(&places, setup.site.environment);
    let remaining = checks_of(setup, &after, &Plan { files: Vec::new() });
    Inspection::needed(in_words(launcher.plan, &plan), checks).leaving(remaining)
}

/// What would be done: what the launcher needs, then what `plan` would do.
fn in_words(launcher: Option<String>, plan: &Plan) -> String {
    let files = plan.files.iter().flat_map(|file| {
        let removal = (!file.removed.is_empty())
            .then(|| format!("remove from {}: {}", shown(&file.path), file.removed.join(", ")));
        let keys: Vec<String> = file
            .changes
            .iter()
            .map(|change| format!("{} = {}", change.key, change.to))
            .collect();
        let changes = (!keys.is_empty()).then(|| format!("set in {}: {}", shown(&file.path), keys.join(", ")));
        removal.into_iter().chain(changes)
    });
    launcher.into_iter().chain(files).collect::<Vec<_>>().join("; ")
}

/// The checks of `found`, on which `plan` is still to be carried out.
fn checks_of(setup: &Setup<'_>, found: &settings::Settings, plan: &Plan) -> Vec<Check> {
    let router = found.router();
    let ignored = Ignored::of(setup, found);
    let is_set_up = plan.is_empty() && ignored.is_none();
    vec![
        inspect_files(found, plan),
        match ignored {
            Some(ignored) if plan.is_empty() => Check::fail(ROUTER.0, ROUTER.1, ignored.reason, ignored.fix),
            _ => inspect_router(&router, plan),
        },
        if is_set_up {
            inspect_shadowed(setup, &router)
        } else {
            Check::skip(SHADOWED.0, SHADOWED.1, "the router is not set up")
        },
    ]
}

fn broken(failure: Failure) -> Inspection {
    let checks = vec![
        Check::fail(FILE.0, FILE.1, &failure.message, hinted(&failure)),
        Check::skip(ROUTER.0, ROUTER.1, "the settings cannot be read"),
        Check::skip(SHADOWED.0, SHADOWED.1, "the settings cannot be read"),
    ];
    Inspection::needed("write the router's settings", checks).blocked_by(failure)
}

fn hinted(failure: &Failure) -> Fix {
    Fix::by_hand(failure.hint.as_deref().unwrap_or("correct the file"))
}

/// Whether Gemini CLI starts with every file that it reads.
fn inspect_files(found: &settings::Settings, plan: &Plan) -> Check {
    let mut faults = Vec::new();
    let mut advice = Vec::new();
    for (path, failure) in found.refused() {
        let is_planned = plan.files.iter().any(|file| file.path == path);
        if !is_planned {
            advice.push(hinted(&failure).to_string());
        }
        faults.push(failure.message);
    }
    if faults.is_empty() {
        return Check::ok(FILE.0, FILE.1, "all that exist can be read");
    }
    let fix = if advice.is_empty() {
        Fix::repair()
    } else {
        Fix::by_hand(advice.join("; "))
    };
    Check::fail(FILE.0, FILE.1, faults.join("; "), fix)
}

fn inspect_router(router: &RouterSettings, plan: &Plan) -> Check {
    if let Some(malformed) = router.malformed.first() {
        let detail = format!(
            "`{}` in {} is {} where {} is expected",
            malformed.key,
            shown(&malformed.path),
            malformed.found,
            malformed.expected
        );
        let is_planned = plan.files.iter().any(|file| file.path == malformed.path);
        let fix = if is_planned {
            Fix::repair()
        } else {
            Fix::by_hand(format!("remove `{}` from that file", malformed.key))
        };
        return Check::fail(ROUTER.0, ROUTER.1, detail, fix);
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
        return Check::warn(ROUTER.0, ROUTER.1, texts.join("; "), Fix::repair());
    }
    Check::fail(ROUTER.0, ROUTER.1, texts.join("; "), Fix::repair())
}

/// Whether another scope's file says something else than ours: only looked at where ours says the right thing.
fn inspect_shadowed(setup: &Setup<'_>, router: &RouterSettings) -> Check {
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
    let fix = Fix::by_hand("take the key out of that file, or run gem-setup from another directory");
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
    // First, so that the settings never name a missing file.
    let launcher = Launcher::new(&setup.site.layout, setup.site.os(), &setup.site.program);
    launcher.restore()?;
    // From the first written file on, other commands use the choices.
    setup.record()?;
    let places = setup.site.places();
    let scope = setup.wanted.chosen.scope;
    let plan = settings::plan(&places, setup.site.environment, scope, &setup.router_values())?;
    let applied = apply_settings(&mut setup.state, &setup.site.layout, plan)?;
    let files = applied.files.iter().map(|file| written(&file.path, &file.removed));
    let files: Vec<String> = [shown(launcher.path())].into_iter().chain(files).collect();
    Ok(format!("wrote {}", files.join(" and ")))
}

fn written(path: &Path, removed: &[String]) -> String {
    let path = shown(path);
    if removed.is_empty() {
        return path;
    }
    format!("{path} (removed {}, which Gemini CLI refuses)", removed.join(" and "))
}
