//! The commands `versions` and `cleanup`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::progress::Size;
use gem_setup::setup::{self, Version};
use serde_json::json;

use super::session::{Locked, Session};
use super::upgrade::installed;
use super::upgrade_args::CleanupArgs;
use crate::report::{Events, Printer, Terminal};

/// Prints gem-setup's own version.
pub(crate) fn own(printer: &Printer) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if printer.json() {
        printer.json_line(&serde_json::json!({"name": "gem-setup", "version": version}));
    } else {
        printer.line(&format!("gem-setup {version}"));
    }
    ExitCode::SUCCESS
}

/// Lists the versions and marks the current ones.
pub(crate) fn run(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let events = Events::remarks(session.printer);
    let terminal = Terminal::new(session.printer);
    let found = setup::versions(&installed(session, &events, &terminal)?);
    let printer = session.printer;
    if printer.json() {
        printer.json_line(&json!({"versions": found}));
    } else {
        printer.table(&found.iter().map(row_of).collect::<Vec<_>>(), 2);
    }
    Ok(ExitCode::SUCCESS)
}

fn row_of(version: &Version) -> [String; 3] {
    let Version {
        what,
        name,
        path,
        bytes,
        ..
    } = version;
    let number = version.version.as_deref().unwrap_or_default();
    let use_of_it = if version.current { "current" } else { "before" };
    let catalog = version
        .catalog
        .as_ref()
        .map_or_else(String::new, |catalog| match catalog.as_str() {
            "built-in" => ", built-in catalog".to_owned(),
            place => format!(", catalog `{place}`"),
        });
    let named = format!("{name} {number}");
    let text = format!(
        "{} ({}) at `{}`{catalog}",
        named.trim_end(),
        Size(*bytes),
        path.display()
    );
    [what.to_string(), use_of_it.to_owned(), text]
}

/// Deletes files that no record names.
pub(crate) fn clean_up(session: &Session<'_>, args: CleanupArgs) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let found = session.block_on_until_signal(async {
        // Another gem-setup may be downloading into this home.
        let (lock, record) = if session.layout.own().exists() {
            let Locked { lock, record } = session.lock().await?;
            (Some(lock), record?)
        } else {
            (None, session.state_now()?)
        };
        let found = setup::garbage(&session.layout, &record).into_iter();
        let found: Vec<_> = found.map(|path| (setup::size_of(&path), path)).collect();
        if !args.dry_run {
            found.iter().try_for_each(|(_, path)| setup::discard(path))?;
        }
        drop(lock);
        Ok(found)
    })?;
    let bytes: u64 = found.iter().map(|(bytes, _)| bytes).sum();
    if printer.json() {
        let paths: Vec<_> = found.iter().map(|(_, path)| path).collect();
        printer.json_line(&json!({"deleted": paths, "bytes": bytes, "dry_run": args.dry_run}));
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if args.dry_run { "would delete" } else { "deleted" };
    for (bytes, path) in &found {
        printer.prose(
            &printer.tilde(&format!("{verb} `{}` ({})", path.display(), Size(*bytes))),
            2,
        );
    }
    printer.line(&match found.is_empty() {
        true => "There is nothing to clean up.".to_owned(),
        false => format!("{verb} {} in all", Size(bytes)),
    });
    Ok(ExitCode::SUCCESS)
}
