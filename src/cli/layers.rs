//! Options that the command line does not give: from the running server, the environment and the configuration file.
//!
//! A value found there becomes the option's default before clap parses. So the order flag > running server >
//! environment > file > default holds for every option, without any code in the commands (docs/contract.md section 1).

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use gem_setup::environment::Environment;
use gem_setup::error::{Failure, Kind};
use gem_setup::net::toml_fault;
use gem_setup::place;

use super::options::{Known, Options, is_switch, variable_of};
use crate::report::GivenBelow;

/// The source of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag,
    /// The running server, whose options `restart` keeps.
    Server,
    Environment,
    File,
    Default,
}

/// What names a configuration file other than the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedBy {
    Flag,
    Variable,
    /// The running server, whose options `restart` keeps.
    Server,
}

impl NamedBy {
    /// The hint if the file cannot be read.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Flag => "correct the path given with `--config`",
            Self::Variable => "correct or unset the variable `GEM_SETUP_CONFIG`",
            Self::Server => {
                "the running server was started with this file: restore it, or name another with `--config`"
            }
        }
    }
}

/// The values from below the command line, by option name (`accept-terms`).
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

/// How [`Layers::explain`] begins.
pub(super) const COMES_FROM: &str = "the value comes from ";
/// What to do about a wrong value of a variable.
pub(super) const UNSET: &str = "correct or unset it";

/// The largest configuration file, in bytes.
const LIMIT: u64 = 1_000_000;
/// These options select the file, so the file cannot contain them.
const NOT_IN_FILE: [&str; 2] = ["home", "config"];
/// `route --model` names a hosted model; its variable is `GEMINI_MODEL`.
const FOR_THE_COMMAND_LINE: [(&str, &str); 1] = [("route", "model")];

impl Layers {
    /// Adds the values of the configuration file at `file`. A missing file is fine unless something names it. Paths in
    /// it are relative to its directory.
    pub(crate) fn add_file(
        &mut self,
        file: &Path,
        named_by: Option<NamedBy>,
        options: &Options,
    ) -> Result<(), Failure> {
        let Some(text) = read(file, named_by)? else {
            return Ok(());
        };
        let fault = |reason: String| {
            let message = format!("cannot use the configuration `{}`: {reason}", file.display());
            Failure::new(Kind::Usage, message).with_hint(format!(
                "correct or delete `{}`; its keys are the option names with `_` instead of `-`",
                file.display()
            ))
        };
        let table: toml::Table = toml::from_str(&text).map_err(|error| fault(toml_fault(&text, &error)))?;
        for (key, value) in &table {
            let name = key.replace('_', "-");
            if NOT_IN_FILE.contains(&name.as_str()) {
                let variable = variable_of(&name);
                let reason =
                    format!("`{key}` cannot be set here, because it selects this file: use `--{name}` or {variable}");
                return Err(fault(at_line(&text, key, &reason)));
            }
            let Some(known) = options.get(&name) else {
                return Err(fault(at_line(&text, key, &unknown_key(key, &name, options))));
            };
            if name == "scope" && value.as_str() == Some("system") {
                let reason = "`scope = \"system\"` would choose another home: use `--scope system` or GEM_SETUP_SCOPE";
                return Err(fault(at_line(&text, key, reason)));
            }
            if name != known.option && table.contains_key(&known.option.replace('-', "_")) {
                continue;
            }
            let values = values_in_file(key, value, known, file);
            let values = values.map_err(|reason| fault(at_line(&text, key, &reason)))?;
            let place = format!("`{key}` in `{}`", file.display());
            self.add(known, Origin::File, place, values);
        }
        Ok(())
    }

    /// Adds the values of environment variables.
    pub(crate) fn add_environment(&mut self, environment: &Environment, options: &Options) {
        for (name, known) in options.iter() {
            let variable = variable_of(name);
            let is_overridden = name != known.option && environment.var(&variable_of(&known.option)).is_some();
            if let Some(value) = environment.var(&variable).filter(|_| !is_overridden) {
                let place = format!("the variable `{variable}`");
                // A detached server, which inherits the variables, runs in another directory.
                let value = known.normalise(value, environment.current_dir());
                self.add(known, Origin::Environment, place, vec![value]);
            }
        }
    }

    /// Adds the options of the running server: `words` such as `--fast-path=0.9`.
    pub(crate) fn add_running(&mut self, words: &[String], options: &Options) {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for word in words.iter().filter_map(|word| word.strip_prefix("--")) {
            let (name, value) = word.split_once('=').unwrap_or((word, "true"));
            values.entry(name).or_default().push(value);
        }
        for (name, values) in values {
            let Some(known) = options.get(name) else { continue };
            let values = if known.is_count() {
                vec![values.len().to_string()]
            } else {
                values.into_iter().map(str::to_owned).collect()
            };
            self.add(known, Origin::Server, "the running server".to_owned(), values);
        }
    }

    fn add(&mut self, known: &Known, origin: Origin, place: String, values: Vec<String>) {
        let found = Found { origin, place, values };
        self.values.insert(known.option.clone(), found);
    }

    /// `command` with these values as its options' defaults.
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

    /// Finds two options of `command` that exclude each other. clap compares those of the command line; this finds
    /// pairs in which at least one comes from a source below it.
    pub(crate) fn contradiction(&self, command: &Command, matches: &ArgMatches) -> Option<Failure> {
        let (one, other, _) = self.clash(command, matches)?;
        let hints = [one, other].map(|arg| self.explain(arg.get_long()?));
        let failure = Failure::new(Kind::Usage, format!("`{one}` and `{other}` cannot be used together"));
        Some(match hints.into_iter().flatten().next() {
            Some(hint) => failure.with_hint(format!("leave one out; {hint}")),
            None => failure,
        })
    }

    /// If one of two conflicting options is in the configuration file, drops that one: all commands share the file, so it
    /// must not keep a command from another option. Returns `false` if there is no such value.
    pub(crate) fn leave_out_excluded(&mut self, command: &Command, matches: &ArgMatches) -> bool {
        let excluded = self.clash(command, matches).and_then(|(one, other, matches)| {
            let is_of_file = |arg: &&clap::Arg| self.origin_of(arg, matches) == Origin::File;
            let mut of_file = [one, other].into_iter().filter(is_of_file);
            let (excluded, second) = (of_file.next()?, of_file.next());
            excluded.get_long().filter(|_| second.is_none()).map(str::to_owned)
        });
        excluded.is_some_and(|name| self.values.remove(&name).is_some())
    }

    /// Two options that exclude each other, with the matches that contain them.
    fn clash<'c>(
        &self,
        command: &'c Command,
        matches: &'c ArgMatches,
    ) -> Option<(&'c clap::Arg, &'c clap::Arg, &'c ArgMatches)> {
        let given = |arg: &clap::Arg| self.is_given(arg, matches);
        let found = command.get_arguments().filter(|arg| given(arg)).find_map(|arg| {
            let others = command.get_arg_conflicts_with(arg);
            let other = others.into_iter().find(|other| given(other))?;
            Some((arg, other, matches))
        });
        found.or_else(|| {
            let (name, matches) = matches.subcommand()?;
            self.clash(command.find_subcommand(name)?, matches)
        })
    }

    fn origin_of(&self, arg: &clap::Arg, matches: &ArgMatches) -> Origin {
        let is_flag = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        let found = arg.get_long().and_then(|long| self.values.get(long));
        found.filter(|_| !is_flag).map_or(Origin::Flag, |found| found.origin)
    }

    /// Whether `arg` has a value from the command line or below. A switch that is off counts as not given.
    fn is_given(&self, arg: &clap::Arg, matches: &ArgMatches) -> bool {
        let id = arg.get_id().as_str();
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            return true;
        }
        let is_layered = arg.get_long().is_some_and(|long| self.values.contains_key(long));
        is_layered && (!is_switch(arg) || matches.get_one(id) == Some(&true))
    }

    /// The faults of values for options that are not in `matches`, those of one command, and that `command` or a subcommand has;
    /// without those of options that the command `reports` otherwise.
    pub(crate) fn unused_faults(
        &self,
        command: &Command,
        matches: &ArgMatches,
        reports: &dyn Fn(&str) -> bool,
    ) -> Vec<clap::Error> {
        let unused = self.values.iter().filter(|(name, _)| !reports(name));
        let unused = unused.filter(|(name, _)| matches.try_contains_id(&name.replace('-', "_")).is_err());
        let faults = unused.filter_map(|(name, found)| refused_by_all(command, name, &found.values));
        faults.collect()
    }

    /// The source of the option `name` in `matches`.
    pub(crate) fn origin(&self, matches: &ArgMatches, name: &str) -> Origin {
        if matches.value_source(&name.replace('-', "_")) == Some(ValueSource::CommandLine) {
            return Origin::Flag;
        }
        self.values.get(name).map_or(Origin::Default, |found| found.origin)
    }

    /// Whether the configuration file gives the option `name` exactly the value `value`.
    pub(crate) fn file_says(&self, name: &str, value: &str) -> bool {
        let found = self.values.get(name).filter(|found| found.origin == Origin::File);
        found.is_some_and(|found| found.values == [value])
    }

    /// The value that a variable or the configuration file gives the option `name`, whatever the command's options are.
    pub(crate) fn below<T: FromStr>(&self, name: &str) -> Option<T> {
        let found = self.values.get(name)?;
        let is_below = matches!(found.origin, Origin::Environment | Origin::File);
        let value = found.values.first().filter(|_| is_below)?;
        value.parse().ok()
    }

    /// The options in `matches` with a value from below the command line, but for switches that are off.
    pub(crate) fn given_below(&self, matches: &ArgMatches) -> Vec<GivenBelow> {
        let is_taken = |name: &str| {
            let id = name.replace('-', "_");
            matches.try_contains_id(&id).is_ok() && matches.value_source(&id) != Some(ValueSource::CommandLine)
        };
        let taken = self
            .values
            .iter()
            .filter(|(name, found)| is_taken(name) && found.values != ["false"]);
        let given = |(name, found): (&String, &Found)| GivenBelow {
            option: format!("--{name}"),
            values: found.values.clone(),
            place: found.place.clone(),
        };
        taken.map(given).collect()
    }

    /// The place of the value of the option `name`, and the values, from below the command line.
    pub(crate) fn found(&self, name: &str) -> Option<(&str, &[String])> {
        let found = self.values.get(name)?;
        Some((&found.place, &found.values))
    }

    /// Names the source of the option `name` for error messages; `None` for the command line.
    pub(crate) fn explain(&self, name: &str) -> Option<String> {
        let found = self.values.get(name)?;
        Some(format!("{COMES_FROM}{}", found.place))
    }

    /// What to do about a wrong value of the option `name`; `None` for the command line.
    pub(crate) fn remedy(&self, name: &str) -> Option<&'static str> {
        Some(match self.values.get(name)?.origin {
            Origin::Environment => UNSET,
            Origin::Server => "give another one with the command",
            Origin::Flag | Origin::File | Origin::Default => "correct it there",
        })
    }
}

/// The text of the configuration `file`; `None` if it is missing and nothing names it.
fn read(file: &Path, named_by: Option<NamedBy>) -> Result<Option<String>, Failure> {
    // A file from the command line may be a pipe, as with `--config <(…)`.
    let bytes = match named_by {
        Some(_) => place::read_given(file, LIMIT).map(Some),
        None => place::read_if_present(file),
    };
    let text = bytes.and_then(|bytes| bytes.map(place::text).transpose());
    text.map_err(|error| {
        let message = format!("cannot read the configuration `{}`: {error}", file.display());
        let hint = match named_by {
            Some(named_by) if error.kind() != std::io::ErrorKind::InvalidData => named_by.remedy().to_owned(),
            _ => place::remedy(file, &error),
        };
        Failure::new(Kind::Usage, message).with_hint(hint)
    })
}

/// `reason` behind the line of `text` that sets `key`, if it is found.
fn at_line(text: &str, key: &str, reason: &str) -> String {
    let sets_key = |line: &str| {
        let mut words = line.split(['=', '.', '[', ']', ' ', '\t', '"', '\'']);
        words.find(|word| !word.is_empty()) == Some(key)
    };
    match text.lines().position(sets_key) {
        Some(before) => format!("line {}: {reason}", before + 1),
        None => reason.to_owned(),
    }
}

fn unknown_key(key: &str, name: &str, options: &Options) -> String {
    let meant = options.closest(name).filter(|name| !NOT_IN_FILE.contains(name));
    match meant {
        Some(meant) => format!("unknown key `{key}`; did you mean `{}`?", meant.replace('-', "_")),
        None => format!("unknown key `{key}`"),
    }
}

/// The values of `key` in the configuration file `file`.
fn values_in_file(key: &str, value: &toml::Value, known: &Known, file: &Path) -> Result<Vec<String>, String> {
    let values = values_of(value).ok_or_else(|| format!("`{key}` has a value of the wrong type"))?;
    if values.len() != 1 && !known.takes_many() {
        return Err(format!("`{key}` takes one value, not {}", values.len()));
    }
    Ok(values
        .iter()
        .map(|value| known.normalise(value, file.parent().unwrap_or(file)))
        .collect())
}

/// Whether `values` can be values of `arg`: `--model` and `--runtime` take a name in most commands and are switches in
/// others. A name does not fit a switch.
fn fits(arg: &clap::Arg, values: &[String]) -> bool {
    let is_truth = values.iter().all(|value| value == "true" || value == "false");
    !is_switch(arg) || is_truth || !matches!(arg.get_long(), Some("model" | "runtime"))
}

/// Why no option `name` of `command` and its subcommands takes `values`; `None` if one does.
fn refused_by_all(command: &Command, name: &str, values: &[String]) -> Option<clap::Error> {
    let options = options_named(name, command);
    let options = options.into_iter().filter(|arg| fits(arg, values));
    let faults: Option<Vec<clap::Error>> = options.map(|arg| refusal(arg, values)).collect();
    faults?.into_iter().next()
}

fn options_named<'c>(name: &str, command: &'c Command) -> Vec<&'c clap::Arg> {
    let is_layered = !FOR_THE_COMMAND_LINE.contains(&(command.get_name(), name));
    let own = command
        .get_arguments()
        .filter(|arg| is_layered && arg.get_long() == Some(name));
    let others = command.get_subcommands().flat_map(|sub| options_named(name, sub));
    own.chain(others).collect()
}

/// Why `arg` does not take `values`, if it does not.
fn refusal(arg: &clap::Arg, values: &[String]) -> Option<clap::Error> {
    // Alone, it cannot refer to others.
    let arg = arg
        .clone()
        .conflicts_with(Resettable::Reset)
        .requires(Resettable::Reset);
    let alone = Command::new("gem-setup").arg(arg.default_values(values.to_vec()));
    alone.try_get_matches_from(["gem-setup"]).err()
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
