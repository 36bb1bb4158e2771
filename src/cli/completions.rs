//! `completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Cli;
use crate::report::Printer;

const NAME: &str = "gem-setup";

/// Prints the completion script for `shell`.
pub(crate) fn run(printer: &Printer, shell: Shell) -> ExitCode {
    let script = script(shell);
    if printer.json() {
        printer.json_line(&serde_json::json!({"shell": shell.to_string(), "script": script}));
    } else {
        printer.line(script.trim_end());
    }
    ExitCode::SUCCESS
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        // clap_complete spells a name with a hyphen in two ways, so that no subcommand finds its case.
        return script.replace("gem__subcmd__setup", "gem__setup");
    }
    script
}
