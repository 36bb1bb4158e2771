//! Programs to run, and running processes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Which of this process's variables a child inherits. Names are compared without regard to case. A name that ends with
/// `*` matches every name with this prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inherit {
    /// All of them.
    #[default]
    All,
    /// Only these.
    Only(&'static [&'static [&'static str]]),
}

impl Inherit {
    /// Whether the variable `name` is inherited.
    #[must_use]
    pub fn passes(self, name: &OsStr) -> bool {
        let name = name.to_string_lossy().to_ascii_uppercase();
        let is_in = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, &name));
        match self {
            Self::All => true,
            Self::Only(lists) => lists.iter().any(|list| is_in(list)),
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// A program with its arguments and its environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The path of the executable.
    pub path: PathBuf,
    /// The arguments, without the program's own name.
    pub args: Vec<OsString>,
    /// Variables that are set for the program.
    pub env: Vec<(OsString, OsString)>,
    /// Variables of this process that the program inherits.
    pub inherit: Inherit,
    /// The directory in which the program runs, if not in this process's.
    pub directory: Option<PathBuf>,
}

impl Program {
    /// The command that starts this program.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args);
        for name in self.withheld() {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        } else if std::env::current_dir().is_err() {
            // Python and shells fail in a deleted directory.
            command.current_dir(std::env::temp_dir());
        }
        command
    }

    /// The values of those of this process's variables `names` that the program inherits, without empty ones.
    #[must_use]
    pub fn inherited(&self, names: &[&str]) -> Vec<String> {
        let inherited = names.iter().filter(|name| self.inherit.passes(OsStr::new(name)));
        let values = inherited.filter_map(|name| std::env::var(name).ok());
        values.filter(|value| !value.is_empty()).collect()
    }

    /// The names of this process's variables that the program does not inherit.
    pub fn withheld(&self) -> impl Iterator<Item = OsString> + use<> {
        let inherit = self.inherit;
        std::env::vars_os()
            .map(|(name, _)| name)
            .filter(move |name| !inherit.passes(name))
    }
}

/// The identity of a process, distinct from a later process with the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// The start time in a unit of the system; it is only compared for equality.
    pub start_time: u64,
    /// The command line, beginning with the program; invalid bytes are replaced.
    pub command: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_passes_its_own_names_alone() {
        let inherit = Inherit::Only(&[&["HOME"], &["LC_*"]]);
        for (name, passes) in [("HOME", true), ("LC_ALL", true), ("HOMEX", false), ("PATH", false)] {
            assert_eq!(inherit.passes(OsStr::new(name)), passes, "{name}");
        }
    }
}
