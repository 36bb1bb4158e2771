//! Gemini CLI's settings: the router is on and points to the local server.

use std::path::{Path, PathBuf};

use gem_platform::file::{is_hidden_from_users, is_roots_alone};

use crate::error::{Failure, Kind};
use crate::net::SafeUrl;
use crate::place;
use crate::runtime::LocalModelName;
use crate::runtime::terms::Terms;
use crate::settings::{
    self, Destination, Effective, FilePlan, Key, KeyChange, Malformed, Plan, RouterSettings, Scope, Trust,
};
use crate::setup::apply_settings;
use crate::setup::check::{Check, Fix, Subject};
use crate::setup::launcher::{self, Launcher};
use crate::setup::step::Inspection;
use crate::setup::{Chosen, Setup, shown};
use crate::shell;

pub(in crate::setup) const FILE: Subject = Subject::new("settings.file", "settings files");
const ROUTER: Subject = Subject::new("settings.router", "router switched on");
const SHADOWED: Subject = Subject::new("settings.shadowed", "settings in effect");

/// Which keys of the machine's settings win (docs/facts.md section 3).
const WINS: &str =
    "; `enabled` and `classifier` there override each user's settings, but `binaryPath` and `autoStartServer` do not";

/// Why Gemini CLI would ignore the chosen settings, with advice.
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
        if let Some(place) = skipped_place(setup) {
            let word = shell::word(setup.site.os(), place.as_os_str());
            return Some(Self {
                reason: format!(
                    "Gemini CLI skips the machine's settings: users other than root may change {}",
                    shown(&place)
                ),
                fix: Fix::by_hand(format!(
                    "run `sudo chown root:root {word}` and `sudo chmod g-w,o-w {word}`"
                )),
            });
        }
        if let Some(hidden) = Self::hidden_place(setup) {
            return Some(hidden);
        }
        let is_workspace = scope.file(&setup.site.places()).0 == Scope::Workspace;
        let is_ignored = is_workspace && !found.trust.is_trusted();
        is_ignored.then(|| Self {
            reason: format!(
                "Gemini CLI does not trust {}, so it ignores the settings there",
                shown(setup.site.workspace())
            ),
            fix: Fix::run_or(
                "install --scope user",
                "trust the directory in Gemini CLI (`/permissions trust`)",
            ),
        })
    }

    /// The machine's settings file, or a directory above it, if only root can access it.
    fn hidden_place(setup: &Setup<'_>) -> Option<Self> {
        let mut places = machine_places(setup).into_iter();
        let place = places.find(|place| matches!(is_hidden_from_users(place), Ok(true)))?;
        let word = shell::word(setup.site.os(), place.as_os_str());
        let (reason, bit) = if place.is_dir() {
            (
                "only root may enter it, so Gemini CLI does not see the machine's settings",
                "x",
            )
        } else {
            (
                "only root may read it, so Gemini CLI ends with status 52 for other users",
                "r",
            )
        };
        Some(Self {
            reason: format!("{}: {reason}", shown(&place)),
            fix: Fix::by_hand(format!("run `sudo chmod a+{bit} {word}`")),
        })
    }
}

/// The directories of the settings files that would change.
pub(super) fn directories(setup: &Setup<'_>) -> Vec<PathBuf> {
    if !setup.wanted.with_settings {
        return Vec::new();
    }
    let (places, scope) = (setup.site.places(), setup.wanted.chosen.scope);
    let plan = settings::plan(&places, setup.site.environment, scope, &setup.router_values());
    let files = plan.map(|plan| plan.files).unwrap_or_default();
    let real = |file: &Path| place::resolve(file).unwrap_or_else(|_| file.to_owned());
    files
        .into_iter()
        .map(|file| place::parent(&real(&file.path)).to_owned())
        .collect()
}

/// The file or directory because of which Gemini CLI skips the machine's settings (docs/facts.md section 3).
fn skipped_place(setup: &Setup<'_>) -> Option<PathBuf> {
    let mut places = machine_places(setup).into_iter();
    places.find(|place| matches!(is_roots_alone(place), Ok(false)))
}

/// The machine's settings file and all directories above it, also behind links; empty if another file is to be changed.
fn machine_places(setup: &Setup<'_>) -> Vec<PathBuf> {
    let places = setup.site.places();
    let (Scope::System, file) = setup.wanted.chosen.scope.file(&places) else {
        return Vec::new();
    };
    let real = file.canonicalize().ok().filter(|real| real != file);
    let real = real.iter().flat_map(|real| real.ancestors());
    file.ancestors().chain(real).map(Path::to_owned).collect()
}

/// Why Gemini CLI refuses `model`; `None` if it accepts it. It accepts only one model (docs/facts.md section 3).
#[must_use]
pub fn refused_model(model: &LocalModelName) -> Option<String> {
    let asked = LocalModelName::default();
    (*model != asked).then(|| format!("Gemini CLI accepts only the local model `{asked}`, not `{model}`"))
}

/// The option that `install` needs for `model` if its terms are not accepted.
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

/// The result without a look at the settings files: they are not wanted, on another machine, or their directory is gone.
fn inspect_blindly(setup: &Setup<'_>) -> Option<Inspection> {
    if !setup.wanted.with_settings {
        let reason = "no settings wanted (--no-settings)";
        let skipped = [FILE, ROUTER, SHADOWED].map(|subject| subject.skip(reason));
        let skipped = skipped.into_iter().chain([launcher::skipped(reason)]);
        return Some(Inspection::not_needed(reason, skipped.collect()));
    }
    if !setup.site.is_for_this_machine() {
        // The files of this machine do not show the state of another one.
        let plan = "switch on the router in Gemini CLI's settings on that machine";
        return Some(Inspection::needed(plan, Vec::new()));
    }
    let gone = setup.site.workspace.as_deref().filter(|directory| !directory.is_dir());
    gone.map(|gone| broken(without_workspace(gone)))
}

pub(super) fn inspect(setup: &Setup<'_>) -> Inspection {
    if let Some(inspection) = inspect_blindly(setup) {
        return inspection;
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
    let launcher = match setup.wanted.chosen.scope {
        Destination::User | Destination::Workspace => launcher::inspect(setup),
        Destination::System => launcher::not_needed("the system starts the server, so Gemini CLI needs no launcher"),
    };
    let mut checks = checks_of(setup, &found, &plan);
    checks.push(launcher.check);
    let inspection = if plan.is_empty() && launcher.plan.is_none() {
        let detail = format!("{} has what it needs", shown(setup.wanted.chosen.scope.file(&places).1));
        Inspection::in_place(detail, checks)
    } else {
        let after = plan.preview(&places, setup.site.environment);
        let remaining = checks_of(setup, &after, &Plan { files: Vec::new() });
        Inspection::needed(in_words(launcher.plan, &plan), checks).leaving(remaining)
    };
    match &found.trust {
        // As with the settings: Gemini CLI would not start.
        Trust::Broken(error) => inspection.leaving(Vec::new()).blocked_by(Failure::of(error)),
        _ => inspection,
    }
}

/// The plan in words: the launcher's changes, then those of `plan`.
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

/// The checks for the settings `found`, before `plan` is carried out.
fn checks_of(setup: &Setup<'_>, found: &settings::Settings, plan: &Plan) -> Vec<Check> {
    let router = found.router();
    let ignored = Ignored::of(setup, found);
    let is_set_up = plan.is_empty() && ignored.is_none();
    vec![
        inspect_files(found, plan),
        match ignored {
            Some(ignored) if plan.is_empty() => ROUTER.fail(ignored.reason, ignored.fix),
            _ => inspect_router(setup, &router, plan),
        },
        if is_set_up {
            inspect_shadowed(setup, &router)
        } else {
            SHADOWED.skip("the router is not set up")
        },
    ]
}

fn broken(failure: Failure) -> Inspection {
    let checks = vec![
        FILE.fail(&failure.message, hinted(&failure)),
        ROUTER.skip("the settings cannot be read"),
        SHADOWED.skip("the settings cannot be read"),
    ];
    Inspection::needed("write the router's settings", checks).blocked_by(failure)
}

fn without_workspace(gone: &Path) -> Failure {
    let message = format!("the directory {}, whose settings were changed, is gone", shown(gone));
    Failure::new(Kind::Settings, message).with_hint(
        "run `gem-setup install --scope user`, or `gem-setup install --scope workspace` in the directory that is to route",
    )
}

fn hinted(failure: &Failure) -> Fix {
    Fix::by_hand(failure.hint.as_deref().unwrap_or("correct the file"))
}

/// Whether Gemini CLI can start with every file that it reads.
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
        return FILE.ok("all existing files can be read");
    }
    let fix = if advice.is_empty() {
        Fix::repair()
    } else {
        Fix::by_hand(advice.join("; "))
    };
    FILE.fail(faults.join("; "), fix)
}

fn inspect_router(setup: &Setup<'_>, router: &RouterSettings, plan: &Plan) -> Check {
    if let Some(malformed) = router.malformed.first() {
        return fail_malformed(malformed, plan);
    }
    let differing: Vec<&FilePlan> = plan.files.iter().filter(|file| !file.changes.is_empty()).collect();
    if differing.is_empty() {
        let place = setup.site.workspace.as_deref();
        let place = place.map_or_else(String::new, |directory| format!(", in {}", shown(directory)));
        let detail = format!("on, at {}{place}", SafeUrl::redact(&router.classifier_host.value));
        return ROUTER.ok(detail);
    }
    let texts: Vec<String> = differing.iter().map(|file| differences(file)).collect();
    let mut changes = differing.iter().flat_map(|file| &file.changes);
    let starts_another =
        changes.all(|change| change.key == Key::BinaryPath) && Path::new(&router.binary_path.value).is_file();
    if starts_another {
        // Gemini CLI starts another server program that exists: a choice, not a fault.
        return ROUTER.warn(texts.join("; "), Fix::repair());
    }
    ROUTER.fail(texts.join("; "), Fix::repair())
}

fn fail_malformed(malformed: &Malformed, plan: &Plan) -> Check {
    let Malformed {
        key,
        path,
        found,
        expected,
        ..
    } = malformed;
    let detail = format!("`{key}` in {} is {found}, but {expected} is expected", shown(path));
    let fix = match plan.files.iter().any(|file| file.path == *path) {
        true => Fix::repair(),
        false => Fix::by_hand(format!("remove `{key}` from {}", shown(path))),
    };
    ROUTER.fail(detail, fix)
}

/// The keys of `file` that differ.
fn differences(file: &FilePlan) -> String {
    let keys: Vec<String> = file.changes.iter().map(difference).collect();
    format!("in {}: {}", shown(&file.path), keys.join("; "))
}

fn difference(KeyChange { key, from, to }: &KeyChange) -> String {
    let mut from = from.clone().unwrap_or_else(|| "not set".to_owned());
    if *key == Key::ClassifierHost {
        let host = from.trim_matches('"');
        from = from.replace(host, &SafeUrl::redact(host));
    }
    format!("`{key}` is {from}, should be {to}")
}

/// Whether the file of another scope overrides ours; checked only if ours is right.
fn inspect_shadowed(setup: &Setup<'_>, router: &RouterSettings) -> Check {
    let wanted = setup.router_values();
    let host = format!("http://localhost:{}", wanted.port);
    let differing: Vec<Differing> = [
        differs(&router.enabled, &true, Key::Enabled),
        differs(&router.classifier_host, &host, Key::ClassifierHost),
        differs(&router.classifier_model, &wanted.model, Key::ClassifierModel),
    ]
    .into_iter()
    .flatten()
    .collect();
    if differing.is_empty() {
        return SHADOWED.ok("no other settings file overrides these");
    }
    let is_of_directory = differing.iter().all(|it| it.is_of_directory);
    let (faults, remedies): (Vec<_>, Vec<_>) = differing.into_iter().map(|it| (it.fault, it.remedy)).unzip();
    let elsewhere = if is_of_directory {
        ", or run gem-setup from another directory"
    } else {
        ""
    };
    let fix = Fix::by_hand(format!("{}{elsewhere}", remedies.join(" and ")));
    SHADOWED.fail(faults.join("; "), fix)
}

fn differs<T: PartialEq + std::fmt::Display>(found: &Effective<T>, wanted: &T, key: Key) -> Option<Differing> {
    if found.value == *wanted {
        return None;
    }
    let place = found
        .path
        .as_deref()
        .map_or_else(|| "Gemini CLI's defaults".to_owned(), shown);
    let fault = format!(
        "`{key}` is {} because of {place} ({} scope)",
        SafeUrl::redact(&found.value.to_string()),
        found.origin
    );
    let remedy = format!("take `{key}` out of {place}");
    Some(Differing {
        fault,
        remedy,
        is_of_directory: found.origin == settings::Origin::Scope(Scope::Workspace),
    })
}

/// A key that another file sets to something else.
struct Differing {
    fault: String,
    remedy: String,
    /// Whether the file belongs to the current directory.
    is_of_directory: bool,
}

pub(super) fn apply(setup: &mut Setup<'_>) -> Result<String, Failure> {
    let scope = setup.wanted.chosen.scope;
    let launcher = Launcher::new(&setup.site.layout, setup.site.os(), &setup.site.program);
    if scope != Destination::System {
        // The launcher comes first, so that the settings never name a missing file.
        launcher.restore()?;
    }
    // As soon as one file is written, other commands use the choices.
    setup.record()?;
    let places = setup.site.places();
    let plan = settings::plan(&places, setup.site.environment, scope, &setup.router_values())?;
    let applied = apply_settings(&mut setup.state, &setup.site.layout, plan)?;
    let files = applied.files.iter().map(|file| written(&file.path, &file.removed));
    let launcher = (scope != Destination::System).then(|| shown(launcher.path()));
    let files: Vec<String> = launcher.into_iter().chain(files).collect();
    let note = if scope == Destination::System { WINS } else { "" };
    Ok(format!("wrote {}{note}", files.join(" and ")))
}

fn written(path: &Path, removed: &[String]) -> String {
    let path = shown(path);
    if removed.is_empty() {
        return path;
    }
    format!("{path} (removed {}, which Gemini CLI refuses)", removed.join(" and "))
}
