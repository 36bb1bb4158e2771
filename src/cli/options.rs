//! The options of all commands by name, for values from the environment and the configuration file.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use gem_platform::Target;

use super::values::KeyOrFile;

const NOT_LAYERED: [&str; 2] = ["help", "version"];
const PREFIX: &str = "GEM_SETUP_";

/// The options by name and alias, such as `accept-terms` and `consent`.
pub(crate) struct Options(BTreeMap<String, Known>);

/// An option, found by one of its names.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The main name.
    pub(crate) option: String,
    shape: Shape,
    paths: Paths,
}

/// Where the option's value has a path.
#[derive(Clone, Copy, Debug)]
enum Paths {
    None,
    Whole,
    /// Behind `=`.
    AfterName,
    /// The whole value, if there is such a file.
    OrKey,
}

/// The form in which clap expects the option's value.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Switch,
    Count,
    Value,
    Many,
}

impl Options {
    /// The options of `command` and its subcommands, without hidden options, with which gem-setup calls itself.
    pub(crate) fn of(command: &Command) -> Self {
        let mut names = BTreeMap::new();
        add(command, &mut names);
        Self(names)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Known> {
        self.0.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Known)> {
        self.0.iter().map(|(name, known)| (name.as_str(), known))
    }

    /// The name most similar to `name`, if one is similar enough.
    pub(crate) fn closest(&self, name: &str) -> Option<&str> {
        let likeness = |known: &str| strsim::jaro_winkler(name, known);
        let names = self.0.keys().map(String::as_str);
        let closest = names.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
        (likeness(closest) > 0.85).then_some(closest)
    }

    /// Variables with gem-setup's prefix that set no option, each with the variable that was probably meant.
    pub(crate) fn unknown_variables<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = (&'a str, Option<String>)> {
        names.filter_map(|variable| {
            let name = variable.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-");
            let is_known = self.0.contains_key(&name) && variable == variable_of(&name);
            (!is_known).then(|| (variable, self.closest(&name).map(variable_of)))
        })
    }
}

impl Known {
    /// Whether the option's value is the number of its repetitions.
    pub(crate) const fn is_count(&self) -> bool {
        matches!(self.shape, Shape::Count)
    }

    /// Whether the option takes several values.
    pub(crate) const fn takes_many(&self) -> bool {
        matches!(self.shape, Shape::Many)
    }

    /// `value` in clap's form; a relative path is resolved against `directory`.
    pub(crate) fn normalise(&self, value: &str, directory: &Path) -> String {
        match (self.shape, truth_of(value)) {
            (Shape::Switch, Some(truth)) => truth.to_string(),
            (Shape::Count, Some(truth)) => u8::from(truth).to_string(),
            // A URL stays one, so that its parser refuses it; `-` is standard input.
            _ if value != "-" && !value.contains("://") => self.resolved(value, directory),
            _ => value.to_owned(),
        }
    }

    /// `value` with its path resolved against `directory`.
    fn resolved(&self, value: &str, directory: &Path) -> String {
        let join = |path: &str| directory.join(path).to_string_lossy().into_owned();
        match (self.paths, value.split_once('=')) {
            (Paths::Whole, _) => join(value),
            (Paths::AfterName, Some((name, path))) => format!("{name}={}", join(path)),
            (Paths::OrKey, _) if directory.join(value).is_file() => join(value),
            _ => value.to_owned(),
        }
    }
}

fn add(command: &Command, names: &mut BTreeMap<String, Known>) {
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long().filter(|long| !NOT_LAYERED.contains(long)) else {
            continue;
        };
        let known = Known {
            option: long.to_owned(),
            shape: shape_of(arg),
            paths: paths_of(arg),
        };
        let aliases = arg.get_all_aliases().unwrap_or_default();
        for name in std::iter::once(long).chain(aliases) {
            names.insert(name.replace('_', "-"), known.clone());
        }
    }
    for sub in command.get_subcommands() {
        add(sub, names);
    }
}

fn shape_of(arg: &Arg) -> Shape {
    match arg.get_action() {
        _ if is_switch(arg) => Shape::Switch,
        ArgAction::Count => Shape::Count,
        ArgAction::Append => Shape::Many,
        _ => Shape::Value,
    }
}

/// Whether the option `arg` is on or off.
pub(crate) fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

fn paths_of(arg: &Arg) -> Paths {
    let values = arg.get_value_parser().type_id();
    match () {
        () if is_path(arg) => Paths::Whole,
        () if values == TypeId::of::<(Target, PathBuf)>() => Paths::AfterName,
        () if values == TypeId::of::<KeyOrFile>() => Paths::OrKey,
        () => Paths::None,
    }
}

/// Whether the option `arg` names a file or a directory.
pub(crate) fn is_path(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<PathBuf>()
}

/// The variable for the option `name`.
pub(crate) fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase().replace('-', "_"))
}

/// Whether `value` switches a switch on.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn every_path_is_relative_to_a_given_directory() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        std::fs::write(at("key.pub"), "RW").unwrap();
        let options = Options::of(&Cli::command());
        let normalised = |name: &str, value: &str| options.get(name).unwrap().normalise(value, directory.path());
        assert_eq!(normalised("models", "m.toml"), at("m.toml"));
        assert_eq!(
            normalised("program", "linux-x86_64=g"),
            format!("linux-x86_64={}", at("g"))
        );
        assert_eq!(normalised("public-key", "key.pub"), at("key.pub"));
        assert_eq!(normalised("public-key", "RWQf6LRC"), "RWQf6LRC");
        assert_eq!(normalised("mirror", "file:///m"), "file:///m");
        assert_eq!(normalised("direct", "off"), "false");
    }
}
