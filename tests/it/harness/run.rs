//! One run of gem-setup, and its result.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The limit for a run; only a hanging one takes longer.
const HANG: Duration = Duration::from_secs(120);

/// A prepared run.
pub(crate) struct Gem {
    command: Command,
    input: Option<String>,
}

impl Gem {
    pub(crate) fn new(mut command: Command) -> Self {
        default_signals(&mut command);
        Self { command, input: None }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(passed_on(name), value);
        self
    }

    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }

    /// The same as the leader of a session with its standard input as the terminal.
    #[cfg(target_os = "linux")]
    pub(crate) fn with_terminal(self) -> Self {
        self.under(&["setsid", "--ctty"])
    }

    /// The same in a session without a terminal.
    #[cfg(target_os = "linux")]
    pub(crate) fn without_terminal(self) -> Self {
        self.under(&["setsid", "--wait"])
    }

    /// The same, run by another program: the command follows `words` as arguments.
    #[cfg(target_os = "linux")]
    pub(crate) fn under(self, words: &[&str]) -> Self {
        let given = self.command;
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg(given.get_program())
            .args(given.get_args());
        for (name, value) in given.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(given.get_current_dir().unwrap());
        default_signals(&mut command);
        Self { command, ..self }
    }

    /// The command itself, to be run in another way.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Starts the run and leaves it to the caller.
    pub(crate) fn spawn(&mut self) -> Child {
        let stdin = if self.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let command = self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        loop {
            match command.spawn() {
                // A process of another test holds the file that was just written open, between its fork and its exec.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(5)),
                spawned => return spawned.unwrap(),
            }
        }
    }

    /// Runs to the end.
    #[track_caller]
    pub(crate) fn run(mut self) -> Run {
        let mut child = self.spawn();
        if let Some(input) = &self.input {
            // A program that does not read its input closes it.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        }
        finish(child)
    }

    /// Runs to the end, which must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Run {
        self.ends(0)
    }

    /// Runs to the end, which must have this exit status.
    #[track_caller]
    pub(crate) fn ends(self, status: i32) -> Run {
        let run = self.run();
        assert_eq!(run.status, status, "{run:#?}");
        run
    }
}

/// The name under which gem-setup passes a variable to a runtime: the stand-in's variables are options of `lit`.
pub(super) fn passed_on(name: &str) -> String {
    if name.starts_with("STAND_IN_") {
        format!("LIT_{name}")
    } else {
        name.to_owned()
    }
}

/// Resets the actions for signals in the program that `command` starts: `nohup` and background jobs of scripts leave some signals ignored.
#[cfg(unix)]
fn default_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let reset = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            #[expect(unsafe_code, reason = "there is no safe way to reset a signal's action")]
            // SAFETY: the call is async-signal-safe and sets no handler.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "the actions must be changed in the child alone, between fork and exec"
    )]
    // SAFETY: the closure does not allocate, and makes only async-signal-safe calls.
    unsafe {
        command.pre_exec(reset);
    }
}

#[cfg(windows)]
const fn default_signals(_command: &mut Command) {}

/// Waits for the end of `child` and of both its streams.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Run {
    let stdout = read_aside(child.stdout.take().unwrap());
    let stderr = read_aside(child.stderr.take().unwrap());
    let deadline = Instant::now() + HANG;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("gem-setup hangs; it said:\n{}", stderr.recv().unwrap());
        }
        thread::sleep(Duration::from_millis(2));
    };
    // A server in the background that keeps these pipes open would be a fault too.
    let left = deadline.saturating_duration_since(Instant::now());
    Run {
        status: status.code().unwrap_or(-1),
        stdout: stdout.recv_timeout(left).unwrap(),
        stderr: stderr.recv_timeout(left).unwrap(),
    }
}

fn read_aside(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        tell.send(String::from_utf8_lossy(&bytes).replace("\r\n", "\n"))
    });
    told
}

/// The result and output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output as one JSON value, without other text.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Standard output as JSON lines, without other text.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: `{line}` in {self:#?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The id and state of each step event, in order.
    #[track_caller]
    pub(crate) fn steps(&self) -> Vec<(String, String)> {
        let events = self.events();
        let steps = events.iter().filter(|event| event["event"] == "step");
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        steps.map(|event| (text(event, "id"), text(event, "state"))).collect()
    }

    /// The state of the step `id`.
    #[track_caller]
    pub(crate) fn step(&self, id: &str) -> String {
        let found = self.steps().into_iter().find(|(step, _)| step == id);
        found.unwrap_or_else(|| panic!("no step `{id}` in {self:#?}")).1
    }

    /// The result event, which must be the last event.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        let last = self.events().pop().unwrap_or_else(|| panic!("no events: {self:#?}"));
        assert_eq!(last["event"], "result", "{self:#?}");
        last
    }

    /// The changed parts in the result event.
    #[track_caller]
    pub(crate) fn changed(&self) -> Vec<String> {
        let result = self.result();
        let ids = result["changed"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// The failed checks of `doctor --json`.
    #[track_caller]
    pub(crate) fn faults(&self) -> Vec<String> {
        let report = self.json();
        let checks = report["checks"].as_array().unwrap().iter();
        let failed = checks.filter(|check| check["status"] == "fail");
        failed.map(|check| check["id"].as_str().unwrap().to_owned()).collect()
    }

    /// One check of `doctor --json`.
    #[track_caller]
    pub(crate) fn check(&self, id: &str) -> Value {
        let report = self.json();
        let mut checks = report["checks"].as_array().unwrap().iter();
        let found = checks.find(|check| check["id"] == id);
        found.unwrap_or_else(|| panic!("no check `{id}` in {self:#?}")).clone()
    }
}
