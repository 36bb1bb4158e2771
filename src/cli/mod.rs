//! The command line: clap structs, one small file per command: arguments → library call → report.

mod access_args;
mod args;
mod bundle;
mod completions;
mod control;
mod doctor;
mod fallback;
mod gateway;
mod idle;
mod install;
mod layers;
mod list;
mod logs;
mod man;
mod network_args;
mod news;
mod next_server;
mod options;
mod origins;
mod parse;
mod program;
mod pull;
mod refusal;
mod reload;
mod route;
mod serve;
mod server;
mod server_args;
mod service;
mod session;
mod settings;
mod smoke;
mod status;
mod system;
mod token;
mod uninstall;
mod upgrade;
mod upgrade_args;
mod values;
mod versions;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use args::{ColorChoice, Command};
use clap::ArgMatches;
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::setup::{FOREGROUND, GUARD, REAPER, STARTED_IN};
use gem_setup::text::printable_line;
use layers::{Layers, Origin};
use parse::{Parsed, Refusal, innermost, parse};
use refusal::{automatic_color, fail, refuse};
use server::Server;
use session::Session;

use crate::report::Printer;

/// Runs the program with these arguments, beginning with the program's name.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let _console = gem_platform::console::prepare();
    gem_platform::file::keep_new_files_ours();
    gem_platform::process::set_signals();
    // The helper processes of a server must not fail because of a mistake in the environment or the configuration.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some(GUARD) => return serve::guard(),
        Some(REAPER) => return serve::reap(args),
        _ => {}
    }
    let environment = process_environment();
    let parsed = match check_text().and_then(|()| parse(&args, &environment)) {
        Ok(parsed) => parsed,
        Err(refusal) => return refuse(&shown(refusal, &args, &environment), &args, &environment),
    };
    let color = match parsed.cli.global.color {
        ColorChoice::Always => Some(true),
        ColorChoice::Never => Some(false),
        ColorChoice::Auto => automatic_color(&environment),
    };
    let global = &parsed.cli.global;
    // The running server keeps the wish for its log, but this command was not asked for details.
    let is_kept = parsed.layers.origin(innermost(&parsed.matches), "verbose") == Origin::Server;
    let verbose = if is_kept { 0 } else { global.verbose };
    let printer = Printer::new(global.json, global.quiet, color).within(&environment, verbose);
    if let Some(typed) = program::typed() {
        printer.begin_commands_with(typed);
    }
    // If gem-setup itself started this process, the first one has already warned.
    if !args.iter().any(|arg| arg == FOREGROUND) {
        parsed.warnings.iter().for_each(|warning| printer.warning(warning));
    }
    let outcome = run(parsed, args, environment, &printer);
    // If the result could not be written to standard output, the command failed.
    let failure = match (outcome, printer.fault()) {
        (Ok(code), None) => return code,
        (Err(failure), _) | (Ok(_), Some(failure)) => failure,
    };
    fail(&printer, &failure)
}

/// `refusal` with the control characters of `args` in escaped form. The parser drops them from its messages, which
/// would then show other values than the given ones.
fn shown(refusal: Refusal, args: &[OsString], environment: &Environment) -> Refusal {
    let visible = |arg: &OsString| {
        arg.to_str()
            .map_or_else(|| arg.clone(), |text| printable_line(text).into())
    };
    let visible: Vec<OsString> = args.iter().map(visible).collect();
    if !matches!(refusal, Refusal::Clap(_)) || visible == args {
        return refusal;
    }
    match parse(&visible, environment) {
        Err(again @ Refusal::Clap(_)) => again,
        _ => refusal,
    }
}

/// The environment of the process.
fn process_environment() -> Environment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let directory = match std::env::var_os(STARTED_IN) {
        Some(directory) => directory.into(),
        None => std::env::current_dir().unwrap_or_default(),
    };
    let home = std::env::home_dir().unwrap_or_default();
    // A relative home would mean another directory to the server, which has its own current directory.
    let home = if home.as_os_str().is_empty() {
        home
    } else {
        directory.join(home)
    };
    let variables = std::env::vars_os().filter(|(name, _)| name != STARTED_IN);
    Environment::new(variables.filter_map(text), directory, home).searching(std::env::var_os("PATH"))
}

/// Refuses gem-setup's variables that are not UTF-8: ignoring them would change the meaning of the command.
fn check_text() -> Result<(), Refusal> {
    let is_ours = |name: &str| name == "GEMINI_CLI_HOME" || name.starts_with("GEM_SETUP_");
    for (name, value) in std::env::vars_os() {
        if value.to_str().is_none() && name.to_str().is_some_and(is_ours) {
            // The message leaves out the value, which may be a URL with a login.
            let message = format!("cannot use the variable `{}`: its value is not UTF-8", name.display());
            return Err(Failure::new(Kind::Usage, message)
                .with_hint("set it to a UTF-8 text, or unset it")
                .into());
        }
    }
    Ok(())
}

/// With fewer descriptors nothing can wait for events.
const FEWEST_DESCRIPTORS: usize = 32;

/// The beginning of the year 9999, in seconds since 1970.
const LAST_YEAR: Duration = Duration::from_secs(253_370_764_800);

/// Dates in HTTP begin with 1970, and the year of a recorded time has four digits.
fn check_clock(now: SystemTime) -> Result<(), Failure> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    if since.is_ok_and(|since| since < LAST_YEAR) {
        return Ok(());
    }
    let message = "cannot work with this machine's clock: its year is not between 1970 and 9998";
    Err(Failure::new(Kind::Unexpected, message).with_hint("set the clock"))
}

fn check_descriptors() -> Result<(), Failure> {
    let allowed = gem_platform::descriptors::allow(FEWEST_DESCRIPTORS);
    if allowed >= FEWEST_DESCRIPTORS {
        return Ok(());
    }
    let message = format!("cannot work with a limit of {allowed} open files");
    Err(Failure::new(Kind::Unexpected, message).with_hint("raise the limit: `ulimit -n 1024`"))
}

fn run(parsed: Parsed, args: Vec<OsString>, environment: Environment, printer: &Printer) -> Result<ExitCode, Failure> {
    check_descriptors()?;
    check_clock(SystemTime::now())?;
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
        port: layers.below("port"),
        state: OnceCell::new(),
    };
    if let Ok(target) = session.target() {
        printer.add_globals(session.globals(target));
    }
    printer.add_origins(layers.given_below(innermost(&matches)));
    origins::show(&session, &matches, &layers);
    system::enter(&session, innermost(&matches))?;
    idle::warn(printer, &matches, &layers);
    run_command(&session, cli.command, innermost(&matches), &layers)
}

fn run_command(
    session: &Session<'_>,
    command: Command,
    matches: &ArgMatches,
    layers: &Layers,
) -> Result<ExitCode, Failure> {
    let server = |args| Server::resolve(session, args, matches, layers);
    let accepted = accepted(matches, layers);
    let origin = |name: &str| layers.origin(matches, name);
    match command {
        Command::Install(args) => install::run(session, args, accepted, &origin),
        Command::Doctor(args) => doctor::run(session, args, accepted, &origin),
        Command::Serve(args) if args.detach && !args.foreground => control::start(session, &server(args.server)?),
        Command::Serve(args) => serve::run(session, &server(args.server)?),
        Command::Start(args) => control::start(session, &server(args.server)?),
        Command::Stop => control::stop(session),
        Command::Restart(args) => control::restart(session, &server(args.server)?),
        Command::Status(args) => status::run(session, &args),
        Command::Logs(args) => logs::run(session, args),
        Command::Pull(args) => pull::run(
            session,
            args,
            accepted,
            &idle::given(matches, layers, &pull::OF_DOWNLOADS),
        ),
        Command::List(args) => list::run(session, args),
        Command::Smoke(args) if args.print_command => smoke::print_command(session),
        Command::Smoke(_) => smoke::run(session),
        Command::Route(args) => route::run(session, args),
        Command::Settings(args) => settings::run(session, args.action),
        Command::Bundle(args) => bundle::run(session, args.action, accepted),
        Command::Service(args) => service::run(session, args.action, server),
        Command::Upgrade(args) => {
            let is_flag = |name: &str| layers.origin(matches, name) == Origin::Flag;
            upgrade::run(session, &args, accepted, &is_flag)
        }
        Command::Rollback(args) => upgrade::roll_back(session, args),
        Command::Token(args) => token::run(session, &args),
        Command::Versions => versions::run(session),
        Command::Cleanup(args) => versions::clean_up(session, args),
        Command::Uninstall(args) => uninstall::run(session, args),
        Command::Completions { shell } => Ok(completions::run(session.printer, shell)),
        Command::Man { directory } => man::run(session.printer, &directory),
        Command::Version => Ok(versions::own(session.printer)),
    }
}

/// The source of `--accept-terms`, for the commands that have this option; it is recorded.
fn accepted(matches: &ArgMatches, layers: &Layers) -> Option<Origin> {
    let is_taken = matches.try_contains_id("accept_terms").is_ok();
    is_taken.then(|| layers.origin(matches, "accept-terms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_no_record_can_hold_is_refused() {
        let (start, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86_400));
        for (now, is_fit) in [
            (start - day, false),
            (start, true),
            (SystemTime::now(), true),
            (start + LAST_YEAR + day, false),
        ] {
            assert_eq!(check_clock(now).is_ok(), is_fit, "{now:?}");
        }
    }
}
