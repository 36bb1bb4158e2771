//! `--verbose`: where the values of the options come from, and which files were read.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use gem_setup::net::SafeUrl;
use gem_setup::setup::{FOREGROUND, State};

use super::args::Cli;
use super::layers::Layers;
use super::options::Options;
use super::parse::innermost;
use super::session::Session;

/// Options that say nothing about the work of a command, and the home, which is always shown.
const NOT_SHOWN: [&str; 5] = ["json", "quiet", "verbose", "color", "home"];

/// Prints each chosen value with its origin, and each file that was read.
pub(super) fn show(session: &Session<'_>, matches: &ArgMatches, layers: &Layers) {
    // The server's log has its own records.
    if !session.printer.is_verbose() || session.args.iter().any(|arg| arg == FOREGROUND) {
        return;
    }
    let printer = session.printer;
    let line = |text: &str| {
        let text = printer.tilde_everywhere(text);
        printer.remark(&format!("{}: {text}", printer.err().dim("verbose")));
    };
    let layout = &session.layout;
    let home = match () {
        () if layout.is_of_system() => "the installation for all users",
        () if session.is_given("--home") => "the flag",
        () if session.environment.var("GEM_SETUP_HOME").is_some() => "the variable `GEM_SETUP_HOME`",
        () if session.environment.var("GEMINI_CLI_HOME").is_some() => "the variable `GEMINI_CLI_HOME`",
        () => "your home",
    };
    line(&format!("home = {}, from {home}", layout.home().display()));
    let of_command = innermost(matches);
    let options = Options::of(&Cli::command());
    let names = options
        .iter()
        .filter(|(name, known)| *name == known.option)
        .map(|(name, _)| name);
    let names = names.filter(|name| !NOT_SHOWN.contains(name) && of_command.try_contains_id(&id_of(name)).is_ok());
    let given: Vec<(&str, Given)> = names
        .filter_map(|name| Some((name, given(of_command, layers, name)?)))
        .collect();
    for (name, Given { values, origin }) in &given {
        line(&format!("{name} = {values}, from {origin}"));
    }
    let recorded = session.is_installed().then(|| session.state().ok()).flatten();
    let recorded = recorded.map(recorded_values).unwrap_or_default();
    for (name, value) in recorded {
        if given.iter().any(|(given, _)| *given == name) {
            continue;
        }
        match layers.found(name).filter(|_| name == "port" && session.port.is_some()) {
            Some((place, values)) => line(&format!("{name} = {}, from {place}", values.join(" "))),
            None => line(&format!("{name} = {value}, from the record")),
        }
    }
    let config = session.config.clone().unwrap_or_else(|| layout.config_file());
    for file in [config, layout.state_file()] {
        let found = if file.exists() { "read" } else { "there is no" };
        line(&format!("{found} `{}`", file.display()));
    }
}

/// The values of an option, and where they come from.
struct Given {
    values: String,
    origin: String,
}

/// The given value of the option `name`; `None` for a default.
fn given(matches: &ArgMatches, layers: &Layers, name: &str) -> Option<Given> {
    let id = id_of(name);
    let values = matches.get_raw(&id)?;
    let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
    let origin = match matches.value_source(&id) {
        Some(ValueSource::CommandLine) => "the command line",
        // Some commands do not take the values from below the command line.
        _ => layers.found(name).filter(|(_, found)| *found == values)?.0,
    };
    let shown: Vec<String> = values.iter().map(|value| shown(value)).collect();
    Some(Given {
        values: shown.join(" "),
        origin: origin.to_owned(),
    })
}

fn id_of(name: &str) -> String {
    name.replace('-', "_")
}

/// `value` without secrets, if it is a URL.
fn shown(value: &str) -> String {
    if value.contains("://") {
        SafeUrl::redact(value)
    } else {
        value.to_owned()
    }
}

/// The recorded choices by the names of their options.
fn recorded_values(state: &State) -> Vec<(&'static str, String)> {
    let chosen = &state.chosen;
    let path = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
    let mirrors: Vec<String> = chosen
        .mirrors
        .iter()
        .map(|url| SafeUrl::from(url).to_string())
        .collect();
    let switch = |is_on: bool| is_on.then(|| "true".to_owned());
    let values = [
        ("runtime", Some(chosen.runtime.to_string())),
        ("port", Some(chosen.port.to_string())),
        ("model", Some(chosen.model.to_string())),
        ("model-file", path(&chosen.model_file)),
        ("catalog", path(&chosen.catalog)),
        ("bundle", path(&chosen.bundle)),
        ("ca-cert", path(&chosen.ca_cert)),
        ("mirror", (!mirrors.is_empty()).then(|| mirrors.join(" "))),
        ("mirror-only", switch(chosen.mirror_only)),
        ("direct", switch(chosen.direct)),
    ];
    values
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}
