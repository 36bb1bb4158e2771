//! The commands of a runtime: the command line that starts its server, and any command as text.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use gem_platform::process::Program;

use super::surroundings::RUNTIME;

/// A runtime's `serve` command line without the port: each engine gets a new port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    program: PathBuf,
    args: Vec<Argument>,
    env: Vec<(OsString, OsString)>,
    edition: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    Fixed(OsString),
    Port { prefix: &'static str },
}

impl CommandLine {
    /// A command line with only the executable.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            edition: 0,
        }
    }

    /// The executable.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(Argument::Fixed(arg.into()));
        self
    }

    /// Adds the port as an argument, with `prefix` directly before it (such as `--port=`, or nothing).
    #[must_use]
    pub fn port_arg(mut self, prefix: &'static str) -> Self {
        self.args.push(Argument::Port { prefix });
        self
    }

    /// Sets a variable for the runtime.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Makes this command line differ from an equal one that uses other files: `edition` counts their changes.
    #[must_use]
    pub const fn edition(mut self, edition: u32) -> Self {
        self.edition = edition;
        self
    }

    /// The program that serves on `port`.
    #[must_use]
    pub fn at_port(&self, port: u16) -> Program {
        let args = self.args.iter().map(|arg| match arg {
            Argument::Fixed(text) => text.clone(),
            Argument::Port { prefix } => format!("{prefix}{port}").into(),
        });
        Program {
            path: self.program.clone(),
            args: args.collect(),
            env: self.env.clone(),
            inherit: RUNTIME,
            directory: None,
        }
    }
}

/// The command as a person would type it, with only the file name of the program.
pub(super) fn describe(program: &Program) -> String {
    let name = program.path.file_name().unwrap_or(program.path.as_os_str());
    let words = std::iter::once(name).chain(program.args.iter().map(OsString::as_os_str));
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_filled_in_where_it_belongs_and_nowhere_else() {
        let line = CommandLine::new("/opt/lit")
            .arg("serve")
            .port_arg("--port=")
            .arg("--verbose");
        assert_eq!(line.at_port(41).args, ["serve", "--port=41", "--verbose"]);
        assert_eq!(line.at_port(42).args, ["serve", "--port=42", "--verbose"]);
    }
}
