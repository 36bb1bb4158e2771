//! The reply to a command line that is invalid or only asks for help.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::net::redact_in;

use super::args::Cli;
use super::options::is_yes;
use super::parse::Refusal;
use super::program;
use super::versions;
use crate::report::{Events, Printer, unwritten};

/// Prints clap's message, or the reason why there is nothing to run.
pub(crate) fn refuse(refusal: &Refusal, args: &[OsString], environment: &Environment) -> ExitCode {
    let json = wants_json(args, environment);
    let is_forced = || environment.var("CLICOLOR_FORCE").map(|_| true);
    let color = wanted_color(args, environment).or_else(is_forced);
    let printer = Printer::new(json, false, color).within(environment, 0);
    if let Some(typed) = program::typed() {
        printer.begin_commands_with(typed);
    }
    match refusal {
        Refusal::Failure(failure) => {
            if json {
                refuse_in_json(&printer, failure, args);
            }
            fail(&printer, failure)
        }
        Refusal::Clap(error) => {
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if json && !is_answer {
                refuse_in_json(&printer, &complaint(error), args);
            }
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                error.render().to_string().lines().for_each(|line| printer.remark(line));
                return fail(&printer, &complaint(error));
            }
            if json && error.kind() == ErrorKind::DisplayVersion {
                return versions::own(&printer);
            }
            if !is_answer {
                printer.complaint(&redact_in(&error.render().to_string()));
                return ExitCode::from(Kind::Usage.exit_status());
            }
            let failure = print(error, color).err().as_ref().and_then(unwritten);
            failure.map_or(ExitCode::SUCCESS, |failure| fail(&printer, &failure))
        }
    }
}

/// Prints clap's help or version; `color` forces colour on or off.
fn print(error: &clap::Error, color: Option<bool>) -> io::Result<()> {
    let Some(color) = color else {
        error.print()?;
        return io::stdout().flush();
    };
    let text = error.render();
    let text = if color {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The wanted colour, as far as an invalid command line shows it.
fn wanted_color(args: &[OsString], environment: &Environment) -> Option<bool> {
    let mut words = args
        .iter()
        .filter_map(|arg| arg.to_str())
        .take_while(|arg| *arg != "--");
    let flag = words.find_map(|arg| arg.strip_prefix("--color").map(str::to_owned));
    let flag = match flag.as_deref() {
        Some("") => words.next().map(str::to_owned),
        Some(value) => value.strip_prefix('=').map(str::to_owned),
        None => environment.var("GEM_SETUP_COLOR").map(str::to_owned),
    };
    match flag.as_deref() {
        Some("always") => Some(true),
        Some("never") => Some(false),
        _ => automatic_color(environment),
    }
}

/// `Some(false)` if the environment asks for no colour or the terminal has none; else each stream decides.
pub(crate) fn automatic_color(environment: &Environment) -> Option<bool> {
    let is_plain = environment.var("NO_COLOR").is_some() || environment.var("TERM") == Some("dumb");
    is_plain.then_some(false)
}

/// The refusal as JSON: the result, preceded by the steps of `install`, none of which has begun.
fn refuse_in_json(printer: &Printer, failure: &Failure, args: &[OsString]) {
    let events = Events::new(printer);
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args);
    if matches.is_ok_and(|matches| matches.subcommand_name() == Some("install")) {
        events.cut_off(failure);
    }
    events.result(&[], Some(failure));
}

/// Whether JSON is wanted, as far as an invalid command line shows it.
fn wants_json(args: &[OsString], environment: &Environment) -> bool {
    let is_flag = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    is_flag || environment.var("GEM_SETUP_JSON").is_some_and(is_yes)
}

/// clap's error as a [`Failure`].
fn complaint(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::new(Kind::Usage, "no command was given")
            .with_hint("`gem-setup --help` and `gem-setup COMMAND --help` list the commands");
    }
    let text = redact_in(&error.render().to_string());
    let text = text.trim_start_matches("error: ").trim_end();
    let (message, hint) = text.split_once("\n\n").unwrap_or((text, "try `--help`"));
    Failure::new(Kind::Usage, message).with_hint(hint.trim())
}

/// Ends a command that failed. With `--json` a result is printed in any case.
pub(crate) fn fail(printer: &Printer, failure: &Failure) -> ExitCode {
    if printer.json() && printer.is_silent() {
        Events::new(printer).result(&[], Some(failure));
    }
    printer.failure(failure);
    ExitCode::from(failure.kind.exit_status())
}
