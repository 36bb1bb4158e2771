//! A runtime that Gemini CLI started without gem-setup.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::{Home, program, wait_until};

/// The runtime on the home's port, recorded in Gemini CLI's pid file; killed on drop.
pub(crate) struct Bare(pub(crate) Child);

impl Bare {
    /// Starts the stand-in with additional `variables` and waits until it listens.
    pub(crate) fn start(home: &Home, variables: &[(&str, &str)]) -> Self {
        let child = Command::new(program())
            .args(["serve", &format!("--port={}", home.port), "--verbose"])
            .env("HOME", home.path())
            .env("USERPROFILE", home.path())
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the runtime listens", || {
            TcpStream::connect(("127.0.0.1", home.port)).is_ok()
        });
        let file = json!({"pid": child.id(), "binaryPath": program(), "port": home.port});
        home.write(&home.layout().pid_file(), &file.to_string());
        Self(child)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
