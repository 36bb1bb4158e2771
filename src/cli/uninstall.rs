//! The command `uninstall`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gem_setup::error::{Failure, Kind};
use gem_setup::progress::{Size, waiting};
use gem_setup::settings::Outcome;
use gem_setup::setup::{self, Removal, Uninstalled};
use gem_setup::supervise::{self, Running};
use serde_json::json;

use super::args::UninstallArgs;
use super::install::RESTART_CLIENT;
use super::session::Session;
use super::status::look;
use crate::report::{Events, Printer, Terminal};

/// Undoes `install`; prints the changes and the files that stay.
pub(crate) fn run(session: &Session<'_>, args: UninstallArgs) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let places = session.places()?;
    let removal = setup::removal(&session.layout, &places, args.purge)?;
    setup::check_removal(&session.layout, &removal.settings)?;
    if args.dry_run {
        return plan(session, &removal);
    }
    if args.purge && !args.yes && !removal.delete.is_empty() {
        confirm(session, &removal)?;
    }
    // Checked before anything is undone: a server that cannot be stopped keeps its files.
    let shown = printer.meanwhile("looking for the server and its service");
    session.block_on(async {
        supervise::check_stoppable(&session.layout).await?;
        setup::wait_for_downloads(&session.layout).await
    })?;
    // The service goes first; otherwise the system would restart the server.
    let is_service_removed = super::service::remove_own(session)?;
    drop(shown);
    let events = Events::remarks(printer);
    let undoing = async {
        let lock = if session.layout.own().exists() {
            Some(session.lock().await?.lock)
        } else {
            None
        };
        let undoing = setup::uninstall(&session.layout, &places, args.purge, lock);
        waiting(&events, "uninstall", "stopping the server and deleting files", undoing).await
    };
    let outcome = session.block_on_until_signal(undoing)?;
    if printer.json() {
        let mut outcome = serde_json::to_value(&outcome).unwrap_or_default();
        outcome["service"] = is_service_removed.into();
        outcome["kept"] = json!(removal.keep);
        outcome["foreign"] = json!(removal.foreign);
        printer.json_line(&outcome);
    } else {
        conclude(printer, is_service_removed, &outcome);
        let kept = setup::removal(&session.layout, &places, false)?.keep;
        conclude_kept(printer, &kept, &removal.foreign);
    }
    outcome.failure().map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Prints what would be undone.
fn plan(session: &Session<'_>, removal: &Removal) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let server = server(session)?;
    if printer.json() {
        let mut plan = serde_json::to_value(removal).unwrap_or_default();
        plan["stop"] = server.into();
        printer.json_line(&plan);
        return Ok(ExitCode::SUCCESS);
    }
    show(printer, removal, server, |line| printer.prose(line, 2));
    if server.is_none() && removal.settings.is_empty() && removal.delete.is_empty() {
        printer.prose("There is nothing to undo.", 2);
    }
    Ok(ExitCode::SUCCESS)
}

/// The process id of the running server.
fn server(session: &Session<'_>) -> Result<Option<u32>, Failure> {
    Ok(match look(session)? {
        Running::Supervised(record) => Some(record.process.pid),
        Running::Bare { pid, .. } => Some(pid),
        Running::No | Running::Unnamed | Running::Foreign(_) => None,
    })
}

/// Asks for confirmation, if a person can answer.
fn confirm(session: &Session<'_>, removal: &Removal) -> Result<(), Failure> {
    let printer = session.printer;
    let terminal = Terminal::new(printer);
    if terminal.is_interactive() {
        show(printer, removal, server(session)?, |line| printer.before_question(line));
    }
    if terminal.confirm("Delete these permanently?") == Some(false) {
        let failure = Failure::new(Kind::Unexpected, "not confirmed: nothing was changed");
        return Err(failure.with_hint("without `--purge` models, records and logs stay"));
    }
    Ok(())
}

/// Prints the plan for `removal`, while the process `server` is the running one.
fn show(printer: &Printer, removal: &Removal, server: Option<u32>, print: impl Fn(&str)) {
    if let Some(pid) = server {
        print(&format!("would stop the server (pid {pid})"));
    }
    for file in &removal.settings {
        let verb = match file.outcome {
            Outcome::Deleted => "delete",
            Outcome::Restored => "restore",
            Outcome::Edited | Outcome::Unchanged => "take the router out of",
        };
        print(&format!("would {verb} {}", described(printer, &file.path, 0)));
    }
    for (verb, paths) in [
        ("delete", &removal.delete),
        ("keep", &removal.keep),
        ("keep", &removal.foreign),
    ] {
        for path in paths {
            // Of a directory that stays, some files are deleted.
            let gone = removal
                .delete
                .iter()
                .filter(|gone| *gone != path && gone.starts_with(path));
            let gone: u64 = gone.map(|gone| setup::size_of(gone)).sum();
            print(&format!("would {verb} {}", described(printer, path, gone)));
        }
    }
}

/// A path with the size of its content, without `gone` bytes of it.
fn described(printer: &Printer, path: &Path, gone: u64) -> String {
    let shown = printer.tilde(&format!("`{}`", path.display()));
    format!("{shown} ({})", Size(setup::size_of(path).saturating_sub(gone)))
}

fn conclude(printer: &Printer, is_service_removed: bool, outcome: &Uninstalled) {
    if is_service_removed {
        printer.prose("the system no longer runs the server at login", 2);
    }
    if outcome.stopped {
        printer.prose("stopped the server", 2);
    }
    for file in &outcome.settings {
        let done = serde_json::to_value(file.outcome).unwrap_or_default();
        let path = printer.tilde(&format!("`{}`", file.path.display()));
        printer.prose(&format!("settings {path}: {}", done.as_str().unwrap_or_default()), 2);
    }
    for path in &outcome.deleted {
        printer.prose(&printer.tilde(&format!("deleted `{}`", path.display())), 2);
    }
    for path in &outcome.emptied {
        let path = printer.tilde(&format!("`{}`", path.display()));
        let text = format!("emptied {path}, which is mounted by itself and cannot be deleted");
        printer.prose(&text, 2);
    }
    let is_idle = outcome.deleted.is_empty() && outcome.emptied.is_empty() && outcome.left.is_empty();
    if !is_service_removed && !outcome.stopped && outcome.settings.is_empty() && is_idle {
        printer.prose("There was nothing to undo.", 2);
    }
    if outcome.settings.iter().any(|file| file.outcome != Outcome::Unchanged) {
        printer.remark_in_prose(RESTART_CLIENT, 2);
    }
}

fn conclude_kept(printer: &Printer, kept: &[PathBuf], foreign: &[PathBuf]) {
    let purged = "`gem-setup uninstall --purge` deletes these too.";
    show_kept(printer, "Kept:", kept, purged);
    let heading = "Kept, because gem-setup has no record of installing them:";
    let by_hand = "Delete these yourself, if nothing else needs them.";
    show_kept(printer, heading, foreign, by_hand);
}

fn show_kept(printer: &Printer, heading: &str, kept: &[PathBuf], advice: &str) {
    if kept.is_empty() {
        return;
    }
    printer.line("");
    printer.prose(heading, 2);
    for path in kept {
        printer.prose(&format!("  {}", described(printer, path, 0)), 4);
    }
    printer.prose(advice, 2);
}
