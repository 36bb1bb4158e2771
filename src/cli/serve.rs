//! `serve`: the supervisor and the gateway, in the foreground.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gem_platform::process::Program;
use gem_setup::error::{Failure, Kind};
use gem_setup::gateway::{ChainRouter, ClassifierPrompt, Config, Gateway, GatewayError, OnClassifierFailure, Upstream};
use gem_setup::net::Network;
use gem_setup::router::consent::TellClient;
use gem_setup::router::walk::OnFallback;
use gem_setup::router::{ClassifierChoice, ModelAvailability};
use gem_setup::runtime::{EngineActivity, EngineState, EngineStatus, Runtime, RuntimeName};
use gem_setup::setup::{Chosen, FOREGROUND, GUARD};
use gem_setup::sha256::{Hasher, Sha256};
use gem_setup::supervise::{
    self, BackoffLimits, ChildOutput, Claim, ClaimError, EngineConfig, HealthLimits, Log, LogLimits, STOP_GRACE,
    ServerIdentity, ServiceManager, Shutdown, SuperviseConfig,
};
use tokio::sync::{Notify, watch};

use super::args::{ClassifierFailureChoice, ClassifierPromptChoice, FallbackChoice, ServeArgs};
use super::session::{Session, runtime_of};
use super::{control, program, route};
use crate::report::{Printer, signals};

/// A killed child is gone within this time.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// More threads than these serve no connections: passing on is little work beside answering.
const MOST_THREADS: usize = 4;

/// What the server is to be: as the options say, else as installed.
pub(crate) fn identity(session: &Session<'_>, args: &ServeArgs) -> Result<ServerIdentity, Failure> {
    let choices = choices(session, args)?;
    Ok(ServerIdentity {
        port: choices.port,
        runtime: choices.runtime.to_string(),
        model: choices.model.into(),
        direct: choices.direct,
        options: Some(digest(&gateway_options(session, args))),
    })
}

/// What stands for `words` where they must not be shown.
fn digest(words: &[OsString]) -> Sha256 {
    let mut hasher = Hasher::default();
    for word in words {
        hasher.update(word.as_encoded_bytes());
        hasher.update(&[0]);
    }
    hasher.finish()
}

/// Every option of the gateway that the server's identity does not hold, spelled out.
fn gateway_options(session: &Session<'_>, args: &ServeArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![
        format!("--upstream={}", args.upstream).into(),
        format!("--classifier-deadline={}", args.classifier_deadline).into(),
        format!("--on-classifier-failure={}", name_of(args.on_classifier_failure)).into(),
        format!("--classifier-prompt={}", name_of(args.classifier_prompt)).into(),
        format!("--on-fallback={}", name_of(args.on_fallback)).into(),
        format!("--max-retry-wait={}", args.max_retry_wait).into(),
        format!("--threshold={}", args.threshold).into(),
    ];
    words.extend(args.listen.iter().map(|address| format!("--listen={address}").into()));
    words.extend(
        args.fast_path
            .map(|probability| format!("--fast-path={probability}").into()),
    );
    for (flag, value) in [("--models", &args.models), ("--ca-cert", &args.ca_cert)] {
        if let Some(path) = value {
            words.extend([flag.into(), session.environment.current_dir().join(path).into()]);
        }
    }
    for (flag, wanted) in [
        ("--allow-remote", args.allow_remote),
        ("--log-requests", args.log_requests),
    ] {
        words.extend(wanted.then(|| OsString::from(flag)));
    }
    words
}

fn choices(session: &Session<'_>, args: &ServeArgs) -> Result<Chosen, Failure> {
    let mut choices = session.state()?.chosen.clone();
    if let Some(port) = args.port {
        choices.port = port;
    }
    if let Some(runtime) = args.runtime {
        let catalog = session.catalog(choices.catalog.as_ref())?;
        choices.runtime = runtime_of(runtime, &catalog, session.target()?);
    }
    if let Some(model) = &args.model {
        choices.model.clone_from(model);
    }
    choices.direct |= args.direct;
    Ok(choices)
}

/// The command line of the same server in the background, with every option spelled out: Gemini CLI recognises it by the
/// word `serve` and by `--port=N` (docs/facts.md section 3).
pub(crate) fn command(session: &Session<'_>, args: &ServeArgs) -> Result<Program, Failure> {
    let server = identity(session, args)?;
    let mut line: Vec<OsString> = vec![
        "serve".into(),
        format!("--port={}", server.port).into(),
        FOREGROUND.into(),
        "--home".into(),
        session.layout.home().into(),
        format!("--runtime={}", server.runtime).into(),
        format!("--model={}", server.model).into(),
    ];
    line.extend(gateway_options(session, args));
    if let Some(config) = &session.config {
        line.extend(["--config".into(), config.into()]);
    }
    for (flag, wanted) in [("--direct", server.direct), ("--quiet", session.printer.quiet())] {
        line.extend(wanted.then(|| OsString::from(flag)));
    }
    line.extend((0..session.verbose).map(|_| OsString::from("--verbose")));
    Ok(Program {
        path: session.program()?,
        args: line,
        env: Vec::new(),
    })
}

fn name_of(choice: impl clap::ValueEnum) -> String {
    choice
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Finds what would keep a server of these options from being what they say.
pub(crate) fn check(session: &Session<'_>, args: &ServeArgs) -> Result<(), Failure> {
    let server = identity(session, args)?;
    if !server.direct {
        Gateway::check(&gateway_config(session, args, &server)?)?;
    }
    Ok(())
}

/// Whether a runtime that listens on the port itself has its model: no gateway keeps requests from it.
pub(crate) async fn check_direct(session: &Session<'_>, args: &ServeArgs) -> Result<(), Failure> {
    let choices = choices(session, args)?;
    let runtime = runtime(session, args)?;
    if !choices.direct || runtime.program().is_none_or(|program| !program.exists()) {
        return Ok(());
    }
    let Some(gate) = session.recorded_site()?.gate(&choices, session.state()?)? else {
        return Ok(());
    };
    gate.open().await.map_err(|closed| {
        let failure = Failure::of(&closed);
        let message = format!("cannot serve without a gateway: {}", failure.message);
        Failure { message, ..failure }
    })
}

/// As [`check`] and [`check_direct`], and whether the runtime is there.
pub(crate) fn check_all(session: &Session<'_>, args: &ServeArgs) -> Result<(), Failure> {
    check(session, args)?;
    session.block_on(check_direct(session, args))?;
    let runtime = runtime(session, args)?;
    engine(session, args, runtime.as_ref(), &identity(session, args)?).map(drop)
}

/// Serves until a signal ends it, or starts the server in the background with `--detach`.
pub(crate) fn run(session: &Session<'_>, args: ServeArgs) -> Result<ExitCode, Failure> {
    if args.detach && !args.foreground {
        return control::start(session, args);
    }
    let server = identity(session, &args)?;
    if !session.is_named_by_port(server.port) {
        // Gemini CLI stops a server only if it finds the port on its command line (docs/facts.md section 3).
        gem_platform::process::become_program(&command(session, &args)?)
            .map_err(|error| Failure::new(Kind::Unexpected, format!("cannot start the server: {error}")))?;
    }
    let runtime = runtime(session, &args)?;
    session.block_on(check_direct(session, &args))?;
    let mut gateway = if server.direct {
        None
    } else {
        Some(gateway_config(session, &args, &server)?)
    };
    let log = Log::start(session.layout.log_file(), LogLimits::default())
        .map_err(|error| Failure::new(Kind::Unexpected, format!("cannot start the log's thread: {error}")))?;
    log_events(&log, session.verbose);
    let claim = match Claim::acquire(&session.layout, &server, &session.program()?, &log) {
        Ok(claim) => Arc::new(claim),
        Err(error) => return already_served(session, error),
    };
    let engine = engine(session, &args, runtime.as_ref(), &server)?;
    if let Some(gateway) = &mut gateway {
        gateway.instance = claim.instance();
        gateway.gate = engine.as_ref().map(|engine| Arc::clone(&engine.gate));
    }
    let config = SuperviseConfig {
        claim: Arc::clone(&claim),
        engine,
        log,
        service: ServiceManager::find(&session.environment),
    };
    let port = server.port;
    // Connections have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                Kind::Unexpected,
                format!("cannot start the asynchronous runtime: {error}"),
            )
        })?;
    signals::leave_to_server();
    let served = runtime.block_on(serve(config, gateway, port, session.printer));
    drop(runtime);
    // Not before the last open request: until then another server could not have the port.
    drop(claim);
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Brings the gateway up, then the engine behind it; takes both down when a signal says so.
async fn serve(
    mut config: SuperviseConfig,
    gateway: Option<Config>,
    port: u16,
    printer: &Printer,
) -> Result<(), Failure> {
    let (status, engine) = watch::channel(EngineStatus::starting());
    let log = config.log.clone();
    let source: Arc<str> = "gem-setup".into();
    let (end, shutdown) = supervise::on_signals(move |signal| log.line(&source, format!("stopping on {signal}")))
        .map_err(|error| Failure::new(Kind::Unexpected, format!("cannot listen for signals: {error}")))?;
    let asked_to_end = gateway.as_ref().map(|gateway| Arc::clone(&gateway.asked_to_end));
    tokio::spawn(end_on_request(
        Arc::clone(&config.claim),
        asked_to_end.unwrap_or_default(),
        config.log.clone(),
        end,
    ));
    let Some(gateway) = gateway else {
        if is_taken(port).await {
            return Err(ClaimError::port_taken(port).into());
        }
        tokio::join!(
            supervise::run(config, status, shutdown),
            tell_readiness(engine, port, printer)
        );
        return Ok(());
    };
    let gateway = Gateway::bind(gateway).await.map_err(|error| match error {
        GatewayError::PortTaken { .. } => ClaimError::port_taken(port).into(),
        other => Failure::from(other),
    })?;
    let has_engine = config.engine.is_some();
    if let Some(engine) = &mut config.engine {
        engine.activity = gateway.activity();
    }
    let addresses: Vec<String> = gateway.addresses().iter().map(|at| format!("http://{at}")).collect();
    printer.remark(&format!("listening on {}", addresses.join(" and ")));
    if !has_engine {
        printer.remark(&format!("ready on port {port}"));
    }
    let telling = async {
        if has_engine {
            tell_readiness(engine.clone(), port, printer).await;
        }
    };
    let mut asked_to_end = shutdown.clone();
    let answering = gateway.run(has_engine.then(|| engine.clone()), async move {
        supervise::reached(&mut asked_to_end, Shutdown::Graceful).await;
    });
    let mut asked_again = shutdown.clone();
    // A gateway that fails leaves the supervisor nothing to do: dropping it ends the child.
    let answering = async { answering.await.map_err(Failure::from) };
    let supervising = async {
        tokio::join!(supervise::run(config, status, shutdown), telling);
        Ok(())
    };
    let both = async { tokio::try_join!(supervising, answering) };
    let mut both = std::pin::pin!(both);
    tokio::select! {
        both = &mut both => both.map(|_| ()),
        // Open requests are not waited for; the child is killed within the supervisor's next breath.
        () = supervise::reached(&mut asked_again, Shutdown::Immediate) => {
            let _ = tokio::time::timeout(LAST_BREATH, both).await;
            Ok(())
        }
    }
}

/// Ends the server when a client that may do so asks for it, or when nobody could find the server any more.
async fn end_on_request(claim: Arc<Claim>, asked_to_end: Arc<Notify>, log: Log, end: watch::Sender<Shutdown>) {
    let reason = tokio::select! {
        () = asked_to_end.notified() => "stopping on a request over the port",
        () = claim.displaced() => "stopping: the lock file of this server was deleted, so no command would find it",
    };
    // The claim must not outlast the server.
    drop(claim);
    log.line(&"gem-setup".into(), reason.to_owned());
    supervise::ask_to_shut_down(&end, Shutdown::Graceful);
    end.closed().await;
}

/// Says once that the runtime is ready, if it ever is, and what it lacks as often as it is started.
async fn tell_readiness(mut engine: watch::Receiver<EngineStatus>, port: u16, printer: &Printer) {
    loop {
        let changed = engine.wait_for(|status| matches!(status.state, EngineState::Ready | EngineState::Blocked));
        let Ok(blocked) = changed.await.map(|status| status.blocked.clone()) else {
            return;
        };
        let Some(missing) = blocked else {
            return printer.remark(&format!("ready on port {port}"));
        };
        printer.remark(&without_model(&missing));
        if engine
            .wait_for(|status| status.state != EngineState::Blocked)
            .await
            .is_err()
        {
            return;
        }
    }
}

/// What a person is told while the engine waits for what is `missing`.
pub(crate) fn without_model(missing: &str) -> String {
    format!("the built-in classifier answers until the model can: {missing}")
}

/// Whether somebody else listens on `port`: the runtime could only fail again and again.
async fn is_taken(port: u16) -> bool {
    let bound = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
    matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
}

/// What the gateway and its like have to say goes into the server's log: standard error may be a log file that has been
/// rotated away.
fn log_events(log: &Log, verbose: u8) {
    let log = log.clone();
    let source: Arc<str> = "gem-setup".into();
    let level = match verbose {
        0 | 1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .with_writer(move || log.writer(&source))
        .finish();
    // It fails only where there is one already, and nobody else sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The gateway as the options say; the upstream's choices are made by a router over the same models as `route`.
fn gateway_config(session: &Session<'_>, args: &ServeArgs, server: &ServerIdentity) -> Result<Config, Failure> {
    let recorded = session.state()?.chosen.ca_cert.clone();
    let ca_cert = args.ca_cert.clone().or(recorded);
    let ca_cert = ca_cert.map(|file| session.environment.current_dir().join(file));
    let network = Network::from_environment(&session.environment, ca_cert)?;
    let upstream = Upstream {
        url: args.upstream.clone(),
        network,
    };
    let mut config = Config::new(
        server.port,
        server.model.as_str(),
        upstream,
        session.layout.decisions_file(),
    );
    if !args.listen.is_empty() {
        config.listen.clone_from(&args.listen);
    }
    config.threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
    config.allow_remote = args.allow_remote;
    config.runtime.clone_from(&server.runtime);
    config.classifier_deadline = Duration::from_secs_f64(args.classifier_deadline);
    config.on_classifier_failure = match args.on_classifier_failure {
        ClassifierFailureChoice::Builtin => OnClassifierFailure::Builtin,
        ClassifierFailureChoice::Error => OnClassifierFailure::Error,
    };
    config.classifier_prompt = match args.classifier_prompt {
        ClassifierPromptChoice::Slim => ClassifierPrompt::Slim,
        ClassifierPromptChoice::AsSent => ClassifierPrompt::AsSent,
    };
    config.fast_path = args.fast_path;
    config.threshold = args.threshold;
    config.log_requests = args.log_requests;
    config.router = Some(Arc::new(chain_router(session, args, server)?));
    Ok(config)
}

fn chain_router(session: &Session<'_>, args: &ServeArgs, server: &ServerIdentity) -> Result<ChainRouter, Failure> {
    let models = route::models(session, args.models.as_ref())?;
    let is_builtin = server.runtime == RuntimeName::Builtin.as_str();
    let on_fallback = match args.on_fallback {
        FallbackChoice::Policy => OnFallback::Policy,
        FallbackChoice::Silent => OnFallback::Silent,
        FallbackChoice::Never => OnFallback::Never,
        FallbackChoice::Ask => OnFallback::Ask,
    };
    Ok(ChainRouter {
        models,
        availability: Arc::new(ModelAvailability::new()),
        classifier: if is_builtin {
            ClassifierChoice::Builtin
        } else {
            ClassifierChoice::Model
        },
        on_fallback,
        consent: Arc::new(TellClient),
        max_wait: Duration::from_secs_f64(args.max_retry_wait),
    })
}

/// Somebody serves already: that is fine if it is what was asked for, unless a service manager waits for this very process.
fn already_served(session: &Session<'_>, error: ClaimError) -> Result<ExitCode, Failure> {
    let Some(record) = error.as_asked() else {
        return Err(error.into());
    };
    if ServiceManager::find(&session.environment).is_some() {
        return Err(Failure::from(error).with_hint(
            "run `gem-setup service install`, which hands the server over to the service, or `gem-setup stop` first",
        ));
    }
    session.printer.remark(&format!(
        "the server runs already as asked: pid {}, port {}",
        record.process.pid, record.server.port
    ));
    Ok(ExitCode::SUCCESS)
}

fn runtime(session: &Session<'_>, args: &ServeArgs) -> Result<Box<dyn Runtime>, Failure> {
    let site = session.recorded_site()?;
    site.runtime(&choices(session, args)?, session.state()?)
}

fn engine(
    session: &Session<'_>,
    args: &ServeArgs,
    runtime: &dyn Runtime,
    server: &ServerIdentity,
) -> Result<Option<EngineConfig>, Failure> {
    let Some(command) = runtime.serve() else {
        return Ok(None);
    };
    if let Some(program) = runtime.program().filter(|program| !program.exists()) {
        let message = format!(
            "cannot serve with `{}`: `{}` is missing",
            runtime.name(),
            program.display()
        );
        return Err(Failure::new(Kind::Runtime, message).with_hint("run `gem-setup install` first"));
    }
    let gate = session
        .recorded_site()?
        .gate(&choices(session, args)?, session.state()?)?;
    let Some(gate) = gate else {
        return Ok(None);
    };
    let prints_requests = runtime.prints_requests();
    Ok(Some(EngineConfig {
        command,
        model: server.model.clone(),
        gate: Arc::new(gate),
        port: server.direct.then_some(server.port),
        output: if prints_requests && !args.log_requests {
            ChildOutput::ErrorsOnly
        } else {
            ChildOutput::All
        },
        guard: Program {
            path: session.program()?,
            args: vec![GUARD.into()],
            env: Vec::new(),
        },
        activity: EngineActivity::default(),
        health: HealthLimits::default(),
        backoff: BackoffLimits::default(),
        stop_grace: STOP_GRACE,
    }))
}

/// Runs gem-setup with what follows the keeper's own name in `args`, waits for it, and ends as it ended.
pub(crate) fn keep(mut args: Vec<OsString>) -> ExitCode {
    let kept = program::called(&args).and_then(|path| {
        let (args, env) = (args.split_off(2), Vec::new());
        gem_platform::process::keep(&Program { path, args, env })
    });
    kept.map_or_else(
        |error| {
            let failure = Failure::new(Kind::Unexpected, format!("cannot start the server: {error}"));
            Printer::new(false, false, None).failure(&failure);
            ExitCode::from(failure.kind.exit_status())
        },
        ExitCode::from,
    )
}

/// Ends the groups of processes that a killed supervisor left behind; reads them from standard input.
pub(crate) fn guard() -> ExitCode {
    gem_platform::process::guard(io::stdin().lock());
    ExitCode::SUCCESS
}
