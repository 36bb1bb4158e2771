//! The command `man`.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;

use super::args::Cli;
use crate::report::Printer;
use gem_setup::error::Failure;

/// Writes a manual page for gem-setup and one for each command into the existing directory `directory`.
pub(crate) fn run(printer: &Printer, directory: &Path) -> Result<ExitCode, Failure> {
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory).map_err(|error| {
        let action = format_args!("write the manual pages to `{}`", directory.display());
        Failure::cannot(action, error).with_hint("name a directory that exists and can be written")
    })?;
    if printer.json() {
        printer.json_line(&serde_json::json!({"directory": directory}));
    }
    Ok(ExitCode::SUCCESS)
}
