//! The supervisor against the stand-in runtime, as processes.

mod engine;
mod roles;
mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use gem_platform::process::{Identity, Program, identity, is_alive};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::layout::Layout;
use crate::runtime::{CommandLine, EngineActivity, EngineState, EngineStatus, ModelGate, ProgramCheck};

/// Nothing here takes so long unless it hangs.
const GUARD: Duration = Duration::from_secs(60);
const MODEL: &str = "gemma3-1b-gpu-custom";

/// A home of its own, with a stand-in whose behaviour can be changed while it runs.
struct Home {
    directory: TempDir,
    layout: Layout,
}

impl Home {
    fn new(behaviour: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path());
        let home = Self { directory, layout };
        home.behave(behaviour);
        home
    }

    fn behave(&self, behaviour: &str) {
        fs::write(self.control(), behaviour).unwrap();
    }

    fn control(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    fn trace(&self) -> String {
        fs::read_to_string(self.directory.path().join("trace")).unwrap_or_default()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.layout.log_file()).unwrap_or_default()
    }

    fn engine(&self) -> EngineConfig {
        EngineConfig {
            command: roles::stand_in()
                .env("STAND_IN_CONTROL", self.control())
                .env("STAND_IN_TRACE", self.directory.path().join("trace"))
                .into(),
            program_check: ProgramCheck::default(),
            model: MODEL.to_owned(),
            gate: ModelGate::of_builtin(MODEL),
            port: None,
            output: EngineOutput::All,
            guard: roles::guard(),
            activity: EngineActivity::default(),
            cpu_time: |_| None,
            health: HealthLimits {
                interval: Duration::from_millis(50),
                answer: Duration::from_millis(500),
                ..HealthLimits::default()
            },
            backoff: BackoffLimits {
                first: Duration::from_millis(10),
                cap: Duration::from_millis(50),
                loop_after: 3,
                ..BackoffLimits::default()
            },
            stop_grace: Duration::from_millis(300),
        }
    }

    /// Starts a supervisor inside the test.
    fn supervise(&self, engine: EngineConfig) -> Supervision {
        let log = Log::start(self.layout.log_file()).unwrap();
        let claim = Claim::acquire(&self.layout, &identity_of(9379), "gem-setup".as_ref(), &log).unwrap();
        let (sender, status) = watch::channel(EngineStatus::starting());
        let (shutdown, asked) = watch::channel(Shutdown::Running);
        let config = SuperviseConfig {
            claim: claim.into(),
            engine: Some(engine),
            log,
            service: None,
        };
        Supervision {
            status,
            shutdown,
            task: tokio::spawn(run(config, sender, asked.clone(), asked)),
        }
    }
}

fn identity_of(port: u16) -> ServerIdentity {
    ServerIdentity {
        port,
        runtime: "lit".to_owned(),
        model: MODEL.to_owned(),
        direct: false,
        options: None,
        given: Vec::new(),
        drain: Duration::ZERO,
        upstream: None,
    }
}

struct Supervision {
    status: watch::Receiver<EngineStatus>,
    shutdown: watch::Sender<Shutdown>,
    task: JoinHandle<()>,
}

impl Supervision {
    async fn until(&mut self, wanted: impl FnMut(&EngineStatus) -> bool) -> EngineStatus {
        timeout(GUARD, self.status.wait_for(wanted))
            .await
            .unwrap()
            .unwrap()
            .clone()
    }

    async fn until_ready(&mut self) -> EngineStatus {
        self.until(|status| status.state == EngineState::Ready).await
    }

    async fn end(self, how: Shutdown) {
        self.shutdown.send_replace(how);
        timeout(GUARD, self.task).await.unwrap().unwrap();
    }
}

fn process(status: &EngineStatus) -> Identity {
    identity(status.pid.unwrap()).unwrap()
}

async fn until_gone(process: &Identity) {
    let gone = async {
        while is_alive(process) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(GUARD, gone).await.unwrap();
}

impl Drop for Home {
    /// A test that fails leaves no detached server behind.
    fn drop(&mut self) {
        if let Ok(Running::Supervised(record)) = observe(&self.layout)
            && record.process.pid != std::process::id()
        {
            let _ = gem_platform::process::kill(&record.process);
        }
    }
}

/// Sends one request with a body to the engine and does not wait for the answer.
async fn send_request(status: &EngineStatus) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt;
    let mut stream = status.endpoint.as_ref().unwrap().connect().await.unwrap();
    let request =
        format!("POST /v1beta/models/{MODEL}:generateContent HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

fn this_program(role: &str) -> Program {
    let args = [role, "--exact", "--ignored", "--nocapture", "--"];
    Program {
        path: std::env::current_exe().unwrap(),
        args: args.iter().map(Into::into).collect(),
        ..Program::default()
    }
}

fn command_line(program: Program) -> CommandLine {
    let line = program
        .args
        .into_iter()
        .fold(CommandLine::new(program.path), CommandLine::arg);
    line.arg("serve").port_arg("--port=").arg("--verbose")
}
