//! The command line: clap structs, one small file per command: arguments → library call → report.

mod args;
mod bundle;
mod control;
mod doctor;
mod install;
mod layers;
mod list;
mod logs;
mod pull;
mod route;
mod serve;
mod service;
mod session;
mod settings;
mod smoke;
mod uninstall;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use args::{Cli, ColorChoice, Command};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::layout::Layout;
use gem_setup::setup::{GUARD, KEEPER};
use layers::Layers;
use session::Session;

use crate::report::Printer;

/// Runs the program with these arguments, the program's name first.
pub(crate) fn main(mut args: Vec<OsString>) -> ExitCode {
    let _console = gem_platform::console::prepare();
    // What gem-setup starts of itself beside a server must not fail, whatever the environment and the configuration say.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some(GUARD) => return serve::guard(),
        Some(KEEPER) => return serve::keep(args.split_off(2)),
        _ => {}
    }
    let environment = surroundings();
    let parsed = match parse(&args, &environment) {
        Ok(parsed) => parsed,
        Err(Refusal::Clap(error)) => return refuse(&error),
        Err(Refusal::Failure(failure)) => {
            Printer::new(false, false, None).failure(&failure);
            return ExitCode::from(failure.kind.exit_status());
        }
    };
    let color = match parsed.cli.global.color {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto => environment.var("NO_COLOR").map(|_| false),
    };
    let global = &parsed.cli.global;
    let printer = Printer::new(global.json, global.quiet, color);
    let outcome = run(parsed, args, environment, &printer);
    // A result that did not arrive is none, however well it went.
    let failure = match (outcome, printer.fault()) {
        (Ok(code), None) => return code,
        (Err(failure), _) | (Ok(_), Some(failure)) => failure,
    };
    printer.failure(&failure);
    ExitCode::from(failure.kind.exit_status())
}

/// What the process was given by its surroundings; the only place that asks.
fn surroundings() -> Environment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    Environment::new(
        std::env::vars_os().filter_map(text),
        std::env::current_dir().unwrap_or_default(),
        std::env::home_dir().unwrap_or_default(),
    )
}

struct Parsed {
    cli: Cli,
    matches: ArgMatches,
    layers: Layers,
    layout: Layout,
    config: Option<PathBuf>,
}

enum Refusal {
    Clap(Box<clap::Error>),
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Parses twice: the first time to learn which home and configuration file are meant, the second time with what the
/// environment and that file say laid underneath.
fn parse(args: &[OsString], environment: &Environment) -> Result<Parsed, Refusal> {
    let first = Cli::command().ignore_errors(true).try_get_matches_from(args);
    let path = |name: &str| {
        first
            .as_ref()
            .ok()
            .and_then(|matches| matches.get_one::<PathBuf>(name).cloned())
    };
    let home = path("home")
        .or_else(|| environment.var("GEM_SETUP_HOME").map(PathBuf::from))
        .or_else(|| environment.var("GEMINI_CLI_HOME").map(PathBuf::from))
        .map_or_else(
            || environment.user_home().to_owned(),
            |home| environment.current_dir().join(home),
        );
    let layout = Layout::new(home, environment.user_home());
    let given = path("config").or_else(|| environment.var("GEM_SETUP_CONFIG").map(PathBuf::from));
    let given = given.map(|file| environment.current_dir().join(file));
    let file = given.clone().unwrap_or_else(|| layout.config_file());
    let layers = Layers::collect(&Cli::command(), environment, &file, given.is_some())?;
    let refused = |error: clap::Error| Refusal::Clap(Box::new(explained(error, &layers)));
    let mut command = layers.under(Cli::command());
    let matches = command.try_get_matches_from_mut(args).map_err(refused)?;
    if let Some(failure) = layers.contradiction(&command, &matches) {
        return Err(failure.into());
    }
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Refusal::Clap(Box::new(error)))?;
    if layout.home().as_os_str().is_empty() {
        let failure = Failure::new(Kind::Usage, "cannot tell where your home directory is");
        return Err(failure.with_hint("pass `--home DIR`").into());
    }
    Ok(Parsed {
        cli,
        matches,
        layers,
        layout,
        config: given,
    })
}

/// Adds to a complaint about a value where that value came from, if it was not typed.
fn explained(mut error: clap::Error, layers: &Layers) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let name = argument
        .trim_start_matches('-')
        .split([' ', '='])
        .next()
        .unwrap_or_default();
    if let Some(explanation) = layers.explain(name) {
        let suggestion = ContextValue::StyledStrs(vec![explanation.into()]);
        error.insert(ContextKind::Suggested, suggestion);
    }
    error
}

fn refuse(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match (error.kind(), printed) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, Err(error))
            if error.kind() != io::ErrorKind::BrokenPipe =>
        {
            ExitCode::from(Kind::Unexpected.exit_status())
        }
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => ExitCode::SUCCESS,
        // Where the message cannot be printed the status still tells.
        _ => ExitCode::from(Kind::Usage.exit_status()),
    }
}

fn run(parsed: Parsed, args: Vec<OsString>, environment: Environment, printer: &Printer) -> Result<ExitCode, Failure> {
    let Parsed {
        cli,
        matches,
        layers,
        layout,
        config,
    } = parsed;
    let session = Session {
        layout,
        environment,
        printer,
        verbose: cli.global.verbose,
        config,
        args,
    };
    // The commands that take `--accept-terms` put on record how it was given.
    let accepted = matches
        .subcommand()
        .filter(|(_, matches)| matches.try_contains_id("accept_terms").is_ok())
        .map(|(_, matches)| layers.origin(matches, "accept-terms"));
    match cli.command {
        Command::Install(args) => install::run(&session, args, accepted),
        Command::Doctor(args) => doctor::run(&session, args, accepted),
        Command::Serve(args) => serve::run(&session, args),
        Command::Start(args) => control::start(&session, args),
        Command::Stop => control::stop(&session),
        Command::Restart(args) => control::restart(&session, args),
        Command::Status => control::status(&session),
        Command::Logs(args) => logs::run(&session, args),
        Command::Pull(args) => pull::run(&session, args, accepted),
        Command::List(args) => list::run(&session, args),
        Command::Smoke => smoke::run(&session),
        Command::Route(args) => route::run(&session, args),
        Command::Settings(args) => settings::run(&session, args.action),
        Command::Bundle(args) => bundle::run(&session, args.action),
        Command::Service(args) => service::run(&session, args.action),
        Command::Uninstall(args) => uninstall::run(&session, args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gem-setup", &mut script);
            printer.line(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            version(printer);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn version(printer: &Printer) {
    let version = env!("CARGO_PKG_VERSION");
    if printer.json() {
        printer.json_line(&serde_json::json!({"name": "gem-setup", "version": version}));
    } else {
        printer.line(&format!("gem-setup {version}"));
    }
}
