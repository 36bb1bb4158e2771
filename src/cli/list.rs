//! `list`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::runtime::is_listed;
use gem_setup::setup::Choices;

use super::args::{ListArgs, NetworkArgs};
use super::session::Session;
use crate::report::{Events, Terminal};

/// Prints what the configured runtime can serve, as `lit list` does.
pub(crate) fn run(session: &Session<'_>, args: ListArgs) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let events = Events::remarks(printer);
    let terminal = Terminal::new(printer);
    let choices = Choices::recorded(&session.state()?);
    let setup = session.setup(choices, &NetworkArgs::default(), session.target()?, &events, &terminal)?;
    let listing = session.block_on(async { Ok(setup.runtime()?.list(args.show_all).await?) })?;
    if printer.json() {
        let names: Vec<&str> = setup
            .catalog
            .model_names()
            .filter(|name| is_listed(&listing, name))
            .collect();
        printer.json_line(&serde_json::json!({"runtime": setup.choices.runtime, "models": names, "listing": listing}));
    } else {
        printer.line(listing.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
