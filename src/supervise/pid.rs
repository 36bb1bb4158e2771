//! The pid file, which Gemini CLI writes and reads too (docs/facts.md section 3).

use std::io;
use std::path::{Path, PathBuf};

use gem_platform::process::Identity;
use serde::{Deserialize, Serialize};

use super::files;
use crate::place::write_own;

/// The content of a pid file. Unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PidFile {
    /// The server's process id.
    pub pid: u32,
    /// The program that was started; `None` if the file contains only a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary_path: Option<PathBuf>,
    /// The port for clients; `None` if the file contains only a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// When the process was started. Gemini CLI does not write this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
}

/// The kind of process that a pid file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A server that gem-setup or Gemini CLI started.
    Ours,
    /// The server has ended, and its id belongs to another process.
    Stale,
    /// A process that is not known to be a server.
    Foreign,
}

impl PidFile {
    /// Parses a JSON object or a bare number from `text`; `None` if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(pid) = text.parse() {
            return Some(Self {
                pid,
                binary_path: None,
                port: None,
                start_time: None,
            });
        }
        serde_json::from_str(text).ok()
    }

    /// Reads `path`; `None` if there is no such file or its content is not a pid file's.
    ///
    /// # Errors
    /// When the file exists but cannot be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(files::read(path)?.as_deref().and_then(Self::parse))
    }

    /// Replaces `path`. A link is replaced itself, not the file that it leads to.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_own(path, &serde_json::to_vec(self)?)
    }

    /// Removes `path` if it names the process `pid` or is unreadable.
    ///
    /// # Errors
    /// When it cannot be read or removed.
    pub fn remove_if(path: &Path, pid: u32) -> io::Result<()> {
        match Self::read(path)? {
            Some(other) if other.pid != pid => Ok(()),
            _ => files::remove(path),
        }
    }

    /// Whether `process`, which has this file's pid, is the server that the file means. `is_locked` says whether a
    /// server holds the home's lock.
    ///
    /// A pid file alone proves nothing: any program can write one, and ids are reused. The command line must have the
    /// form that Gemini CLI requires (docs/facts.md section 3): the word `serve`, the port and the program. Only
    /// gem-setup's server writes a start time, and it holds the lock while it runs. Without the lock, such a file is
    /// stale.
    #[must_use]
    pub fn owner(&self, process: &Identity, is_locked: bool) -> Owner {
        match self.start_time {
            Some(start_time) if !is_locked || start_time != process.start_time => Owner::Stale,
            _ if self.is_command_line(&process.command) => Owner::Ours,
            _ => Owner::Foreign,
        }
    }

    /// Whether the command line `line` starts the server that the file names.
    fn is_command_line(&self, line: &[String]) -> bool {
        let (Some(binary), Some(port)) = (&self.binary_path, self.port) else {
            return false;
        };
        let serves = line.iter().any(|arg| arg == "serve");
        let has_port = line.contains(&format!("--port={port}"))
            || line
                .windows(2)
                .any(|pair| pair[0] == "--port" && pair[1] == port.to_string());
        // For a script the first word is its interpreter, so the program may be the second.
        let has_binary = line.iter().take(3).any(|arg| {
            let arg = Path::new(arg);
            arg == binary || (binary.file_name().is_some() && arg.file_name() == binary.file_name())
        });
        serves && has_port && has_binary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(command: &[&str]) -> Identity {
        Identity {
            pid: 7,
            start_time: 1000,
            command: command.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    #[test]
    fn both_forms_of_gemini_cli_are_read_and_unknown_keys_passed_over() {
        let object = PidFile::parse(r#"{"pid":7,"binaryPath":"/opt/lit","port":9379,"more":true}"#).unwrap();
        assert_eq!(object.pid, 7);
        assert_eq!(object.binary_path.as_deref(), Some(Path::new("/opt/lit")));
        assert_eq!(object.port, Some(9379));
        assert_eq!(PidFile::parse(" 4711\n").unwrap().pid, 4711);
        for nonsense in ["", "{", "-1", "null", r#"{"port":1}"#] {
            assert_eq!(PidFile::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_written_has_the_keys_that_gemini_cli_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tmp/litert-server.pid");
        let file = PidFile {
            pid: 7,
            binary_path: Some("/opt/gem-setup".into()),
            port: Some(9379),
            start_time: Some(1000),
        };
        file.write(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"pid": 7, "binaryPath": "/opt/gem-setup", "port": 9379, "startTime": 1000})
        );
        assert_eq!(PidFile::read(&path).unwrap(), Some(file));
    }

    #[test]
    fn a_pid_file_is_removed_only_by_the_process_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pid");
        std::fs::write(&path, "7").unwrap();
        PidFile::remove_if(&path, 8).unwrap();
        assert!(path.exists());
        PidFile::remove_if(&path, 7).unwrap();
        assert!(!path.exists());
        PidFile::remove_if(&path, 7).unwrap();
    }

    #[test]
    fn a_start_time_counts_only_under_the_lock() {
        let mut file = PidFile::parse(r#"{"pid":7,"binaryPath":"gem-setup","port":9379}"#).unwrap();
        file.start_time = Some(1000);
        let server = process(&["gem-setup", "serve", "--port=9379"]);
        assert_eq!(file.owner(&server, true), Owner::Ours);
        assert_eq!(file.owner(&server, false), Owner::Stale);
        assert_eq!(file.owner(&process(&["sleep", "60"]), true), Owner::Foreign);
        file.start_time = Some(999);
        assert_eq!(file.owner(&server, true), Owner::Stale);
    }

    #[test]
    fn without_a_start_time_the_command_line_must_name_serve_port_and_program() {
        let file = PidFile::parse(r#"{"pid":7,"binaryPath":"/opt/lit","port":9379}"#).unwrap();
        for ours in [
            ["/opt/lit", "serve", "--port=9379"].as_slice(),
            &["lit", "serve", "--verbose", "--port=9379"],
            &["/bin/sh", "/opt/lit", "serve", "--port=9379"],
            &["/opt/lit", "serve", "--port", "9379"],
        ] {
            assert_eq!(file.owner(&process(ours), false), Owner::Ours, "{ours:?}");
        }
        for foreign in [
            ["sleep", "60"].as_slice(),
            &["/opt/lit", "serve", "--port=93790"],
            &["/opt/lit", "list", "--port=9379"],
            &["/opt/other", "serve", "--port=9379"],
        ] {
            assert_eq!(file.owner(&process(foreign), false), Owner::Foreign, "{foreign:?}");
        }
        assert_eq!(
            PidFile::parse("7")
                .unwrap()
                .owner(&process(&["lit", "serve", "--port=9379"]), false),
            Owner::Foreign
        );
    }
}
