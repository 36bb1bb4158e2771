//! The command line: clap structs, one small file per command: arguments → library call → report.

mod args;
mod bundle;
mod completions;
mod control;
mod doctor;
mod gateway;
mod install;
mod layers;
mod list;
mod logs;
mod options;
mod parse;
mod program;
mod pull;
mod refusal;
mod route;
mod serve;
mod server;
mod server_args;
mod service;
mod session;
mod settings;
mod smoke;
mod status;
mod uninstall;
mod values;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::process::ExitCode;

use args::{ColorChoice, Command, ServiceAction};
use clap::ArgMatches;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::setup::{FOREGROUND, GUARD, KEEPER};
use layers::{Layers, Origin};
use parse::{Parsed, Refusal, parse};
use refusal::{automatic_color, fail, refuse};
use server::Server;
use session::Session;

use crate::report::Printer;

/// Runs the program with these arguments, the program's name first.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let _console = gem_platform::console::prepare();
    gem_platform::file::keep_new_files_ours();
    // The helpers of a server must not fail for a fault of the environment or the configuration.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some(GUARD) => return serve::guard(),
        Some(KEEPER) => return serve::keep(args),
        _ => {}
    }
    let environment = process_environment();
    let parsed = match check_text().and_then(|()| parse(&args, &environment)) {
        Ok(parsed) => parsed,
        Err(refusal) => return refuse(&refusal, &args, &environment),
    };
    let color = match parsed.cli.global.color {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto => automatic_color(&environment),
    };
    let global = &parsed.cli.global;
    let printer = Printer::new(global.json, global.quiet, color).within(&environment, global.verbose);
    // A process that gem-setup itself started was preceded by one that warned.
    if !args.iter().any(|arg| arg == FOREGROUND) {
        parsed.warnings.iter().for_each(|warning| printer.warning(warning));
    }
    let outcome = run(parsed, args, environment, &printer);
    // A result that did not reach standard output is a failure.
    let failure = match (outcome, printer.fault()) {
        (Ok(code), None) => return code,
        (Err(failure), _) | (Ok(_), Some(failure)) => failure,
    };
    fail(&printer, &failure)
}

/// The environment of the process; nothing else reads it.
fn process_environment() -> Environment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    Environment::new(
        std::env::vars_os().filter_map(text),
        std::env::current_dir().unwrap_or_default(),
        std::env::home_dir().unwrap_or_default(),
    )
}

/// Refuses variables of ours that are not UTF-8: ignoring them would change the meaning of the command.
fn check_text() -> Result<(), Refusal> {
    let is_ours = |name: &str| name == "GEMINI_CLI_HOME" || name.starts_with("GEM_SETUP_");
    for (name, value) in std::env::vars_os() {
        if value.to_str().is_none() && name.to_str().is_some_and(is_ours) {
            // The value may be a URL with a login.
            let message = format!("cannot use the variable `{}`: its value is not UTF-8", name.display());
            return Err(Failure::new(Kind::Usage, message)
                .with_hint("set it to something else, or unset it")
                .into());
        }
    }
    Ok(())
}

fn run(parsed: Parsed, args: Vec<OsString>, environment: Environment, printer: &Printer) -> Result<ExitCode, Failure> {
    let Parsed {
        cli, matches, layers, ..
    } = parsed;
    let session = Session {
        layout: parsed.layout,
        environment,
        printer,
        verbose: cli.global.verbose,
        config: parsed.config,
        config_fault: parsed.config_fault,
        args,
        state: OnceCell::new(),
    };
    let matches = innermost(&matches);
    let server = |args| Server::resolve(&session, args, matches, &layers);
    let accepted = accepted(matches, &layers);
    match cli.command {
        Command::Install(args) => install::run(&session, args, accepted),
        Command::Doctor(args) => doctor::run(&session, args, accepted),
        Command::Serve(args) if args.detach && !args.foreground => control::start(&session, &server(args.server)?),
        Command::Serve(args) => serve::run(&session, &server(args.server)?),
        Command::Start(args) => control::start(&session, &server(args.server)?),
        Command::Stop => control::stop(&session),
        Command::Restart(args) => control::restart(&session, &server(args.server)?),
        Command::Status(args) => status::run(&session, args),
        Command::Logs(args) => logs::run(&session, args),
        Command::Pull(args) => pull::run(&session, args, accepted),
        Command::List(args) => list::run(&session, args),
        Command::Smoke => smoke::run(&session),
        Command::Route(args) => route::run(&session, args),
        Command::Settings(args) => settings::run(&session, args.action),
        Command::Bundle(args) => bundle::run(&session, args.action),
        Command::Service(args) => match args.action {
            ServiceAction::Install(args) => service::install(&session, &server(*args)?),
            ServiceAction::Uninstall => service::uninstall(&session),
            ServiceAction::Status => service::status(&session),
        },
        Command::Uninstall(args) => uninstall::run(&session, args),
        Command::Completions { shell } => Ok(completions::run(printer, shell)),
        Command::Version => Ok(version(printer)),
    }
}

/// The source of `--accept-terms`, which goes on record, for the commands that take it.
fn accepted(matches: &ArgMatches, layers: &Layers) -> Option<Origin> {
    let is_taken = matches.try_contains_id("accept_terms").is_ok();
    is_taken.then(|| layers.origin(matches, "accept-terms"))
}

/// The matches of the command's innermost subcommand, which holds the command's own options.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

fn version(printer: &Printer) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    if printer.json() {
        printer.json_line(&serde_json::json!({"name": "gem-setup", "version": version}));
    } else {
        printer.line(&format!("gem-setup {version}"));
    }
    ExitCode::SUCCESS
}
