//! `uninstall`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::{setup, supervise};

use super::args::UninstallArgs;
use super::session::Session;

/// Undoes `install` and says what was undone.
pub(crate) fn run(session: &Session<'_>, args: UninstallArgs) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    // Before anything is undone: a server that cannot be stopped keeps its files.
    session.block_on(async { Ok(supervise::check_stoppable(&session.layout).await?) })?;
    // First, or the system would restart the server that is stopped here.
    let is_service_removed = super::service::remove_own(session)?;
    let outcome = session.block_on(async {
        let lock = if session.layout.own().exists() {
            Some(session.lock().await?)
        } else {
            None
        };
        setup::uninstall(&session.layout, args.purge, lock).await
    })?;
    if printer.json() {
        let mut outcome = serde_json::to_value(&outcome).unwrap_or_default();
        outcome["service"] = is_service_removed.into();
        printer.json_line(&outcome);
        return Ok(ExitCode::SUCCESS);
    }
    if is_service_removed {
        printer.line("the system no longer runs the server at login");
    }
    if outcome.stopped {
        printer.line("stopped the server");
    }
    for file in &outcome.settings {
        let outcome = serde_json::to_value(file.outcome).unwrap_or_default();
        printer.line(&format!(
            "settings {}: {}",
            file.path.display(),
            outcome.as_str().unwrap_or_default()
        ));
    }
    for path in &outcome.deleted {
        printer.line(&format!("deleted {}", path.display()));
    }
    if !is_service_removed && !outcome.stopped && outcome.settings.is_empty() && outcome.deleted.is_empty() {
        printer.line("There was nothing to undo.");
    }
    Ok(ExitCode::SUCCESS)
}
