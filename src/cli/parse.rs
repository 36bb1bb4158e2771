//! From the command line to options: flags first, then the running server, the environment and the configuration file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::layout::{Layout, SYSTEM_HOME};
use gem_setup::net::redact_in;
use gem_setup::supervise::{Running, observe};

use super::args::Cli;
use super::layers::{COMES_FROM, Layers, NamedBy, UNSET};
use super::options::Options;

const SYSTEM: &str = "system";

/// A valid command line and the sources of its options.
pub(crate) struct Parsed {
    pub(crate) cli: Cli,
    pub(crate) matches: ArgMatches,
    pub(crate) layers: Layers,
    pub(crate) layout: Layout,
    /// The absolute path of the configuration file, if one was given.
    pub(crate) config: Option<PathBuf>,
    /// A fault of the configuration, for a command that works without it.
    pub(crate) config_fault: Option<Failure>,
    pub(crate) warnings: Vec<String>,
}

/// Why a command line cannot be used.
pub(crate) enum Refusal {
    Clap(Box<clap::Error>),
    Failure(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Parses twice: first to find the home and the configuration file, then with their values as defaults.
pub(crate) fn parse(args: &[OsString], environment: &Environment) -> Result<Parsed, Refusal> {
    // Help and version arrive as errors and need no configuration.
    let first = Cli::command().ignore_errors(true).try_get_matches_from(args);
    let first = first.unwrap_or_default();
    let flag = |name: &str| first.try_get_one::<PathBuf>(name).ok().flatten().cloned();
    let variable = |name: &str| environment.var(name).map(PathBuf::from);
    let absolute = |path: PathBuf| environment.current_dir().join(path);
    let names = names_of(&first);
    let system = is_for_system(&first, environment).then(|| PathBuf::from(SYSTEM_HOME));
    let home = flag("home").or(system).or_else(|| variable("GEM_SETUP_HOME"));
    let layout = layout(home.map(absolute), environment)?;
    let below = Below {
        environment,
        running: running_options(&names, &layout)?,
        options: Options::of(&Cli::command()),
    };
    let by_flag = flag("config").map(|file| (absolute(file), NamedBy::Flag));
    let by_variable = || variable("GEM_SETUP_CONFIG").map(|file| (absolute(file), NamedBy::Variable));
    let by_server = || below.running_config().map(|file| (file, NamedBy::Server));
    let (config, named_by) = by_flag.or_else(by_variable).or_else(by_server).unzip();
    let file = config.clone().unwrap_or_else(|| layout.config_file());

    let is_needed = needs_configuration(&names);
    let (resolved, config_fault) = match below.resolve(args, Some((&file, named_by))) {
        Err(refusal) if !is_needed => (below.without_file(args)?, Some(fault_of(refusal))),
        resolved => (resolved?, fault_for_others(&names, &below, (&file, named_by))),
    };
    let (matches, layers) = resolved;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Refusal::Clap(Box::new(error)))?;
    let mut warnings = unknown_variables(&below.options, environment);
    let (config_fault, faults) = told(&names, config_fault, unused_faults(&names, &matches, &layers));
    warnings.extend(faults.iter().map(ignored));
    Ok(Parsed {
        cli,
        matches,
        layers,
        layout,
        config,
        config_fault,
        warnings,
    })
}

/// The fault for the command itself, and those to warn of, from the one that it met and those of values that it does not use.
fn told(names: &[&str], met: Option<Failure>, unused: Vec<Failure>) -> (Option<Failure>, Vec<Failure>) {
    match met {
        // `doctor` names them as a check.
        met if names == ["doctor"] => (together(met.into_iter().chain(unused)), Vec::new()),
        Some(met) => (Some(met.clone()), vec![met]),
        None => (None, unused),
    }
}

/// All `faults` as one, each once.
fn together(faults: impl Iterator<Item = Failure>) -> Option<Failure> {
    faults.reduce(|mut all, fault| {
        if !all.message.contains(&fault.message) {
            all.message = format!("{}; {}", all.message, fault.message);
            let hints = all.hint.into_iter().chain(fault.hint).collect::<Vec<_>>();
            all.hint = Some(hints.join("; "));
        }
        all
    })
}

/// The faults in values that the command does not use. `install` reports those that its server would use.
fn unused_faults(names: &[&str], matches: &ArgMatches, layers: &Layers) -> Vec<Failure> {
    let command = Cli::command();
    let server = command.find_subcommand("serve").filter(|_| names == ["install"]);
    let is_of_server =
        |name: &str| server.is_some_and(|server| server.get_arguments().any(|option| option.get_long() == Some(name)));
    let faults = layers.unused_faults(&command, innermost(matches), &is_of_server);
    let faults = faults
        .into_iter()
        .map(|error| fault_of(Refusal::Clap(Box::new(explained(error, layers)))));
    faults.collect()
}

/// The matches of the innermost subcommand, which contains the command's own options.
pub(crate) fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

/// Whether the command works on the installation for all users.
fn is_for_system(matches: &ArgMatches, environment: &Environment) -> bool {
    let Ok(scope) = innermost(matches).try_get_raw("scope") else {
        return false;
    };
    let is_given = innermost(matches).value_source("scope") == Some(ValueSource::CommandLine);
    match scope.filter(|_| is_given).and_then(|mut scope| scope.next()) {
        Some(scope) => scope == SYSTEM,
        None => environment.var("GEM_SETUP_SCOPE") == Some(SYSTEM),
    }
}

/// The sources below the command line, except the configuration file.
struct Below<'a> {
    environment: &'a Environment,
    /// The options of the running server, for commands that replace the server.
    running: Vec<String>,
    options: Options,
}

impl Below<'_> {
    /// Parses `args` with these sources and the configuration in `file`, which must exist if something names it.
    fn resolve(
        &self,
        args: &[OsString],
        file: Option<(&Path, Option<NamedBy>)>,
    ) -> Result<(ArgMatches, Layers), Refusal> {
        let mut layers = Layers::default();
        if let Some((file, named_by)) = file {
            layers.add_file(file, named_by, &self.options)?;
        }
        layers.add_environment(self.environment, &self.options);
        layers.add_running(&self.running, &self.options);
        loop {
            let mut command: Command = layers.under(Cli::command());
            let matches = command
                .try_get_matches_from_mut(args)
                .map_err(|error| Refusal::Clap(Box::new(explained(error, &layers))))?;
            if layers.leave_out_excluded(&command, &matches) {
                continue;
            }
            return match layers.contradiction(&command, &matches) {
                Some(failure) => Err(failure.into()),
                None => Ok((matches, layers)),
            };
        }
    }

    /// Parses `args` without the configuration file, and without the environment too if a variable has an invalid
    /// value.
    fn without_file(&self, args: &[OsString]) -> Result<(ArgMatches, Layers), Refusal> {
        self.resolve(args, None).or_else(|_| {
            let matches = Cli::command().try_get_matches_from(args);
            let matches = matches.map_err(|error| Refusal::Clap(Box::new(error)))?;
            Ok((matches, Layers::default()))
        })
    }

    fn running_config(&self) -> Option<PathBuf> {
        let config = self.running.iter().find_map(|word| word.strip_prefix("--config="));
        config.map(PathBuf::from)
    }
}

/// The home where no option names one.
pub(crate) fn default_home(environment: &Environment) -> PathBuf {
    let of_variable = environment.var("GEM_SETUP_HOME");
    of_variable.map_or_else(|| client_home(environment), |home| environment.current_dir().join(home))
}

/// Gemini CLI's home.
fn client_home(environment: &Environment) -> PathBuf {
    let of_client = environment.var("GEMINI_CLI_HOME");
    of_client.map_or_else(
        || environment.user_home().to_owned(),
        |home| environment.current_dir().join(home),
    )
}

fn layout(given: Option<PathBuf>, environment: &Environment) -> Result<Layout, Failure> {
    let home = given.unwrap_or_else(|| client_home(environment));
    if home.as_os_str().is_empty() {
        let failure = Failure::new(Kind::Usage, "cannot find your home directory");
        return Err(failure.with_hint("pass `--home DIR`"));
    }
    if home.to_str().is_none() {
        let message = format!("cannot use the home `{}`: its name is not UTF-8", home.display());
        let hint = "settings and state need its path as text: pass another home with `--home DIR`";
        return Err(Failure::new(Kind::Usage, message).with_hint(hint));
    }
    Ok(Layout::new(home, environment.user_home()))
}

/// The names of the command and its subcommands.
pub(crate) fn names_of(matches: &ArgMatches) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = matches.subcommand();
    while let Some((name, matches)) = rest {
        names.push(name);
        rest = matches.subcommand();
    }
    names
}

/// Whether the command has options that a configuration file may set. Commands that only read or stop work without the
/// file.
fn needs_configuration(names: &[&str]) -> bool {
    !matches!(
        names,
        [] | [
            "stop"
                | "status"
                | "logs"
                | "list"
                | "smoke"
                | "doctor"
                | "uninstall"
                | "completions"
                | "man"
                | "version"
                | "versions"
                | "cleanup",
            ..
        ] | ["settings", "show" | "remove"]
            | ["service", "status" | "uninstall"]
            | ["bundle", "verify"]
    )
}

/// The options of the running server, for commands that replace the server.
fn running_options(names: &[&str], layout: &Layout) -> Result<Vec<String>, Failure> {
    match names {
        ["restart"] | ["service", "install"] => match observe(layout) {
            Ok(Running::Supervised(record)) => record.given(layout),
            _ => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

/// Adds to `error` the source of the refused value, unless that is the command line.
fn explained(mut error: clap::Error, layers: &Layers) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let name = argument
        .trim_start_matches('-')
        .split([' ', '=', '.', '['])
        .next()
        .unwrap_or_default();
    if let Some((explanation, remedy)) = layers.explain(name).zip(layers.remedy(name)) {
        let suggestion = ContextValue::StyledStrs(vec![format!("{explanation}: {remedy}").into()]);
        error.insert(ContextKind::Suggested, suggestion);
    }
    error
}

/// For `doctor`: the fault in the configuration `file` or in a variable that would stop other commands.
fn fault_for_others(names: &[&str], below: &Below<'_>, file: (&Path, Option<NamedBy>)) -> Option<Failure> {
    /// Together these commands have every option that a configuration file may set.
    const OTHERS: [&[&str]; 3] = [&["install"], &["serve"], &["route", "x"]];
    if names != ["doctor"] {
        return None;
    }
    OTHERS.iter().find_map(|command| {
        let words = std::iter::once(&"gem-setup").chain(*command).map(OsString::from);
        let refusal = below.resolve(&words.collect::<Vec<_>>(), Some(file)).err()?;
        Some(fault_of(refusal))
    })
}

/// The failure for a fault of a configuration file or variable; without that, the command line is valid.
pub(crate) fn fault_of(refusal: Refusal) -> Failure {
    let error = match refusal {
        Refusal::Failure(failure) => return failure,
        Refusal::Clap(error) => error,
    };
    let text = redact_in(&error.to_string());
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let sources: Vec<String> = match error.get(ContextKind::Suggested) {
        Some(ContextValue::StyledStrs(sources)) => {
            sources.iter().map(|source| redact_in(&source.to_string())).collect()
        }
        _ => Vec::new(),
    };
    let place = sources.iter().find_map(|source| source.strip_prefix(COMES_FROM));
    let Some((place, remedy)) = place.and_then(|place| place.rsplit_once(": ")) else {
        let parts: Vec<&str> = std::iter::once(first)
            .chain(sources.iter().map(String::as_str))
            .collect();
        return Failure::new(Kind::Usage, parts.join("; ")).with_hint("correct that value");
    };
    let message = format!("{first}; {COMES_FROM}{place}");
    let remedy = if remedy == UNSET { "correct or unset" } else { "correct" };
    Failure::new(Kind::Usage, message).with_hint(format!("{remedy} {place}"))
}

/// The warning of a command that works without the value or the file with this `fault`.
fn ignored(fault: &Failure) -> String {
    let is_unset = fault
        .hint
        .as_ref()
        .is_some_and(|hint| hint.starts_with("correct or unset "));
    let remedy = if is_unset { format!("; {UNSET}") } else { String::new() };
    format!("{}; ignored here{remedy}", fault.message)
}

fn unknown_variables(options: &Options, environment: &Environment) -> Vec<String> {
    let variables = environment.vars().map(|(name, _)| name);
    let warning = |(variable, meant): (&str, Option<String>)| {
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        format!("the variable `{variable}` sets no option{meant}")
    };
    options.unknown_variables(variables).map(warning).collect()
}
