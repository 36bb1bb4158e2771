//! The processes that the tests need, played by the test program itself: ignored tests that are run by name.

use super::*;

/// The arguments after `--` on this process's command line.
fn arguments() -> Vec<String> {
    std::env::args().skip_while(|arg| arg != "--").skip(1).collect()
}

pub(super) fn stand_in() -> CommandLine {
    command_line(this_program("supervise::tests::roles::plays_the_stand_in"))
}

#[test]
#[ignore = "a process, not a test: `this_program` starts it for the tests of the supervisor"]
fn plays_the_stand_in() {
    let ended = gem_setup_support::stand_in::main(arguments());
    std::process::exit(i32::from(ended != std::process::ExitCode::SUCCESS));
}

pub(super) fn guard() -> Program {
    this_program("supervise::tests::roles::plays_the_guard")
}

#[test]
#[ignore = "a process, not a test: `this_program` starts it for the tests of the supervisor"]
fn plays_the_guard() {
    gem_platform::process::guard(std::io::stdin().lock());
}

const HOME: &str = "SUPERVISE_TEST_HOME";

/// A server of the home `directory` without a gateway.
pub(super) fn server(home: &Home, port: u16) -> Program {
    let mut program = command_line(this_program("supervise::tests::roles::plays_the_server")).at_port(port);
    program.env.push((HOME.into(), home.directory.path().into()));
    program
}

#[test]
#[ignore = "a process, not a test: `this_program` starts it for the tests of the supervisor"]
fn plays_the_server() {
    let directory = PathBuf::from(std::env::var_os(HOME).unwrap());
    let port = arguments()
        .iter()
        .find_map(|arg| arg.strip_prefix("--port=")?.parse().ok());
    let layout = Layout::new(&directory, &directory);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let log = Log::start(layout.log_file()).unwrap();
        let claim = Claim::acquire(&layout, &identity_of(port.unwrap()), "gem-setup".as_ref(), &log).unwrap();
        let (sender, _status) = watch::channel(EngineStatus::starting());
        let (_sender, shutdown) = on_signals(|_| {}).unwrap();
        let engine = EngineConfig {
            command: stand_in().env("STAND_IN_CONTROL", directory.join("control")).into(),
            program_check: ProgramCheck::default(),
            model: MODEL.to_owned(),
            gate: ModelGate::of_builtin(MODEL),
            port: None,
            output: EngineOutput::All,
            guard: guard(),
            activity: EngineActivity::default(),
            cpu_time: |_| None,
            health: HealthLimits::default(),
            backoff: BackoffLimits {
                first: Duration::from_millis(10),
                ..BackoffLimits::default()
            },
            stop_grace: STOP_GRACE,
        };
        let config = SuperviseConfig {
            claim: claim.into(),
            engine: Some(engine),
            log,
            service: None,
        };
        run(config, sender, shutdown.clone(), shutdown).await;
    });
}
