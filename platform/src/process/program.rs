//! Programs to run, and processes that run.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Which of this process's variables a child inherits. Names are compared without regard to case; one that ends with `*` stands
/// for every name that begins so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inherit {
    /// All of them.
    #[default]
    All,
    /// The named ones alone.
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
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Variables that are set for it.
    pub env: Vec<(OsString, OsString)>,
    /// Which of ours it inherits.
    pub inherit: Inherit,
}

impl Program {
    /// The command that runs it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args);
        for name in self.withheld() {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The names of our variables that it does not inherit.
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
    /// When it was started, in a unit of the system's own: only equality means anything.
    pub start_time: u64,
    /// Its command line, the program first; parts that are not text are shown with replacement characters.
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
