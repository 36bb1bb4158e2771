//! Options from the environment and the configuration file, laid under the command line.
//!
//! A value found there becomes the option's default before clap parses, so flag > environment > file > default holds for every
//! option without any command knowing of it (docs/contract.md section 1).

use std::collections::BTreeMap;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};

/// Where an option's value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    Environment,
    File,
    Default,
}

/// The values found beneath the command line, by option name (`accept-terms`).
#[derive(Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<String, Found>,
}

#[derive(Debug)]
struct Found {
    origin: Origin,
    /// The variable, or the key and its file.
    place: String,
    values: Vec<String>,
}

/// These decide which file is read, so the file cannot hold them.
const NOT_IN_FILE: [&str; 2] = ["home", "config"];
const NOT_LAYERED: [&str; 2] = ["help", "version"];
/// What `route --model` names is no local model but a hosted one, for which `GEMINI_MODEL` is the variable.
const FOR_THE_COMMAND_LINE: [(&str, &str); 1] = [("route", "model")];

impl Layers {
    /// Collects what `environment` and the configuration file at `file` say about the options of `command` and its
    /// subcommands. A missing file is fine unless `required`.
    pub(crate) fn collect(
        command: &Command,
        environment: &Environment,
        file: &Path,
        required: bool,
    ) -> Result<Self, Failure> {
        let options = option_names(command);
        let mut layers = Self::default();
        layers.add_file(file, required, &options)?;
        layers.add_environment(environment, &options);
        Ok(layers)
    }

    fn add_environment(&mut self, environment: &Environment, options: &BTreeMap<String, Known>) {
        for (name, known) in options {
            let variable = variable_of(name);
            let is_outdone = *name != known.option && environment.var(&variable_of(&known.option)).is_some();
            if let Some(value) = environment.var(&variable).filter(|_| !is_outdone) {
                let found = Found {
                    origin: Origin::Environment,
                    place: format!("the variable `{variable}`"),
                    values: vec![known.shape.normalise(value)],
                };
                self.values.insert(known.option.clone(), found);
            }
        }
    }

    fn add_file(&mut self, file: &Path, required: bool, options: &BTreeMap<String, Known>) -> Result<(), Failure> {
        const MEND: &str = "mend or delete that file; its keys are the options' names with `_` for `-`";
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(()),
            Err(error) => {
                let message = format!("cannot read the configuration `{}`: {error}", file.display());
                let hint = if required {
                    "mend the path given with `--config`"
                } else {
                    MEND
                };
                return Err(Failure::new(Kind::Usage, message).with_hint(hint));
            }
        };
        let fault = |reason: String| {
            Failure::new(
                Kind::Usage,
                format!("cannot use the configuration `{}`: {reason}", file.display()),
            )
            .with_hint(MEND)
        };
        let table: toml::Table =
            toml::from_str(&text).map_err(|error| fault(error.to_string().trim_end().to_owned()))?;
        for (key, value) in &table {
            let name = key.replace('_', "-");
            let known = options.get(&name).filter(|_| !NOT_IN_FILE.contains(&name.as_str()));
            let Some(Known { option, shape }) = known else {
                return Err(fault(format!("no option is called `{key}`")));
            };
            if name != *option && table.contains_key(&option.replace('-', "_")) {
                continue;
            }
            let values = values_of(value).ok_or_else(|| fault(format!("`{key}` has a value of the wrong type")))?;
            if values.len() != 1 && !matches!(shape, Shape::Many) {
                return Err(fault(format!("`{key}` takes one value, not {}", values.len())));
            }
            let found = Found {
                origin: Origin::File,
                place: format!("`{key}` in `{}`", file.display()),
                values: values.iter().map(|value| shape.normalise(value)).collect(),
            };
            self.values.insert(option.clone(), found);
        }
        Ok(())
    }

    /// `command` with the values found as its options' defaults.
    pub(crate) fn under(&self, command: Command) -> Command {
        let name = command.get_name().to_owned();
        let command = command.mut_args(|arg| {
            let long = arg.get_long();
            let long = long.filter(|long| !FOR_THE_COMMAND_LINE.contains(&(&name, long)));
            match long.and_then(|long| self.values.get(long)) {
                Some(Found { values, .. }) if fits(&arg, values) => arg.default_values(values.clone()),
                _ => arg,
            }
        });
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        names.into_iter().fold(command, |command, name| {
            command.mut_subcommand(name, |sub| self.under(sub))
        })
    }

    /// Two options of `command` that exclude each other, of which at least one was found beneath the command line, where clap
    /// does not look.
    pub(crate) fn contradiction(&self, command: &Command, matches: &ArgMatches) -> Option<Failure> {
        let given = |arg: &clap::Arg| self.is_given(arg, matches);
        let found = command.get_arguments().filter(|arg| given(arg)).find_map(|arg| {
            let others = command.get_arg_conflicts_with(arg);
            others.into_iter().find(|other| given(other)).map(|other| (arg, other))
        });
        if let Some((one, other)) = found {
            let hints = [one, other].map(|arg| self.explain(arg.get_long()?));
            let failure = Failure::new(Kind::Usage, format!("`{one}` and `{other}` cannot be used together"));
            return Some(match hints.into_iter().flatten().next() {
                Some(hint) => failure.with_hint(format!("leave one out; {hint}")),
                None => failure,
            });
        }
        let (name, matches) = matches.subcommand()?;
        self.contradiction(command.find_subcommand(name)?, matches)
    }

    /// Whether `arg` has a value on the command line or beneath it; a switch that is off has none.
    fn is_given(&self, arg: &clap::Arg, matches: &ArgMatches) -> bool {
        let id = arg.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            return true;
        }
        let is_layered = arg.get_long().is_some_and(|long| self.values.contains_key(long));
        is_layered && (!matches!(arg.get_action(), ArgAction::SetTrue) || matches.get_flag(id))
    }

    /// Where the value of the option `name` of `matches` came from.
    pub(crate) fn origin(&self, matches: &ArgMatches, name: &str) -> Origin {
        if matches.value_source(&name.replace('-', "_")) == Some(ValueSource::CommandLine) {
            return Origin::Flag;
        }
        self.values.get(name).map_or(Origin::Default, |found| found.origin)
    }

    /// Says that the option `name` was not given on the command line but elsewhere, for error messages.
    pub(crate) fn explain(&self, name: &str) -> Option<String> {
        let found = self.values.get(name)?;
        Some(format!("the value comes from {}", found.place))
    }
}

/// `--model` is a name to most commands and a switch to one: a name is no value for a switch of the same name.
fn fits(arg: &clap::Arg, values: &[String]) -> bool {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let is_truth = values.iter().all(|value| value == "true" || value == "false");
    !is_switch || is_truth || arg.get_long() != Some("model")
}

fn variable_of(name: &str) -> String {
    format!("GEM_SETUP_{}", name.to_uppercase().replace('-', "_"))
}

/// An option under one of its names.
#[derive(Clone, Debug)]
struct Known {
    option: String,
    shape: Shape,
}

/// How a value is written as clap wants it.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Switch,
    Count,
    Value,
    Many,
}

/// Whether `value` says yes to a switch.
pub(crate) fn is_yes(value: &str) -> bool {
    truth_of(value) == Some(true)
}

fn truth_of(value: &str) -> Option<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl Shape {
    fn normalise(self, value: &str) -> String {
        match (self, truth_of(value)) {
            (Self::Switch, Some(truth)) => truth.to_string(),
            (Self::Count, Some(truth)) => u8::from(truth).to_string(),
            _ => value.to_owned(),
        }
    }
}

fn option_names(command: &Command) -> BTreeMap<String, Known> {
    let mut names = BTreeMap::new();
    // What is hidden is for gem-setup's own calls of itself, which must mean the same everywhere.
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long().filter(|long| !NOT_LAYERED.contains(long)) else {
            continue;
        };
        let shape = match arg.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => Shape::Switch,
            ArgAction::Count => Shape::Count,
            ArgAction::Append => Shape::Many,
            _ => Shape::Value,
        };
        let aliases = arg.get_all_aliases().unwrap_or_default();
        for name in std::iter::once(long).chain(aliases) {
            let option = long.to_owned();
            names.insert(name.replace('_', "-"), Known { option, shape });
        }
    }
    for sub in command.get_subcommands() {
        names.extend(option_names(sub));
    }
    names
}

fn values_of(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Float(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(truth) => Some(vec![truth.to_string()]),
        toml::Value::Array(items) => {
            let items: Option<Vec<Vec<String>>> = items.iter().map(values_of).collect();
            items.map(|items| items.concat())
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}
