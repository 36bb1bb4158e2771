//! The command line: clap structs, one small file per command: arguments → library call → report.

mod args;
mod bundle;
mod completions;
mod control;
mod doctor;
mod install;
mod layers;
mod list;
mod logs;
mod program;
mod pull;
mod route;
mod serve;
mod service;
mod session;
mod settings;
mod smoke;
mod uninstall;

use std::ffi::OsString;
use std::io::{self, Write};
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

use crate::report::{Events, Printer};

/// Runs the program with these arguments, the program's name first.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let _console = gem_platform::console::prepare();
    // What gem-setup starts of itself beside a server must not fail, whatever the environment and the configuration say.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some(GUARD) => return serve::guard(),
        Some(KEEPER) => return serve::keep(args),
        _ => {}
    }
    let environment = surroundings();
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
    let outcome = run(parsed, args, environment, &printer);
    // A result that did not arrive is none, however well it went.
    let failure = match (outcome, printer.fault()) {
        (Ok(code), None) => return code,
        (Err(failure), _) | (Ok(_), Some(failure)) => failure,
    };
    tell(&printer, &failure)
}

/// Says why the command did not do what was asked. Whoever reads JSON gets an answer in any case.
fn tell(printer: &Printer, failure: &Failure) -> ExitCode {
    if printer.json() && printer.is_silent() {
        Events::new(printer).result(&[], Some(failure));
    }
    printer.failure(failure);
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

/// Refuses variables of ours that are no text: to pass them over would be to do something else than was asked.
fn check_text() -> Result<(), Refusal> {
    let is_ours = |name: &str| name == "GEMINI_CLI_HOME" || name.starts_with("GEM_SETUP_");
    for (name, value) in std::env::vars_os() {
        if value.to_str().is_none() && name.to_str().is_some_and(is_ours) {
            let message = format!(
                "cannot use the variable `{}`: its value `{}` is not UTF-8",
                name.display(),
                value.display()
            );
            return Err(Failure::new(Kind::Usage, message)
                .with_hint("set it to something else, or unset it")
                .into());
        }
    }
    Ok(())
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
    if layout.home().to_str().is_none() {
        let message = format!(
            "cannot use the home `{}`: its name is not UTF-8",
            layout.home().display()
        );
        let failure = Failure::new(Kind::Usage, message);
        return Err(failure
            .with_hint("settings and state name files in it as text: pass another with `--home DIR`")
            .into());
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
        .split([' ', '=', '.'])
        .next()
        .unwrap_or_default();
    if let Some(explanation) = layers.explain(name) {
        let suggestion = ContextValue::StyledStrs(vec![explanation.into()]);
        error.insert(ContextKind::Suggested, suggestion);
    }
    error
}

/// Says why there is nothing to run.
fn refuse(refusal: &Refusal, args: &[OsString], environment: &Environment) -> ExitCode {
    let json = wants_json(args, environment);
    let color = wanted_color(args, environment);
    let printer = Printer::new(json, false, color);
    match refusal {
        Refusal::Failure(failure) => {
            if json {
                refuse_in_json(&printer, failure, args);
            }
            tell(&printer, failure)
        }
        Refusal::Clap(error) => {
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if json && !is_answer {
                refuse_in_json(&printer, &complaint(error), args);
            }
            match print(error, color) {
                Err(error) if is_answer && error.kind() != io::ErrorKind::BrokenPipe => {
                    ExitCode::from(Kind::Unexpected.exit_status())
                }
                _ if is_answer => ExitCode::SUCCESS,
                // Where the message cannot be printed the status still tells.
                _ => ExitCode::from(Kind::Usage.exit_status()),
            }
        }
    }
}

/// Prints clap's answer or complaint; `color` forces colour on or off.
fn print(error: &clap::Error, color: Option<bool>) -> io::Result<()> {
    let Some(color) = color else {
        return error.print();
    };
    let text = error.render();
    let text = if color {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    if error.use_stderr() {
        io::stderr().lock().write_all(text.as_bytes())
    } else {
        io::stdout().lock().write_all(text.as_bytes())
    }
}

/// The colour that is asked for, as far as can be told when the rest cannot be understood.
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

/// No colour where the environment asks for none or the terminal shows none; else each stream decides.
fn automatic_color(environment: &Environment) -> Option<bool> {
    let is_plain = environment.var("NO_COLOR").is_some() || environment.var("TERM") == Some("dumb");
    is_plain.then_some(false)
}

/// The same for whoever reads JSON: the result, and before it the steps of `install`, none of which was begun.
fn refuse_in_json(printer: &Printer, failure: &Failure, args: &[OsString]) {
    let events = Events::new(printer);
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args);
    if matches.is_ok_and(|matches| matches.subcommand_name() == Some("install")) {
        events.cut_off(failure);
    }
    events.result(&[], Some(failure));
}

/// Whether JSON is wanted, as far as can be told when the rest cannot be understood.
fn wants_json(args: &[OsString], environment: &Environment) -> bool {
    let is_flag = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    is_flag || environment.var("GEM_SETUP_JSON").is_some_and(layers::is_yes)
}

/// clap's error as ours.
fn complaint(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::new(Kind::Usage, "no command was given").with_hint("`gem-setup --help` lists the commands");
    }
    let text = error.render().to_string();
    let text = text.trim_start_matches("error: ").trim_end();
    let (message, hint) = text.split_once("\n\n").unwrap_or((text, "try `--help`"));
    Failure::new(Kind::Usage, message).with_hint(hint.trim())
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
        state: std::cell::OnceCell::new(),
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
        Command::Completions { shell } => Ok(completions::run(printer, shell)),
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
