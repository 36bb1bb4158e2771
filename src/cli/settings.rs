//! The commands `settings show`, `settings apply` and `settings remove`.

use std::fmt::Display;
use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::net::redact_in;
use gem_setup::runtime::LocalModelName;
use gem_setup::settings::{self, Applied, Destination, Effective, Outcome, Places, RouterValues, Scope};
use gem_setup::setup::{self, Chosen, Launcher, State};
use serde_json::{Value, json};

use super::args::SettingsAction;
use super::install::RESTART_CLIENT;
use super::session::{Locked, Session};
use crate::report::Printer;

/// Shows or changes the router's settings.
pub(crate) fn run(session: &Session<'_>, action: SettingsAction) -> Result<ExitCode, Failure> {
    let places = session.places()?;
    match action {
        SettingsAction::Show => show(session, &places),
        SettingsAction::Apply { scope, port, model } => apply(session, &places, scope, port, model),
        SettingsAction::Remove { scope } => remove(session, &places, scope),
    }
}

fn apply(
    session: &Session<'_>,
    places: &Places,
    scope: Option<Destination>,
    port: Option<u16>,
    model: Option<LocalModelName>,
) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let binary = session.layout.launcher(session.target()?.os);
    let plan = |chosen: &Chosen, model: &LocalModelName| {
        let values = RouterValues {
            port: port.or(session.port).unwrap_or(chosen.port),
            model: model.to_string(),
            binary: binary.clone(),
        };
        settings::plan(places, &session.environment, scope.unwrap_or(chosen.scope), &values)
    };
    let asked = |chosen: &Chosen| model.clone().unwrap_or_else(|| chosen.model.clone());
    let checked = |state: &State| {
        let chosen = &state.chosen;
        session.check_scope(state, scope, scope.unwrap_or(chosen.scope))?;
        plan(chosen, &asked(chosen)).map_err(Failure::from)
    };
    // A fault of a settings file is found before anything is written.
    let planned = checked(session.state()?)?;
    let launcher = Launcher::new(&session.layout, session.target()?.os, &session.program()?);
    setup::check_plan(&session.layout, &planned, &launcher)?;
    let Locked { lock: _lock, record } = lock(session)?;
    let mut state = record?;
    let model = asked(&state.chosen);
    if let Some(reason) = setup::refused_model(&model) {
        printer.warning(&reason);
    }
    let program = setup::keep_program(&session.layout, &session.program()?)?;
    let launcher = Launcher::new(&session.layout, session.target()?.os, &program);
    launcher.restore()?;
    let plan = checked(&state)?;
    let applied = setup::apply_settings(&mut state, &session.layout, plan)?;
    report(printer, &applied);
    warn_of_refused_files(session, places);
    Ok(ExitCode::SUCCESS)
}

/// Warns of the settings files because of which Gemini CLI does not start.
fn warn_of_refused_files(session: &Session<'_>, places: &Places) {
    for (_, failure) in settings::load(places, &session.environment).refused() {
        let hint = failure.hint.as_deref().unwrap_or("correct the file");
        let text = format!("Gemini CLI cannot start: {}; {hint}", failure.message);
        session.printer.warning(&text);
    }
}

fn remove(session: &Session<'_>, places: &Places, scope: Option<Destination>) -> Result<ExitCode, Failure> {
    // A record that cannot be read must not keep settings from being removed.
    let none = State::default();
    let recorded = session.state().unwrap_or(&none);
    session.check_scope(recorded, scope, scope.unwrap_or(recorded.chosen.scope))?;
    let has_file = |scope| places.file(scope).is_some_and(|file| file.symlink_metadata().is_ok());
    let is_bare = !session.layout.own().exists() && !has_file(Scope::User) && !has_file(Scope::Workspace);
    // Without anything to change, a lock would only leave files behind.
    let locked = if is_bare { None } else { Some(lock(session)?) };
    let (_lock, record) = locked.map(|Locked { lock, record }| (lock, record)).unzip();
    // Without a record, no file counts as created by gem-setup.
    let mut state = record.and_then(Result::ok).unwrap_or_default();
    let given = scope;
    let scope = given.unwrap_or(state.chosen.scope);
    session.check_scope(&state, given, scope)?;
    let removed = setup::clear_settings(&mut state, &session.layout, places, scope)?;
    let printer = session.printer;
    if removed.outcome != Outcome::Unchanged {
        printer.remark_in_prose(RESTART_CLIENT, 2);
    }
    if printer.json() {
        printer.json_line(&json!({"removed": [removed]}));
    } else {
        let outcome = serde_json::to_value(removed.outcome).unwrap_or_default();
        let outcome = outcome.as_str().unwrap_or_default();
        printer.prose(&printer.tilde(&format!("`{}`: {outcome}", removed.path.display())), 2);
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the home's lock; if the home is not writable, neither are its settings.
fn lock(session: &Session<'_>) -> Result<Locked, Failure> {
    session.block_on(session.lock()).map_err(|mut failure| {
        if failure.kind == Kind::Unexpected {
            failure.kind = Kind::Settings;
        }
        failure
    })
}

fn report(printer: &Printer, applied: &Applied) {
    if printer.json() {
        printer.json_line(&json!({"changed": !applied.is_empty(), "files": applied.files}));
    } else if applied.is_empty() {
        printer.prose("Everything is in place; nothing changed.", 2);
    } else {
        for file in &applied.files {
            printer.prose(&printer.tilde(&format!("wrote `{}`", file.path.display())), 2);
            for removed in &file.removed {
                printer.line(&format!("  removed {removed}, which Gemini CLI refuses"));
            }
            for change in &file.changes {
                printer.line(&format!("  {} = {}", change.key, change.to));
            }
        }
    }
    if !applied.is_empty() {
        printer.remark_in_prose(RESTART_CLIENT, 2);
    }
}

fn show(session: &Session<'_>, places: &Places) -> Result<ExitCode, Failure> {
    let found = settings::load(places, &session.environment);
    if let Some(error) = found.errors().next() {
        return Err(Failure::of(error));
    }
    let router = found.router();
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&redacted(json!({"settings": router, "scopes": found})));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = rows_of("enabled", &router.enabled);
    rows.extend(rows_of("autoStartServer", &router.auto_start_server));
    rows.extend(rows_of("binaryPath", &router.binary_path));
    rows.extend(rows_of("classifier.host", &router.classifier_host));
    rows.extend(rows_of("classifier.model", &router.classifier_model));
    let name = &router.model_name;
    let shown = name.value.as_deref().unwrap_or("not set");
    rows.push(["model.name".to_owned(), format!("{shown} ({})", name.origin)]);
    printer.table(&rows, 2);
    for malformed in &router.malformed {
        printer.line(&printer.tilde(&format!(
            "{} in `{}` is {}, but {} is expected",
            malformed.key,
            malformed.path.display(),
            malformed.found,
            malformed.expected
        )));
    }
    Ok(ExitCode::SUCCESS)
}

/// `value` with the secrets in its URLs redacted.
fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => redact_in(&text).into(),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, redacted(value)))
            .collect(),
        other => other,
    }
}

/// The value of the key `name`, and below it the values that do not apply.
fn rows_of<T: Display>(name: &str, effective: &Effective<T>) -> Vec<[String; 2]> {
    let place = effective
        .path
        .as_ref()
        .map_or_else(String::new, |path| format!(", `{}`", path.display()));
    let value = match effective.value.to_string() {
        value if value.is_empty() => "not set".to_owned(),
        value => value,
    };
    let mut rows = vec![[name.to_owned(), format!("{value} ({}{place})", effective.origin)]];
    for setting in &effective.shadowed {
        let text = format!("overrides {} (`{}`)", setting.value, setting.path.display());
        rows.push([String::new(), text]);
    }
    for setting in &effective.ignored {
        let path = setting.path.display();
        let text = format!("ignored: {} (`{path}`, directory not trusted)", setting.value);
        rows.push([String::new(), text]);
    }
    rows.into_iter().map(|row| row.map(|cell| redact_in(&cell))).collect()
}
